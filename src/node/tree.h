/*
 * The files of a node: those below one folder, which no path leaves.
 *
 * A path begins with '/' and means a file below the tree's folder: "/etc/docker/daemon.json" in the
 * tree /host is /host/etc/docker/daemon.json. A symbolic link is followed as if the tree's folder
 * were "/", also when it is absolute or has "..". So the files of a mounted node are those that the
 * node itself would find, and a link cannot lead out of the mount.
 *
 * A file is replaced as a whole or not at all. New files have the mode 0644 and new folders the
 * tree's, whatever the umask is. Folders that a new file needs appear together with the file, so
 * that a crash leaves no empty ones.
 *
 * Threads: one at a time for a tree. Errors name the file.
 */
#ifndef NODE_TREE_H
#define NODE_TREE_H

#include <dirent.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include "base/error.h"
#include "base/text.h"

enum {
    TREE_FILE_LIMIT = 4 << 20, /* bytes; a longer file is refused */
    TREE_DEPTH_LIMIT = 64,     /* folders on the way to a file */
};

/* What the last part of a path means when it is a symbolic link. */
enum tree_link {
    TREE_NO_FOLLOW, /* the link itself: it cannot be read, and writing replaces it */
    TREE_FOLLOW,    /* the file that it leads to, which need not exist; the link stays a link */
};

struct tree {
    int fd;
    mode_t folder_mode;    /* of new folders; tree_open() sets 0755 */
    char folder[PATH_MAX]; /* without the final '/'; "" is the root of the file system */
};

/* Whether `path` begins with '/', has no "..", and is short enough to have names added: what people
 * may give as a path on a node. Pure. */
bool tree_is_path(const char *path);

/* `folder` NULL or "": the root of the file system. The folder must exist. */
bool tree_open(struct tree *tree, const char *folder, struct error *error);
void tree_close(struct tree *tree); /* also releases the lock */
#define cleanup_tree __attribute__((cleanup(tree_close)))

/* Waits until no other process has locked the same folder. False: that took ten seconds
 * (ERROR_TIMEOUT), or the file system has no locks. */
bool tree_lock(struct tree *tree, struct error *error);

/* The bytes with a NUL behind them, the caller's to free(). NULL: ERROR_NOT_FOUND (neither a file
 * nor a link is there), ERROR_INVALID (a link with TREE_NO_FOLLOW, no regular file, too long),
 * or another error. `status` may be NULL. */
char *tree_read(const struct tree *tree, const char *path, enum tree_link link, size_t *length,
                struct stat *status, struct error *error);

/* How many of the folders of `path` are missing; they are the last ones. */
bool tree_count_missing(const struct tree *tree, const char *path, unsigned *count,
                        struct error *error);

/* `old` has the mode and the owner that the file gets, as the one that is replaced had them; NULL:
 * a new file. */
bool tree_write(const struct tree *tree, const char *path, enum tree_link link, struct text bytes,
                const struct stat *old, struct error *error);

/* Deletes the file. One that is not there is deleted already. */
bool tree_delete(const struct tree *tree, const char *path, enum tree_link link,
                 struct error *error);

/* Deletes what a write of the file that was interrupted left, in all folders on its way. */
void tree_clean(const struct tree *tree, const char *path);

/* Deletes the folder with all that is in it, as far as that is possible. */
void tree_delete_all(const struct tree *tree, const char *path);

/* Deletes the folder if it is empty. */
void tree_delete_folder(const struct tree *tree, const char *path);

/* Opens the folder `path`; -1: ERROR_NOT_FOUND or another error. */
int tree_open_folder(const struct tree *tree, const char *path, struct error *error);

/* The same for readdir(); NULL: ERROR_NOT_FOUND or another error. The caller calls closedir(). */
DIR *tree_open_entries(const struct tree *tree, const char *path, struct error *error);

#endif
