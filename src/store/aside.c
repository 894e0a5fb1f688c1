/* Files beside blobs: written, read, counted, deleted. */
#include "store/aside.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include "base/cleanup.h"
#include "base/file.h"
#include "store/blobs.h"
#include "store/root.h"
#include "store/store_private.h"

static const char *const suffixes[ASIDE_KINDS] = {
    [ASIDE_INDEX] = ".index", [ASIDE_COPY] = ".frames", [ASIDE_REFUSED] = ".refused",
    [ASIDE_IMAGE] = ".image", [ASIDE_TRACE] = ".trace",
};

static bool path_of(char out[static PATH_SIZE], const struct digest *digest, enum aside_kind kind) {
    return store_path_flat(out, ASIDE, digest, suffixes[kind]);
}

/* What a file counts. */
struct weight {
    int64_t files, bytes;
};

static struct weight weigh(struct store *store, const char *path) {
    struct stat state;
    return root_stat(store, path, &state) ? (struct weight){1, (int64_t)state.st_blocks * 512}
                                          : (struct weight){0, 0};
}

static void account(struct store *store, enum aside_kind kind, struct weight before,
                    struct weight after) {
    atomic_fetch_add_explicit(&store->aside_bytes, after.bytes - before.bytes,
                              memory_order_relaxed);
    atomic_fetch_add_explicit(&store->aside_files[kind], after.files - before.files,
                              memory_order_relaxed);
}

static void unlink_counted(struct store *store, enum aside_kind kind, const char *path) {
    struct weight before = weigh(store, path);
    if (unlinkat(store->root, path, 0) == 0)
        account(store, kind, before, (struct weight){0});
}

/* A blob that goes at the same moment is unlinked before the files beside it are. So if the blob is
 * still there after the file got its name, whoever deletes the blob will find the file. */
static bool check_blob(struct store *store, const struct digest *digest, enum aside_kind kind,
                       const char *path, struct error *error) {
    if (store_blob_has(store, digest, NULL))
        return true;
    unlink_counted(store, kind, path);
    return error_set(error, ERROR_NOT_FOUND, "keep %s: its blob has gone", path);
}

bool store_aside_put(struct store *store, const struct digest *digest, enum aside_kind kind,
                     const void *bytes, size_t length, struct error *error) {
    char path[PATH_SIZE];
    if (!path_of(path, digest, kind))
        return error_set(error, ERROR_INVALID, "no digest");
    atomic_store(&store->has_asides, true);
    struct weight before = weigh(store, path);
    if (!root_replace(store, path, bytes, length, DURABILITY_FILE, error))
        return false;
    account(store, kind, before, weigh(store, path));
    return check_blob(store, digest, kind, path, error);
}

int store_aside_begin(struct store *store, char path[static PATH_SIZE], struct error *error) {
    return root_temporary(store, path, error);
}

void store_aside_abandon(struct store *store, const char *path) {
    unlinkat(store->root, path, 0);
}

bool store_aside_commit(struct store *store, const struct digest *digest, enum aside_kind kind,
                        int fd, const char *path, struct error *error) {
    char name[PATH_SIZE];
    struct weight before = {0};
    bool ok = path_of(name, digest, kind) || error_set(error, ERROR_INVALID, "no digest");
    if (ok && fsync(fd) < 0)
        ok = error_set_errno(error, errno, "write %s/%s", store->path, path);
    if (ok) {
        atomic_store(&store->has_asides, true);
        before = weigh(store, name);
        ok = root_rename(store, path, name, DURABILITY_FILE, error);
    }
    if (!ok) {
        store_aside_abandon(store, path);
        return false;
    }
    account(store, kind, before, weigh(store, name));
    return check_blob(store, digest, kind, name, error);
}

int store_aside_open(struct store *store, const struct digest *digest, enum aside_kind kind,
                     uint64_t *size, struct error *error) {
    char path[PATH_SIZE];
    struct stat state;
    if (!path_of(path, digest, kind)) {
        error_set(error, ERROR_NOT_FOUND, "no digest");
        return -1;
    }
    int fd = root_open_file(store, path, &state, error);
    if (fd >= 0)
        *size = (uint64_t)state.st_size;
    return fd;
}

bool store_aside_has(struct store *store, const struct digest *digest, enum aside_kind kind) {
    char path[PATH_SIZE];
    struct stat state;
    return path_of(path, digest, kind) && root_stat(store, path, &state);
}

bool store_aside_read(struct store *store, const struct digest *digest, enum aside_kind kind,
                      size_t limit, struct buffer *out, struct error *error) {
    uint64_t size;
    size_t length;
    cleanup_close int fd = store_aside_open(store, digest, kind, &size, error);
    if (fd < 0)
        return false;
    cleanup_free char *bytes = file_read_open(fd, limit, FILE_REGULAR, &length, NULL, error);
    if (!bytes)
        return false;
    return buffer_append(out, bytes, length) || error_set(error, ERROR_MEMORY, "out of memory");
}

void store_aside_delete(struct store *store, const struct digest *digest, enum aside_kind kind) {
    char path[PATH_SIZE];
    if (path_of(path, digest, kind))
        unlink_counted(store, kind, path);
}

void store_aside_forget(struct store *store, const struct digest *digest) {
    if (!atomic_load(&store->has_asides)) /* most caches have none, and evict by the thousand */
        return;
    for (int kind = 0; kind < ASIDE_KINDS; kind++)
        store_aside_delete(store, digest, (enum aside_kind)kind);
}

/* The digest and the kind in "sha256-HEX.KIND". */
static bool parse_name(const char *name, struct digest *digest, enum aside_kind *kind) {
    struct text rest, stem = text_cut(text_of(name), '.', &rest);
    if (!rest.at || !store_path_flat_digest(stem, digest))
        return false;
    for (int i = 0; i < ASIDE_KINDS; i++)
        if (text_is(rest, suffixes[i] + 1)) {
            *kind = (enum aside_kind)i;
            return true;
        }
    return false;
}

void store_aside_count(struct store *store) {
    DIR *directory = root_open_directory(store, ASIDE);
    struct weight sums[ASIDE_KINDS] = {0};
    int64_t bytes = 0;
    if (!directory)
        return;
    atomic_store(&store->has_asides, true);
    for (struct dirent *entry; (entry = readdir(directory));) {
        struct digest digest;
        struct stat state;
        enum aside_kind kind;
        if (!parse_name(entry->d_name, &digest, &kind))
            continue;
        if (!store_blob_has(store, &digest, NULL)) {
            unlinkat(dirfd(directory), entry->d_name, 0);
        } else if (fstatat(dirfd(directory), entry->d_name, &state, AT_SYMLINK_NOFOLLOW) == 0) {
            bytes += (int64_t)state.st_blocks * 512;
            sums[kind].files++;
        }
    }
    closedir(directory);
    /* What was put meanwhile is counted twice or not at all; the next scan counts it right. */
    atomic_store_explicit(&store->aside_bytes, bytes, memory_order_relaxed);
    for (int kind = 0; kind < ASIDE_KINDS; kind++)
        atomic_store_explicit(&store->aside_files[kind], sums[kind].files, memory_order_relaxed);
}

uint64_t store_aside_files(const struct store *store, enum aside_kind kind) {
    int64_t files = atomic_load_explicit(&store->aside_files[kind], memory_order_relaxed);
    return files > 0 ? (uint64_t)files : 0;
}
