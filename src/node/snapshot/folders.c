/* Makes, measures and deletes the folders of snapshots. */
#include "node/snapshot/folders.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uthash.h>
#include "base/cleanup.h"
#include "base/log.h"
#include "base/text.h"

#define GONE_PREFIX "gone-"

enum {
    NAME_SIZE = 64,
    /* Open folders of one walk. What is deeper is moved up before it is deleted, and is not
     * measured.
     */
    DEPTH_LIMIT = 128,
    LINKS_LIMIT = 1 << 20, /* files with several names that are told apart in one walk */
};

void folders_path(const char *root, uint64_t id, const char *part,
                  char out[static FOLDERS_PATH_LIMIT]) {
    snprintf(out, FOLDERS_PATH_LIMIT, "%s/%" PRIu64 "/%s", root, id, part);
}

static void name_of(uint64_t id, char out[static NAME_SIZE]) {
    snprintf(out, NAME_SIZE, "%" PRIu64, id);
}

bool folders_make(int fd, uint64_t id, bool with_work, uid_t owner, gid_t group,
                  struct error *error) {
    char name[NAME_SIZE];
    name_of(id, name);
    if (mkdirat(fd, name, 0700) != 0)
        return error_set_errno(error, errno, "making the folder %s", name);
    cleanup_close int folder = openat(fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    /* The modes do not depend on the umask. */
    if (folder < 0 || mkdirat(folder, "fs", 0755) != 0 || fchmodat(folder, "fs", 0755, 0) != 0 ||
        fchownat(folder, "fs", owner, group, AT_SYMLINK_NOFOLLOW) != 0 ||
        (with_work &&
         (mkdirat(folder, "work", 0711) != 0 || fchmodat(folder, "work", 0711, 0) != 0))) {
        error_set_errno(error, errno, "making the folder %s", name);
        struct error ignored;
        folders_delete(fd, id, &ignored);
        return false;
    }
    return true;
}

/* ---- walking ---- */

static bool is_dot(const char *name) {
    return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

static DIR *open_folder(int at, const char *name) {
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    if (fd >= 0 && !folder)
        close(fd);
    return folder;
}

/* A file that has several names and was counted. */
struct link {
    struct link_key {
        dev_t device;
        ino_t inode;
    } key;
    UT_hash_handle hh;
};

struct measuring {
    dev_t device;
    uint64_t size, inodes;
    struct link *links;
};

/* Whether the file is counted for the first time. */
static bool is_new(struct measuring *measuring, const struct stat *status) {
    struct link *found;
    struct link_key key;
    memset(&key, 0, sizeof key); /* the padding is compared, too */
    key.device = status->st_dev;
    key.inode = status->st_ino;
    HASH_FIND(hh, measuring->links, &key, sizeof key, found);
    if (found)
        return false;
    struct link *link = HASH_COUNT(measuring->links) < LINKS_LIMIT ? malloc(sizeof *link) : NULL;
    if (!link)
        return true;
    memcpy(&link->key, &key, sizeof key);
    HASH_ADD(hh, measuring->links, key, sizeof link->key, link);
    if (!link->hh.tbl)
        free(link);
    return true;
}

static void count(struct measuring *measuring, const struct stat *status) {
    if (!S_ISDIR(status->st_mode) && status->st_nlink > 1 && !is_new(measuring, status))
        return;
    measuring->size += (uint64_t)status->st_blocks * 512;
    measuring->inodes++;
}

static bool has_vanished(int errno_value) {
    return errno_value == ENOENT || errno_value == ENOTDIR || errno_value == ELOOP;
}

/* Adds what is in the folder, which is closed. Files that vanish meanwhile are not counted. */
static bool measure(DIR *opened, unsigned depth, struct measuring *measuring) {
    cleanup_directory DIR *folder = opened;
    struct stat status;
    for (struct dirent *item; errno = 0, (item = readdir(folder));) {
        if (is_dot(item->d_name) ||
            fstatat(dirfd(folder), item->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0 ||
            status.st_dev != measuring->device)
            continue;
        count(measuring, &status);
        if (!S_ISDIR(status.st_mode) || depth == DEPTH_LIMIT)
            continue;
        DIR *below = open_folder(dirfd(folder), item->d_name);
        if (below ? !measure(below, depth + 1, measuring) : !has_vanished(errno))
            return false;
    }
    return errno == 0;
}

bool folders_measure(int fd, uint64_t id, uint64_t *size, uint64_t *inodes, struct error *error) {
    char path[NAME_SIZE + 4];
    struct stat status;
    struct measuring measuring = {0};
    snprintf(path, sizeof path, "%" PRIu64 "/fs", id);
    DIR *folder = open_folder(fd, path);
    if (!folder)
        return error_set_errno(error, errno, "measuring the folder %s", path);
    bool done = fstat(dirfd(folder), &status) == 0;
    if (done) {
        measuring.device = status.st_dev;
        count(&measuring, &status);
        done = measure(folder, 0, &measuring);
    } else
        closedir(folder);
    if (!done)
        error_set_errno(error, errno, "measuring the folder %s", path);
    struct link *link, *next;
    HASH_ITER (hh, measuring.links, link, next) {
        HASH_DEL(measuring.links, link);
        free(link);
    }
    *size = measuring.size;
    *inodes = measuring.inodes;
    return done;
}

/* ---- deleting ---- */

struct deleting {
    int top; /* where what is too deep is moved to */
    dev_t device;
    unsigned moved;
};

static bool delete_item(DIR *folder, const char *name, unsigned depth, struct deleting *deleting);

/* Deletes what is in the folder, which is closed. */
static bool empty(DIR *opened, unsigned depth, struct deleting *deleting) {
    cleanup_directory DIR *folder = opened;
    bool done = true;
    /* A name that is deleted while its folder is read does not hide others (POSIX, readdir). */
    for (struct dirent *item; errno = 0, (item = readdir(folder));)
        if (!is_dot(item->d_name) && !delete_item(folder, item->d_name, depth, deleting))
            done = false;
    return done && errno == 0;
}

static bool delete_folder(DIR *folder, const char *name, unsigned depth,
                          struct deleting *deleting) {
    char moved[NAME_SIZE];
    struct stat status;
    if (depth == DEPTH_LIMIT) {
        snprintf(moved, sizeof moved, "deep-%u", deleting->moved++);
        return renameat(dirfd(folder), name, deleting->top, moved) == 0;
    }
    DIR *below = open_folder(dirfd(folder), name);
    if (!below)
        return errno == ENOENT;
    if (fstat(dirfd(below), &status) != 0 || status.st_dev != deleting->device) {
        closedir(below); /* something is mounted here: its files are not ours */
        return false;
    }
    return empty(below, depth + 1, deleting) &&
           (unlinkat(dirfd(folder), name, AT_REMOVEDIR) == 0 || errno == ENOENT);
}

static bool delete_item(DIR *folder, const char *name, unsigned depth, struct deleting *deleting) {
    if (unlinkat(dirfd(folder), name, 0) == 0 || errno == ENOENT)
        return true;
    return errno == EISDIR && delete_folder(folder, name, depth, deleting);
}

/* Deletes a folder of ROOT. */
static bool delete_all(int fd, const char *name, struct error *error) {
    struct deleting deleting = {.top = openat(fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC)};
    cleanup_close int top = deleting.top;
    struct stat status;
    if (top < 0)
        return errno == ENOENT || error_set_errno(error, errno, "deleting the folder %s", name);
    if (fstat(top, &status) != 0)
        return error_set_errno(error, errno, "deleting the folder %s", name);
    deleting.device = status.st_dev;
    for (unsigned moved = UINT32_MAX; moved != deleting.moved;) {
        /* Once more for what was moved up. */
        moved = deleting.moved;
        DIR *folder = open_folder(fd, name);
        if (folder)
            empty(folder, 0, &deleting);
    }
    if (unlinkat(fd, name, AT_REMOVEDIR) != 0 && errno != ENOENT)
        return error_set_errno(error, errno, "deleting the folder %s", name);
    return true;
}

bool folders_delete(int fd, uint64_t id, struct error *error) {
    char name[NAME_SIZE], gone[NAME_SIZE];
    name_of(id, name);
    snprintf(gone, sizeof gone, GONE_PREFIX "%" PRIu64, id);
    if (renameat(fd, name, fd, gone) != 0 && errno != ENOENT)
        return error_set_errno(error, errno, "deleting the folder %s", name);
    return delete_all(fd, gone, error);
}

unsigned folders_sweep(int fd, bool (*is_known)(void *context, uint64_t id), void *context) {
    cleanup_directory DIR *folder = open_folder(fd, ".");
    unsigned left = 0;
    for (struct dirent *item; folder && (item = readdir(folder));) {
        struct error error;
        uint64_t id = 0;
        struct text name = text_of(item->d_name);
        bool is_gone = text_starts(name, GONE_PREFIX);
        struct text number = is_gone ? text_from(name, strlen(GONE_PREFIX)) : name;
        if (!text_to_u64(number, &id) || (!is_gone && is_known(context, id)))
            continue;
        if (is_gone ? delete_all(fd, item->d_name, &error) : folders_delete(fd, id, &error))
            continue;
        left++;
        log_at(LOG_WARN, "snapshot folder left", LOG_STRING("error", error.text));
    }
    return left;
}
