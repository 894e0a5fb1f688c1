/* Files below the root: opened, written, renamed and synced. */
#include "store/root.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/file.h"
#include "store/store_private.h"

enum { TEMPORARY_PREFIX = 9 }; /* "01234567-", the session */

bool root_check_owner(const struct store *store, struct error *error) {
    struct stat state;
    if (fstat(store->root, &state) < 0)
        return error_set_errno(error, errno, "read the owner of %s", store->path);
    if (state.st_uid != 0 && state.st_uid != geteuid())
        return error_set(error, ERROR_DENIED,
                         "the root %s belongs to user %lu, who can put wrong layers there; tarn "
                         "runs as user %lu: chown the folder to that user, or name another root",
                         store->path, (unsigned long)state.st_uid, (unsigned long)geteuid());
    if (state.st_mode & S_IWOTH)
        return error_set(error, ERROR_DENIED,
                         "everybody may write the root %s, so anybody can put wrong layers there: "
                         "chmod o-w %s, or name a folder in it as the root",
                         store->path, store->path);
    return true;
}

static bool sync_directory(struct store *store, const char *path) {
    cleanup_close int fd = openat(store->root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return false;
    return fsync(fd) == 0 || errno == EINVAL; /* EINVAL: a file system without directory syncs */
}

bool root_sync(struct store *store, const char *path, struct error *error) {
    return sync_directory(store, path) ||
           error_set_errno(error, errno, "sync %s/%s", store->path, path);
}

/* `level` 0: makes the name `path` durable. 1: the name of the directory that `path` is in. */
static bool sync_parent(struct store *store, const char *path, int level) {
    char parent[PATH_SIZE];
    if (!text_copy(text_of(path), parent, sizeof parent)) {
        errno = ENAMETOOLONG;
        return false;
    }
    for (; level >= 0; level--) {
        char *slash = strrchr(parent, '/');
        if (!slash)
            return sync_directory(store, ".");
        *slash = '\0';
    }
    return sync_directory(store, parent);
}

/* Makes the name `path` durable. Directories further up were synced before the directories below
 * them were made, except those that another thread is making right now. */
static bool sync_name(struct store *store, const char *path) {
    return sync_parent(store, path, 0) &&
           (!atomic_load(&store->making) || sync_parent(store, path, 1));
}

static bool cannot_sync_name(struct store *store, const char *path, struct error *error) {
    return error_set_errno(error, errno, "sync the directory of %s/%s", store->path, path);
}

bool root_sync_parent(struct store *store, const char *path, struct error *error) {
    return sync_name(store, path) || cannot_sync_name(store, path, error);
}

/* The directories of blob links are synced later, by store_sync_blob_links(), because they are made
 * before the first byte of a blob can be sent. No other path has such a part. */
static bool is_synced_later(const char *path) {
    return strstr(path, "/" LINKED_BLOBS) != NULL;
}

static void account(struct store *store, int64_t bytes, int64_t entries) {
    atomic_fetch_add_explicit(&store->record_bytes, bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&store->record_entries, entries, memory_order_relaxed);
}

/* What a name has on disk. */
struct allocated {
    bool exists;
    uint64_t bytes;
};

static struct allocated allocated(struct store *store, const char *path) {
    struct stat state;
    if (fstatat(store->root, path, &state, AT_SYMLINK_NOFOLLOW) < 0)
        return (struct allocated){0};
    return (struct allocated){true, (uint64_t)state.st_blocks * 512};
}

static void account_change(struct store *store, struct allocated before, struct allocated after) {
    account(store, (int64_t)(after.bytes - before.bytes), after.exists - before.exists);
}

/* Whether the bytes of a file count as those of the records. */
static bool is_record(const char *path) {
    return text_starts(text_of(path), RECORDS "/") || text_starts(text_of(path), PENDING "/") ||
           strcmp(path, HISTORY) == 0 || strcmp(path, FILLED) == 0;
}

/* The directory that holds `path`, and what it has on disk: it may grow by a name. Two threads that
 * make it grow at once may both count that, until the records are counted anew. */
static struct allocated allocated_parent(struct store *store, const char *path,
                                         char parent[static PATH_SIZE]) {
    text_copy(text_of(path), parent, PATH_SIZE);
    char *slash = strrchr(parent, '/');
    if (slash)
        *slash = '\0';
    return allocated(store, slash ? parent : ".");
}

/* Makes a directory and its name durable. `making` tells a thread that puts a file into the
 * directory meanwhile that the directory's name may not be synced yet. */
static bool make_directory(struct store *store, const char *path) {
    atomic_fetch_add(&store->making, 1);
    bool made = mkdirat(store->root, path, DIRECTORY_MODE) == 0;
    bool ok = made ? is_synced_later(path) || sync_parent(store, path, 0) : errno == EEXIST;
    int reason = errno;
    if (made)
        account_change(store, (struct allocated){0}, allocated(store, path));
    errno = reason;
    atomic_fetch_sub(&store->making, 1);
    return ok;
}

/* Makes every directory on the way to `path`. Other threads may be making the same ones. */
static bool make_parents(struct store *store, const char *path) {
    char directory[PATH_SIZE];
    if (!text_copy(text_of(path), directory, sizeof directory)) {
        errno = ENAMETOOLONG;
        return false;
    }
    for (char *slash = strchr(directory, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (!make_directory(store, directory))
            return false;
        *slash = '/';
    }
    return true;
}

/* After a call failed for want of a directory: makes the directories of `path`, and returns whether
 * to try again. More than once, because the sweep may remove an empty directory right after it was
 * made. */
static bool retry_after_making_parents(struct store *store, const char *path, int attempt) {
    enum { ATTEMPTS = 16 };
    return errno == ENOENT && attempt < ATTEMPTS && (make_parents(store, path) || errno == ENOENT);
}

int root_open(struct store *store, const char *path, int flags) {
    /* O_NONBLOCK: so that open() does not wait if the file is a FIFO. No effect on regular files.
     */
    flags |= O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
    char parent[PATH_SIZE];
    bool creates = (flags & O_EXCL) && is_record(path);
    struct allocated before = {0};
    if (creates)
        before = allocated_parent(store, path, parent);
    int fd = openat(store->root, path, flags, FILE_MODE);
    for (int attempt = 0;
         fd < 0 && (flags & O_CREAT) && retry_after_making_parents(store, path, attempt); attempt++)
        fd = openat(store->root, path, flags, FILE_MODE);
    if (creates && fd >= 0) {
        account_change(store, (struct allocated){0}, allocated(store, path));
        if (before.exists)
            account_change(store, before, allocated(store, parent));
    }
    return fd;
}

int root_open_file(struct store *store, const char *path, struct stat *state, struct error *error) {
    cleanup_close int fd = root_open(store, path, O_RDONLY);
    bool found = fd >= 0 && fstat(fd, state) == 0;
    if (!found && errno != ENOENT && errno != ENOTDIR && errno != ELOOP) {
        error_set_errno(error, errno, "open %s/%s", store->path, path);
        return -1;
    }
    if (!found || !S_ISREG(state->st_mode)) {
        error_set(error, ERROR_NOT_FOUND, "%s/%s is not there", store->path, path);
        return -1;
    }
    return take_fd(fd);
}

int root_temporary(struct store *store, char path[static PATH_SIZE], struct error *error) {
    snprintf(path, PATH_SIZE, "tmp/%08" PRIx32 "-%" PRIu64, store->session,
             atomic_fetch_add_explicit(&store->temporaries, 1, memory_order_relaxed));
    int fd = root_open(store, path, O_RDWR | O_CREAT | O_EXCL);
    if (fd < 0)
        error_set_errno(error, errno, "make %s/%s", store->path, path);
    return fd;
}

bool root_rename(struct store *store, const char *from, const char *to, enum durability durability,
                 struct error *error) {
    char parent[PATH_SIZE];
    const struct allocated folder = allocated_parent(store, to, parent);
    struct allocated old = {0};
    if (is_record(to))
        old = allocated(store, to);
    int result = renameat(store->root, from, store->root, to);
    for (int attempt = 0; result < 0 && retry_after_making_parents(store, to, attempt); attempt++)
        result = renameat(store->root, from, store->root, to);
    if (result < 0)
        return error_set_errno(error, errno, "rename %s/%s to %s", store->path, from, to);
    if (folder.exists)
        account_change(store, folder, allocated(store, parent));
    if (is_record(to))
        account_change(store, old, allocated(store, to));
    /* ENOENT: the sweep has deleted the new file and its directory already, so that there is no
     * name to make durable. */
    return durability != DURABILITY_DIRECTORY || sync_name(store, to) || errno == ENOENT ||
           cannot_sync_name(store, to, error);
}

bool root_replace(struct store *store, const char *path, const void *bytes, size_t length,
                  enum durability durability, struct error *error) {
    char temporary[PATH_SIZE];
    cleanup_close int fd = root_temporary(store, temporary, error);
    if (fd < 0)
        return false;
    bool ok = file_write_all(fd, bytes, length, NULL) &&
              (durability == DURABILITY_NONE || fsync(fd) == 0);
    if (!ok)
        error_set_errno(error, errno, "write %s/%s", store->path, path);
    else
        ok = root_rename(store, temporary, path, durability, error);
    if (!ok)
        unlinkat(store->root, temporary, 0);
    return ok;
}

bool root_remove_directory(struct store *store, const char *path) {
    const struct allocated before = allocated(store, path);
    if (unlinkat(store->root, path, AT_REMOVEDIR) < 0)
        return false;
    account_change(store, before, (struct allocated){0});
    return true;
}

bool root_unlink_record(struct store *store, const char *path) {
    const struct allocated before = allocated(store, path);
    if (unlinkat(store->root, path, 0) < 0)
        return false;
    account_change(store, before, (struct allocated){0});
    return true;
}

/* Other threads may be making files there: a directory that is not empty stays, and root_open() and
 * root_rename() make one that went too early again. */
static void remove_empty_parents(struct store *store, const char *path) {
    char parent[PATH_SIZE];
    if (!text_copy(text_of(path), parent, sizeof parent))
        return;
    for (char *slash; (slash = strrchr(parent, '/')) && strchr(parent, '/') != slash;) {
        *slash = '\0';
        if (!root_remove_directory(store, parent))
            return;
    }
}

bool root_delete_record(struct store *store, const char *path, struct error *error) {
    if (!root_unlink_record(store, path))
        return errno == ENOENT || errno == ENOTDIR ||
               error_set_errno(error, errno, "delete %s/%s", store->path, path);
    remove_empty_parents(store, path);
    return true;
}

bool root_stat(struct store *store, const char *path, struct stat *out) {
    if (fstatat(store->root, path, out, AT_SYMLINK_NOFOLLOW) < 0)
        return false;
    if (S_ISREG(out->st_mode))
        return true;
    errno = ENOENT;
    return false;
}

DIR *root_open_directory(struct store *store, const char *path) {
    int fd = openat(store->root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (directory)
        return directory;
    int reason = errno;
    if (fd >= 0)
        close(fd);
    errno = reason == ENOENT || reason == ENOTDIR || reason == ELOOP ? 0 : reason;
    return NULL;
}

ssize_t root_read_record(struct store *store, const char *path, char *out, size_t size) {
    cleanup_close int fd = root_open(store, path, O_RDONLY);
    struct stat state;
    if (fd < 0 || fstat(fd, &state) < 0 || !S_ISREG(state.st_mode) || state.st_size <= 0 ||
        (uint64_t)state.st_size >= size)
        return -1;
    ssize_t length = file_read_at(fd, out, size - 1, 0);
    if (length <= 0)
        return -1;
    out[length] = '\0';
    return length;
}

void root_clean_temporaries(struct store *store) {
    DIR *directory = root_open_directory(store, "tmp");
    if (!directory)
        return;
    char ours[TEMPORARY_PREFIX + 1];
    snprintf(ours, sizeof ours, "%08" PRIx32 "-", store->session);
    for (struct dirent *entry; (entry = readdir(directory));)
        if (entry->d_name[0] != '.' && strncmp(entry->d_name, ours, TEMPORARY_PREFIX) != 0)
            unlinkat(dirfd(directory), entry->d_name, 0);
    closedir(directory);
}

/* ---- counting ---- */

struct counting {
    struct store *store;
    const struct cancel *cancel;
    char path[PATH_SIZE];
    int64_t bytes, entries;
};

enum { DEPTH_LIMIT = 140 }; /* the deepest record: 128 parts of a name, and what surrounds them */

static bool count_directory(struct counting *counting, bool with_files, int depth);

static bool count_entry(struct counting *counting, int directory, const struct dirent *entry,
                        bool with_files, int depth) {
    struct stat state;
    size_t length = strlen(counting->path), left = sizeof counting->path - length;
    bool ok = true;
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
        (!with_files && entry->d_type == DT_REG) ||
        fstatat(directory, entry->d_name, &state, AT_SYMLINK_NOFOLLOW) < 0)
        return true;
    if (with_files && !S_ISDIR(state.st_mode)) {
        counting->bytes += (int64_t)state.st_blocks * 512;
        counting->entries++;
    }
    if (S_ISDIR(state.st_mode) && depth < DEPTH_LIMIT &&
        (size_t)snprintf(counting->path + length, left, "/%s", entry->d_name) < left)
        ok = count_directory(counting, with_files, depth + 1);
    counting->path[length] = '\0';
    return ok;
}

/* Adds the directory counting->path, and all below it. False: cancelled. */
static bool count_directory(struct counting *counting, bool with_files, int depth) {
    DIR *directory = root_open_directory(counting->store, counting->path);
    struct stat state;
    bool ok = true;
    if (directory && fstat(dirfd(directory), &state) == 0) {
        counting->bytes += (int64_t)state.st_blocks * 512;
        counting->entries++;
    }
    for (struct dirent *entry; ok && directory && (entry = readdir(directory));)
        ok = cancel_check(counting->cancel, NULL) &&
             count_entry(counting, dirfd(directory), entry, with_files, depth);
    if (directory)
        closedir(directory);
    return ok;
}

bool root_count_records(struct store *store, const struct cancel *cancel, struct error *error) {
    static const char *const folders[] = {RECORDS, PENDING, "blobs",  "partial",
                                          "bad",   "tmp",   "uploads"};
    struct counting counting = {.store = store, .cancel = cancel};
    const int64_t old_bytes = atomic_load(&store->record_bytes),
                  old_entries = atomic_load(&store->record_entries);
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        snprintf(counting.path, sizeof counting.path, "%s", folders[i]);
        if (!count_directory(&counting, i < 2, 0))
            return cancel_check(cancel, error);
    }
    static const char *const files[] = {".", "lock", HISTORY, FILLED};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        const struct allocated file = allocated(store, files[i]);
        counting.bytes += (int64_t)file.bytes;
        counting.entries += file.exists;
    }
    /* What changed meanwhile counts twice at worst, until the next time. */
    account(store, counting.bytes - old_bytes, counting.entries - old_entries);
    return true;
}
