/*
 * Blobs: complete, verified bytes, each in a file of its own that is named for its digest.
 *
 * A blob that is open is in use and is not evicted. The time of a blob's last use decides when it
 * is evicted (usage.h).
 */
#ifndef STORE_BLOBS_H
#define STORE_BLOBS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buffer.h"
#include "base/cancel.h"
#include "base/error.h"
#include "oci/digest.h"
#include "oci/reference.h"
#include "store/store.h"

/* An open descriptor and the size; -1 with ERROR_NOT_FOUND or ERROR_IO. The blob is in use until
 * store_blob_close(). Opening counts as a use. A file whose length differs from the length that was
 * committed is quarantined, and the error is ERROR_NOT_FOUND. */
int store_blob_open(struct store *store, const struct digest *digest, uint64_t *size,
                    struct error *error);
void store_blob_close(struct store *store, const struct digest *digest, int fd);

/* Counts as a use without opening: for bytes that are served again from memory. Cheap. */
void store_blob_touch(struct store *store, const struct digest *digest);

/* Whether it is time to make a use of the blob known to others: the last time that this was done is
 * not known (then *known is false) or more than `period_s` before `now_s` (wall seconds). If it is
 * time, the blob counts as marked now, so that one caller in a period is told. False also if the
 * blob is not there. Only reads and writes memory; a restart forgets the marks. */
bool store_blob_mark_due(struct store *store, const struct digest *digest, int64_t now_s,
                         int64_t period_s, bool *known);
/* The blob was marked at `at_s`; 0: that is not known. */
void store_blob_set_marked(struct store *store, const struct digest *digest, int64_t at_s);

/* Whether the blob's file is there, and its size. One look at the disk; no use. */
bool store_blob_has(struct store *store, const struct digest *digest, uint64_t *size);

/* ---- for the readers of one repository ---- */

struct store_access {
    bool linked;   /* the repository has a link to the blob, so that its readers may have it */
    bool stored;   /* the blob is there; if it is linked, it is as long as the link says */
    uint64_t size; /* if it is stored */
};

/* Looks for the blob and for the repository's link to it, and opens the blob if both are there. -1:
 * not opened; *out says what is missing. A file that is not as long as the link says was truncated
 * since it was verified: it is quarantined and counts as not stored. */
int store_blob_open_linked(struct store *store, const struct repository_name *repository,
                           const struct digest *digest, struct store_access *out);

/* The same without opening the blob: whether it is linked and stored, and its size. No use, and no
 * quarantine. */
bool store_blob_has_linked(struct store *store, const struct repository_name *repository,
                           const struct digest *digest, uint64_t *size);

/* ---- small blobs ---- */

/* Keeps bytes in memory (a manifest) as a blob. ERROR_CORRUPT: `digest` is not their digest. */
bool store_blob_put(struct store *store, const struct digest *digest, const void *bytes,
                    size_t length, struct error *error);

/* Appends a whole small blob to `out` and checks its digest. ERROR_INVALID: the blob is larger than
 * `limit` bytes. ERROR_CORRUPT: the bytes are wrong; the blob is quarantined and from then on not
 * found. */
bool store_blob_read(struct store *store, const struct digest *digest, size_t limit,
                     struct buffer *out, struct error *error);

/* The same, but it counts as no use, and wrong bytes stay where they are. */
bool store_blob_peek(struct store *store, const struct digest *digest, size_t limit,
                     struct buffer *out, struct error *error);

/* ---- blobs whose bytes are wrong, and deleting ---- */

/* Moves a blob whose bytes are wrong to ROOT/bad/, unless the file that `fd` has open has been
 * replaced by another meanwhile. Logged and counted. ROOT/bad/ keeps only the newest 16 files and
 * at most 1 GiB. */
bool store_blob_quarantine(struct store *store, const struct digest *digest, int fd,
                           struct error *error);

/* Deletes a blob even while it is in use; a reader that has it open can read on. *freed is the
 * blob's size, or 0 when there was none. */
bool store_blob_remove(struct store *store, const struct digest *digest, uint64_t *freed,
                       struct error *error);

/* How many blobs this process has deleted, evicted and quarantined. Only reads memory. */
uint64_t store_blob_removals(const struct store *store);

/* The same of the blobs in the digest's group, which is about one blob in a thousand. As long as
 * the number stays the same, a blob that was there is there (unless another process deletes files
 * below the root). Only reads memory. */
uint64_t store_blob_removals_like(const struct store *store, const struct digest *digest);

/* Hashes a blob again. Reads at most `rate` bytes a second (0: no limit) and drops what it read
 * from the page cache, unless the bytes were cached before. Counts as no use.
 *
 * ERROR_CORRUPT: the bytes are wrong. If `quarantined` is not NULL, the very file that was read is
 * then quarantined as by store_blob_quarantine(); *quarantined says whether that worked, and if not
 * the error says why. ERROR_CLOSED: cancelled. */
bool store_blob_verify(struct store *store, const struct digest *digest, uint64_t rate,
                       const struct cancel *cancel, bool *quarantined, struct error *error);

#endif
