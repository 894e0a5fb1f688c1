/* Finds files below a folder without leaving it, and replaces them atomically. */
#include "node/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"

enum { LINKS_LIMIT = 40, FOLDER_MODE = 0755, FILE_MODE = 0644 };
/* How long to wait for the lock. Every user of the machine can take it, so the wait must end. */
enum { LOCK_MS = 10000, LOCK_PAUSE_MS = 20 };

/* Where folders are made before they get their name. */
#define NEW_FOLDER ".tarn-mirror-new"

/* ---- the way to a file ---- */

/* The folders from the tree's to the deepest one that exists, and what is left of the path behind
 * it: names of folders that are missing, and the file's name. */
struct way {
    int folders[TREE_DEPTH_LIMIT];
    size_t depth;
    unsigned links;
    char rest[PATH_MAX];
};

static void way_finish(struct way *way) {
    while (way->depth > 0)
        close(way->folders[--way->depth]);
}
#define cleanup_way __attribute__((cleanup(way_finish)))

static int way_end(const struct way *way) {
    return way->folders[way->depth - 1];
}

static void go_up_to(struct way *way, size_t depth) {
    while (way->depth > depth)
        close(way->folders[--way->depth]);
}

static bool go_down(struct way *way, int folder) {
    if (way->depth < TREE_DEPTH_LIMIT) {
        way->folders[way->depth++] = folder;
        return true;
    }
    close(folder);
    errno = ELOOP;
    return false;
}

/* Drops the first `length` bytes of what is left, and the slashes behind them. */
static void drop(struct way *way, size_t length) {
    const char *rest = way->rest + length;
    rest += strspn(rest, "/");
    memmove(way->rest, rest, strlen(rest) + 1);
}

/* Puts the target of the link `name` in place of its name. False with errno; EINVAL: no link. */
static bool follow(struct way *way, const char *name, size_t length) {
    char target[PATH_MAX], rest[PATH_MAX];
    ssize_t got = readlinkat(way_end(way), name, target, sizeof target - 1);
    if (got < 0)
        return false;
    target[got] = '\0';
    if (++way->links > LINKS_LIMIT) {
        errno = ELOOP;
        return false;
    }
    if (snprintf(rest, sizeof rest, "%s/%s", target, way->rest + length) >= (int)sizeof rest) {
        errno = ENAMETOOLONG;
        return false;
    }
    if (target[0] == '/')
        go_up_to(way, 1);
    memcpy(way->rest, rest, strlen(rest) + 1);
    drop(way, 0);
    return true;
}

/* Whether what is left can be made: a way through a missing folder cannot lead up again. */
static bool end_at_missing(const struct way *way) {
    for (const char *part = way->rest; *part; part += strspn(part, "/")) {
        size_t length = strcspn(part, "/");
        if ((length == 2 && memcmp(part, "..", 2) == 0) || (length == 1 && *part == '.')) {
            errno = ENOENT;
            return false;
        }
        part += length;
    }
    return true;
}

/* Takes one step. *done: the end is reached. False with errno: there is no way. */
static bool step(struct way *way, enum tree_link link, bool *done) {
    char name[NAME_MAX + 1];
    size_t length = strcspn(way->rest, "/");
    bool is_last = way->rest[length + strspn(way->rest + length, "/")] == '\0';
    if (!text_copy((struct text){way->rest, length}, name, sizeof name) || length == 0) {
        errno = length ? ENAMETOOLONG : EISDIR;
        return false;
    }
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        if (name[1] && way->depth > 1)
            go_up_to(way, way->depth - 1);
        drop(way, length);
        return true;
    }
    if (is_last) {
        way->rest[length] = '\0';
        *done = link == TREE_NO_FOLLOW || !follow(way, name, length);
        return !*done || link == TREE_NO_FOLLOW || errno == EINVAL || errno == ENOENT;
    }
    /* O_PATH, because a folder on the way need not be readable. */
    int folder = openat(way_end(way), name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder >= 0) {
        drop(way, length);
        return go_down(way, folder);
    }
    if (errno == ENOENT) {
        *done = true;
        return end_at_missing(way);
    }
    int why = errno;
    if ((why != ELOOP && why != ENOTDIR) || follow(way, name, length))
        return why == ELOOP || why == ENOTDIR;
    errno = errno == EINVAL ? ENOTDIR : errno;
    return false;
}

static bool find_way(const struct tree *tree, const char *path, enum tree_link link,
                     struct way *way) {
    *way = (struct way){0};
    int root = fcntl(tree->fd, F_DUPFD_CLOEXEC, 0);
    if (root < 0 || !go_down(way, root))
        return false;
    if (!text_copy(text_of(path), way->rest, sizeof way->rest)) {
        errno = ENAMETOOLONG;
        return false;
    }
    drop(way, 0);
    for (bool done = false; !done;) {
        if (!step(way, link, &done))
            return false;
    }
    return true;
}

static unsigned count_missing(const struct way *way) {
    unsigned count = 0;
    for (const char *slash = way->rest; (slash = strchr(slash, '/')); slash += strspn(slash, "/"))
        count++;
    return count;
}

/* ---- the tree ---- */

bool tree_is_path(const char *path) {
    enum { PATH_LIMIT = 1000 };
    for (struct text rest = text_of(path); rest.at;) {
        if (text_is(text_cut(rest, '/', &rest), ".."))
            return false;
    }
    return path[0] == '/' && strlen(path) <= PATH_LIMIT;
}

/* Sets the error of a system call, with the file's name in front. */
static bool failed(const struct tree *tree, const char *path, const char *what,
                   struct error *error) {
    int why = errno;
    error_set_errno(error, why, "%s%s: %s", tree->folder, path, what);
    if (error && why == ENOENT)
        error->kind = ERROR_NOT_FOUND;
    return false;
}

bool tree_open(struct tree *tree, const char *folder, struct error *error) {
    struct text name = text_of(folder ? folder : "");
    while (text_ends(name, "/"))
        name.length--;
    *tree = (struct tree){.fd = -1, .folder_mode = FOLDER_MODE};
    if (!text_copy(name, tree->folder, sizeof tree->folder))
        return error_set(error, ERROR_INVALID, "the name of the folder is too long");
    tree->fd = open(*tree->folder ? tree->folder : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return tree->fd >= 0 || error_set_errno(error, errno, "%s: cannot be opened", folder);
}

void tree_close(struct tree *tree) {
    if (tree->fd >= 0)
        close(tree->fd);
    tree->fd = -1;
}

bool tree_lock(struct tree *tree, struct error *error) {
    int64_t deadline = clock_ms() + LOCK_MS;
    while (flock(tree->fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EINTR && errno != EWOULDBLOCK)
            return failed(tree, "/", "cannot be locked", error);
        if (clock_ms() >= deadline)
            return error_set(error, ERROR_TIMEOUT,
                             "%s/: another process has locked this folder (flock) for %d s; try "
                             "again, or find it with lslocks",
                             tree->folder, LOCK_MS / 1000);
        clock_sleep_ms(LOCK_PAUSE_MS);
    }
    return true;
}

int tree_open_folder(const struct tree *tree, const char *path, struct error *error) {
    cleanup_way struct way way;
    char inside[PATH_MAX];
    snprintf(inside, sizeof inside, "%s/.", path);
    bool found = find_way(tree, inside, TREE_NO_FOLLOW, &way);
    if (found || errno != EISDIR) { /* found: a folder on the way is missing */
        errno = found ? ENOENT : errno;
        failed(tree, path, "cannot be opened", error);
        return -1;
    }
    int fd = openat(way_end(&way), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        failed(tree, path, "cannot be opened", error);
    return fd;
}

DIR *tree_open_entries(const struct tree *tree, const char *path, struct error *error) {
    int fd = tree_open_folder(tree, path, error);
    DIR *entries = fd < 0 ? NULL : fdopendir(fd);
    if (entries || fd < 0)
        return entries;
    failed(tree, path, "cannot be read", error);
    close(fd);
    return NULL;
}

/* ---- reading ---- */

char *tree_read(const struct tree *tree, const char *path, enum tree_link link, size_t *length,
                struct stat *status, struct error *error) {
    cleanup_way struct way way;
    cleanup_close int fd = -1;
    if (find_way(tree, path, link, &way))
        fd = openat(way_end(&way), way.rest,
                    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) {
        if (errno == ELOOP && link == TREE_NO_FOLLOW)
            error_set(error, ERROR_INVALID, "%s%s: is a symbolic link", tree->folder, path);
        else
            failed(tree, path, "cannot be read", error);
        return NULL;
    }
    char *bytes = file_read_open(fd, TREE_FILE_LIMIT, FILE_REGULAR, length, status, error);
    if (!bytes)
        error_wrap(error, "%s%s", tree->folder, path);
    return bytes;
}

bool tree_count_missing(const struct tree *tree, const char *path, unsigned *count,
                        struct error *error) {
    cleanup_way struct way way;
    if (!find_way(tree, path, TREE_NO_FOLLOW, &way))
        return failed(tree, path, "cannot be found", error);
    *count = count_missing(&way);
    return true;
}

/* ---- writing ---- */

/* Writes the names in the folder to the disk, as far as this user may and the file system can. */
static bool sync_folder(int folder) {
    cleanup_close int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return (fd >= 0 && fsync(fd) == 0) || errno == EACCES || errno == EINVAL;
}

/* Fills the new file. The owner of the old one is kept if this process may set it. */
static bool fill(int fd, struct text bytes, const struct stat *old) {
    if (!file_write_all(fd, bytes.at, bytes.length, NULL))
        return false;
    if (old && (old->st_uid != geteuid() || old->st_gid != getegid()) &&
        fchown(fd, old->st_uid, old->st_gid) < 0)
        errno = 0; /* then the file belongs to this user, with the same mode */
    return fchmod(fd, old ? old->st_mode & 07777 : FILE_MODE) == 0 && fsync(fd) == 0;
}

/* The name under which a file is written before it gets its own. */
static bool name_temporary(const char *name, char out[static NAME_MAX + 1]) {
    if (snprintf(out, NAME_MAX + 1, ".%s.tarn-new", name) <= NAME_MAX)
        return true;
    errno = ENAMETOOLONG;
    return false;
}

/* Writes a new file. It is closed afterwards, because the kernel starts no program while somebody
 * has its file open for writing. */
static bool write_new(int folder, const char *name, struct text bytes, const struct stat *old) {
    cleanup_close int fd =
        openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return fd >= 0 && fill(fd, bytes, old);
}

/* Writes the file beside its place and gives it its name. What an interrupted run left is replaced,
 * because the lock keeps other runs away. */
static bool write_in(int folder, const char *name, struct text bytes, const struct stat *old) {
    char temporary[NAME_MAX + 1];
    if (!name_temporary(name, temporary) || (unlinkat(folder, temporary, 0) < 0 && errno != ENOENT))
        return false;
    if (write_new(folder, temporary, bytes, old) && renameat(folder, temporary, folder, name) == 0)
        return sync_folder(folder);
    int why = errno;
    unlinkat(folder, temporary, 0);
    errno = why;
    return false;
}

/* Deletes the folder that an interrupted write left, with all that is in it. */
static void delete_rest(int folder, const char *name, unsigned depth) {
    int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *entries = fd < 0 ? NULL : fdopendir(fd);
    if (!entries && fd >= 0)
        close(fd);
    for (struct dirent *entry; entries && (entry = readdir(entries));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (unlinkat(dirfd(entries), entry->d_name, 0) < 0 && depth > 0)
            delete_rest(dirfd(entries), entry->d_name, depth - 1);
    }
    if (entries) {
        closedir(entries);
        unlinkat(folder, name, AT_REMOVEDIR);
    }
}

/* Makes a folder and opens it; -1: failed. */
static int make_folder(int parent, const char *name, mode_t mode) {
    if (mkdirat(parent, name, mode) < 0)
        return -1;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && fchmod(fd, mode) < 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* Writes `rest`, "a/b/file", in the new folder, which becomes `a`. */
static bool write_inside(int folder, mode_t mode, const char *rest, struct text bytes,
                         const struct stat *old) {
    char name[NAME_MAX + 1];
    cleanup_close int inner = make_folder(folder, NEW_FOLDER, mode);
    rest = strchr(rest, '/');
    for (const char *slash; inner >= 0; rest = slash) {
        rest += strspn(rest, "/");
        slash = strchr(rest, '/');
        if (!slash)
            return write_in(inner, rest, bytes, old);
        if (!text_copy((struct text){rest, (size_t)(slash - rest)}, name, sizeof name)) {
            errno = ENAMETOOLONG;
            return false;
        }
        int deeper = make_folder(inner, name, mode);
        close(inner);
        inner = deeper;
    }
    return false;
}

static bool write_with_folders(int folder, mode_t mode, const char *rest, struct text bytes,
                               const struct stat *old) {
    char first[NAME_MAX + 1];
    enum { DEPTH = TREE_DEPTH_LIMIT };
    if (!text_copy((struct text){rest, strcspn(rest, "/")}, first, sizeof first)) {
        errno = ENAMETOOLONG;
        return false;
    }
    delete_rest(folder, NEW_FOLDER, DEPTH);
    if (write_inside(folder, mode, rest, bytes, old) &&
        renameat(folder, NEW_FOLDER, folder, first) == 0)
        return sync_folder(folder);
    int why = errno;
    delete_rest(folder, NEW_FOLDER, DEPTH);
    errno = why;
    return false;
}

bool tree_write(const struct tree *tree, const char *path, enum tree_link link, struct text bytes,
                const struct stat *old, struct error *error) {
    cleanup_way struct way way;
    if (find_way(tree, path, link, &way) &&
        (count_missing(&way)
             ? write_with_folders(way_end(&way), tree->folder_mode, way.rest, bytes, old)
             : write_in(way_end(&way), way.rest, bytes, old)))
        return true;
    return failed(tree, path, "cannot be written", error);
}

/* ---- deleting ---- */

bool tree_delete(const struct tree *tree, const char *path, enum tree_link link,
                 struct error *error) {
    cleanup_way struct way way;
    if (!find_way(tree, path, link, &way))
        return failed(tree, path, "cannot be deleted", error);
    if (count_missing(&way))
        return true;
    if (unlinkat(way_end(&way), way.rest, 0) < 0)
        return errno == ENOENT || failed(tree, path, "cannot be deleted", error);
    return sync_folder(way_end(&way)) || failed(tree, path, "cannot be deleted", error);
}

void tree_delete_folder(const struct tree *tree, const char *path) {
    cleanup_way struct way way;
    if (find_way(tree, path, TREE_NO_FOLLOW, &way) && !count_missing(&way))
        unlinkat(way_end(&way), way.rest, AT_REMOVEDIR);
}

void tree_delete_all(const struct tree *tree, const char *path) {
    cleanup_way struct way way;
    if (find_way(tree, path, TREE_NO_FOLLOW, &way) && !count_missing(&way))
        delete_rest(way_end(&way), way.rest, TREE_DEPTH_LIMIT);
}

void tree_clean(const struct tree *tree, const char *path) {
    cleanup_way struct way way;
    char temporary[NAME_MAX + 1];
    if (!find_way(tree, path, TREE_FOLLOW, &way))
        return;
    for (size_t i = 0; i < way.depth; i++)
        delete_rest(way.folders[i], NEW_FOLDER, TREE_DEPTH_LIMIT);
    if (!count_missing(&way) && name_temporary(way.rest, temporary))
        unlinkat(way_end(&way), temporary, 0);
}
