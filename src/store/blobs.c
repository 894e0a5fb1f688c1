/* Blobs: opened, kept, read, quarantined, deleted. */
#include "store/blobs.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "store/aside.h"
#include "store/quarantine.h"
#include "store/records.h"
#include "store/root.h"
#include "store/store_private.h"

/* A file's modification time is the blob's last use, to the hour. That is exact enough for eviction
 * after a restart, and a blob that is read a thousand times a second costs one inode write an
 * hour. */
enum { LAST_USE_GRANULARITY_S = 3600 };

static bool no_digest(struct error *error) {
    return error_set(error, ERROR_INVALID, "open a blob: not a digest");
}

static bool no_memory(struct store *store, const char *path, struct error *error) {
    return error_set(error, ERROR_MEMORY, "open %s/%s: out of memory", store->path, path);
}

/* For a file that differs from the index entry, or has none: one thread opens it with the entry
 * held alone, then updates the index. */
static int open_alone(struct store *store, const struct digest *digest, const char *path,
                      struct index_hold *hold, struct stat *state, struct error *error) {
    uint64_t size = hold->size;
    cleanup_close int fd = root_open_file(store, path, state, error);
    if (fd >= 0 && (size == INDEX_ABSENT || size == (uint64_t)state->st_size)) {
        index_settle(&store->index, hold, (uint64_t)state->st_size);
        return take_fd(fd);
    }
    if (fd >= 0) {
        bool gone = quarantine_blob(store, digest, path, error);
        if (gone)
            error_set(error, ERROR_NOT_FOUND, "%s/%s has %lld bytes instead of %llu", store->path,
                      path, (long long)state->st_size, (unsigned long long)size);
        index_settle(&store->index, hold, gone ? INDEX_ABSENT : size);
        return -1;
    }
    index_settle(&store->index, hold, error->kind == ERROR_NOT_FOUND ? INDEX_ABSENT : size);
    return -1;
}

int store_blob_open(struct store *store, const struct digest *digest, uint64_t *size,
                    struct error *error) {
    char path[PATH_SIZE];
    struct index_hold hold;
    struct stat state;
    struct error why = {0};
    if (!store_path_blob(path, digest) || !index_hold(&store->index, digest, false, &hold)) {
        digest->algorithm == 0 ? no_digest(error) : no_memory(store, path, error);
        return -1;
    }
    int fd = hold.alone ? -1 : root_open_file(store, path, &state, &why);
    if (!hold.alone &&
        (fd >= 0 ? (uint64_t)state.st_size != hold.size : why.kind == ERROR_NOT_FOUND)) {
        if (fd >= 0)
            close(fd);
        index_hold_alone(&store->index, &hold);
    }
    if (hold.alone)
        fd = open_alone(store, digest, path, &hold, &state, &why);
    if (fd < 0) {
        index_release(&store->index, &hold, false);
        if (error)
            *error = why;
        return -1;
    }
    int64_t age_s = clock_wall_s() - (int64_t)state.st_mtim.tv_sec;
    if (age_s >= LAST_USE_GRANULARITY_S || age_s < 0)
        futimens(fd, NULL); /* if it fails, only the order of eviction suffers */
    if (size)
        *size = (uint64_t)state.st_size;
    return fd;
}

void store_blob_close(struct store *store, const struct digest *digest, int fd) {
    if (fd < 0)
        return;
    close(fd);
    index_release_digest(&store->index, digest);
}

void store_blob_touch(struct store *store, const struct digest *digest) {
    char path[PATH_SIZE];
    /* Called for every manifest served from memory: the path is made only once an hour. */
    if (index_touch(&store->index, digest) && store_path_blob(path, digest))
        utimensat(store->root, path, NULL, AT_SYMLINK_NOFOLLOW);
}

bool store_blob_mark_due(struct store *store, const struct digest *digest, int64_t now_s,
                         int64_t period_s, bool *known) {
    return index_mark_due(&store->index, digest, now_s, period_s, known);
}

void store_blob_set_marked(struct store *store, const struct digest *digest, int64_t at_s) {
    index_set_marked(&store->index, digest, at_s);
}

bool store_blob_has(struct store *store, const struct digest *digest, uint64_t *size) {
    char path[PATH_SIZE];
    struct stat state;
    if (!store_path_blob(path, digest) || !root_stat(store, path, &state))
        return false;
    if (size)
        *size = (uint64_t)state.st_size;
    return true;
}

/* Quarantines a blob that is open on `fd`, or logs why it cannot be. */
static void quarantine_open(struct store *store, const struct digest *digest, int fd) {
    struct error error;
    if (!store_blob_quarantine(store, digest, fd, &error))
        log_at(LOG_ERROR, "bad blob stays", LOG_STRING("error", error.text));
}

static bool is_as_long(uint64_t size, uint64_t verified) {
    return verified == STORE_SIZE_UNKNOWN || size == verified;
}

int store_blob_open_linked(struct store *store, const struct repository_name *repository,
                           const struct digest *digest, struct store_access *out) {
    uint64_t verified;
    *out = (struct store_access){0};
    out->linked = store_has_link_blob(store, repository, digest, &verified);
    if (!out->linked) {
        out->stored = store_blob_has(store, digest, &out->size);
        return -1;
    }
    int fd = store_blob_open(store, digest, &out->size, NULL);
    out->stored = fd >= 0 && is_as_long(out->size, verified);
    if (fd < 0 || out->stored)
        return fd;
    quarantine_open(store, digest, fd);
    store_blob_close(store, digest, fd);
    return -1;
}

bool store_blob_has_linked(struct store *store, const struct repository_name *repository,
                           const struct digest *digest, uint64_t *size) {
    uint64_t verified;
    return store_has_link_blob(store, repository, digest, &verified) &&
           store_blob_has(store, digest, size) && is_as_long(*size, verified);
}

bool store_blob_put(struct store *store, const struct digest *digest, const void *bytes,
                    size_t length, struct error *error) {
    char path[PATH_SIZE], wanted[DIGEST_STRING_SIZE], found[DIGEST_STRING_SIZE];
    if (!store_path_blob(path, digest))
        return no_digest(error);
    struct digest actual;
    if (!digest_of(digest->algorithm, bytes, length, &actual))
        return error_set(error, ERROR_MEMORY, "hash a blob: out of memory");
    if (!digest_equal(&actual, digest))
        return error_set(error, ERROR_CORRUPT, "%zu bytes that should be %s are %s", length,
                         digest_format(digest, wanted), digest_format(&actual, found));
    struct index_hold hold;
    if (!index_hold(&store->index, digest, true, &hold))
        return no_memory(store, path, error);
    uint64_t size;
    bool kept = (store_blob_has(store, digest, &size) && size == length) ||
                root_replace(store, path, bytes, length, DURABILITY_DIRECTORY, error);
    /* After a failure the blob may be there all the same: if only the last sync failed, or if it
     * was there before. */
    index_settle(&store->index, &hold,
                 kept                                   ? length
                 : store_blob_has(store, digest, &size) ? size
                                                        : INDEX_ABSENT);
    index_release(&store->index, &hold, true);
    return kept;
}

bool store_blob_quarantine(struct store *store, const struct digest *digest, int fd,
                           struct error *error) {
    char path[PATH_SIZE];
    struct stat opened, named;
    struct index_hold hold;
    if (!store_path_blob(path, digest))
        return no_digest(error);
    if (fstat(fd, &opened) < 0)
        return error_set_errno(error, errno, "set %s/%s aside", store->path, path);
    if (!index_hold(&store->index, digest, true, &hold))
        return no_memory(store, path, error);
    bool there = root_stat(store, path, &named);
    /* Another file may have the name by now. */
    bool same = there && opened.st_ino == named.st_ino && opened.st_dev == named.st_dev;
    bool ok = !same || quarantine_blob(store, digest, path, error);
    if (same && ok)
        store_aside_forget(store, digest);
    index_settle(&store->index, &hold,
                 there && !(same && ok) ? (uint64_t)named.st_size : INDEX_ABSENT);
    index_release(&store->index, &hold, false);
    return ok;
}

uint64_t store_blob_removals(const struct store *store) {
    return atomic_load(&store->removals);
}

/* Digests are random, so that their first bytes make even groups. */
static unsigned group_of(const struct digest *digest) {
    return (digest->bytes[0] | (unsigned)digest->bytes[1] << 8) % REMOVAL_GROUPS;
}

uint64_t store_blob_removals_like(const struct store *store, const struct digest *digest) {
    return atomic_load(&store->group_removals[group_of(digest)]);
}

void store_count_removal(struct store *store, const struct digest *digest) {
    atomic_fetch_add(&store->removals, 1);
    atomic_fetch_add(&store->group_removals[group_of(digest)], 1);
}

bool store_blob_remove(struct store *store, const struct digest *digest, uint64_t *freed,
                       struct error *error) {
    char path[PATH_SIZE];
    struct stat state;
    struct index_hold hold;
    *freed = 0;
    if (!store_path_blob(path, digest))
        return no_digest(error);
    if (!index_hold(&store->index, digest, true, &hold))
        return no_memory(store, path, error);
    bool there = root_stat(store, path, &state);
    bool gone = unlinkat(store->root, path, 0) == 0;
    if (gone) {
        store_count_removal(store, digest);
        store_aside_forget(store, digest);
    }
    if (gone && (there || hold.size != INDEX_ABSENT))
        *freed = there ? (uint64_t)state.st_size : hold.size;
    bool ok = gone || errno == ENOENT || errno == ENOTDIR ||
              error_set_errno(error, errno, "delete %s/%s", store->path, path);
    index_settle(&store->index, &hold, ok ? INDEX_ABSENT : hold.size);
    index_release(&store->index, &hold, false);
    return ok;
}

/* In a small cache most directories are empty sooner or later. */
static void remove_empty_directory(struct store *store, char *path) {
    *strrchr(path, '/') = '\0';
    root_remove_directory(store, path);
}

bool store_evict(struct store *store, int64_t before_s, struct store_blob *evicted,
                 struct error *error) {
    char path[PATH_SIZE];
    struct index_hold hold;
    if (!index_hold_oldest(&store->index, before_s, &hold, evicted))
        return error_set(error, ERROR_NOT_FOUND, "no blob of %s can be evicted", store->path);
    store_path_blob(path, &evicted->digest);
    bool ok = unlinkat(store->root, path, 0) == 0 || errno == ENOENT || errno == ENOTDIR ||
              error_set_errno(error, errno, "evict %s/%s", store->path, path);
    if (ok) {
        store_count_removal(store, &evicted->digest);
        store_aside_forget(store, &evicted->digest);
    }
    index_settle(&store->index, &hold, ok ? INDEX_ABSENT : hold.size);
    index_release(&store->index, &hold, false);
    if (ok)
        remove_empty_directory(store, path);
    return ok;
}

/* Appends the bytes of an open blob and checks its digest. */
static bool read_checked(int fd, const struct digest *digest, uint64_t size, size_t limit,
                         struct buffer *out, struct error *error) {
    char name[DIGEST_STRING_SIZE];
    struct digest actual;
    digest_format(digest, name);
    if (size > limit)
        return error_set(error, ERROR_INVALID, "%s is %llu bytes, more than the %zu allowed here",
                         name, (unsigned long long)size, limit);
    if (!buffer_reserve(out, (size_t)size))
        return error_set(error, ERROR_MEMORY, "read %s: out of memory", name);
    if (!file_read_all_at(fd, out->bytes + out->length, (size_t)size, 0, error))
        return error_wrap(error, "the blob %s", name);
    if (!digest_of(digest->algorithm, out->bytes + out->length, (size_t)size, &actual))
        return error_set(error, ERROR_MEMORY, "hash %s: out of memory", name);
    if (!digest_equal(&actual, digest))
        return error_set(error, ERROR_CORRUPT, "the bytes on disk are not %s", name);
    out->length += (size_t)size;
    out->bytes[out->length] = '\0';
    return true;
}

bool store_blob_read(struct store *store, const struct digest *digest, size_t limit,
                     struct buffer *out, struct error *error) {
    uint64_t size;
    struct error why = {0};
    int fd = store_blob_open(store, digest, &size, error);
    if (fd < 0)
        return false;
    bool ok = read_checked(fd, digest, size, limit, out, &why);
    if (!ok && error)
        *error = why;
    if (!ok && why.kind == ERROR_CORRUPT)
        quarantine_open(store, digest, fd);
    store_blob_close(store, digest, fd);
    return ok;
}

bool store_blob_peek(struct store *store, const struct digest *digest, size_t limit,
                     struct buffer *out, struct error *error) {
    char path[PATH_SIZE];
    struct stat state;
    if (!store_path_blob(path, digest))
        return no_digest(error);
    cleanup_close int fd = root_open_file(store, path, &state, error);
    return fd >= 0 && read_checked(fd, digest, (uint64_t)state.st_size, limit, out, error);
}
