#include "store/root.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include "base/cleanup.h"

enum { TEMPORARY_PREFIX = 9 }; /* "01234567-", the session */

/* Makes the name `path` durable. */
static bool sync_parent(struct store *store, const char *path) {
    char parent[PATH_SIZE] = ".";
    const char *slash = strrchr(path, '/');
    if (slash && !text_copy((struct text){path, (size_t)(slash - path)}, parent, sizeof parent)) {
        errno = ENAMETOOLONG;
        return false;
    }
    cleanup_close int fd = openat(store->root, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return false;
    return fsync(fd) == 0 || errno == EINVAL; /* EINVAL: a file system without directory syncs */
}

bool root_sync_parent(struct store *store, const char *path, struct error *error) {
    return sync_parent(store, path) ||
           error_set_errno(error, errno, "sync the directory of %s/%s", store->path, path);
}

/* Makes every directory on the way to `path`. Others may be making the same ones. */
static bool make_parents(struct store *store, const char *path, bool durable) {
    char directory[PATH_SIZE];
    if (!text_copy(text_of(path), directory, sizeof directory)) {
        errno = ENAMETOOLONG;
        return false;
    }
    for (char *slash = strchr(directory, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdirat(store->root, directory, DIRECTORY_MODE) == 0) {
            if (durable && !sync_parent(store, directory))
                return false;
        } else if (errno != EEXIST) {
            return false;
        }
        *slash = '/';
    }
    return true;
}

int root_open(struct store *store, const char *path, int flags) {
    /* O_NONBLOCK: a FIFO that somebody put there must not hold us up. Nothing to regular files. */
    flags |= O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
    int fd = openat(store->root, path, flags, FILE_MODE);
    if (fd < 0 && errno == ENOENT && (flags & O_CREAT) && make_parents(store, path, false))
        fd = openat(store->root, path, flags, FILE_MODE);
    return fd;
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
    int result = renameat(store->root, from, store->root, to);
    if (result < 0 && errno == ENOENT && make_parents(store, to, durability != DURABILITY_NONE))
        result = renameat(store->root, from, store->root, to);
    if (result < 0)
        return error_set_errno(error, errno, "rename %s/%s to %s", store->path, from, to);
    return durability != DURABILITY_DIRECTORY || root_sync_parent(store, to, error);
}

bool root_write_all(int fd, const void *bytes, size_t length) {
    const char *at = bytes;
    while (length) {
        ssize_t written = write(fd, at, length);
        if (written < 0) {
            if (errno == EINTR)
                continue;
            return false;
        }
        at += written;
        length -= (size_t)written;
    }
    return true;
}

bool root_replace(struct store *store, const char *path, const void *bytes, size_t length,
                  enum durability durability, struct error *error) {
    char temporary[PATH_SIZE];
    cleanup_close int fd = root_temporary(store, temporary, error);
    if (fd < 0)
        return false;
    bool ok =
        root_write_all(fd, bytes, length) && (durability == DURABILITY_NONE || fsync(fd) == 0);
    if (!ok)
        error_set_errno(error, errno, "write %s/%s", store->path, path);
    else
        ok = root_rename(store, temporary, path, durability, error);
    if (!ok)
        unlinkat(store->root, temporary, 0);
    return ok;
}

bool root_stat(struct store *store, const char *path, struct stat *out) {
    if (fstatat(store->root, path, out, AT_SYMLINK_NOFOLLOW) < 0)
        return false;
    if (S_ISREG(out->st_mode))
        return true;
    errno = ENOENT;
    return false;
}

ssize_t root_read_record(struct store *store, const char *path, char *out, size_t size) {
    cleanup_close int fd = root_open(store, path, O_RDONLY);
    struct stat state;
    if (fd < 0 || fstat(fd, &state) < 0 || !S_ISREG(state.st_mode) || state.st_size <= 0 ||
        (uint64_t)state.st_size >= size)
        return -1;
    ssize_t length = pread(fd, out, size - 1, 0);
    if (length <= 0)
        return -1;
    out[length] = '\0';
    return length;
}

void root_clean_temporaries(struct store *store) {
    int fd = openat(store->root, "tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return;
    DIR *directory = fdopendir(fd);
    if (!directory) {
        close(fd);
        return;
    }
    char ours[TEMPORARY_PREFIX + 1];
    snprintf(ours, sizeof ours, "%08" PRIx32 "-", store->session);
    for (struct dirent *entry; (entry = readdir(directory));)
        if (entry->d_name[0] != '.' && strncmp(entry->d_name, ours, TEMPORARY_PREFIX) != 0)
            unlinkat(dirfd(directory), entry->d_name, 0);
    closedir(directory);
}
