/*
 * The files in which it stands what is inside of a layer, and what an image unpacks to.
 *
 * A layer index has its spans, their windows, and the metadata of its tree as an EROFS image; an
 * image index has the layers and the metadata of all of them together. docs/design/formats.md
 * describes both. A file is complete or it is not used: its header has a digest of all the rest.
 * What is read is not trusted. Pure; one thread at a time for each struct.
 */
#ifndef LAYER_INDEX_H
#define LAYER_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buffer.h"
#include "base/error.h"
#include "layer/erofs.h"
#include "layer/scan.h"
#include "layer/tree.h"
#include "oci/digest.h"

#define LAYER_INDEX_TYPE "application/vnd.tarn.index.v1"
#define IMAGE_INDEX_TYPE "application/vnd.tarn.image.v1"

enum {
    INDEX_HEADER = 512,           /* bytes of both headers */
    INDEX_SPAN = 64,              /* bytes of a span in the file */
    INDEX_LAYER = 192,            /* bytes of a layer in an image index */
    INDEX_SPAN_LIMIT = 1 << 20,   /* spans of a layer */
    INDEX_FILE_LIMIT = 512 << 20, /* bytes of either file */
};

/* What a layer index says of its layer. */
struct layer_facts {
    struct digest layer, diff_id;
    enum layer_compression compression;
    bool has_copy;      /* the spans are of the copy in small frames of zstd, not of the blob */
    uint64_t blob_size; /* bytes of the layer's blob */
    uint64_t tar_size;  /* uncompressed */
    uint64_t copy_size; /* 0: there is no copy */
};

struct layer_index { /* zeroed is empty */
    struct layer_facts facts;
    struct layer_span *spans; /* in their order, without gaps; owned */
    size_t span_count;
    const uint8_t *windows; /* of all spans; in the file's bytes */
    uint64_t windows_length;
    const uint8_t *metadata; /* packed; in the file's bytes */
    uint64_t metadata_packed, metadata_length;
    const uint8_t *implicit; /* nids of directories that no entry of the archive makes */
    uint64_t implicit_count;
};

/* Writes the file. The tree is sorted, and its inodes get their nids. */
bool layer_index_write(const struct layer_facts *facts, const struct layer_spans *spans,
                       struct tree *tree, struct buffer *out, struct error *error);

/* Reads a file, whose bytes must stay as long as the index. ERROR_INVALID: it is none, or it is
 * damaged. */
bool layer_index_open(const void *bytes, size_t length, struct layer_index *out,
                      struct error *error);
void layer_index_finish(struct layer_index *index);

/* The same for the first `length` bytes of a file alone, without the digest of the rest and without
 * spans: what the layer is. At least INDEX_HEADER bytes. */
bool layer_index_peek(const void *bytes, size_t length, struct layer_facts *out,
                      struct error *error);

/* The span that has the uncompressed byte at `offset`; NULL: none has. */
const struct layer_span *layer_index_span(const struct layer_index *index, uint64_t offset);

/* The tree of the layer, with its whiteouts and opaque and implicit directories. NULL: the error is
 * set. */
struct tree *layer_index_tree(const struct layer_index *index, struct error *error);

/* ---- images ---- */

struct image_layer {
    struct digest layer, diff_id;
    uint64_t blob_size, tar_size;
};

struct image_index { /* zeroed is empty */
    struct digest manifest;
    struct image_layer
        *layers; /* the lowest first; device n of the metadata is layer n - 1; owned */
    size_t layer_count;
    const uint8_t *metadata;
    uint64_t metadata_packed, metadata_length;
};

bool image_index_write(const struct digest *manifest, const struct image_layer *layers,
                       size_t layer_count, struct tree *tree, struct buffer *out,
                       struct error *error);
bool image_index_open(const void *bytes, size_t length, struct image_index *out,
                      struct error *error);
void image_index_finish(struct image_index *index);

/* Appends the EROFS image, uncompressed. */
bool image_index_metadata(const struct image_index *index, struct buffer *out, struct error *error);
struct tree *image_index_tree(const struct image_index *index, struct error *error);

#endif
