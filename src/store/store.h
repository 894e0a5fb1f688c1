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
 * Nothing is scanned before the first answer: which blobs there are is read by store_scan(), on a
 * background thread. Every byte read back is treated as hostile (bounded, checked).
 *
 * Threads: all calls from any thread; different partials are independent, one partial belongs to
 * one flight at a time (the caller's promise).
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buffer.h"
#include "base/error.h"
#include "base/extents.h"
#include "oci/digest.h"

struct store;

/* Opens (and makes) the root. ERROR_BUSY names the process that holds it. A root on a read-only
 * file system is opened as well, if it is there: what it holds can be read, and all that would
 * write fails. */
struct store *store_open(const char *root, struct error *error);
void store_close(struct store *store);

/* ---- blobs ---- */

/* An open descriptor and the size; -1 with ERROR_NOT_FOUND or ERROR_IO. Until store_blob_close()
 * the blob is in use and is not evicted; opening it counts as a use. A file of another length than
 * was committed is set aside, and not found. */
int store_blob_open(struct store *store, const struct digest *digest, uint64_t *size,
                    struct error *error);
void store_blob_close(struct store *store, const struct digest *digest, int fd);
/* A use without opening it: what was read from it before was used again. Cheap. */
void store_blob_touch(struct store *store, const struct digest *digest);
bool store_blob_has(struct store *store, const struct digest *digest, uint64_t *size);

/* Keeps bytes in memory (a manifest) as a blob; `digest` must be theirs, checked here:
 * ERROR_CORRUPT. */
bool store_blob_put(struct store *store, const struct digest *digest, const void *bytes,
                    size_t length, struct error *error);

/* Appends a whole small blob, at most `limit` bytes, and checks its digest (ERROR_CORRUPT sets it
 * aside under ROOT/bad/ and it is gone from then on). A blob over the limit is ERROR_INVALID. */
bool store_blob_read(struct store *store, const struct digest *digest, size_t limit,
                     struct buffer *out, struct error *error);

/* The same without its being a use, and without anything being done about wrong bytes. */
bool store_blob_peek(struct store *store, const struct digest *digest, size_t limit,
                     struct buffer *out, struct error *error);

/* Moves a blob whose bytes turned out to be wrong to ROOT/bad/, unless another has taken the place
 * of the one that `fd` is open on. Logged and counted. Of those only the newest 16 files and 1 GiB
 * are kept. */
bool store_blob_set_aside(struct store *store, const struct digest *digest, int fd,
                          struct error *error);

/* Deletes a blob, in use or not (who has it open reads on). *freed is its size, 0 when it was not
 * there. */
bool store_blob_remove(struct store *store, const struct digest *digest, uint64_t *freed,
                       struct error *error);

/* ---- which blobs there are ----
 *
 * An index in memory of every blob: size, last use, whether in use or pinned, and the exact order
 * of last use. See index.h for what it costs. Until store_scan() has ended it holds only what was
 * touched since the start.
 */

/* Reads which blobs there are; their last use is the file's modification time. On a background
 * thread; also counts what earlier processes left under way. False: interrupted by `*stop`, or out
 * of memory. A blob that vanishes meanwhile is no error. What cannot be read is counted in
 * store_usage.unread and found by another scan, which takes it for the least recently used. */
bool store_scan(struct store *store, const atomic_bool *stop, struct error *error);

struct store_usage {
    uint64_t bytes, blobs; /* of all complete blobs known */
    uint64_t pinned_bytes;
    uint64_t reserved_bytes; /* of partials that are open: partial_reserve() */
    uint64_t partial_bytes;  /* on disk of partials that nobody has open, as of the last look */
    unsigned unread;         /* directories and blobs that the last scan could not read */
    bool complete;           /* a scan has ended */
};
void store_usage(struct store *store, struct store_usage *out);

/* The bytes that the file system has left for us. */
bool store_free_bytes(struct store *store, uint64_t *bytes, struct error *error);

struct store_blob {
    struct digest digest;
    uint64_t size;
    int64_t last_used_s; /* wall seconds */
    bool in_use, pinned;
};

/* The next blob at or behind *cursor (0 to begin), in no order; false at the end. What comes or
 * goes meanwhile may be missed; nothing is given twice but what goes and comes again. */
bool store_blob_next(struct store *store, uint32_t *cursor, struct store_blob *out);
bool store_blob_find(struct store *store, const struct digest *digest, struct store_blob *out);

/* Deletes the least recently used blob that is neither in use nor pinned, if it was last used
 * before `before_s` (INT64_MAX: whenever). False, ERROR_NOT_FOUND: there is none such; ERROR_IO: it
 * cannot be deleted (and goes to the end of the queue: stop after a few of these). O(1), apart from
 * the file system. What the scan finds takes its place in the order when the scan ends. */
bool store_evict(struct store *store, int64_t before_s, struct store_blob *evicted,
                 struct error *error);
/* The same choice without doing it: calls `each`, with no lock held, in the order of eviction until
 * it gives false. False: out of memory. */
bool store_evictable(struct store *store, int64_t before_s,
                     bool (*each)(void *context, const struct store_blob *blob), void *context);

/* Pins are set anew as a whole: begin, pin each, end; what was not pinned between is no longer, and
 * is then the most recent in the order of eviction. A blob that is not there cannot be pinned, and
 * one that goes takes its pin along. */
void store_pins_begin(struct store *store);
void store_pin(struct store *store,
               const struct digest *digest); /* also outside of begin and end */
void store_pins_end(struct store *store);

/* Re-hashes one blob, reading at most `rate` bytes a second (0: as fast as it comes) and dropping
 * what it read from the page cache unless it was there. ERROR_CORRUPT: its bytes are wrong, and
 * with `set_aside` (may be NULL) the very file that was read is set aside, as
 * store_blob_set_aside() does: *set_aside is whether that worked, and the error says why it did
 * not. ERROR_CLOSED: interrupted by *stop. */
bool store_blob_verify(struct store *store, const struct digest *digest, uint64_t rate,
                       const atomic_bool *stop, bool *set_aside, struct error *error);

/* ---- partials ---- */

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

/* Counts `bytes` for it in store_usage(), in place of what was reserved before, until it becomes a
 * blob (which is counted from the same moment on), is dropped or freed. From one thread. */
void partial_reserve(struct partial *partial, uint64_t bytes);

/* Makes it a blob: syncs, renames, syncs the directory. The caller has checked the digest; a file
 * of another length than recorded is ERROR_CORRUPT. The partial's fd stays open and readable. On
 * failure it is still a partial, which may be committed again, kept or dropped; only when nothing
 * but the last sync failed is it a blob already, and a drop leaves it one. */
bool partial_commit(struct partial *partial, struct error *error);
void partial_drop(struct partial *partial); /* deletes the files: wrong bytes. Not a commit's */
void partial_free(struct partial *partial); /* closes; the files stay unless dropped */

/* Deletes partials untouched for `age_s` seconds (0: all), except those open, and temporary files
 * that earlier processes left. For a background thread. */
void store_partials_clean(struct store *store, int64_t age_s);

/* ---- links and tags ---- */

bool store_link_blob(struct store *store, const char *host, const char *repository,
                     const struct digest *digest, struct error *error);
/* Makes the link if need be, and notes in it how long the verified blob is. */
bool store_link_blob_size(struct store *store, const char *host, const char *repository,
                          const struct digest *digest, uint64_t size, struct error *error);
/* Makes the repository's blob links durable; until then they may be gone after a power loss. */
bool store_sync_blob_links(struct store *store, const char *host, const char *repository,
                           enum digest_algorithm algorithm, struct error *error);
/* *size (may be NULL): how long the blob was when it was verified, STORE_SIZE_UNTOLD when the link
 * does not say. */
bool store_has_link_blob(struct store *store, const char *host, const char *repository,
                         const struct digest *digest, uint64_t *size);
#define STORE_SIZE_UNTOLD UINT64_MAX
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
/* The same for every repository that has a link or a tag. */
bool store_repositories_all(struct store *store, const char *host,
                            bool (*each)(void *context, const char *host, const char *repository),
                            void *context, struct error *error);

/* What a repository holds, in no order, until `each` returns false. A record that cannot be
 * believed is passed over. `each` may delete what it is given. */
bool store_tags(struct store *store, const char *host, const char *repository,
                bool (*each)(void *context, const char *tag, const struct tag_record *record),
                void *context, struct error *error);
enum link_kind { LINK_BLOB, LINK_MANIFEST };
bool store_links(struct store *store, const char *host, const char *repository, enum link_kind kind,
                 bool (*each)(void *context, const struct digest *digest), void *context,
                 struct error *error);
bool store_link_delete(struct store *store, const char *host, const char *repository,
                       enum link_kind kind, const struct digest *digest, struct error *error);

/* Deletes links and tags whose blob is not there (and not under way), and the directories that
 * they leave empty; *deleted counts the records. What was linked less than `age_s` seconds ago
 * stays. For a background thread; the scan must have ended. */
bool store_sweep(struct store *store, int64_t age_s, const atomic_bool *stop, uint64_t *deleted,
                 struct error *error);

#endif
