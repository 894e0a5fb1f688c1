/*
 * Links and tags: what is known about the repositories of an upstream. Each is a small file of its
 * own. A record that cannot be read or is not whole counts as absent, which costs one request
 * upstream.
 */
#ifndef STORE_RECORDS_H
#define STORE_RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/cancel.h"
#include "base/error.h"
#include "oci/digest.h"
#include "oci/reference.h"
#include "store/store.h"

/* ---- all links ---- */

enum link_kind { LINK_BLOB, LINK_MANIFEST };
/* Records that upstream has said `age_s` seconds ago that the repository holds the digest. The time
 * survives a restart, but perhaps not a power loss. Without a link nothing happens. */
void store_link_confirm(struct store *store, const struct repository_name *repository,
                        enum link_kind kind, const struct digest *digest, int64_t age_s);
/* The time since the link was made or last confirmed; INT64_MAX if that time lies in the future,
 * because the clock was set back. False: there is no link. */
bool store_link_age(struct store *store, const struct repository_name *repository,
                    enum link_kind kind, const struct digest *digest, int64_t *age_ms);

/* ---- links to blobs ---- */

#define STORE_SIZE_UNKNOWN UINT64_MAX

bool store_link_blob(struct store *store, const struct repository_name *repository,
                     const struct digest *digest, struct error *error);
/* Makes the link if there is none, and records in it the size of the verified blob. */
bool store_link_blob_size(struct store *store, const struct repository_name *repository,
                          const struct digest *digest, uint64_t size, struct error *error);
/* Makes the repository's blob links durable; a link made before may be gone after a power loss. */
bool store_sync_blob_links(struct store *store, const struct repository_name *repository,
                           enum digest_algorithm algorithm, struct error *error);
/* *size (`size` may be NULL) is the size that the blob had when it was verified, or
 * STORE_SIZE_UNKNOWN when the link does not say. */
bool store_has_link_blob(struct store *store, const struct repository_name *repository,
                         const struct digest *digest, uint64_t *size);

/* ---- links to manifests ---- */

bool store_link_manifest(struct store *store, const struct repository_name *repository,
                         const struct digest *digest, const char *media_type, struct error *error);
/* `media_type` (at least 128 bytes, or NULL) is filled when there is a link. */
bool store_has_link_manifest(struct store *store, const struct repository_name *repository,
                             const struct digest *digest, char *media_type, size_t size);

/* ---- tags ---- */

struct tag_record {
    struct digest digest;
    char media_type[128];
    int64_t checked_s; /* wall seconds of upstream's last response about the tag */
};
bool store_tag_put(struct store *store, const struct repository_name *repository, const char *tag,
                   const struct tag_record *record, struct error *error);
bool store_tag_get(struct store *store, const struct repository_name *repository, const char *tag,
                   struct tag_record *out);
bool store_tag_delete(struct store *store, const struct repository_name *repository,
                      const char *tag, struct error *error);

/* ---- lists ---- */

/* Calls `each` for every repository that has a link to a manifest, in byte order of "HOST/NAME",
 * until `each` returns false. `host` NULL: of all hosts. `after`: any text; only the repositories
 * behind it in this order, which is that of "NAME" if there is a host; directories that stand
 * before it are not read. NULL: all. */
bool store_repositories(struct store *store, const char *host, const char *after,
                        bool (*each)(void *context, const struct repository_name *name),
                        void *context, struct error *error);
/* The same for every repository that has a link or a tag, from the first one on. */
bool store_repositories_all(struct store *store, const char *host,
                            bool (*each)(void *context, const struct repository_name *name),
                            void *context, struct error *error);

/* Calls `each` for every tag or link of a repository, in no order, until `each` returns false. A
 * record that is not whole is skipped. `each` may delete the record that it is given. */
bool store_tags(struct store *store, const struct repository_name *repository,
                bool (*each)(void *context, const char *tag, const struct tag_record *record),
                void *context, struct error *error);
bool store_links(struct store *store, const struct repository_name *repository, enum link_kind kind,
                 bool (*each)(void *context, const struct digest *digest), void *context,
                 struct error *error);
bool store_link_delete(struct store *store, const struct repository_name *repository,
                       enum link_kind kind, const struct digest *digest, struct error *error);

/* The repository's link was used: writes that down once an hour. */
void store_link_touch(struct store *store, const struct repository_name *repository,
                      enum link_kind kind, const struct digest *digest);

/* ---- too many records ---- */

struct record_limits {
    uint64_t records; /* and directories, as store_usage.records counts them */
    uint64_t bytes;   /* on disk; UINT64_MAX: no limit */
    uint64_t tags;    /* of one repository */
    /* NULL, or: whether a repository's records do not go, but for its number of tags. */
    bool (*keeps)(void *context, const struct repository_name *repository);
    void *context;
};

/* Deletes the least recently used records that are over a limit. For a background thread. */
bool store_records_trim(struct store *store, const struct record_limits *limits,
                        const struct cancel *cancel, uint64_t *deleted, struct error *error);

/* ---- the sweep ---- */

/* Deletes links and tags whose blob is neither stored nor being fetched, and then the directories
 * that are empty; *deleted counts the records. Records written less than `age_s` seconds ago stay.
 * For a background thread. ERROR_BUSY: the scan has not ended. ERROR_CLOSED: cancelled. */
bool store_sweep(struct store *store, int64_t age_s, const struct cancel *cancel, uint64_t *deleted,
                 struct error *error);

#endif
