/* tarn extract: writes files and folders of an image below a folder. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <uthash.h>
#include "base/cleanup.h"
#include "base/file.h"
#include "cmd/commands.h"
#include "cmd/stream_image.h"

enum { DEPTH_MOST = 2048 };

/* A file with several names, of which one is written. */
struct written {
    UT_hash_handle hh;
    uint64_t nid;
    char *path; /* below the folder; owned */
};

struct extraction {
    struct stream_image *image;
    int folder; /* below which all is written */
    bool is_root;
    struct written *written;
};

static bool fail(struct error *error, const char *what, const struct tree_node *node) {
    return error_set_errno(error, errno, "%s %s", what, node->name);
}

/* ---- attributes ---- */

/* The attributes of what `name` is in the folder. Only root may set all of them. */
static bool set_xattrs(const struct extraction *extraction, int folder,
                       const struct tree_node *node, struct error *error) {
    char path[64 + TREE_NAME_LIMIT];
    snprintf(path, sizeof path, "/proc/self/fd/%d/%s", folder, node->name);
    for (const struct tree_xattr *xattr = node->inode->xattrs; xattr; xattr = xattr->next) {
        cleanup_free char *name = text_dup(xattr->name);
        if (!name)
            return error_set(error, ERROR_MEMORY, "out of memory");
        if (lsetxattr(path, name, xattr->value.at, xattr->value.length, 0) < 0 &&
            errno != ENOTSUP && (extraction->is_root || errno != EPERM))
            return error_set_errno(error, errno, "set the attribute %s of %s", name, node->name);
    }
    return true;
}

static bool apply(const struct extraction *extraction, int folder, const struct tree_node *node,
                  struct error *error) {
    const struct tree_inode *inode = node->inode;
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
                                      {(time_t)inode->mtime_s, (long)inode->mtime_ns}};
    if (extraction->is_root &&
        fchownat(folder, node->name, inode->uid, inode->gid, AT_SYMLINK_NOFOLLOW) < 0)
        return fail(error, "set the owner of", node);
    if (!set_xattrs(extraction, folder, node, error))
        return false;
    if (!S_ISLNK(inode->mode) && fchmodat(folder, node->name, inode->mode & 07777, 0) < 0)
        return fail(error, "set the mode of", node);
    return utimensat(folder, node->name, times, AT_SYMLINK_NOFOLLOW) == 0 ||
           fail(error, "set the time of", node);
}

/* ---- single files ---- */

/* Removes what has the name, unless it is a folder where one is wanted. */
static bool make_way(int folder, const struct tree_node *node, struct error *error) {
    struct stat state;
    if (fstatat(folder, node->name, &state, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT || fail(error, "look at", node);
    if (S_ISDIR(state.st_mode))
        return tree_is_directory(node) ||
               error_set(error, ERROR_INVALID, "%s is a folder where a file is to be written",
                         node->name);
    return unlinkat(folder, node->name, 0) == 0 || fail(error, "replace", node);
}

static bool write_part(void *context, const void *bytes, size_t length, struct error *error) {
    return file_write_all(*(const int *)context, bytes, length, error);
}

static bool write_file(const struct extraction *extraction, int folder,
                       const struct tree_node *node, struct error *error) {
    int fd = openat(folder, node->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail(error, "make", node);
    bool ok = stream_image_read(extraction->image, node->inode, write_part, &fd, error);
    if (close(fd) < 0 && ok)
        ok = fail(error, "write", node);
    return ok;
}

static bool write_special(const struct extraction *extraction, int folder,
                          const struct tree_node *node, struct error *error) {
    const struct tree_inode *inode = node->inode;
    switch (inode->mode & S_IFMT) {
    case S_IFREG:
        return write_file(extraction, folder, node, error);
    case S_IFLNK:
        return symlinkat(inode->target, folder, node->name) == 0 ||
               fail(error, "make the symbolic link", node);
    default:
        return mknodat(folder, node->name, (inode->mode & S_IFMT) | 0600,
                       makedev(inode->major, inode->minor)) == 0 ||
               fail(error, "make the device", node);
    }
}

/* Remembers under which name a file with several names was written. */
static bool remember(struct extraction *extraction, const struct tree_node *node,
                     struct error *error) {
    cleanup_buffer struct buffer path = {0};
    struct written *written = calloc(1, sizeof *written);
    stream_image_path(node, &path);
    if (written && !path.failed && (written->path = strdup(path.bytes + 1))) {
        written->nid = node->inode->nid;
        HASH_ADD(hh, extraction->written, nid, sizeof written->nid, written);
        if (written->hh.tbl)
            return true;
        free(written->path);
    }
    free(written);
    return error_set(error, ERROR_MEMORY, "out of memory");
}

static bool write_one(struct extraction *extraction, int folder, const struct tree_node *node,
                      struct error *error) {
    struct written *written = NULL;
    if (!make_way(folder, node, error))
        return false;
    if (node->inode->links > 1) {
        HASH_FIND(hh, extraction->written, &node->inode->nid, sizeof written->nid, written);
        if (written)
            return linkat(extraction->folder, written->path, folder, node->name, 0) == 0 ||
                   fail(error, "make the hard link", node);
    }
    return write_special(extraction, folder, node, error) &&
           apply(extraction, folder, node, error) &&
           (node->inode->links == 1 || remember(extraction, node, error));
}

/* ---- folders ---- */

/* Makes the folder if it is not there, and opens it; never through a symbolic link. */
static int enter(int folder, const struct tree_node *node, struct error *error) {
    int fd = -1;
    if (make_way(folder, node, error)) {
        if (mkdirat(folder, node->name, 0700) < 0 && errno != EEXIST)
            fail(error, "make", node);
        else if ((fd = openat(folder, node->name,
                              O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
            fail(error, "open", node);
    }
    return fd;
}

/* Writes the node with all below. */
static bool write_tree(struct extraction *extraction, int folder, const struct tree_node *node,
                       unsigned depth, struct error *error) {
    if (!tree_is_directory(node))
        return write_one(extraction, folder, node, error);
    if (depth > DEPTH_MOST)
        return error_set(error, ERROR_INVALID, "too many folders inside of each other");
    cleanup_close int fd = enter(folder, node, error);
    bool ok = fd >= 0;
    for (const struct tree_node *child = node->first; ok && child; child = child->next)
        ok = write_tree(extraction, fd, child, depth + 1, error);
    return ok && apply(extraction, folder, node, error);
}

/* Writes the node with the folders above it, whose attributes are set when it is there. */
static bool write_path(struct extraction *extraction, const struct tree_node *node, int *folder,
                       struct error *error) {
    if (!node->parent) {
        *folder = dup(extraction->folder);
        return *folder >= 0 || error_set_errno(error, errno, "open the folder");
    }
    cleanup_close int above = -1;
    if (!write_path(extraction, node->parent, &above, error))
        return false;
    *folder = enter(above, node, error);
    return *folder >= 0 && apply(extraction, above, node, error);
}

/* Writes the symbolic links by which the path was found, so that it leads to the file below the
 * folder as well. */
static bool write_passed(struct extraction *extraction, struct error *error) {
    const struct stream_image *image = extraction->image;
    for (unsigned i = 0; i < image->passed_count; i++) {
        cleanup_close int folder = -1;
        if (!write_path(extraction, image->passed[i]->parent, &folder, error) ||
            !write_one(extraction, folder, image->passed[i], error))
            return false;
    }
    return true;
}

static bool extract(struct extraction *extraction, const char *path, struct error *error) {
    const struct tree_node *node = stream_image_find(extraction->image, path, false, error);
    cleanup_close int folder = -1;
    if (!node || !write_passed(extraction, error))
        return false;
    if (node->parent) {
        if (!write_path(extraction, node->parent, &folder, error) ||
            !write_tree(extraction, folder, node, 0, error))
            return false;
        /* Writing has changed the time of the folders above. */
        cleanup_close int again = -1;
        return write_path(extraction, node->parent, &again, error);
    }
    for (const struct tree_node *child = node->first; child; child = child->next)
        if (!write_tree(extraction, extraction->folder, child, 0, error))
            return false;
    return true;
}

static void forget(struct extraction *extraction) {
    struct written *written, *next;
    HASH_ITER (hh, extraction->written, written, next) {
        HASH_DEL(extraction->written, written);
        free(written->path);
        free(written);
    }
}

static int run(const struct arguments *arguments) {
    cleanup_stream_image struct stream_image image = {0};
    const char *to = arguments_string(arguments, "to");
    struct error error = {0};
    if (!to)
        return command_refuse(arguments->command, "say where to write, with --to");
    int status = stream_image_open(&image, arguments);
    if (status != 0)
        return status;
    if (mkdir(to, 0755) < 0 && errno != EEXIST) {
        error_set_errno(&error, errno, "make the folder");
        return stream_image_fail(arguments, to, &error);
    }
    cleanup_close int folder = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) {
        error_set_errno(&error, errno, "open the folder");
        return stream_image_fail(arguments, to, &error);
    }
    struct extraction extraction = {.image = &image, .folder = folder, .is_root = geteuid() == 0};
    for (size_t i = 1; i < arguments->operand_count && status == 0; i++)
        if (!extract(&extraction, arguments->operands[i], &error))
            status = stream_image_fail(arguments, arguments->operands[i], &error);
    forget(&extraction);
    return status;
}

static const struct command_option options[] = {
    {"to", OPTION_STRING, "FOLDER", "the folder to write to; it is made if it is not there"},
    STREAM_IMAGE_OPTIONS};

const struct command extract_command = {
    .name = "extract",
    .arguments = "IMAGE PATH…",
    .least = 2,
    .most = COMMAND_ANY_NUMBER,
    .summary = "write files and folders of an image below a folder",
    .text =
        "PATH is written with its whole path below the folder, a folder with all below it; with\n"
        "mode, time, attributes and hard links, and for root with the owner. Nothing is written\n"
        "outside of the folder. IMAGE is HOST/NAME[:TAG][@DIGEST]; it must be in the cache of a\n"
        "tarn that runs with streaming switched on.\n",
    COMMAND_OPTIONS(options),
    .run = run,
};
