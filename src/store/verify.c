/* Hashes a blob again, slowly if asked to, and without filling the page cache. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "store/blobs.h"
#include "store/root.h"
#include "store/store_private.h"

enum {
    WINDOW = 256 << 10, /* bytes read at a time, and dropped from the page cache together */
    PAGE = 4096,
    PAUSE_MS = 100, /* the longest sleep, so that cancelling takes effect soon */
};

struct verification {
    const char *path;
    int fd;
    uint64_t size, done, rate;
    int64_t started_ms;
    const struct cancel *cancel;
    unsigned char *window;
};

/* Whether a page of the window is in the page cache, because somebody reads this blob. True also if
 * the kernel does not say. */
static bool is_cached(const struct verification *verification, size_t length) {
    unsigned char pages[WINDOW / PAGE] = {0};
    void *map =
        mmap(NULL, length, PROT_READ, MAP_SHARED, verification->fd, (off_t)verification->done);
    if (map == MAP_FAILED)
        return true;
    bool cached = mincore(map, length, pages) < 0;
    for (size_t i = 0; i < (length + PAGE - 1) / PAGE && !cached; i++)
        cached = pages[i] & 1;
    munmap(map, length);
    return cached;
}

static bool hash_window(struct verification *verification, struct digest_hash *hash,
                        struct error *error) {
    uint64_t left = verification->size - verification->done;
    size_t length = left < WINDOW ? (size_t)left : WINDOW;
    bool keep = is_cached(verification, length);
    ssize_t got = file_read_at(verification->fd, verification->window, length, verification->done);
    if (got < 0)
        return error_set_errno(error, errno, "read %s", verification->path);
    if (got == 0)
        return error_set(error, ERROR_CORRUPT, "%s is shorter than it was", verification->path);
    digest_hash_update(hash, verification->window, (size_t)got);
    if (!keep)
        posix_fadvise(verification->fd, (off_t)verification->done, (off_t)length,
                      POSIX_FADV_DONTNEED);
    verification->done += (uint64_t)got;
    return true;
}

/* Sleeps until reading so many bytes may have taken so long, at `rate` bytes a second. */
static bool throttle(const struct verification *verification, struct error *error) {
    for (;;) {
        if (!cancel_check(verification->cancel, error))
            return false;
        if (!verification->rate)
            return true;
        double due_ms = (double)verification->done * 1000 / (double)verification->rate;
        double early_ms = due_ms - (double)(clock_ms() - verification->started_ms);
        if (early_ms < 1)
            return true;
        clock_sleep_ms(early_ms < PAUSE_MS ? (int64_t)early_ms : PAUSE_MS);
    }
}

static bool hash_file(struct verification *verification, struct digest_hash *hash,
                      struct error *error) {
    /* Without read-ahead, because it would make the next window look as if a reader had it cached.
     */
    posix_fadvise(verification->fd, 0, 0, POSIX_FADV_RANDOM);
    while (verification->done < verification->size)
        if (!throttle(verification, error) || !hash_window(verification, hash, error))
            return false;
    return throttle(verification, error);
}

/* False with ERROR_CORRUPT: the hashed bytes have another digest. */
static bool compare(struct digest_hash *hash, const struct digest *expected, const char *path,
                    struct error *error) {
    char wanted[DIGEST_STRING_SIZE], found[DIGEST_STRING_SIZE];
    struct digest actual;
    digest_hash_finish(hash, &actual);
    if (actual.algorithm == 0)
        return error_set(error, ERROR_MEMORY, "hash %s: the library failed", path);
    return digest_equal(&actual, expected) ||
           error_set(error, ERROR_CORRUPT, "the bytes of %s are %s",
                     digest_format(expected, wanted), digest_format(&actual, found));
}

static bool verify_file(struct verification *verification, const struct digest *digest,
                        struct error *error) {
    struct digest_hash *hash = digest_hash_new(digest->algorithm);
    verification->window = malloc(WINDOW);
    bool ok = hash && verification->window
                  ? hash_file(verification, hash, error) &&
                        compare(hash, digest, verification->path, error)
                  : error_set(error, ERROR_MEMORY, "verify %s: out of memory", verification->path);
    digest_hash_free(hash);
    free(verification->window);
    return ok;
}

/* Reads by a descriptor of its own and holds no index entry, because verifying is no use of a blob.
 * If the blob is evicted meanwhile, it is read to its end all the same. */
bool store_blob_verify(struct store *store, const struct digest *digest, uint64_t rate,
                       const struct cancel *cancel, bool *quarantined, struct error *error) {
    char path[PATH_SIZE];
    struct stat state;
    struct error bad, why;
    if (!store_path_blob(path, digest))
        return error_set(error, ERROR_INVALID, "verify a blob: not a digest");
    cleanup_close int fd = root_open_file(store, path, &state, error);
    if (fd < 0)
        return false;
    struct verification verification = {.path = path,
                                        .fd = fd,
                                        .size = (uint64_t)state.st_size,
                                        .rate = rate,
                                        .started_ms = clock_ms(),
                                        .cancel = cancel};
    if (verify_file(&verification, digest, &bad))
        return true;
    if (quarantined && bad.kind == ERROR_CORRUPT) {
        *quarantined = store_blob_quarantine(store, digest, fd, &why);
        if (!*quarantined)
            return error_set(error, ERROR_CORRUPT, "%s; it cannot be set aside: %s", bad.text,
                             why.text);
    }
    if (error)
        *error = bad;
    return false;
}
