/*
 * Headers of a tar archive: ustar, with PAX records for what ustar cannot say (POSIX.1-2017, pax,
 * "pax Interchange Format"). These are the archives that image-spec layer.md asks for.
 *
 * The writer is our own, and small, because a layer's digest must be the same on every machine.
 * libarchive's bytes depend on the locale (it converts names) and on its version. Here each entry
 * has exactly one form: a record is written only if ustar cannot hold the value, the records are
 * in a fixed order, and there is no access time, no change time and no name of an owner.
 *
 * Pure; any thread.
 */
#ifndef COPY_TAR_H
#define COPY_TAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buffer.h"
#include "base/error.h"
#include "base/text.h"

enum {
    TAR_BLOCK = 512,
    TAR_END_SIZE = 2 * TAR_BLOCK, /* zero bytes that end an archive */
    /* All records of an entry together, in bytes. Go's archive/tar, with which container engines
     * unpack layers, refuses more. */
    TAR_RECORDS_LIMIT = 1 << 20,
};

enum tar_type {
    TAR_FILE = '0',
    TAR_HARD_LINK = '1',
    TAR_SYMLINK = '2',
    TAR_CHARACTER_DEVICE = '3',
    TAR_BLOCK_DEVICE = '4',
    TAR_FOLDER = '5',
    TAR_FIFO = '6',
};

struct tar_attribute {
    const char *name; /* "user.origin"; without '=' */
    struct text value;
};

/* Borrows all that it points to. */
struct tar_entry {
    enum tar_type type;
    const char *path;   /* relative, and without a slash at its end, for a folder too */
    const char *target; /* of a symlink or a hard link; else NULL */
    unsigned mode;      /* permission bits, setuid, setgid and sticky */
    uint64_t user, group;
    uint64_t size; /* of a FILE, in bytes; else 0 */
    int64_t time;  /* of the last change, in seconds since 1970 */
    uint32_t time_ns;
    uint32_t major, minor;                  /* of a device */
    const struct tar_attribute *attributes; /* extended attributes in the order of their names */
    size_t attribute_count;
};

/* Appends the header of an entry. A FILE's content follows it, and then tar_padding() zero bytes.
 * False: ERROR_UNSUPPORTED (no archive can hold the entry) or ERROR_MEMORY. */
bool tar_append_header(struct buffer *out, const struct tar_entry *entry, struct error *error);

/* How many zero bytes follow a content of `size` bytes: less than TAR_BLOCK. */
size_t tar_padding(uint64_t size);

#endif
