/*
 * Verified bytes and the records about them, on a local file system, crash-safe. Knows no HTTP and
 * no upstream: a host and a repository are only names here.
 *
 *   ROOT/lock                                    who holds the root (flock, pid inside)
 *   ROOT/blobs/sha256/ab/abcd…                   complete, verified, synced
 *   ROOT/partial/sha256-abcd…{,.state}           a flight's bytes and what of them is there
 *   ROOT/repositories/HOST/NAME/_blobs/sha256/abcd…     link: NAME at HOST holds the blob
 *   ROOT/repositories/HOST/NAME/_manifests/sha256/abcd… link: …the manifest; holds its media type
 *   ROOT/repositories/HOST/NAME/_tags/TAG        digest, media type, time of the last answer
 *   ROOT/bad/sha256-abcd…                        blobs that were not what their digest says
 *   ROOT/tmp/                                    files that have no name yet
 *
 * No part of a repository's name begins with `_`, so names and records cannot meet. What has a
 * final name is complete: files are written beside it, synced, renamed, and the directory synced.
 * Nothing is scanned at start. Every byte read back is treated as hostile (bounded, checked).
 *
 * Threads: all calls from any thread; different partials are independent, one partial belongs to
 * one flight at a time (the caller's promise).
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buffer.h"
#include "base/error.h"
#include "oci/digest.h"

struct store;

/* Opens (and makes) the root. ERROR_BUSY names the process that holds it. */
struct store *store_open(const char *root, struct error *error);
void store_close(struct store *store);

/* ---- blobs ---- */

/* An open descriptor (the caller's) and the size; -1 with ERROR_NOT_FOUND or ERROR_IO. */
int store_blob_open(struct store *store, const struct digest *digest, uint64_t *size,
                    struct error *error);
bool store_blob_has(struct store *store, const struct digest *digest, uint64_t *size);

/* Keeps bytes in memory (a manifest) as a blob; `digest` must be theirs, checked here:
 * ERROR_CORRUPT. */
bool store_blob_put(struct store *store, const struct digest *digest, const void *bytes,
                    size_t length, struct error *error);

/* Appends a whole small blob, at most `limit` bytes, and checks its digest (ERROR_CORRUPT sets it
 * aside under ROOT/bad/ and it is gone from then on). A blob over the limit is ERROR_INVALID. */
bool store_blob_read(struct store *store, const struct digest *digest, size_t limit,
                     struct buffer *out, struct error *error);

/* Moves a blob whose bytes turned out to be wrong to ROOT/bad/, unless another has taken the place
 * of the one that `fd` is open on. Logged and counted. */
bool store_blob_set_aside(struct store *store, const struct digest *digest, int fd,
                          struct error *error);

/* ---- partials ---- */

struct extent {
    uint64_t start, end; /* bytes [start, end) */
};

struct partial; /* a blob on its way */

/* Opens the partial of `digest`, new or left over by an earlier flight or process. What an earlier
 * boot of the machine wrote but had not synced is not believed: it is dropped. ERROR_BUSY when it
 * is open already (until it is committed, dropped or freed). */
struct partial *store_partial_open(struct store *store, const struct digest *digest,
                                   struct error *error);
int partial_fd(const struct partial *partial); /* read-write; the partial's, not the caller's */

/* What was there when it was opened: sorted, merged, non-empty extents that do not touch, none past
 * the end of the file. And the total size, if recorded then or since. */
size_t partial_extents(const struct partial *partial, const struct extent **extents);
bool partial_size(const struct partial *partial, uint64_t *size);

/* Records that the blob is `size` bytes; drops everything recorded under another size. Not while
 * other threads write to it or record. */
bool partial_set_size(struct partial *partial, uint64_t size, struct error *error);
/* Records [start, end) as written (pwrite done before). Cheap: one write of 24 bytes. Any thread.
 */
bool partial_record(struct partial *partial, uint64_t start, uint64_t end, struct error *error);

/* Makes it a blob: syncs, renames, syncs the directory. The caller has checked the digest; a file
 * of another length than recorded is ERROR_CORRUPT. The partial's fd stays open and readable. On
 * failure it is still a partial, which may be committed again, kept or dropped; only when nothing
 * but the last sync failed is it a blob already, and a drop leaves it one. */
bool partial_commit(struct partial *partial, struct error *error);
void partial_drop(struct partial *partial); /* deletes the files: wrong bytes. Not a commit's */
void partial_free(struct partial *partial); /* closes; the files stay unless dropped */

/* Deletes partials untouched for `age_s` seconds, except those open, and temporary files that
 * earlier processes left. For a background thread. */
void store_partials_clean(struct store *store, int64_t age_s);

/* ---- links and tags ---- */

bool store_link_blob(struct store *store, const char *host, const char *repository,
                     const struct digest *digest, struct error *error);
bool store_has_link_blob(struct store *store, const char *host, const char *repository,
                         const struct digest *digest);
bool store_link_manifest(struct store *store, const char *host, const char *repository,
                         const struct digest *digest, const char *media_type, struct error *error);
/* `media_type` (at least 128 bytes, or NULL) is filled when there is a link. */
bool store_has_link_manifest(struct store *store, const char *host, const char *repository,
                             const struct digest *digest, char *media_type, size_t size);

struct tag_record {
    struct digest digest;
    char media_type[128];
    int64_t checked_s; /* wall seconds of upstream's last answer about it */
};
bool store_tag_put(struct store *store, const char *host, const char *repository, const char *tag,
                   const struct tag_record *record, struct error *error);
bool store_tag_get(struct store *store, const char *host, const char *repository, const char *tag,
                   struct tag_record *out);
bool store_tag_delete(struct store *store, const char *host, const char *repository,
                      const char *tag, struct error *error);

/* Calls `each` for every repository that has a manifest link, in byte order of "HOST/NAME", until
 * it returns false. `host` NULL: all hosts. */
bool store_repositories(struct store *store, const char *host,
                        bool (*each)(void *context, const char *host, const char *repository),
                        void *context, struct error *error);

#endif
