/*
 * A layer's archive, compressed on all processors while it is made, and hashed on both sides: the
 * digest of what goes in is the layer's diff ID, and the digest of what comes out the blob's.
 *
 * The archive is cut into blocks of a fixed size, whatever the number of processors, so that the
 * same archive gives the same blob on any of them:
 *
 * - gzip: one member (RFC 1952), made of blocks of 128 KiB, as pigz makes it. Each block is
 *   compressed with the 32 KiB before it as its dictionary, and ends at a byte.
 * - zstd: a frame (RFC 8878) for each MiB.
 *
 * The bytes are those of zlib and libzstd at fixed levels. Another version of the library may
 * compress the same archive otherwise; the diff ID stays, because it is of the archive.
 *
 * Memory is bounded: at most 48 MiB on many processors, and some 3 MiB on two. One thread at a time
 * calls; the workers are threads of their own.
 */
#ifndef COPY_COMPRESS_H
#define COPY_COMPRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "copy/sink.h"
#include "oci/digest.h"

enum compress_kind { COMPRESS_NONE, COMPRESS_GZIP, COMPRESS_ZSTD };

/* "none", "gzip", "zstd". */
const char *compress_name(enum compress_kind kind);
/* False: there is no such kind. */
bool compress_parse(const char *name, enum compress_kind *kind);

struct compress_result {
    struct digest digest;  /* of the compressed bytes */
    struct digest diff_id; /* of the bytes that were written */
    uint64_t size;         /* of the compressed bytes */
    uint64_t plain_size;
};

struct compress;

/* `workers` is how many threads compress; 0: one a processor. The result does not depend on it.
 * `sink` is called on the thread of the caller of the functions below. NULL: ERROR_MEMORY, ERROR_IO
 * (no thread). */
struct compress *compress_new(enum compress_kind kind, unsigned workers, const struct sink *sink,
                              struct error *error);

/* Takes all bytes; waits while too many blocks wait for a worker or for the sink. False:
 * ERROR_MEMORY, or the sink's; then only compress_free() may follow. */
bool compress_write(struct compress *compress, const void *bytes, size_t length,
                    struct error *error);

/* Writes what is left and the end. */
bool compress_finish(struct compress *compress, struct compress_result *result,
                     struct error *error);

void compress_free(struct compress *compress); /* NULL is allowed; ends the workers */

#endif
