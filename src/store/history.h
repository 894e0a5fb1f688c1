/*
 * ROOT/history: one small file in which a room above keeps what it wants to know after a restart.
 * The store does not look into it. Threads: any.
 */
#ifndef STORE_HISTORY_H
#define STORE_HISTORY_H

#include <stddef.h>
#include "base/buffer.h"
#include "base/error.h"
#include "store/store.h"

/* Puts the bytes in place of the old ones, in one step. After a power loss the file has the old or
 * the new bytes. */
bool store_history_write(struct store *store, const void *bytes, size_t length,
                         struct error *error);

/* Appends the bytes to `out`. ERROR_NOT_FOUND: there is no such file. ERROR_INVALID: it has more
 * than `limit` bytes. The caller checks what it reads. */
bool store_history_read(struct store *store, size_t limit, struct buffer *out, struct error *error);

#endif
