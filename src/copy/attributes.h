/*
 * The extended attributes of a file or folder that a layer keeps: user.* and security.capability.
 *
 * Others belong to the machine (security.selinux, trusted.overlay.*) and mean nothing in an image.
 */
#ifndef COPY_ATTRIBUTES_H
#define COPY_ATTRIBUTES_H

#include <stdbool.h>
#include <stddef.h>
#include "base/error.h"
#include "copy/tar.h"

struct attributes {             /* zeroed: none */
    struct tar_attribute *list; /* owned, with all that it points to; in the order of the names */
    size_t count;
};

/* Reads those of an open file. A file system without such attributes has none. False: ERROR_IO,
 * ERROR_CORRUPT (they changed meanwhile), ERROR_UNSUPPORTED (more than an archive can hold),
 * ERROR_MEMORY; *attributes is then still to be finished. */
bool attributes_read(struct attributes *attributes, int fd, struct error *error);
void attributes_finish(struct attributes *attributes);

#endif
