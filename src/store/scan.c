/*
 * Reads which blobs there are, in one pass over their names with a stat for each. A blob enters the
 * index at once, so that its bytes count, and all enter the order of last use at the end, sorted.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "store/aside.h"
#include "store/partials.h"
#include "store/quarantine.h"
#include "store/root.h"
#include "store/store_private.h"

struct scan {
    struct store *store;
    const struct cancel *cancel;
    enum digest_algorithm algorithm;
    uint64_t *found; /* `last use << 32 | slot` of each blob added */
    size_t count, capacity;
    unsigned unread; /* directories that could not be read to their end, and blobs */
};

static bool reserve(struct scan *scan) {
    if (scan->count < scan->capacity)
        return true;
    size_t capacity = scan->capacity ? scan->capacity * 2 : 4096;
    uint64_t *found = realloc(scan->found, capacity * sizeof *found);
    if (!found)
        return false;
    scan->found = found;
    scan->capacity = capacity;
    return true;
}

static bool no_memory(struct scan *scan, struct error *error) {
    return error_set(error, ERROR_MEMORY, "read which blobs %s has: out of memory",
                     scan->store->path);
}

/* The digest whose blob has this name in the directory "ab": "abcd…". */
static bool parse_name(const struct scan *scan, const char *directory, const char *name,
                       struct digest *out) {
    char text[DIGEST_STRING_SIZE];
    int length = snprintf(text, sizeof text, "%s:%s", digest_algorithm_name(scan->algorithm), name);
    return length < (int)sizeof text && strncmp(name, directory, 2) == 0 &&
           digest_parse(text_of(text), out);
}

/* A time in the future counts as now: a clock that was wrong once must not keep a blob for years.
 */
static int64_t last_use(const struct stat *file) {
    int64_t now_s = clock_wall_s(), used_s = file->st_mtim.tv_sec;
    return used_s < 0 ? 0 : used_s < now_s ? used_s : now_s;
}

/* False: out of memory. */
static bool add(struct scan *scan, int directory, const char *name, const struct digest *digest) {
    struct index *index = &scan->store->index;
    if (!reserve(scan))
        return false;
    for (;;) {
        uint64_t departures = index_departures(index);
        struct stat file;
        bool there = fstatat(directory, name, &file, AT_SYMLINK_NOFOLLOW) == 0;
        scan->unread += !there && errno != ENOENT;
        if (!there || !S_ISREG(file.st_mode))
            return true;
        uint32_t slot;
        int64_t used_s = last_use(&file);
        switch (index_add(index, digest, (uint64_t)file.st_size, used_s, departures, &slot)) {
        case INDEX_ADDED:
            scan->found[scan->count++] = (uint64_t)(uint32_t)used_s << 32 | slot;
            return true;
        case INDEX_KNOWN:
            return true;
        case INDEX_MEMORY:
            return false;
        case INDEX_CHANGED:
            break;
        }
    }
}

/* Calls `each` with the names in a directory, as far as it can be read. */
static bool each_name(struct scan *scan, const char *path, struct error *error,
                      bool (*each)(struct scan *scan, const char *path, int directory,
                                   const char *name, struct error *error)) {
    DIR *directory = root_open_directory(scan->store, path);
    bool ok = true;
    if (directory)
        errno = 0;
    for (struct dirent *entry; ok && directory && (entry = readdir(directory)); errno = 0)
        ok = each(scan, path, dirfd(directory), entry->d_name, error);
    scan->unread += ok && errno;
    if (directory)
        closedir(directory);
    return ok;
}

/* `path` is "blobs/sha256/ab". */
static bool scan_blob(struct scan *scan, const char *path, int directory, const char *name,
                      struct error *error) {
    struct digest digest;
    return cancel_check(scan->cancel, error) &&
           (!parse_name(scan, strrchr(path, '/') + 1, name, &digest) ||
            add(scan, directory, name, &digest) || no_memory(scan, error));
}

/* `path` is "blobs/sha256"; `name` is a directory in it, the first two digits of its digests. */
static bool scan_directory(struct scan *scan, const char *path, int directory, const char *name,
                           struct error *error) {
    (void)directory;
    char below[PATH_SIZE];
    if (strlen(name) != 2 || strspn(name, "0123456789abcdef") != 2)
        return true;
    snprintf(below, sizeof below, "%s/%s", path, name);
    return each_name(scan, below, error, scan_blob);
}

static bool scan_blobs(struct scan *scan, struct error *error) {
    static const enum digest_algorithm algorithms[] = {DIGEST_SHA256, DIGEST_SHA512};
    for (size_t i = 0; i < 2; i++) {
        char path[PATH_SIZE];
        scan->algorithm = algorithms[i];
        snprintf(path, sizeof path, "blobs/%s", digest_algorithm_name(scan->algorithm));
        if (!each_name(scan, path, error, scan_directory))
            return false;
    }
    return true;
}

static int compare(const void *left, const void *right) {
    const uint64_t *a = left, *b = right;
    return (*a > *b) - (*a < *b);
}

bool store_scan(struct store *store, const struct cancel *cancel, struct error *error) {
    /* An earlier process may have been killed between making a directory and syncing it. */
    syncfs(store->root);
    store_partials_count(store);
    struct scan scan = {.store = store, .cancel = cancel};
    bool ok = scan_blobs(&scan, error) && root_count_records(store, cancel, error);
    quarantine_count(store);
    store_aside_count(store);
    if (scan.count) /* also after an interrupted scan, so that all that is counted can be evicted */
        qsort(scan.found, scan.count, sizeof *scan.found, compare);
    if (!index_order(&store->index, scan.found, scan.count))
        ok = no_memory(&scan, error);
    free(scan.found);
    if (scan.unread)
        log_at(LOG_WARN, "not all blobs are counted: their directories cannot be read",
               LOG_NUMBER("directories", scan.unread));
    atomic_store_explicit(&store->unread, scan.unread, memory_order_relaxed);
    if (ok)
        atomic_store_explicit(&store->scanned, true, memory_order_release);
    return ok;
}
