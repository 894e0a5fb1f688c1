/* Removes folders with all that is in them. */
#include "node/agent/removal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/log.h"

/* Names below ROOT/writable that are no layers: what is being removed. */
#define REMOVED ".removed-"

static bool is_dots(const char *name) {
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Opens a folder for reading, as `entries` of it. NULL: it is none. */
static DIR *open_entries(int parent, const char *name) {
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *entries = fd >= 0 ? fdopendir(fd) : NULL;
    if (fd >= 0 && !entries)
        close(fd);
    return entries;
}

/* A folder is renamed to the top under a number, and then emptied: so no depth needs memory. */
static void move_up(int top, int parent, const char *name, unsigned *last) {
    char renamed[32];
    do
        snprintf(renamed, sizeof renamed, REMOVED "%u", ++*last);
    while (faccessat(top, renamed, F_OK, AT_SYMLINK_NOFOLLOW) == 0);
    if (renameat(parent, name, top, renamed) != 0)
        log_at(LOG_WARN, "cannot remove what was written to a mount", LOG_STRING("name", name),
               LOG_STRING("error", strerror(errno)));
}

/* Removes a folder of the top, whose own folders come to the top. */
static bool empty(int top, const char *name, unsigned *last) {
    cleanup_directory DIR *entries = open_entries(top, name);
    if (!entries)
        return unlinkat(top, name, 0) == 0;
    for (struct dirent *entry; (entry = readdir(entries));) {
        if (is_dots(entry->d_name))
            continue;
        if (unlinkat(dirfd(entries), entry->d_name, 0) == 0)
            continue;
        if (unlinkat(dirfd(entries), entry->d_name, AT_REMOVEDIR) != 0)
            move_up(top, dirfd(entries), entry->d_name, last);
    }
    return unlinkat(top, name, AT_REMOVEDIR) == 0;
}

/* Empties what is at the top and to be removed, as long as some of it goes. */
static void remove_renamed(int top) {
    unsigned last = 0;
    bool goes_on = true;
    while (goes_on) {
        cleanup_directory DIR *entries = open_entries(top, ".");
        goes_on = false;
        for (struct dirent *entry; entries && (entry = readdir(entries));)
            if (strncmp(entry->d_name, REMOVED, strlen(REMOVED)) == 0)
                goes_on = empty(top, entry->d_name, &last) || goes_on;
    }
}

static int open_top(const char *root) {
    cleanup_close int folder = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return folder < 0 ? -1
                      : openat(folder, "writable", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

void removal_of_layer(const char *root, const char *layer) {
    unsigned last = 0;
    cleanup_close int top = open_top(root);
    if (top < 0 || faccessat(top, layer, F_OK, AT_SYMLINK_NOFOLLOW) != 0)
        return;
    move_up(top, top, layer, &last);
    remove_renamed(top);
}

static bool is_one_of(const char *name, const char *const *names) {
    for (; *names; names++)
        if (strcmp(*names, name) == 0)
            return true;
    return false;
}

void removal_of_others(const char *root, const char *const *layers) {
    unsigned last = 0;
    cleanup_close int top = open_top(root);
    cleanup_directory DIR *entries = top >= 0 ? open_entries(top, ".") : NULL;
    if (!entries)
        return;
    for (struct dirent *entry; (entry = readdir(entries));)
        if (!is_dots(entry->d_name) && strncmp(entry->d_name, REMOVED, strlen(REMOVED)) != 0 &&
            !is_one_of(entry->d_name, layers))
            move_up(top, top, entry->d_name, &last);
    remove_renamed(top);
}
