/*
 * Deletes the records of blobs that are gone, which eviction leaves behind, and then the
 * directories that are empty, from the bottom up. A thread that makes a record meanwhile does not
 * notice, because a directory that is not empty cannot be removed, and because root_open() and
 * root_rename() make an empty directory again if it was removed before they could use it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include "base/clock.h"
#include "oci/reference.h"
#include "store/partials.h"
#include "store/record_names.h"
#include "store/root.h"
#include "store/store_private.h"

#define TOP "repositories"

enum { DEPTH_LIMIT = 130 }; /* the top, the host, and a name of 255 bytes with at most 128 parts */

struct sweep {
    struct store *store;
    const struct cancel *cancel;
    struct error *error;
    int64_t until_s; /* records written later stay */
    uint64_t deleted;
    char path[PATH_SIZE];              /* the directory being swept */
    struct repository_name repository; /* whose records are being swept */
    enum link_kind kind;               /* of the links being swept */
};

static bool stopped(const struct sweep *sweep) {
    return !cancel_check(sweep->cancel, NULL);
}

/* Whether the blob is stored or being fetched. The order matters: a blob that is being fetched has
 * a partial first and is in the index afterwards. */
static bool is_wanted(struct store *store, const struct digest *digest) {
    char path[PATH_SIZE];
    struct stat state;
    return store_partial_is_left(store, digest) || index_knows(&store->index, digest) ||
           /* The index does not know blobs in a directory that the scan could not read. */
           (store_path_blob(path, digest) && root_stat(store, path, &state));
}

static void delete_old(struct sweep *sweep, const char *path) {
    struct stat state;
    if (root_stat(sweep->store, path, &state) && state.st_mtim.tv_sec <= sweep->until_s &&
        root_unlink_record(sweep->store, path))
        sweep->deleted++;
}

static bool sweep_link(void *context, const struct digest *digest) {
    struct sweep *sweep = context;
    char path[PATH_SIZE];
    const char *kind = record_names_folder(sweep->kind);
    if (!is_wanted(sweep->store, digest) && store_path_link(path, &sweep->repository, kind, digest))
        delete_old(sweep, path);
    return !stopped(sweep);
}

static bool sweep_tag(void *context, const char *tag) {
    struct sweep *sweep = context;
    struct tag_record record;
    char path[PATH_SIZE];
    bool wanted = store_tag_get(sweep->store, &sweep->repository, tag, &record) &&
                  is_wanted(sweep->store, &record.digest);
    if (!wanted && store_path_tag(path, &sweep->repository, tag, sweep->store->ignores_case))
        delete_old(sweep, path);
    return !stopped(sweep);
}

/* Nothing reads such a file, so that its blob says nothing about it. */
static bool sweep_lost_tag(void *context, const char *path) {
    struct sweep *sweep = context;
    delete_old(sweep, path);
    return !stopped(sweep);
}

/* ENOTEMPTY and ENOENT are expected. */
static void remove_directory(struct sweep *sweep, const char *path) {
    root_remove_directory(sweep->store, path);
}

static void remove_record_directories(struct sweep *sweep) {
    static const char *const names[] = {
        "_blobs/sha256",     "_blobs/sha512", "_blobs", "_manifests/sha256",
        "_manifests/sha512", "_manifests",    "_tags"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[PATH_SIZE];
        if (snprintf(path, sizeof path, "%s/%s", sweep->path, names[i]) < PATH_SIZE)
            remove_directory(sweep, path);
    }
}

/* Sweeps the records of the repository whose directory is sweep->path; does nothing if that path is
 * no repository's. */
static bool sweep_records(struct sweep *sweep) {
    struct text host = text_from(text_of(sweep->path), strlen(TOP "/")), path;
    host = text_cut(host, '/', &path);
    if (!path.at || !repository_name_parse(host, path, &sweep->repository))
        return true;
    for (sweep->kind = LINK_BLOB;; sweep->kind = LINK_MANIFEST) {
        if (!record_names_of_links(sweep->store, &sweep->repository, sweep->kind, sweep_link, sweep,
                                   sweep->error))
            return false;
        if (sweep->kind == LINK_MANIFEST)
            break;
    }
    if (!record_names_of_tags(sweep->store, &sweep->repository, sweep_tag, sweep, sweep->error) ||
        !record_names_of_lost_tags(sweep->store, &sweep->repository, sweep_lost_tag, sweep,
                                   sweep->error))
        return false;
    remove_record_directories(sweep);
    return true;
}

static bool sweep_directory(struct sweep *sweep, int depth);

/* Sweeps the subdirectory `entry` if its name can be part of a repository's name. sweep->path is
 * afterwards as before. */
static bool sweep_below(struct sweep *sweep, const struct dirent *entry, int depth) {
    struct text name = text_of(entry->d_name);
    size_t length = strlen(sweep->path), left = sizeof sweep->path - length;
    bool is_part = depth == 0 ? reference_is_host(name) : reference_is_repository(name);
    bool ok = true;
    if ((entry->d_type != DT_DIR && entry->d_type != DT_UNKNOWN) || !is_part ||
        depth >= DEPTH_LIMIT)
        return true;
    if ((size_t)snprintf(sweep->path + length, left, "/%s", entry->d_name) < left) {
        ok = sweep_directory(sweep, depth + 1);
        if (ok)
            remove_directory(sweep, sweep->path);
    }
    sweep->path[length] = '\0';
    return ok;
}

static bool sweep_directory(struct sweep *sweep, int depth) {
    if (depth >= 2 && !sweep_records(sweep))
        return false;
    DIR *directory = root_open_directory(sweep->store, sweep->path);
    if (!directory)
        return errno == 0 ||
               error_set_errno(sweep->error, errno, "sweep %s/%s", sweep->store->path, sweep->path);
    bool ok = true;
    for (struct dirent *entry; ok && !stopped(sweep) && (entry = readdir(directory));)
        ok = sweep_below(sweep, entry, depth);
    closedir(directory);
    return ok;
}

bool store_sweep(struct store *store, int64_t age_s, const struct cancel *cancel, uint64_t *deleted,
                 struct error *error) {
    struct sweep sweep = {.store = store,
                          .cancel = cancel,
                          .error = error,
                          .until_s = age_s ? clock_wall_s() - age_s : INT64_MAX,
                          .path = TOP};
    *deleted = 0;
    if (!atomic_load_explicit(&store->scanned, memory_order_acquire))
        return error_set(error, ERROR_BUSY, "sweep %s: the scan for blobs has not ended yet",
                         store->path);
    bool ok = sweep_directory(&sweep, 0);
    *deleted = sweep.deleted;
    return ok && cancel_check(cancel, error);
}
