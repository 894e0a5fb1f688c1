/*
 * Files beside a blob: what was made from its bytes, and can be made again. They die with the blob.
 *
 *   ROOT/aside/sha256-abcd….KIND
 *
 * They count like blobs (store_usage.aside_bytes), but are not evicted alone. A file with a final
 * name is complete. The store does not look into the files. Threads: any.
 */
#ifndef STORE_ASIDE_H
#define STORE_ASIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buffer.h"
#include "base/error.h"
#include "oci/digest.h"
#include "store/paths.h"
#include "store/store.h"

enum aside_kind {
    ASIDE_INDEX,   /* of a layer: what is inside */
    ASIDE_COPY,    /* of a layer: its bytes in other frames */
    ASIDE_REFUSED, /* why there is no index */
    ASIDE_IMAGE,   /* of a manifest: what all its layers unpack to */
    ASIDE_TRACE,   /* of a manifest: what a start of it reads */
    ASIDE_KINDS
};

/* Puts the bytes in place of the old file, in one step. ERROR_NOT_FOUND: the blob is not there. */
bool store_aside_put(struct store *store, const struct digest *digest, enum aside_kind kind,
                     const void *bytes, size_t length, struct error *error);

/* For a file that is too large for memory: a new file without a name, for writing; `path` is for
 * store_aside_commit(), which takes its name away. The caller closes the descriptor. -1: the error
 * is set. */
int store_aside_begin(struct store *store, char path[static PATH_SIZE], struct error *error);
/* Gives the file its name, after a sync. False: it is deleted. */
bool store_aside_commit(struct store *store, const struct digest *digest, enum aside_kind kind,
                        int fd, const char *path, struct error *error);
void store_aside_abandon(struct store *store, const char *path);

/* An open descriptor, the caller's to close, and the file's size. -1: ERROR_NOT_FOUND or ERROR_IO.
 */
int store_aside_open(struct store *store, const struct digest *digest, enum aside_kind kind,
                     uint64_t *size, struct error *error);
bool store_aside_has(struct store *store, const struct digest *digest, enum aside_kind kind);
/* Appends the whole file. ERROR_INVALID: it has more than `limit` bytes. */
bool store_aside_read(struct store *store, const struct digest *digest, enum aside_kind kind,
                      size_t limit, struct buffer *out, struct error *error);
void store_aside_delete(struct store *store, const struct digest *digest, enum aside_kind kind);

/* How many files of this kind there are; not known before the scan has ended. */
uint64_t store_aside_files(const struct store *store, enum aside_kind kind);

/* ---- private to store/ ---- */

/* The blob is gone: deletes what is beside it. */
void store_aside_forget(struct store *store, const struct digest *digest);
/* Counts the files, and deletes those whose blob is gone: an earlier process may have been killed
 * between. For store_scan(). */
void store_aside_count(struct store *store);

#endif
