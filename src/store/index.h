/*
 * Private to store/: which blobs there are, in memory. Each has an entry of 72 bytes: its digest,
 * size, last use, who holds it, and its place in the order of last use. Nothing here does I/O, and
 * the one lock is never held for it.
 *
 * Why our own: a million blobs must be cheap to hold, and nothing may stall a request for long.
 *
 *   - Entries refer to each other by number (4 bytes), not by pointer (8), and hold the digest
 *     itself. A blob costs 72 bytes and one bucket of 4: index_bytes() / blobs comes to 76 at a
 *     million, against about 190 with uthash and utlist (56 bytes of handle, three pointers more,
 *     a heap block of its own, and buckets). SHA-512 costs a heap block of 32 bytes more.
 *   - They lie in chunks of 4096 that never move, so that growing is one allocation of 304 KiB and
 *     never a copy. An entry's number is its slot; a freed slot is used again.
 *   - The hash table grows with the slots, one bucket for each, by linear hashing (Litwin 1980):
 *     bucket n is made by splitting bucket n - 2^k, a chain of about one entry. A table that is
 *     doubled would visit all its entries under the lock, at a million for tens of milliseconds,
 *     while every request waits. Entering one of a million takes 0.7 us, and none much longer.
 *   - The order of last use is one doubly linked list, newest first. What is held or pinned is not
 *     in it, so that the blob to evict is always the last: O(1), however many are pinned or read.
 *     An entry comes (back) to the front when the last hold ends: a read's end is a use as well.
 *   - Long walks (the order after the scan, the end of pinning, listings) go by slot or behind a
 *     mark in the list, a few hundred entries for each time the lock is taken.
 *
 * Whoever looks at a blob's file holds the entry; whoever changes what has the name (commit, put,
 * eviction, removal) holds it alone, and others that want to hold it wait until what is there now
 * is settled. So the index and the directory cannot drift apart, without a lock over I/O. An entry
 * whose blob is not there (`size` is INDEX_ABSENT) lasts only as long as somebody holds it.
 */
#ifndef STORE_INDEX_H
#define STORE_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/lock.h"
#include "oci/digest.h"
#include "store/usage.h"

#define INDEX_NONE   UINT32_MAX
#define INDEX_ABSENT UINT64_MAX

struct index_chunk;

struct index {
    struct lock entries_lock; /* guards all below, and the entries */
    struct condition settled; /* a thread that held an entry alone has settled it */
    struct index_chunk **chunks;
    size_t chunk_count, chunk_capacity;
    uint32_t slots;          /* that were ever used, and as many buckets */
    uint32_t mask;           /* the least 2^k - 1 that all buckets' numbers fit in */
    uint32_t free_slots;     /* the first of those to be used again */
    uint32_t newest, oldest; /* the ends of the list */
    uint64_t key;            /* of the hash: nobody can aim blobs at one bucket */
    uint64_t departures;     /* how often a name's blob was taken away */
    uint64_t bytes, blobs, pinned_bytes, reserved_bytes, wide_blobs;
    uint16_t pin_generation;
};

/* False: out of random bytes or memory for the lock. */
bool index_init(struct index *index);
void index_finish(struct index *index);
size_t index_bytes(struct index *index); /* memory that the entries and buckets take */

/* ---- holding ---- */

struct index_hold {
    uint32_t slot;
    bool alone;
    uint64_t size;     /* of the blob when it was taken; INDEX_ABSENT: not known to be there */
    uint64_t reserved; /* what is no longer to be reserved once it is settled */
};

/* Holds the entry of `digest`, made where there is none; waits for who holds it alone. What is not
 * known to be there is held alone even if that was not asked for. False: out of memory. */
bool index_hold(struct index *index, const struct digest *digest, bool alone,
                struct index_hold *hold);
/* Holds what is held alone too; `hold->size` is then what the one before has settled. */
void index_hold_alone(struct index *index, struct index_hold *hold);
/* Holds alone what is to be evicted next; false: nothing was last used before `before_s`. */
bool index_hold_oldest(struct index *index, int64_t before_s, struct index_hold *hold,
                       struct store_blob *out);
/* Says what has the name now, a blob of `size` bytes or INDEX_ABSENT, and lets others in. */
void index_settle(struct index *index, struct index_hold *hold, uint64_t size);
/* `used`: that counts as a use. Either way it comes to the front of the order. */
void index_release(struct index *index, const struct index_hold *hold, bool used);
void index_release_digest(struct index *index, const struct digest *digest);

/* A use. True: it is time to write that to the disk (once an hour). */
bool index_touch(struct index *index, const struct digest *digest);

/* ---- looking ---- */

bool index_find(struct index *index, const struct digest *digest, struct store_blob *out);
/* Whether it is there or somebody is about to make it so. */
bool index_knows(struct index *index, const struct digest *digest);
bool index_next(struct index *index, uint32_t *cursor, struct store_blob *out);
bool index_evictable(struct index *index, int64_t before_s,
                     bool (*each)(void *context, const struct store_blob *blob), void *context);
void index_usage(struct index *index, struct store_usage *out);
uint64_t index_departures(struct index *index);
/* Bytes that are on their way: `now` in place of `before`. */
void index_reserve(struct index *index, uint64_t before, uint64_t now);

/* ---- pins ---- */

void index_pins_begin(struct index *index);
void index_pin(struct index *index, const struct digest *digest);
void index_pins_end(struct index *index);

/* ---- the scan ---- */

enum index_added { INDEX_ADDED, INDEX_KNOWN, INDEX_CHANGED, INDEX_MEMORY };

/* Enters a blob that the scan has found, last used at `used_s`, in no order yet. INDEX_CHANGED: a
 * blob went since `departures` was read; look again whether it is there. */
enum index_added index_add(struct index *index, const struct digest *digest, uint64_t size,
                           int64_t used_s, uint64_t departures, uint32_t *slot);
/* Puts what was added into the order, behind all that was used since, given as
 * `used_s << 32 | slot` from the oldest on. False: out of memory. */
bool index_order(struct index *index, const uint64_t *found, size_t count);

#endif
