/* Mounts trees, shows them at folders, and takes them away. */
#include "node/agent/mounting.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/text.h"
#include "node/agent/mountinfo.h"

enum {
    PATH_SIZE = PATH_MAX + 64,
    SAID_SIZE = 300,
    LOOP_TRIES = 20, /* somebody else may take the free device first */
};

#define OVERLAY_SOURCE "tarn:" /* and the number */

/* ---- where things are ---- */

static void image_folder(const struct mount_order_place *place, uint32_t number,
                         char out[static PATH_SIZE]) {
    snprintf(out, PATH_SIZE, "%s/images/%" PRIu32, place->run, number);
}

static void file_path(const struct mount_order_place *place, uint32_t number, uint32_t file,
                      char out[static PATH_SIZE]) {
    snprintf(out, PATH_SIZE, "%s/files/%" PRIu32 "/%" PRIu32, place->run, number, file);
}

/* Whether the mount is of the tree. `image`: the one at RUN/images/NUMBER. */
static bool shows(const struct mountinfo_entry *mount, const struct mountinfo_entry *image,
                  uint32_t number) {
    char source[sizeof OVERLAY_SOURCE + 16];
    snprintf(source, sizeof source, OVERLAY_SOURCE "%" PRIu32, number);
    if (!mount)
        return false;
    return strcmp(mount->type, "overlay") == 0 ? strcmp(mount->source, source) == 0
                                               : image && strcmp(mount->type, "erofs") == 0 &&
                                                     strcmp(mount->device, image->device) == 0;
}

/* Opens a folder, and makes others that want to mount there wait. */
static int lock_folder(const char *folder, struct error *error) {
    cleanup_close int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) {
        error_set(error, ERROR_NOT_FOUND, "%s: there is no such folder", folder);
        return -1;
    }
    if (fd < 0 || flock(fd, LOCK_EX) != 0) {
        error_set_errno(error, errno, "opening the folder %s", folder);
        return -1;
    }
    return take_fd(fd);
}

/* ---- making a mount ---- */

/* Adds what the kernel says of a file system that it could not make. */
static bool fail_to_make(int context, int number, const char *type, const char *what,
                         struct error *error) {
    char said[SAID_SIZE] = "";
    ssize_t length = read(context, said, sizeof said - 1);
    said[length > 0 ? length : 0] = '\0';
    for (char *at = said; *at; at++)
        if (*at < ' ')
            *at = ' ';
    return error_set_errno(error, number, "mounting %s of %s%s%s", type, what, *said ? ": " : "",
                           said);
}

/* The kernel takes values of at most 255 bytes. */
static bool set(int context, const char *key, const char *value) {
    if (strlen(value) > 255) {
        errno = ENAMETOOLONG;
        return false;
    }
    return fsconfig(context, FSCONFIG_SET_STRING, key, value, 0) == 0;
}

/* Makes the file system that was described, and shows it at the folder. */
static bool finish_mount(int context, int folder, unsigned attributes) {
    if (fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) != 0)
        return false;
    cleanup_close int mount = fsmount(context, FSMOUNT_CLOEXEC, attributes);
    return mount >= 0 && move_mount(mount, "", folder, "",
                                    MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) == 0;
}

/* ---- trees ---- */

/* Files of an image as block devices, for kernels that take no files. */
struct loops {
    int *fds;
    uint32_t count;
};

static void loops_close(struct loops *loops) {
    for (uint32_t i = 0; i < loops->count; i++)
        close(loops->fds[i]);
    free(loops->fds);
}

/* Makes the file a block device, which goes when nobody uses it any more. */
static int open_loop(const char *path, char device[static PATH_SIZE]) {
    cleanup_close int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    cleanup_close int file = open(path, O_RDONLY | O_CLOEXEC);
    const struct loop_config config = {.fd = (uint32_t)file,
                                       .info.lo_flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR};
    for (int i = 0; control >= 0 && file >= 0 && i < LOOP_TRIES; i++) {
        int number = ioctl(control, LOOP_CTL_GET_FREE);
        if (number < 0)
            return -1;
        snprintf(device, PATH_SIZE, "/dev/loop%d", number);
        cleanup_close int fd = open(device, O_RDONLY | O_CLOEXEC);
        if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &config) == 0)
            return take_fd(fd);
        if (errno != EBUSY)
            return -1;
    }
    return -1;
}

/* Names file number `file` as the source or as a device. `loops` NULL: as a file. */
static bool name_file(const struct mount_order_place *place, const struct mount_order *order,
                      uint32_t file, int context, struct loops *loops) {
    char path[PATH_SIZE], device[PATH_SIZE];
    file_path(place, order->number, file, path);
    if (loops) {
        int fd = open_loop(path, device);
        if (fd < 0)
            return false;
        loops->fds[loops->count++] = fd;
    }
    return set(context, file ? "device" : "source", loops ? device : path);
}

/* *number: the errno of a failure. */
static bool mount_files(const struct mount_order_place *place, const struct mount_order *order,
                        int folder, struct loops *loops, int *number, struct error *error) {
    char what[PATH_SIZE];
    file_path(place, order->number, 0, what);
    cleanup_close int context = fsopen("erofs", FSOPEN_CLOEXEC);
    if (context < 0) {
        *number = errno;
        return error_set_errno(error, errno, "the kernel has no EROFS");
    }
    bool ok = fsconfig(context, FSCONFIG_SET_FLAG, "ro", NULL, 0) == 0;
    for (uint32_t i = 0; ok && i < order->files; i++)
        ok = name_file(place, order, i, context, loops);
    ok = ok && finish_mount(context, folder, MOUNT_ATTR_RDONLY);
    *number = ok ? 0 : errno;
    return ok || fail_to_make(context, *number, "EROFS", what, error);
}

/* As files first, which Linux takes from 6.12 on, and else as block devices. */
static bool mount_tree(const struct mount_order_place *place, const struct mount_order *order,
                       int folder, struct error *error) {
    int number;
    if (mount_files(place, order, folder, NULL, &number, error))
        return true;
    if (number != ENOTBLK)
        return false;
    struct loops loops = {.fds = calloc(order->files + 1, sizeof *loops.fds)};
    bool ok = loops.fds ? mount_files(place, order, folder, &loops, &number, error)
                        : error_set(error, ERROR_MEMORY, "out of memory");
    loops_close(&loops);
    return ok;
}

bool mounting_image(const struct mount_order_place *place, const struct mount_order *order,
                    struct error *error) {
    char path[PATH_SIZE];
    cleanup_mountinfo struct mountinfo table = {0};
    image_folder(place, order->number, path);
    if (mkdir(path, 0755) != 0 && errno != EEXIST)
        return error_set_errno(error, errno, "making the folder %s", path);
    cleanup_close int folder = lock_folder(path, error);
    if (folder < 0 || !mountinfo_read(&table, error))
        return false;
    if (mountinfo_find(&table, path))
        return true;
    /* What is mounted below one mount of the tree must not show below the others. */
    return mount_tree(place, order, folder, error) &&
           (mount(NULL, path, NULL, MS_PRIVATE, NULL) == 0 ||
            error_set_errno(error, errno, "making %s private", path));
}

bool mounting_no_image(const struct mount_order_place *place, const struct mount_order *order,
                       struct error *error) {
    char path[PATH_SIZE];
    image_folder(place, order->number, path);
    if (umount2(path, UMOUNT_NOFOLLOW) != 0 && errno != EINVAL && errno != ENOENT)
        return error_set(error, errno == EBUSY ? ERROR_BUSY : ERROR_IO, "unmounting %s: %s", path,
                         strerror(errno));
    rmdir(path);
    return true;
}

/* ---- what is seen of them ---- */

static bool bind(const char *image, int folder, const char *name, struct error *error) {
    cleanup_close int tree = open_tree(AT_FDCWD, image, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    return (tree >= 0 && move_mount(tree, "", folder, "",
                                    MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) == 0) ||
           error_set_errno(error, errno, "mounting %s at %s", image, name);
}

/* Makes the folders of what is written. */
static bool make_layer(const struct mount_order_place *place, const char *layer,
                       char upper[static PATH_SIZE], char work[static PATH_SIZE],
                       struct error *error) {
    char folder[PATH_SIZE];
    snprintf(folder, sizeof folder, "%s/writable", place->root);
    mkdir(folder, 0700);
    snprintf(folder, sizeof folder, "%s/writable/%s", place->root, layer);
    mkdir(folder, 0700);
    snprintf(upper, PATH_SIZE, "%s/writable/%s/upper", place->root, layer);
    snprintf(work, PATH_SIZE, "%s/writable/%s/work", place->root, layer);
    return ((mkdir(upper, 0755) == 0 || errno == EEXIST) &&
            (mkdir(work, 0700) == 0 || errno == EEXIST)) ||
           error_set_errno(error, errno, "making the folder %s", upper);
}

/* The root of the mount is the upper folder at first: it gets what the image's root has. */
static void copy_root(const char *image, const char *upper) {
    struct stat root;
    if (stat(image, &root) != 0)
        return;
    const struct timespec times[2] = {root.st_mtim, root.st_mtim};
    if (chown(upper, root.st_uid, root.st_gid) == 0 && chmod(upper, root.st_mode & 07777) == 0)
        utimensat(AT_FDCWD, upper, times, 0);
}

static bool overlay(const struct mount_order_place *place, const struct mount_order *order,
                    const char *image, int folder, struct error *error) {
    char upper[PATH_SIZE], work[PATH_SIZE], source[sizeof OVERLAY_SOURCE + 16];
    struct stat status;
    snprintf(source, sizeof source, OVERLAY_SOURCE "%" PRIu32, order->number);
    snprintf(upper, sizeof upper, "%s/writable/%s/upper", place->root, order->layer);
    const bool is_new = lstat(upper, &status) != 0;
    if (!make_layer(place, order->layer, upper, work, error))
        return false;
    if (is_new)
        copy_root(image, upper);
    cleanup_close int context = fsopen("overlay", FSOPEN_CLOEXEC);
    if (context < 0)
        return error_set_errno(error, errno, "the kernel has no overlayfs");
    /* With metacopy, a change of mode or owner copies no bytes, which would fetch the whole file.
     */
    bool ok = set(context, "source", source) && set(context, "lowerdir", image) &&
              set(context, "upperdir", upper) && set(context, "workdir", work) &&
              set(context, "metacopy", "on") && finish_mount(context, folder, 0);
    return ok || fail_to_make(context, errno, "overlayfs", order->folder, error);
}

bool mounting_attach(const struct mount_order_place *place, const struct mount_order *order,
                     struct error *error) {
    char image[PATH_SIZE];
    cleanup_mountinfo struct mountinfo table = {0};
    image_folder(place, order->number, image);
    cleanup_close int folder = lock_folder(order->folder, error);
    if (folder < 0 || !mountinfo_read(&table, error))
        return false;
    if (shows(mountinfo_find(&table, order->folder), mountinfo_find(&table, image), order->number))
        return true;
    if (!mountinfo_find(&table, image))
        return error_set(error, ERROR_NOT_FOUND, "nothing is mounted at %s", image);
    return *order->layer ? overlay(place, order, image, folder, error)
                         : bind(image, folder, order->folder, error);
}

bool mounting_detach(const struct mount_order_place *place, const struct mount_order *order,
                     struct error *error) {
    char image[PATH_SIZE];
    cleanup_mountinfo struct mountinfo table = {0};
    image_folder(place, order->number, image);
    if (!mountinfo_read(&table, error))
        return false;
    if (!shows(mountinfo_find(&table, order->folder), mountinfo_find(&table, image), order->number))
        return true; /* somebody else has unmounted it */
    if (umount2(order->folder, UMOUNT_NOFOLLOW) == 0)
        return true;
    return error_set(error, errno == EBUSY ? ERROR_BUSY : ERROR_IO, "unmounting %s: %s",
                     order->folder, errno == EBUSY ? "it is in use" : strerror(errno));
}

/* ---- after an agent that has left no worker ---- */

static bool is_below(const char *path, const char *run, const char *rest) {
    size_t length = strlen(run);
    return strncmp(path, run, length) == 0 && text_starts(text_of(path + length), rest);
}

/* Whether it is one of those that only the agent itself uses. By one over a block device the next
 * start finds those that people see. */
static bool is_own(const struct mount_order_place *place, const struct mountinfo_entry *mount,
                   bool own) {
    return (is_below(mount->folder, place->run, "/images/") &&
            !(own && text_starts(text_of(mount->source), "/dev/"))) ||
           (is_below(mount->folder, place->run, "/files") && strcmp(mount->type, "fuse.tarn") == 0);
}

/* Whether it shows a tree of this agent. An agent that has ended has left no other mount of it. */
static bool is_ours(const struct mount_order_place *place, const struct mountinfo *mountinfo,
                    const struct mountinfo_entry *mount) {
    char upper[PATH_SIZE];
    if (strcmp(mount->type, "overlay") == 0) {
        snprintf(upper, sizeof upper, "upperdir=%s/writable/", place->root);
        return text_starts(text_of(mount->source), OVERLAY_SOURCE) &&
               strstr(mount->options, upper) != NULL;
    }
    if (strcmp(mount->type, "erofs") != 0)
        return false;
    for (size_t i = 0; i < mountinfo->count; i++)
        if (is_below(mountinfo->mounts[i].folder, place->run, "/images/") &&
            strcmp(mountinfo->mounts[i].device, mount->device) == 0)
            return true;
    return is_below(mount->source, place->run, "/files/");
}

void mounting_clear(const struct mount_order_place *place, bool own) {
    cleanup_mountinfo struct mountinfo mountinfo = {0};
    if (!mountinfo_read(&mountinfo, NULL))
        return;
    for (size_t i = mountinfo.count; i-- > 0;) {
        const struct mountinfo_entry *mount = &mountinfo.mounts[i];
        if (is_own(place, mount, own) || (!own && is_ours(place, &mountinfo, mount)))
            umount2(mount->folder, MNT_DETACH | UMOUNT_NOFOLLOW);
    }
}
