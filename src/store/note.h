/*
 * Small files below ROOT, in each of which a room above keeps what it wants to know after a
 * restart. The store does not look into them. Threads: any.
 */
#ifndef STORE_NOTE_H
#define STORE_NOTE_H

#include <stddef.h>
#include "base/buffer.h"
#include "base/error.h"
#include "store/store.h"

enum store_note {
    NOTE_HISTORY, /* ROOT/history: what the page at / shows of earlier times */
    NOTE_FILLED,  /* ROOT/filled: what was brought to the bucket of what was here before */
};

/* Puts the bytes in place of the old ones, in one step. After a power loss the file has the old or
 * the new bytes. */
bool store_note_write(struct store *store, enum store_note note, const void *bytes, size_t length,
                      struct error *error);

/* Appends the bytes to `out`. ERROR_NOT_FOUND: there is no such file. ERROR_INVALID: it has more
 * than `limit` bytes. The caller checks what it reads. */
bool store_note_read(struct store *store, enum store_note note, size_t limit, struct buffer *out,
                     struct error *error);

#endif
