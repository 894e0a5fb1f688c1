/* The quarantine of blobs whose bytes are wrong: bounded in files and bytes. */
#include "store/quarantine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include "base/cleanup.h"
#include "base/log.h"
#include "store/root.h"
#include "store/store_private.h"

struct bad_file {
    char name[NAME_MAX + 1];
    uint64_t size;
    struct timespec since; /* when it was quarantined: the inode's change time */
};

/* The files that may stay, newest first. */
struct bad_files {
    struct bad_file kept[QUARANTINE_FILES_LIMIT + 1];
    size_t count;
};

static bool is_newer(const struct bad_file *a, const struct bad_file *b) {
    if (a->since.tv_sec != b->since.tv_sec)
        return a->since.tv_sec > b->since.tv_sec;
    return a->since.tv_nsec > b->since.tv_nsec;
}

/* Enters `file` in its place; if that is one too many, deletes the oldest. */
static void enter(struct bad_files *files, int directory, const struct bad_file *file) {
    size_t place = files->count++;
    for (; place > 0 && is_newer(file, &files->kept[place - 1]); place--)
        files->kept[place] = files->kept[place - 1];
    files->kept[place] = *file;
    if (files->count > QUARANTINE_FILES_LIMIT)
        unlinkat(directory, files->kept[--files->count].name, 0);
}

/* Deletes the oldest files until few enough files and bytes are left. */
static void enforce_limits(struct store *store) {
    DIR *directory = root_open_directory(store, "bad");
    if (!directory)
        return;
    cleanup_free struct bad_files *files = calloc(1, sizeof *files);
    for (struct dirent *entry; files && (entry = readdir(directory));) {
        struct bad_file file = {0};
        struct stat state;
        if (fstatat(dirfd(directory), entry->d_name, &state, AT_SYMLINK_NOFOLLOW) < 0 ||
            !S_ISREG(state.st_mode) ||
            !text_copy(text_of(entry->d_name), file.name, sizeof file.name))
            continue;
        file.size = (uint64_t)state.st_size;
        file.since = state.st_ctim;
        enter(files, dirfd(directory), &file);
    }
    uint64_t bytes = 0;
    for (size_t i = 0; files && i < files->count; i++) {
        bytes += files->kept[i].size;
        if (bytes > QUARANTINE_BYTES_LIMIT)
            unlinkat(dirfd(directory), files->kept[i].name, 0);
    }
    closedir(directory);
}

struct metric *quarantine_counter(void) {
    return metric_get(METRIC_COUNTER, "tarn_store_bad_blobs_total",
                      "Blobs on disk whose bytes did not match their digest", "");
}

bool quarantine_blob(struct store *store, const struct digest *digest, const char *path,
                     struct error *error) {
    char bad[PATH_SIZE], text[DIGEST_STRING_SIZE];
    store_path_flat(bad, "bad", digest, "");
    metric_add(quarantine_counter(), 1);
    digest_format(digest, text);
    bool kept = root_rename(store, path, bad, DURABILITY_NONE, error);
    /* If the rename fails, delete the file: a corrupt blob must not be served again. */
    if (!kept && unlinkat(store->root, path, 0) < 0 && errno != ENOENT) {
        log_at(LOG_ERROR, "bad blob cannot be set aside", LOG_STRING("digest", text),
               LOG_STRING("error", strerror(errno)));
        return false;
    }
    atomic_fetch_add(&store->removals, 1);
    log_at(LOG_ERROR, kept ? "bad blob set aside" : "bad blob deleted", LOG_STRING("digest", text),
           LOG_STRING("file", bad));
    enforce_limits(store);
    return true;
}
