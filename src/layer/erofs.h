/*
 * EROFS images that hold only metadata: directories, inodes, attributes. A file's bytes are extents
 * of devices, the uncompressed archives of the layers (Linux, fs/erofs/erofs_fs.h and
 * Documentation/filesystems/erofs.rst). docs/design/formats.md says which parts of EROFS are used.
 *
 * An image can be mounted with `-o device=` for each device, or as one file: the image, and behind
 * it every archive, each filled up to whole blocks. Blocks have 512 bytes, because that is how
 * files lie in an archive. Pure; any thread.
 */
#ifndef LAYER_EROFS_H
#define LAYER_EROFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buffer.h"
#include "base/error.h"
#include "layer/tree.h"

enum {
    EROFS_BLOCK = 512,
    EROFS_DEVICE_LIMIT = 1000,      /* layers of an image; overlayfs takes 500 */
    EROFS_IMAGE_LIMIT = 1024 << 20, /* bytes of an image */
    EROFS_CHUNK_LIMIT = 1 << 20,    /* parts into which one sparse file is cut */
};

/* Appends the image of the tree, which is sorted for that. `device_bytes` are the lengths of the
 * archives. Whiteouts and opaque directories are written as overlayfs has them. LAYER_SIZE: too
 * large. LAYER_TAR: a sparse file whose parts do not lie on blocks. */
bool erofs_write(struct tree *tree, const uint64_t *device_bytes, size_t device_count,
                 struct buffer *out, struct error *error);

/* Reads an image that erofs_write() has made, and no other: ERROR_INVALID. Nothing in it is
 * trusted. `device_bytes` are the lengths of the archives, in which all extents must lie. NULL: the
 * error is set. */
struct tree *erofs_read(const void *bytes, size_t length, const uint64_t *device_bytes,
                        size_t device_count, struct error *error);

#endif
