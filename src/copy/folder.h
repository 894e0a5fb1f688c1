/*
 * The names in one folder, in the order in which an archive lists them.
 *
 * The names of a whole archive shall be sorted by their bytes, and only one folder's names are to
 * be in memory at once (and those of the folders around it). So a folder within is listed twice:
 * once for itself, at "name", and once for what is in it, at "name/". Between the two stand its
 * neighbours such as "name-2" and "name.txt", because '-' and '.' come before '/'.
 *
 * A folder is opened through the folder around it and never through a symlink. One thread at a
 * time.
 */
#ifndef COPY_FOLDER_H
#define COPY_FOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include "base/buffer.h"
#include "base/error.h"

enum {
    FOLDER_NAMES_LIMIT = 16 << 20
}; /* bytes of the names of all folders that are open at once */

struct folder {
    int fd;
    struct stat status; /* from before the names were read */
    char *names;        /* owned; each ends with NUL */
    size_t names_length;
    uint32_t *items; /* owned; where each item's name begins */
    size_t count, next;
};

struct folder_item {
    const char *name; /* borrowed from the folder */
    bool is_content;  /* not the item itself but all that is in it: a subfolder */
};

/* Reads the names of an open folder and owns `fd` from now on, whatever the outcome. `left` is what
 * is left of FOLDER_NAMES_LIMIT; the folder takes its part. False: ERROR_IO, ERROR_UNSUPPORTED
 * (over the limit), ERROR_MEMORY; *folder is empty. */
bool folder_read(struct folder *folder, int fd, size_t *left, struct error *error);

/* The next item. False: there are no more. */
bool folder_next(struct folder *folder, struct folder_item *item);

/* Closes the folder and gives its part of the limit back. NULL for `left`: nobody counts any
 * more. */
void folder_finish(struct folder *folder, size_t *left);

#endif
