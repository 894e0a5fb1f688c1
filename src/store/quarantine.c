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
    uint64_t size, bytes;  /* bytes are those on disk */
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

/* Deletes the oldest files until few enough files and bytes are left, and with `one` the oldest of
 * those, too. Returns the bytes on disk of those that stay. */
static uint64_t enforce_limits(struct store *store, bool one) {
    DIR *directory = root_open_directory(store, "bad");
    uint64_t size = 0, kept = 0;
    if (!directory)
        return 0;
    cleanup_free struct bad_files *files = calloc(1, sizeof *files);
    for (struct dirent *entry; files && (entry = readdir(directory));) {
        struct bad_file file = {0};
        struct stat state;
        if (fstatat(dirfd(directory), entry->d_name, &state, AT_SYMLINK_NOFOLLOW) < 0 ||
            !S_ISREG(state.st_mode) ||
            !text_copy(text_of(entry->d_name), file.name, sizeof file.name))
            continue;
        file.size = (uint64_t)state.st_size;
        file.bytes = (uint64_t)state.st_blocks * 512;
        file.since = state.st_ctim;
        enter(files, dirfd(directory), &file);
    }
    for (size_t i = 0; files && i < files->count; i++) {
        size += files->kept[i].size;
        bool stays = size <= QUARANTINE_BYTES_LIMIT && !(one && i + 1 == files->count);
        if (stays || unlinkat(dirfd(directory), files->kept[i].name, 0) < 0)
            kept += files->kept[i].bytes;
    }
    closedir(directory);
    atomic_store(&store->bad_bytes, (int64_t)kept);
    return kept;
}

void quarantine_count(struct store *store) {
    enforce_limits(store, false);
}

bool store_quarantine_evict(struct store *store, uint64_t *freed) {
    uint64_t before = (uint64_t)atomic_load(&store->bad_bytes);
    *freed = 0;
    if (before == 0)
        return false;
    uint64_t after = enforce_limits(store, true);
    *freed = before > after ? before - after : 0;
    return *freed > 0;
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
    store_count_removal(store, digest);
    log_at(LOG_ERROR, kept ? "bad blob set aside" : "bad blob deleted", LOG_STRING("digest", text),
           LOG_STRING("file", bad));
    enforce_limits(store, false);
    return true;
}
