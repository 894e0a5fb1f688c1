/*
 * A layer on its way to a destination while it is made: a thread packs and compresses a folder, and
 * the destination takes the bytes out of a small buffer. Nothing is kept on the disk, and the
 * digest is known when all bytes were read.
 *
 * When the destination has lost bytes, the layer is made once more from the same folder, and what
 * it has is skipped. If the folder has changed meanwhile, the digest is another one, and the
 * destination refuses what it has.
 *
 * Threads: all calls belong to one thread.
 */
#ifndef COPY_LAYER_H
#define COPY_LAYER_H

#include "copy/compress.h"
#include "copy/destination.h"
#include "copy/pack.h"

/* What is in the layer. Borrowed as long as the layer lives. */
struct layer_content {
    const char *folder;          /* NULL: the layer removes paths */
    const char *inside;          /* of a folder: its path in the image, from pack_path() */
    const char *const *removals; /* paths, from pack_path() */
    size_t removal_count;
};

struct layer_settings {
    struct layer_content content;
    struct pack_settings pack;
    enum compress_kind compression;
    const atomic_bool *stop; /* set: the writing ends within a second; NULL: never */
    /* Called with the number of bytes that the destination has taken; it falls when they are wanted
     * again. May be NULL. */
    void (*on_progress)(void *context, uint64_t bytes);
    void *context;
};

struct layer;

/* NULL: ERROR_MEMORY, ERROR_FILES. Reads nothing yet. */
struct layer *layer_new(const struct layer_settings *settings, struct error *error);
void layer_free(struct layer *layer); /* NULL is allowed; ends the packing */

/* The layer as copy_destination_write_blob() takes it; lives as long as the layer. */
struct copy_body *layer_body(struct layer *layer);

/* What the whole layer is, after its body has ended. */
const struct compress_result *layer_result(const struct layer *layer);

#endif
