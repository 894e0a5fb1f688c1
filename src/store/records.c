/*
 * Links and tags, each written to and read from a small file of its own. A record that is read is
 * checked to its last byte; one that is not whole counts as absent, which costs one request
 * upstream.
 */
#include "store/records.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "store/record_names.h"
#include "store/root.h"
#include "store/store_private.h"

#define MANIFEST_MAGIC "tarn-manifest 1"
#define TAG_MAGIC      "tarn-tag 1"
#define BLOB_MAGIC     "tarn-blob 1"

enum { MEDIA_TYPE_SIZE = 128, RECORD_SIZE = 512 };

static bool bad_digest(struct error *error, const struct repository_name *repository) {
    return error_set(error, ERROR_INVALID, "a link of %s/%s: not a digest", repository->host,
                     repository->path);
}

static bool bad_tag(struct error *error, const struct repository_name *repository) {
    return error_set(error, ERROR_INVALID, "a tag of %s/%s: malformed tag", repository->host,
                     repository->path);
}

/* Whether it can be a line of a record: printable ASCII, and not longer than a reader's buffer. */
static bool is_media_type(struct text text) {
    for (size_t i = 0; i < text.length; i++)
        if (text.at[i] < 0x20 || text.at[i] > 0x7e)
            return false;
    return text.length < MEDIA_TYPE_SIZE;
}

/* Takes the next line off `rest`. False: the line has no newline, so the record is cut off. */
static bool next_line(struct text *rest, struct text *line) {
    *line = text_cut(*rest, '\n', rest);
    return rest->at != NULL;
}

/* ---- all links ---- */

static bool link_path(char path[static PATH_SIZE], const struct repository_name *repository,
                      enum link_kind kind, const struct digest *digest) {
    return store_path_link(path, repository, record_names_folder(kind), digest);
}

void store_link_confirm(struct store *store, const struct repository_name *repository,
                        enum link_kind kind, const struct digest *digest, int64_t age_s) {
    char path[PATH_SIZE];
    const time_t then = (time_t)(clock_wall_s() - age_s);
    const struct timespec times[2] = {{.tv_sec = then}, {.tv_sec = then}};
    if (link_path(path, repository, kind, digest)) /* if it fails, upstream is asked sooner */
        utimensat(store->root, path, age_s ? times : NULL, AT_SYMLINK_NOFOLLOW);
}

bool store_link_age(struct store *store, const struct repository_name *repository,
                    enum link_kind kind, const struct digest *digest, int64_t *age_ms) {
    char path[PATH_SIZE];
    struct stat state;
    if (!link_path(path, repository, kind, digest) || !root_stat(store, path, &state))
        return false;
    int64_t age_s = clock_wall_s() - state.st_mtim.tv_sec;
    *age_ms = age_s < 0 ? INT64_MAX : age_s * 1000; /* the clock was set back */
    return true;
}

/* ---- links to blobs ---- */

bool store_link_blob(struct store *store, const struct repository_name *repository,
                     const struct digest *digest, struct error *error) {
    char path[PATH_SIZE];
    if (!store_path_link(path, repository, LINKED_BLOBS, digest))
        return bad_digest(error, repository);
    cleanup_close int fd = root_open(store, path, O_WRONLY | O_CREAT | O_EXCL);
    if (fd >= 0 || errno == EEXIST)
        return true;
    return error_set_errno(error, errno, "make %s/%s", store->path, path);
}

bool store_sync_blob_links(struct store *store, const struct repository_name *repository,
                           enum digest_algorithm algorithm, struct error *error) {
    char path[PATH_SIZE];
    struct digest any = {.algorithm = algorithm};
    if (!store_path_link(path, repository, LINKED_BLOBS, &any))
        return bad_digest(error, repository);
    /* `_blobs/sha256`, `_blobs` and the directory above: nobody else syncs them (root.c). */
    for (int level = 0; level < 3; level++) {
        *strrchr(path, '/') = '\0';
        if (faccessat(store->root, path, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
            return true; /* there are no links, or the sweep removed the last one */
        if (!root_sync(store, path, error))
            return false;
    }
    return true;
}

bool store_link_blob_size(struct store *store, const struct repository_name *repository,
                          const struct digest *digest, uint64_t size, struct error *error) {
    char path[PATH_SIZE], record[RECORD_SIZE];
    if (!store_path_link(path, repository, LINKED_BLOBS, digest))
        return bad_digest(error, repository);
    int length = snprintf(record, sizeof record, BLOB_MAGIC "\n%llu\n", (unsigned long long)size);
    return root_replace(store, path, record, (size_t)length, DURABILITY_FILE, error);
}

static bool read_size(struct text record, uint64_t *size) {
    struct text magic, number;
    return next_line(&record, &magic) && next_line(&record, &number) && !record.length &&
           text_is(magic, BLOB_MAGIC) && text_to_u64(number, size);
}

bool store_has_link_blob(struct store *store, const struct repository_name *repository,
                         const struct digest *digest, uint64_t *size) {
    char path[PATH_SIZE], record[RECORD_SIZE];
    struct stat state;
    if (!store_path_link(path, repository, LINKED_BLOBS, digest) || !root_stat(store, path, &state))
        return false;
    if (!size)
        return true;
    *size = STORE_SIZE_UNKNOWN;
    if (state.st_size == 0) /* made before the blob was verified, or by an older version */
        return true;
    ssize_t length = root_read_record(store, path, record, sizeof record);
    if (length < 0 || !read_size((struct text){record, (size_t)length}, size))
        *size = STORE_SIZE_UNKNOWN;
    return true;
}

bool store_link_manifest(struct store *store, const struct repository_name *repository,
                         const struct digest *digest, const char *media_type, struct error *error) {
    char path[PATH_SIZE], record[RECORD_SIZE], old[RECORD_SIZE];
    if (!store_path_link(path, repository, LINKED_MANIFESTS, digest))
        return bad_digest(error, repository);
    if (!is_media_type(text_of(media_type)))
        return error_set(error, ERROR_INVALID,
                         "keep a manifest link of %s/%s: its media type is over %d bytes or not "
                         "printable",
                         repository->host, repository->path, MEDIA_TYPE_SIZE - 1);
    int length = snprintf(record, sizeof record, MANIFEST_MAGIC "\n%s\n", media_type);
    if (root_read_record(store, path, old, sizeof old) == length && strcmp(old, record) == 0)
        return true;
    return root_replace(store, path, record, (size_t)length, DURABILITY_DIRECTORY, error);
}

bool store_has_link_manifest(struct store *store, const struct repository_name *repository,
                             const struct digest *digest, char *media_type, size_t size) {
    char path[PATH_SIZE], record[RECORD_SIZE];
    if (!store_path_link(path, repository, LINKED_MANIFESTS, digest))
        return false;
    ssize_t length = root_read_record(store, path, record, sizeof record);
    if (length < 0)
        return false;
    struct text rest = {record, (size_t)length}, magic, type;
    return next_line(&rest, &magic) && next_line(&rest, &type) && !rest.length &&
           text_is(magic, MANIFEST_MAGIC) && is_media_type(type) &&
           (!media_type || text_copy(type, media_type, size));
}

bool store_tag_put(struct store *store, const struct repository_name *repository, const char *tag,
                   const struct tag_record *record, struct error *error) {
    char path[PATH_SIZE], text[RECORD_SIZE], digest[DIGEST_STRING_SIZE];
    if (!store_path_tag(path, repository, tag, store->ignores_case))
        return bad_tag(error, repository);
    struct text media_type = {record->media_type,
                              strnlen(record->media_type, sizeof record->media_type)};
    if (!is_media_type(media_type) || record->digest.algorithm == 0 || record->checked_s < 0)
        return error_set(error, ERROR_INVALID,
                         "keep tag %s of %s/%s: no digest, time or media type", tag,
                         repository->host, repository->path);
    int length = snprintf(text, sizeof text, TAG_MAGIC "\n%s\n%.*s\n%lld\n",
                          digest_format(&record->digest, digest), TEXT_PRINT(media_type),
                          (long long)record->checked_s);
    /* A new tag must survive a power loss, so its name is synced too. A tag that is replaced needs
     * only its bytes to be durable before the rename. */
    bool is_new = faccessat(store->root, path, F_OK, AT_SYMLINK_NOFOLLOW) < 0;
    return root_replace(store, path, text, (size_t)length,
                        is_new ? DURABILITY_DIRECTORY : DURABILITY_FILE, error);
}

static bool tag_record_parse(struct text text, struct tag_record *out) {
    struct text magic, digest, media_type, checked;
    uint64_t checked_s;
    *out = (struct tag_record){0};
    if (!next_line(&text, &magic) || !next_line(&text, &digest) || !next_line(&text, &media_type) ||
        !next_line(&text, &checked) || text.length)
        return false;
    if (!text_is(magic, TAG_MAGIC) || !digest_parse(digest, &out->digest) ||
        !is_media_type(media_type) ||
        !text_copy(media_type, out->media_type, sizeof out->media_type) ||
        !text_to_u64(checked, &checked_s) || checked_s > INT64_MAX)
        return false;
    /* A time in the future counts as now: a clock that was wrong once must not keep a tag fresh for
     * years. */
    int64_t now_s = clock_wall_s();
    out->checked_s = (int64_t)checked_s < now_s ? (int64_t)checked_s : now_s;
    return true;
}

bool store_tag_get(struct store *store, const struct repository_name *repository, const char *tag,
                   struct tag_record *out) {
    char path[PATH_SIZE], text[RECORD_SIZE];
    if (!store_path_tag(path, repository, tag, store->ignores_case))
        return false;
    ssize_t length = root_read_record(store, path, text, sizeof text);
    return length >= 0 && tag_record_parse((struct text){text, (size_t)length}, out);
}

bool store_tag_delete(struct store *store, const struct repository_name *repository,
                      const char *tag, struct error *error) {
    char path[PATH_SIZE];
    if (!store_path_tag(path, repository, tag, store->ignores_case))
        return bad_tag(error, repository);
    return root_delete_record(store, path, error);
}
