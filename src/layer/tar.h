/*
 * Reads a tar archive as it comes, and strictly: ustar, PAX, GNU and old (V7, star) headers, as
 * Go's archive/tar takes them, which containerd unpacks with. What that refuses is refused here
 * too.
 *
 * The bytes of files are not looked at; an entry says where they are. Bounded: PAX records and long
 * names have at most 1 MiB, a sparse file has at most TAR_SPARSE_LIMIT parts. Pure; one thread at a
 * time.
 */
#ifndef LAYER_TAR_H
#define LAYER_TAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "base/text.h"
#include "layer/tree.h"

enum { TAR_BLOCK = 512, TAR_SPARSE_LIMIT = 1 << 20 };

enum tar_type {
    TAR_FILE,
    TAR_HARD_LINK,
    TAR_SYMLINK,
    TAR_CHAR,
    TAR_BLOCK_DEVICE,
    TAR_DIRECTORY,
    TAR_FIFO
};

struct tar_xattr {
    struct text name, value;
};

/* Valid only during the call. */
struct tar_entry {
    enum tar_type type;
    struct text name, link; /* as they stand in the archive, without NUL bytes */
    uint32_t mode;          /* permissions alone */
    uint32_t uid, gid, major, minor;
    uint64_t mtime_s; /* 0: the entry has no time, or one that containerd takes for none */
    uint32_t mtime_ns;
    uint64_t size;                     /* of a file, with its holes */
    const struct tree_extent *extents; /* of a file: `where` counts from the archive's beginning */
    size_t extent_count;
    const struct tar_xattr *xattrs;
    size_t xattr_count;
};

/* Takes an entry. False: the archive is refused, with the error set. */
typedef bool tar_entry_taker(void *context, const struct tar_entry *entry, struct error *error);

struct tar_reader;

/* NULL: out of memory. */
struct tar_reader *tar_reader_new(tar_entry_taker *take, void *context);
void tar_reader_free(struct tar_reader *reader); /* NULL is allowed */

/* The next bytes of the archive. False: LAYER_TAR, or the error of the taker; nothing may be fed
 * afterwards. What follows the end of the archive is ignored. */
bool tar_reader_feed(struct tar_reader *reader, const void *bytes, size_t length,
                     struct error *error);
/* There are no more bytes. */
bool tar_reader_finish(struct tar_reader *reader, struct error *error);

#endif
