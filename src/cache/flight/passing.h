/*
 * The bytes of a blob that passes through, and where they are. Private to cache/flight/; pass.c
 * says what passing through is.
 *
 * Part of struct body. The owner holds the flight's state_lock.
 */
#ifndef FLIGHT_PASSING_H
#define FLIGHT_PASSING_H

#include <stdatomic.h>
#include "base/extents.h"
#include "cache/flight/flight.h"
#include "retention/space.h"

struct passing {
    bool on;
    enum unkept reason; /* why the blob cannot be kept; does not change once `on` is set */
    struct error why;
    int memory; /* a memory file in which each byte has the blob's own offset; -1: none */
    struct extents on_disk, in_memory; /* of the present bytes; those in neither were dropped */
    bool dropped; /* bytes were dropped: a reader that comes later needs a flight of its own */
    _Atomic int64_t *held; /* bytes in memory, of all flights of the cache */
};

/* `held` outlives the struct. */
void passing_init(struct passing *passing, _Atomic int64_t *held);
void passing_finish(struct passing *passing);

/* Makes the memory file for a blob of which `present` is on disk. False: no memory. */
bool passing_begin(struct passing *passing, enum unkept reason, const struct error *why,
                   const struct extents *present, struct error *error);

/* Records that [start, end) was written to the memory file or to disk. False: no memory. */
bool passing_record(struct passing *passing, bool to_memory, uint64_t start, uint64_t end);

/* Drops [start, end) from memory, where whole pages can be dropped. A page that also holds bytes
 * that stay is kept. `size` of the blob, UINT64_MAX if it is not known. */
void passing_drop(struct passing *passing, uint64_t start, uint64_t end, uint64_t size,
                  struct extents *present, uint64_t hashed);

/* Whether a new reader of `wanted` can join a flight whose first wish was `first`. False: bytes it
 * needs were dropped or may be. */
bool passing_accepts(const struct passing *passing, const struct blob_range *first,
                     const struct blob_range *wanted);

#endif
