#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "store/root.h"

/* A blob's modification time is its last use, to the hour: exact enough for eviction after a
 * restart, and a blob that is read a thousand times a second costs one inode write an hour. */
enum { LAST_USE_GRANULARITY_S = 3600 };

static bool no_digest(struct error *error) {
    return error_set(error, ERROR_INVALID, "open a blob: not a digest");
}

int store_blob_open(struct store *store, const struct digest *digest, uint64_t *size,
                    struct error *error) {
    char path[PATH_SIZE];
    if (!path_blob(path, digest)) {
        no_digest(error);
        return -1;
    }
    cleanup_close int fd = root_open(store, path, O_RDONLY);
    struct stat state;
    bool found = fd >= 0 && fstat(fd, &state) == 0;
    if (!found && errno != ENOENT && errno != ENOTDIR && errno != ELOOP) {
        error_set_errno(error, errno, "open %s/%s", store->path, path);
        return -1;
    }
    if (!found || !S_ISREG(state.st_mode)) {
        error_set(error, ERROR_NOT_FOUND, "%s/%s is not there", store->path, path);
        return -1;
    }
    int64_t age_s = clock_wall_s() - (int64_t)state.st_mtim.tv_sec;
    if (age_s >= LAST_USE_GRANULARITY_S || age_s < 0)
        futimens(fd, NULL); /* on a failing disk only the order of eviction suffers */
    if (size)
        *size = (uint64_t)state.st_size;
    return take_fd(fd);
}

bool store_blob_has(struct store *store, const struct digest *digest, uint64_t *size) {
    char path[PATH_SIZE];
    struct stat state;
    if (!path_blob(path, digest) || !root_stat(store, path, &state))
        return false;
    if (size)
        *size = (uint64_t)state.st_size;
    return true;
}

bool store_blob_put(struct store *store, const struct digest *digest, const void *bytes,
                    size_t length, struct error *error) {
    char path[PATH_SIZE], wanted[DIGEST_STRING_SIZE], found[DIGEST_STRING_SIZE];
    if (!path_blob(path, digest))
        return no_digest(error);
    struct digest actual;
    if (!digest_of(digest->algorithm, bytes, length, &actual))
        return error_set(error, ERROR_MEMORY, "hash a blob: out of memory");
    if (!digest_equal(&actual, digest))
        return error_set(error, ERROR_CORRUPT, "%zu bytes that should be %s are %s", length,
                         digest_format(digest, wanted), digest_format(&actual, found));
    uint64_t size;
    if (store_blob_has(store, digest, &size) && size == length)
        return true;
    return root_replace(store, path, bytes, length, DURABILITY_DIRECTORY, error);
}

bool store_blob_set_aside(struct store *store, const struct digest *digest, int fd,
                          struct error *error) {
    char path[PATH_SIZE], bad[PATH_SIZE], text[DIGEST_STRING_SIZE];
    struct stat opened, named;
    if (!path_blob(path, digest) || !path_flat(bad, "bad", digest, ""))
        return no_digest(error);
    if (fstat(fd, &opened) < 0)
        return error_set_errno(error, errno, "set %s/%s aside", store->path, path);
    if (!root_stat(store, path, &named) || opened.st_ino != named.st_ino ||
        opened.st_dev != named.st_dev)
        return true; /* somebody has replaced or removed it already */
    metric_add(metric_get(METRIC_COUNTER, "tarn_store_bad_blobs_total",
                          "Blobs on disk that were not what their digest says", ""),
               1);
    log_at(LOG_ERROR, "bad blob set aside", LOG_STRING("digest", digest_format(digest, text)),
           LOG_STRING("file", bad));
    /* Where it cannot be kept for people to look at, it goes: it must not be served again. */
    return root_rename(store, path, bad, DURABILITY_NONE, error) ||
           unlinkat(store->root, path, 0) == 0;
}

/* Reads exactly `size` bytes behind what `out` holds. */
static bool read_into(int fd, size_t size, struct buffer *out, const char *path,
                      struct error *error) {
    if (!buffer_reserve(out, size))
        return error_set(error, ERROR_MEMORY, "read %s: out of memory", path);
    for (size_t done = 0; done < size;) {
        ssize_t got = pread(fd, out->bytes + out->length + done, size - done, (off_t)done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_set_errno(error, errno, "read %s", path);
        if (got == 0)
            return error_set(error, ERROR_IO, "read %s: it shrank meanwhile", path);
        done += (size_t)got;
    }
    return true;
}

bool store_blob_read(struct store *store, const struct digest *digest, size_t limit,
                     struct buffer *out, struct error *error) {
    char path[DIGEST_STRING_SIZE];
    uint64_t size;
    cleanup_close int fd = store_blob_open(store, digest, &size, error);
    if (fd < 0)
        return false;
    digest_format(digest, path);
    if (size > limit)
        return error_set(error, ERROR_INVALID, "%s is %llu bytes, more than the %zu allowed here",
                         path, (unsigned long long)size, limit);
    if (!read_into(fd, (size_t)size, out, path, error))
        return false;
    struct digest actual;
    if (!digest_of(digest->algorithm, out->bytes + out->length, (size_t)size, &actual))
        return error_set(error, ERROR_MEMORY, "hash %s: out of memory", path);
    if (!digest_equal(&actual, digest)) {
        struct error why = {0};
        if (!store_blob_set_aside(store, digest, fd, &why))
            log_at(LOG_ERROR, "bad blob stays", LOG_STRING("error", why.text));
        return error_set(error, ERROR_CORRUPT, "the bytes on disk are not %s", path);
    }
    out->length += (size_t)size;
    out->bytes[out->length] = '\0';
    return true;
}
