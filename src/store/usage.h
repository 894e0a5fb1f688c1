/*
 * Which blobs there are, how many bytes they take, and which are evicted first: an index in memory
 * (index.h says what it costs). Until store_scan() has ended the index holds only the blobs that
 * were used since the start.
 */
#ifndef STORE_USAGE_H
#define STORE_USAGE_H

#include <stdbool.h>
#include <stdint.h>
#include "base/cancel.h"
#include "base/error.h"
#include "oci/digest.h"
#include "store/store.h"

/* Reads which blobs there are; the modification time of a blob's file is its last use. Also counts
 * the bytes of partials that earlier processes left. For a background thread.
 *
 * False: cancelled (ERROR_CLOSED), or out of memory. A blob that vanishes meanwhile is no error.
 * What cannot be read is counted in store_usage.unread; a later scan that finds it takes it for the
 * least recently used. */
bool store_scan(struct store *store, const struct cancel *cancel, struct error *error);

struct store_usage {
    uint64_t bytes, blobs; /* of all complete blobs known */
    uint64_t pinned_bytes;
    int64_t oldest_used_s; /* last use of the blob that would be evicted next; 0: there is none */
    uint64_t unit;         /* bytes that the file system allocates at a time */
    uint64_t disk_bytes, pinned_disk_bytes; /* of the blobs, in whole units */
    uint64_t record_bytes, records;         /* on disk: tags, links and all directories; how many */
    uint64_t bad_bytes;                     /* on disk: blobs in quarantine */
    uint64_t aside_bytes;                   /* on disk: files beside blobs (aside.h) */
    uint64_t reserved_bytes;                /* of partials that are open: partial_reserve() */
    uint64_t partials;                      /* that nobody has open */
    uint64_t partial_bytes;                 /* on disk, of their bytes and states */
    unsigned unread; /* directories and blobs that the last scan could not read */
    bool complete;   /* a scan has ended */
};
void store_usage(struct store *store, struct store_usage *out);

/* What `du` says of the root, with the reservations of transfers under way. */
uint64_t store_usage_on_disk(const struct store_usage *usage);

/* What the file system has left for us, and has in all. */
struct store_free {
    uint64_t bytes, all_bytes;
    bool counts_files; /* false: the file system has no fixed number of files */
    uint64_t files, all_files;
};
bool store_free(struct store *store, struct store_free *out, struct error *error);

struct store_blob {
    struct digest digest;
    uint64_t size;
    int64_t last_used_s; /* wall seconds */
    bool in_use, pinned;
};

/* The next blob at or behind *cursor (0 to begin), in no order; false at the end. A blob that comes
 * or goes meanwhile may be missed. No blob is given twice, unless it goes and comes again. */
bool store_blob_next(struct store *store, uint32_t *cursor, struct store_blob *out);
bool store_blob_find(struct store *store, const struct digest *digest, struct store_blob *out);

/* Deletes the least recently used blob that is neither in use nor pinned, if its last use was
 * before `before_s` (INT64_MAX: any time). O(1), apart from the file system. The blobs that a scan
 * finds enter the order when the scan ends.
 *
 * ERROR_NOT_FOUND: there is no such blob. ERROR_IO: the blob cannot be deleted; it goes to the end
 * of the queue, so that the caller should stop after a few of these. */
bool store_evict(struct store *store, int64_t before_s, struct store_blob *evicted,
                 struct error *error);
/* Calls `each`, with no lock held, for the blobs that store_evict() would delete, in its order,
 * until `each` returns false. False: out of memory. */
bool store_evictable(struct store *store, int64_t before_s,
                     bool (*each)(void *context, const struct store_blob *blob), void *context);

/* Deletes the blob that was quarantined first; *freed are its bytes on disk. False: there is none,
 * or it cannot be deleted. */
bool store_quarantine_evict(struct store *store, uint64_t *freed);

/* Counts the records and directories anew; for a background thread. False: cancelled. */
bool store_records_count(struct store *store, const struct cancel *cancel, struct error *error);

/* The pins are renewed as a whole: begin, pin each, end. A blob that was not pinned between begin
 * and end loses its pin at the end, and is then the most recently used. A blob that is not there
 * cannot be pinned, and a blob that goes loses its pin. */
void store_pins_begin(struct store *store);
/* Also allowed outside of begin and end. */
void store_pin(struct store *store, const struct digest *digest);
void store_pins_end(struct store *store);

#endif
