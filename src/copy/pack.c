/*
 * A folder as the archive of a layer: the walk over its folders, and one entry for each file.
 *
 * The way goes by descriptors: each name is opened in the folder around it, without following
 * symlinks, and what was opened is compared with what was listed.
 */
#include "copy/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "copy/attributes.h"
#include "copy/content.h"
#include "copy/folder.h"
#include "copy/hard_links.h"
#include "copy/pack_private.h"

struct level {
    struct folder folder;
    size_t path_length; /* of the folder's path in the image */
    bool is_packed;     /* it is an entry */
};

struct walk {
    struct pack_archive archive; /* writes to `guard` */
    struct sink guard;
    const struct sink *sink;
    bool sink_failed;
    const char *folder;   /* as the caller named it, for messages */
    size_t inside_length; /* of the path under which all of it stands in the image */
    struct buffer path;   /* in the image, of what is being packed */
    struct hard_links links;
    size_t names_left; /* of FOLDER_NAMES_LIMIT */
    char *bytes;       /* what is read of a file */
    size_t depth;
    struct level levels[PACK_DEPTH_LIMIT];
};

/* ---- names and messages ---- */

/* Hands bytes to the sink, and remembers whose failure it was. */
static bool write_guarded(void *context, const void *bytes, size_t length, struct error *error) {
    struct walk *walk = context;
    walk->sink_failed = !sink_write(walk->sink, bytes, length, error);
    return !walk->sink_failed;
}

enum { SHOWN_PATH = 400 }; /* bytes; the text of an error has an end, and the reason must fit */

/* Names the file whose failure it was; of a long path its end. */
static bool wrap(const struct walk *walk, struct error *error) {
    if (walk->sink_failed)
        return false;
    const char *path = walk->path.bytes + walk->inside_length;
    while (*path == '/')
        path++;
    if (strlen(path) > SHOWN_PATH)
        return error_wrap(error, "%.100s/…%s", walk->folder, path + strlen(path) - SHOWN_PATH);
    return error_wrap(error, "%s%s%s", walk->folder, *path ? "/" : "", path);
}

/* An errno of a name that was there when its folder was listed. */
static bool fail(int number, const char *what, struct error *error) {
    if (number == ENOENT || number == ESTALE)
        return content_changed("vanished", error);
    if (number == ELOOP || number == ENOTDIR || number == ENXIO)
        return content_changed("was replaced", error);
    return error_set_errno(error, number, "cannot %s", what);
}

static bool append_name(struct walk *walk, const char *name, struct error *error) {
    if (walk->path.length)
        buffer_append_string(&walk->path, "/");
    return buffer_append_string(&walk->path, name) ||
           error_set(error, ERROR_MEMORY, "out of memory");
}

static void cut_path(struct walk *walk, size_t length) {
    walk->path.length = length;
    walk->path.bytes[length] = '\0';
}

/* ---- entries ---- */

static struct tar_entry entry_of(const struct walk *walk, enum tar_type type,
                                 const struct stat *status) {
    const struct pack_settings *settings = walk->archive.settings;
    struct tar_entry entry = {
        .type = type,
        .path = walk->path.bytes,
        .mode = status->st_mode & 07777,
        .time = settings->time,
    };
    if (settings->preserve) {
        entry.user = status->st_uid;
        entry.group = status->st_gid;
        entry.time = status->st_mtim.tv_sec;
        entry.time_ns = (uint32_t)status->st_mtim.tv_nsec;
    }
    return entry;
}

/* Opens a file or folder that was listed as `status` says, and reads its status again. */
static int open_listed(int parent, const char *name, int flags, struct stat *status,
                       struct error *error) {
    struct stat listed = *status;
    cleanup_close int fd =
        openat(parent, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | flags);
    if (fd < 0 || fstat(fd, status) != 0) {
        fail(errno, "open it", error);
        return -1;
    }
    if (status->st_dev != listed.st_dev || status->st_ino != listed.st_ino ||
        (status->st_mode & S_IFMT) != (listed.st_mode & S_IFMT)) {
        content_changed("was replaced", error);
        return -1;
    }
    return take_fd(fd);
}

/* ---- the filter ---- */

static enum pack_verdict judge(struct walk *walk, const struct stat *status, const char *target,
                               struct error *error) {
    const struct pack_filter *filter = walk->archive.settings->filter;
    return filter ? filter->judge(filter->context,
                                  &(struct pack_candidate){walk->path.bytes, status, target}, error)
                  : PACK_TAKE;
}

/* Packs the folders around the next entry that are no entries yet. */
static bool pack_around(struct walk *walk, struct error *error) {
    const struct pack_filter *filter = walk->archive.settings->filter;
    for (size_t i = 1; i < walk->depth; i++) {
        struct level *level = &walk->levels[i];
        if (level->is_packed)
            continue;
        char *end = walk->path.bytes + level->path_length, cut = *end;
        *end = '\0';
        const struct tar_entry entry = entry_of(walk, TAR_FOLDER, &level->folder.status);
        level->is_packed =
            filter->on_entry(
                filter->context,
                &(struct pack_candidate){walk->path.bytes, &level->folder.status, NULL}, error) &&
            pack_header(&walk->archive, &entry, error);
        *end = cut;
        if (!level->is_packed)
            return false;
    }
    return true;
}

/* Before each entry. */
static bool announce(struct walk *walk, const struct stat *status, const char *target,
                     struct error *error) {
    const struct pack_filter *filter = walk->archive.settings->filter;
    return !filter ||
           (pack_around(walk, error) &&
            filter->on_entry(filter->context,
                             &(struct pack_candidate){walk->path.bytes, status, target}, error));
}

static bool pack_with_attributes(struct walk *walk, int fd, struct tar_entry *entry,
                                 struct error *error) {
    struct attributes attributes = {0};
    if (walk->archive.settings->is_no_layer)
        return pack_header(&walk->archive, entry, error);
    const bool ok = attributes_read(&attributes, fd, error);
    entry->attributes = attributes.list;
    entry->attribute_count = attributes.count;
    const bool packed = ok && pack_header(&walk->archive, entry, error);
    attributes_finish(&attributes);
    return packed;
}

static bool pack_subfolder(struct walk *walk, int parent, const char *name, struct stat *status,
                           struct error *error) {
    cleanup_close int fd = open_listed(parent, name, O_DIRECTORY, status, error);
    if (fd < 0)
        return false;
    struct tar_entry entry = entry_of(walk, TAR_FOLDER, status);
    return announce(walk, status, NULL, error) && pack_with_attributes(walk, fd, &entry, error);
}

static bool pack_file(struct walk *walk, int parent, const char *name, struct stat *status,
                      struct error *error) {
    cleanup_close int fd = open_listed(parent, name, O_NOCTTY, status, error);
    if (fd < 0)
        return false;
    /* The status is read again, because the file may be so fresh that another write to it would
     * leave no trace. */
    if (content_is_fresh(status) && !content_let_settle(fd, status))
        return fail(errno, "read its status", error);
    struct tar_entry entry = entry_of(walk, TAR_FILE, status);
    entry.size = (uint64_t)status->st_size;
    return announce(walk, status, NULL, error) && pack_with_attributes(walk, fd, &entry, error) &&
           content_write(fd, status, walk->bytes, walk->archive.sink, error) &&
           sink_write_zeros(walk->archive.sink, tar_padding(entry.size), error) &&
           (walk->archive.settings->is_no_layer ||
            hard_links_add(&walk->links, status, walk->path.bytes, error));
}

/* A regular file: a link to the same file under an earlier name, or its content. */
static bool pack_regular(struct walk *walk, int parent, const char *name, struct stat *status,
                         struct error *error) {
    cleanup_buffer struct buffer first = {0};
    if (walk->archive.settings->is_no_layer)
        return pack_file(walk, parent, name, status, error);
    if (!hard_links_find(&walk->links, status, &first))
        return first.failed ? error_set(error, ERROR_MEMORY, "out of memory")
                            : pack_file(walk, parent, name, status, error);
    struct tar_entry entry = entry_of(walk, TAR_HARD_LINK, status);
    entry.target = first.bytes;
    return announce(walk, status, NULL, error) && pack_header(&walk->archive, &entry, error);
}

static bool pack_symlink(struct walk *walk, int parent, const char *name, const struct stat *status,
                         struct error *error) {
    struct tar_entry entry = entry_of(walk, TAR_SYMLINK, status);
    enum { TARGET_SIZE = 64 << 10 }; /* Linux keeps at most 4,095 bytes */
    const ssize_t length = readlinkat(parent, name, walk->bytes, TARGET_SIZE);
    if (length < 0)
        return errno == EINVAL ? content_changed("was replaced", error)
                               : fail(errno, "read the symlink", error);
    if (length == TARGET_SIZE)
        return error_set(error, ERROR_UNSUPPORTED, "the symlink's target is too long");
    walk->bytes[length] = '\0';
    entry.target = walk->bytes;
    entry.mode = 0777; /* what Linux says of each; some file systems keep another */
    switch (judge(walk, status, entry.target, error)) {
    case PACK_TAKE:
        return announce(walk, status, entry.target, error) &&
               pack_header(&walk->archive, &entry, error);
    case PACK_REFUSE:
        return false;
    default:
        return true;
    }
}

static bool pack_special(struct walk *walk, enum tar_type type, const struct stat *status,
                         struct error *error) {
    struct tar_entry entry = entry_of(walk, type, status);
    if (type != TAR_FIFO) {
        entry.major = major(status->st_rdev);
        entry.minor = minor(status->st_rdev);
    }
    return announce(walk, status, NULL, error) && pack_header(&walk->archive, &entry, error);
}

/* One item of a folder itself, whatever it is. */
static bool pack_item(struct walk *walk, int parent, const char *name, struct error *error) {
    struct stat status;
    if (!walk->archive.settings->is_no_layer &&
        strncmp(name, PACK_WHITEOUT, strlen(PACK_WHITEOUT)) == 0)
        return error_set(error, ERROR_UNSUPPORTED,
                         "in a layer, a name that begins with \"" PACK_WHITEOUT
                         "\" removes a file; rename it");
    if (fstatat(parent, name, &status, AT_SYMLINK_NOFOLLOW) != 0)
        return fail(errno, "read its status", error);
    /* A symlink is judged with its target. */
    const enum pack_verdict verdict =
        S_ISLNK(status.st_mode) ? PACK_TAKE : judge(walk, &status, NULL, error);
    if (verdict != PACK_TAKE)
        return verdict != PACK_REFUSE;
    switch (status.st_mode & S_IFMT) {
    case S_IFREG:
        return pack_regular(walk, parent, name, &status, error);
    case S_IFDIR:
        return pack_subfolder(walk, parent, name, &status, error);
    case S_IFLNK:
        return pack_symlink(walk, parent, name, &status, error);
    case S_IFIFO:
        return pack_special(walk, TAR_FIFO, &status, error);
    case S_IFCHR:
        return pack_special(walk, TAR_CHARACTER_DEVICE, &status, error);
    case S_IFBLK:
        return pack_special(walk, TAR_BLOCK_DEVICE, &status, error);
    default: /* a socket is nothing without the process that listens */
        return true;
    }
}

/* ---- the walk ---- */

static bool enter(struct walk *walk, int fd, struct error *error) {
    if (walk->depth == PACK_DEPTH_LIMIT) {
        close(fd);
        return error_set(error, ERROR_UNSUPPORTED, "it lies more than %d folders deep",
                         PACK_DEPTH_LIMIT);
    }
    struct level *level = &walk->levels[walk->depth];
    level->path_length = walk->path.length;
    if (!folder_read(&level->folder, fd, &walk->names_left, error))
        return false;
    walk->depth++;
    return true;
}

static bool enter_subfolder(struct walk *walk, int parent, const char *name, struct error *error) {
    cleanup_close int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) != 0)
        return fail(errno, "open the folder", error);
    const enum pack_verdict verdict = judge(walk, &status, NULL, error);
    if (verdict == PACK_REFUSE || verdict == PACK_LEAVE_OUT)
        return verdict == PACK_LEAVE_OUT;
    if (!enter(walk, take_fd(fd), error))
        return false;
    walk->levels[walk->depth - 1].is_packed = verdict == PACK_TAKE;
    return true;
}

/* A folder is done: no name may have come or gone since its names were read. */
static bool leave(struct walk *walk, struct error *error) {
    struct level *level = &walk->levels[walk->depth - 1];
    struct stat now;
    cut_path(walk, level->path_length);
    if (fstat(level->folder.fd, &now) != 0)
        return error_set_errno(error, errno, "cannot read the folder's status");
    const struct stat *then = &level->folder.status;
    if (now.st_nlink == 0)
        return content_changed("vanished", error);
    if (now.st_mtim.tv_sec != then->st_mtim.tv_sec || now.st_mtim.tv_nsec != then->st_mtim.tv_nsec)
        return content_changed("got or lost a file", error);
    folder_finish(&level->folder, &walk->names_left);
    walk->depth--;
    return true;
}

static bool walk_on(struct walk *walk, struct error *error) {
    while (walk->depth) {
        struct level *level = &walk->levels[walk->depth - 1];
        struct folder_item item;
        cut_path(walk, level->path_length);
        if (!folder_next(&level->folder, &item)) {
            if (!leave(walk, error))
                return false;
            continue;
        }
        if (!append_name(walk, item.name, error) ||
            !(item.is_content ? enter_subfolder : pack_item)(walk, level->folder.fd, item.name,
                                                             error))
            return false;
    }
    return true;
}

/* Entries for the folders of the path under which all stands. */
static bool pack_inside(struct walk *walk, const char *inside, struct error *error) {
    for (const char *at = inside; *at;) {
        at += strcspn(at, "/");
        buffer_clear(&walk->path);
        if (!buffer_append(&walk->path, inside, (size_t)(at - inside)))
            return error_set(error, ERROR_MEMORY, "out of memory");
        if (!pack_parent(&walk->archive, walk->path.bytes, error))
            return false;
        at += *at == '/';
    }
    walk->inside_length = walk->path.length;
    return true;
}

static bool open_folder(const char *folder, int *fd, struct error *error) {
    *fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*fd >= 0)
        return true;
    if (errno == ENOENT)
        return error_set(error, ERROR_NOT_FOUND, "%s: there is no such folder", folder);
    if (errno == ENOTDIR)
        return error_set(error, ERROR_INVALID, "%s: it is no folder", folder);
    return error_set_errno(error, errno, "%s: cannot open the folder", folder);
}

bool pack_find(const char *folder, struct error *error) {
    cleanup_close int fd = -1;
    return open_folder(folder, &fd, error);
}

static void finish(struct walk *walk) {
    while (walk->depth)
        folder_finish(&walk->levels[--walk->depth].folder, NULL);
    hard_links_finish(&walk->links);
    buffer_finish(&walk->path);
    buffer_finish(&walk->archive.header);
    free(walk->bytes);
    free(walk);
}

bool pack_folder(const char *folder, const char *inside, const struct pack_settings *settings,
                 const struct sink *sink, struct error *error) {
    int fd;
    if (!open_folder(folder, &fd, error))
        return false;
    struct walk *walk = calloc(1, sizeof *walk);
    char *bytes = malloc(CONTENT_BUFFER_SIZE);
    if (!walk || !bytes || !buffer_append_string(&walk->path, "")) {
        close(fd);
        free(bytes);
        free(walk);
        return error_set(error, ERROR_MEMORY, "out of memory");
    }
    walk->sink = sink;
    walk->guard = (struct sink){write_guarded, walk};
    walk->archive = (struct pack_archive){.settings = settings, .sink = &walk->guard};
    walk->folder = folder;
    walk->bytes = bytes;
    walk->names_left = FOLDER_NAMES_LIMIT;
    bool ok = pack_inside(walk, inside, error);
    if (!ok)
        close(fd);
    else
        ok = (enter(walk, fd, error) && walk_on(walk, error)) || wrap(walk, error);
    ok = ok && pack_end(&walk->archive, error);
    finish(walk);
    return ok;
}
