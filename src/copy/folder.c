/* The names in one folder, sorted as an archive lists them. */
#include "copy/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/cleanup.h"

/* What the items cost is counted with the names. */
static size_t bytes_of(const struct folder *folder) {
    return folder->names_length + folder->count * sizeof *folder->items;
}

static bool is_folder(int fd, const struct dirent *entry) {
    struct stat status;
    if (entry->d_type != DT_UNKNOWN)
        return entry->d_type == DT_DIR;
    return fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(status.st_mode);
}

static bool is_self_or_parent(const char *name) {
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

struct list {
    struct buffer names, items;
    size_t limit;
};

static bool add_name(struct list *list, const char *name, const char *end, struct error *error) {
    const uint32_t at = (uint32_t)list->names.length;
    if (list->names.length + strlen(name) + 2 + list->items.length + sizeof at > list->limit)
        return error_set(error, ERROR_UNSUPPORTED,
                         "the folder holds more names than can be sorted in memory; spread them "
                         "over subfolders");
    buffer_append(&list->items, &at, sizeof at);
    buffer_append_string(&list->names, name);
    buffer_append(&list->names, end, strlen(end) + 1);
    return (!list->names.failed && !list->items.failed) ||
           error_set(error, ERROR_MEMORY, "out of memory");
}

static bool read_names(DIR *directory, struct list *list, struct error *error) {
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(directory);
        if (!entry)
            return errno == 0 || error_set_errno(error, errno, "cannot read the folder");
        if (is_self_or_parent(entry->d_name))
            continue;
        if (!add_name(list, entry->d_name, "", error) ||
            (is_folder(dirfd(directory), entry) && !add_name(list, entry->d_name, "/", error)))
            return false;
    }
}

static int compare(const void *a, const void *b, void *names) {
    return strcmp((const char *)names + *(const uint32_t *)a,
                  (const char *)names + *(const uint32_t *)b);
}

bool folder_read(struct folder *folder, int fd, size_t *left, struct error *error) {
    cleanup_close int own = fd;
    cleanup_directory DIR *directory = NULL;
    struct list list = {.limit = *left};
    *folder = (struct folder){.fd = -1};
    /* The folder's own descriptor stays open when the directory stream is closed. */
    const int copy = fcntl(own, F_DUPFD_CLOEXEC, 0);
    if (copy >= 0 && !(directory = fdopendir(copy)))
        close(copy);
    if (!directory || fstat(own, &folder->status) != 0)
        return error_set_errno(error, errno, "cannot read the folder");
    if (!read_names(directory, &list, error)) {
        buffer_finish(&list.names);
        buffer_finish(&list.items);
        return false;
    }
    folder->fd = take_fd(own);
    folder->names = list.names.bytes;
    folder->names_length = list.names.length;
    folder->items = (uint32_t *)(void *)list.items.bytes;
    folder->count = list.items.length / sizeof *folder->items;
    if (folder->count)
        qsort_r(folder->items, folder->count, sizeof *folder->items, compare, folder->names);
    *left -= bytes_of(folder);
    return true;
}

bool folder_next(struct folder *folder, struct folder_item *item) {
    if (folder->next == folder->count)
        return false;
    char *name = folder->names + folder->items[folder->next++];
    const size_t length = strlen(name);
    item->is_content = name[length - 1] == '/';
    if (item->is_content)
        name[length - 1] = '\0';
    item->name = name;
    return true;
}

void folder_finish(struct folder *folder, size_t *left) {
    if (left)
        *left += bytes_of(folder);
    free(folder->names);
    free(folder->items);
    if (folder->fd >= 0)
        close(folder->fd);
    *folder = (struct folder){.fd = -1};
}
