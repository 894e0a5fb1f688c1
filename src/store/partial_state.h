/*
 * Private to store/: the file beside a partial that says which of its bytes are present. A header,
 * then records of 24 bytes. Each record is written once into a slot of its own, so that any number
 * of threads can record without a lock, and a record that was torn or never written spoils no
 * other.
 */
#ifndef STORE_PARTIAL_STATE_H
#define STORE_PARTIAL_STATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "base/extents.h"
#include "store/store.h"

#define SIZE_UNKNOWN UINT64_MAX

struct partial_state {
    int fd;
    _Atomic uint64_t slots; /* how many are taken */
};

/* Reads the state at `path`; `out` is the caller's to free: its extents are clipped to `length`
 * bytes of the data file and to the size. False: there is no whole state file that this boot wrote.
 */
bool partial_state_load(struct store *store, const char *path, uint64_t length, uint64_t *size,
                        struct extents *out);

/* Makes a new state file with just these extents, in place of the one at `path`. */
bool partial_state_create(struct store *store, const char *path, uint64_t size,
                          const struct extents *extents, struct partial_state *out,
                          struct error *error);

bool partial_state_record(struct partial_state *state, uint64_t start, uint64_t end,
                          struct error *error);
bool partial_state_record_size(struct partial_state *state, uint64_t size, struct error *error);

#endif
