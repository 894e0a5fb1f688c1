/*
 * Partials: a blob that is being fetched. Its bytes are in a file that grows in any order, and a
 * second file records which bytes are present, so that a later flight or process can go on.
 *
 * Life: store_partial_open() -> partial_set_size() -> pwrite() and partial_record() in any number
 * of threads -> partial_commit() (now it is a blob) or partial_drop() (the bytes were wrong) ->
 * partial_free().
 */
#ifndef STORE_PARTIALS_H
#define STORE_PARTIALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "base/extents.h"
#include "oci/digest.h"
#include "store/store.h"

struct partial;

/* Opens the partial of `digest`: a new one, or one left over by an earlier flight or process. Bytes
 * that an earlier boot of the machine wrote are dropped, because they may never have been synced.
 * ERROR_BUSY: the partial is open already (until it is committed, dropped or freed). */
struct partial *store_partial_open(struct store *store, const struct digest *digest,
                                   struct error *error);
/* Whether there are bytes of the blob that a later transfer can continue. */
bool store_partial_is_left(struct store *store, const struct digest *digest);
int partial_fd(const struct partial *partial); /* read-write; owned by the partial */

/* The bytes that were present when the partial was opened, none past the end of the file. Owned by
 * the partial; unchanged by partial_record(). */
size_t partial_extents(const struct partial *partial, const struct extent **extents);
/* The blob's size; false when it was never recorded. */
bool partial_size(const struct partial *partial, uint64_t *size);

/* Records that the blob is `size` bytes long, and drops all that was recorded under another size.
 * No other thread may write to the partial or record meanwhile. */
bool partial_set_size(struct partial *partial, uint64_t size, struct error *error);
/* Records that bytes [start, end) are written: the caller's pwrite() is done. Cheap: one write of
 * 24 bytes. Any thread. */
bool partial_record(struct partial *partial, uint64_t start, uint64_t end, struct error *error);

/* Counts `bytes` as reserved in store_usage(), in place of what this partial had reserved before.
 * The reservation ends when the partial becomes a blob (which is counted from the same moment on),
 * is dropped or is freed. From one thread. */
void partial_reserve(struct partial *partial, uint64_t bytes);

/* Makes the partial a blob: syncs the bytes, renames the file, syncs the directory. The caller has
 * checked the digest. ERROR_CORRUPT: the file is not as long as recorded. The descriptor stays open
 * and readable.
 *
 * After a failure it is still a partial, which may be committed again, kept or dropped. One
 * exception: if only the last sync failed, it is a blob already, and partial_drop() leaves it. */
bool partial_commit(struct partial *partial, struct error *error);
/* Deletes the files of a partial whose bytes are wrong. No effect after a commit. */
void partial_drop(struct partial *partial);
void partial_free(struct partial *partial); /* closes; bytes stay unless dropped */

/* Partials that nobody has open, and that a later transfer may continue, are bounded: when there
 * are more than PARTIALS_LEFT_LIMIT, the least recently written one goes. A partial without a byte
 * does not stay. */
enum { PARTIALS_LEFT_LIMIT = 256 };

/* Counts the partials that nobody has open, with their states: store_usage.partial_bytes. */
void store_partials_count(struct store *store);

/* Deletes the least recently written partial that nobody has open; *freed are its bytes on disk, 0
 * if the disk refuses. False: there is none. */
bool store_partials_evict(struct store *store, uint64_t *freed);

/* Deletes partials that nobody has open and nobody wrote to for `age_s` seconds (0: all of them),
 * and temporary files that earlier processes left. For a background thread. */
void store_partials_clean(struct store *store, int64_t age_s);

#endif
