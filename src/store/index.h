/*
 * Private to store/: which blobs there are, in memory. Each has an entry of 72 bytes: its digest,
 * size, last use, how many hold it, and its place in the order of last use; and the time of its
 * mark (blobs.h) in 4 bytes. No function here does
 * I/O, and nobody holds the one lock while doing I/O.
 *
 * Why a structure of our own: a million blobs must be cheap to hold, and nothing may stall a
 * request for long.
 *
 *   - Entries refer to each other by number (4 bytes), not by pointer (8), and hold the digest
 *     itself. A blob costs 76 bytes and one bucket of 4: index_bytes() / blobs comes to 80 at a
 *     million, against about 190 with uthash and utlist (56 bytes of handle, three pointers more,
 *     a heap block of its own, and buckets). SHA-512 costs a heap block of 32 bytes more.
 *   - Entries lie in chunks of 4096 that never move, so that growing is one allocation of 320 KiB
 *     and never a copy. An entry's number is its slot; a freed slot is used again.
 *   - The hash table grows with the slots, one bucket for each, by linear hashing (Litwin 1980):
 *     bucket n is made by splitting bucket n - 2^k, a chain of about one entry. A table that
 *     doubles would visit all its entries under the lock, which takes tens of milliseconds at a
 *     million, while every request waits. Entering one of a million takes 0.7 us, and no entry
 *     takes much longer.
 *   - The order of last use is one doubly linked list, newest first. An entry that is held or
 *     pinned is not in it, so that the blob to evict is always the last one: O(1), however many are
 *     pinned or read. An entry comes (back) to the front when its last hold ends, because the end
 *     of a read is a use as well.
 *   - Long walks (ordering after the scan, the end of pinning, listings) go by slot or behind a
 *     mark in the list, a few hundred entries for each time the lock is taken.
 *
 * A thread that looks at a blob's file holds the entry. A thread that changes which file has the
 * blob's name (commit, put, eviction, removal) holds the entry alone; other threads that want to
 * hold the entry wait until it has settled what is there now. So the index and the directory cannot
 * drift apart, and no lock is held over I/O. An entry whose blob is not there (`size` is
 * INDEX_ABSENT) lasts only as long as somebody holds it.
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
    uint32_t slots;          /* slots ever used; there are as many buckets */
    uint32_t mask;           /* the least 2^k - 1 that no bucket's number exceeds */
    uint32_t free_slots;     /* the first freed slot, of a list */
    uint32_t newest, oldest; /* the ends of the list */
    uint64_t key;            /* random, of the hash, so that nobody can aim blobs at one bucket */
    uint64_t departures;     /* how often a blob became absent */
    uint64_t bytes, blobs, pinned_bytes, reserved_bytes, wide_blobs;
    uint64_t unit; /* bytes that the file system allocates at a time; constant */
    uint64_t disk_bytes, pinned_disk_bytes; /* the same as bytes and pinned_bytes, in whole units */
    uint16_t pin_generation;
};

/* `unit`: see struct index. False: no random bytes, errno says why. */
bool index_init(struct index *index, uint64_t unit);
void index_finish(struct index *index);
size_t index_bytes(struct index *index); /* the memory that entries and buckets take */

/* ---- holding ---- */

struct index_hold {
    uint32_t slot;
    bool alone;
    uint64_t size;     /* of the blob when the hold began; INDEX_ABSENT: not known to be there */
    uint64_t reserved; /* bytes whose reservation ends when the hold is settled */
};

/* Holds the entry of `digest`, and makes one if there is none. Waits while another thread holds it
 * alone. An entry whose blob is not known to be there is held alone even if `alone` is false.
 * False: out of memory. */
bool index_hold(struct index *index, const struct digest *digest, bool alone,
                struct index_hold *hold);
/* Turns a hold into a hold alone; waits while another thread holds the entry alone. `hold->size` is
 * then the size that that thread settled. */
void index_hold_alone(struct index *index, struct index_hold *hold);
/* Holds alone the entry of the blob to evict next, and describes it. False: no blob that may be
 * evicted was last used before `before_s`. */
bool index_hold_oldest(struct index *index, int64_t before_s, struct index_hold *hold,
                       struct store_blob *out);
/* Ends holding alone: records what has the blob's name now, a file of `size` bytes or none
 * (INDEX_ABSENT), and wakes the threads that wait. The entry is still held. */
void index_settle(struct index *index, struct index_hold *hold, uint64_t size);
/* Ends a hold. `used`: it counts as a use. Either way the entry comes to the front of the order. */
void index_release(struct index *index, const struct index_hold *hold, bool used);
/* The same by name, for a hold that was a use. */
void index_release_digest(struct index *index, const struct digest *digest);

/* Marks the blob as used now. Returns true at most once an hour, when the caller should update the
 * file's modification time. */
bool index_touch(struct index *index, const struct digest *digest);

/* Whether the last mark of the blob is not known or more than `period_s` before `now_s`. If so, the
 * blob counts as marked at `now_s` from then on. False also if the blob is not there. *known: there
 * was a mark. All times are wall seconds. */
bool index_mark_due(struct index *index, const struct digest *digest, int64_t now_s,
                    int64_t period_s, bool *known);
/* The blob was marked at `at_s`; 0: that is not known. */
void index_set_marked(struct index *index, const struct digest *digest, int64_t at_s);

/* ---- looking ---- */

bool index_find(struct index *index, const struct digest *digest, struct store_blob *out);
/* Whether the blob is there, or somebody holds its entry and may be making it. */
bool index_knows(struct index *index, const struct digest *digest);
bool index_next(struct index *index, uint32_t *cursor, struct store_blob *out);
bool index_evictable(struct index *index, int64_t before_s,
                     bool (*each)(void *context, const struct store_blob *blob), void *context);
void index_usage(struct index *index, struct store_usage *out);
uint64_t index_departures(struct index *index);
/* Reserves `now` bytes for a blob that is being fetched, in place of `before`. */
void index_reserve(struct index *index, uint64_t before, uint64_t now);

/* ---- pins ---- */

void index_pins_begin(struct index *index);
void index_pin(struct index *index, const struct digest *digest);
void index_pins_end(struct index *index);

/* ---- the scan ---- */

enum index_added { INDEX_ADDED, INDEX_KNOWN, INDEX_CHANGED, INDEX_MEMORY };

/* Enters a blob that the scan has found, last used at `used_s`; it has no place in the order yet.
 * INDEX_CHANGED: some blob became absent since `departures` was read, so that the caller must look
 * again whether this one is there. */
enum index_added index_add(struct index *index, const struct digest *digest, uint64_t size,
                           int64_t used_s, uint64_t departures, uint32_t *slot);
/* Puts the blobs that were added into the order, behind all that were used since the scan began.
 * `found` holds `used_s << 32 | slot` of each, oldest first. False: out of memory. */
bool index_order(struct index *index, const uint64_t *found, size_t count);

#endif
