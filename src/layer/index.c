/* Layer and image indexes: written and read. */
#include "layer/index.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include "base/cleanup.h"
#include "layer/bytes.h"
#include "layer/refusal.h"

#define LAYER_MAGIC "TARNIDX1"
#define IMAGE_MAGIC "TARNIMG1"

/* Offsets in a header; what only one of the two files has is 0 in the other one. */
enum {
    AT_MAGIC = 0,
    AT_HEADER = 8, /* u32: INDEX_HEADER */
    AT_COMPRESSION = 12,
    AT_HAS_COPY = 13,
    AT_BLOB_SIZE = 16,
    AT_TAR_SIZE = 24,
    AT_COPY_SIZE = 32,
    AT_COUNT = 40,    /* spans or layers, which follow the header */
    AT_WINDOWS = 48,  /* bytes, behind these */
    AT_METADATA = 56, /* bytes, behind these */
    AT_METADATA_LENGTH = 64,
    AT_IMPLICIT = 72, /* numbers of 8 bytes, behind these */
    AT_DIGEST = 128,  /* algorithm and 64 bytes: of the layer or of the manifest */
    AT_DIFF_ID = 200,
    AT_SHA256 = 480, /* of all bytes before it, and of all behind the header */
    DIGEST_BYTES = 72,

    METADATA_LEVEL = 15,
};

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "an index: out of memory");
}

static bool damaged(struct error *error) {
    return error_set(error, ERROR_INVALID, "the index is damaged, or is none");
}

static void put_digest(uint8_t *at, const struct digest *digest) {
    at[0] = (uint8_t)digest->algorithm;
    memcpy(at + 8, digest->bytes, sizeof digest->bytes);
}

static bool get_digest(const uint8_t *at, struct digest *out) {
    *out = (struct digest){.algorithm = (enum digest_algorithm)at[0]};
    if (at[0] != DIGEST_SHA256 && at[0] != DIGEST_SHA512)
        return false;
    memcpy(out->bytes, at + 8, at[0] == DIGEST_SHA256 ? 32 : 64);
    return true;
}

static bool sum(const uint8_t *bytes, size_t length, uint8_t out[static EVP_MAX_MD_SIZE]) {
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    bool ok = hash && EVP_DigestInit_ex(hash, EVP_sha256(), NULL) &&
              EVP_DigestUpdate(hash, bytes, AT_SHA256) &&
              EVP_DigestUpdate(hash, bytes + INDEX_HEADER, length - INDEX_HEADER) &&
              EVP_DigestFinal_ex(hash, out, NULL);
    EVP_MD_CTX_free(hash);
    return ok;
}

/* ---- writing ---- */

/* Appends the tree's metadata, packed. */
static bool add_metadata(uint64_t header, struct tree *tree, const uint64_t *device_bytes,
                         size_t device_count, struct buffer *out, struct error *error) {
    cleanup_buffer struct buffer image = {0};
    if (!erofs_write(tree, device_bytes, device_count, &image, error))
        return false;
    size_t bound = ZSTD_compressBound(image.length);
    if (!buffer_reserve(out, bound))
        return no_memory(error);
    size_t packed =
        ZSTD_compress(out->bytes + out->length, bound, image.bytes, image.length, METADATA_LEVEL);
    if (ZSTD_isError(packed))
        return no_memory(error);
    out->length += packed;
    bytes_put64((uint8_t *)out->bytes + header + AT_METADATA, packed);
    bytes_put64((uint8_t *)out->bytes + header + AT_METADATA_LENGTH, image.length);
    return true;
}

static bool add_spans(const struct layer_spans *spans, struct buffer *out) {
    for (size_t i = 0; i < spans->count; i++) {
        const struct layer_span *span = &spans->list[i];
        uint8_t at[INDEX_SPAN] = {0};
        bytes_put64(at, span->in);
        bytes_put64(at + 8, span->out);
        bytes_put32(at + 16, span->in_length);
        bytes_put32(at + 20, span->out_length);
        bytes_put32(at + 24, span->window_length);
        at[28] = span->kind;
        at[29] = span->bits;
        memcpy(at + 32, span->sha256, 32);
        buffer_append(out, at, sizeof at);
    }
    return buffer_append(out, spans->windows.bytes ? spans->windows.bytes : "",
                         spans->windows.length);
}

/* Numbers of the directories that a lower layer's metadata may stand for. */
static uint64_t add_implicit(const struct tree *tree, struct buffer *out) {
    uint64_t count = 0;
    for (const struct tree_node *node = tree_next(tree->root, tree->root); node;
         node = tree_next(tree->root, node)) {
        uint8_t nid[8];
        if (!node->is_implicit)
            continue;
        bytes_put64(nid, node->inode->nid);
        buffer_append(out, nid, sizeof nid);
        count++;
    }
    return count;
}

static bool seal(struct buffer *out, size_t header, struct error *error) {
    uint8_t sha256[EVP_MAX_MD_SIZE];
    uint8_t *at = (uint8_t *)out->bytes + header;
    if (out->failed || !sum(at, out->length - header, sha256))
        return no_memory(error);
    if (out->length - header > INDEX_FILE_LIMIT)
        return layer_refuse(error, LAYER_SIZE, "its index has more than %d MiB",
                            INDEX_FILE_LIMIT >> 20);
    memcpy(at + AT_SHA256, sha256, 32);
    return true;
}

static bool begin(struct buffer *out, const char *magic, size_t count, const struct digest *digest,
                  struct error *error) {
    uint8_t header[INDEX_HEADER] = {0};
    memcpy(header + AT_MAGIC, magic, 8);
    bytes_put32(header + AT_HEADER, INDEX_HEADER);
    bytes_put64(header + AT_COUNT, count);
    put_digest(header + AT_DIGEST, digest);
    return buffer_append(out, header, sizeof header) || no_memory(error);
}

bool layer_index_write(const struct layer_facts *facts, const struct layer_spans *spans,
                       struct tree *tree, struct buffer *out, struct error *error) {
    size_t header = out->length;
    if (spans->count > INDEX_SPAN_LIMIT)
        return layer_refuse(error, LAYER_SIZE, "it has more than %d parts", INDEX_SPAN_LIMIT);
    if (!begin(out, LAYER_MAGIC, spans->count, &facts->layer, error))
        return false;
    uint8_t *at = (uint8_t *)out->bytes + header;
    at[AT_COMPRESSION] = (uint8_t)facts->compression;
    at[AT_HAS_COPY] = facts->has_copy;
    bytes_put64(at + AT_BLOB_SIZE, facts->blob_size);
    bytes_put64(at + AT_TAR_SIZE, facts->tar_size);
    bytes_put64(at + AT_COPY_SIZE, facts->copy_size);
    bytes_put64(at + AT_WINDOWS, spans->windows.length);
    put_digest(at + AT_DIFF_ID, &facts->diff_id);
    if (!add_spans(spans, out))
        return no_memory(error);
    if (!add_metadata(header, tree, &facts->tar_size, 1, out, error))
        return false;
    uint64_t implicit = add_implicit(tree, out);
    bytes_put64((uint8_t *)out->bytes + header + AT_IMPLICIT, implicit);
    return seal(out, header, error);
}

static void put_layer(uint8_t at[static INDEX_LAYER], const struct image_layer *layer) {
    memset(at, 0, INDEX_LAYER);
    put_digest(at, &layer->layer);
    put_digest(at + DIGEST_BYTES, &layer->diff_id);
    bytes_put64(at + 2 * DIGEST_BYTES, layer->blob_size);
    bytes_put64(at + 2 * DIGEST_BYTES + 8, layer->tar_size);
}

bool image_index_write(const struct digest *manifest, const struct image_layer *layers,
                       size_t layer_count, struct tree *tree, struct buffer *out,
                       struct error *error) {
    size_t header = out->length;
    if (!begin(out, IMAGE_MAGIC, layer_count, manifest, error))
        return false;
    cleanup_free uint64_t *sizes = calloc(layer_count + 1, sizeof *sizes);
    if (!sizes)
        return no_memory(error);
    for (size_t i = 0; i < layer_count; i++) {
        uint8_t layer[INDEX_LAYER];
        put_layer(layer, &layers[i]);
        buffer_append(out, layer, sizeof layer);
        sizes[i] = layers[i].tar_size;
    }
    if (out->failed)
        return no_memory(error);
    return add_metadata(header, tree, sizes, layer_count, out, error) && seal(out, header, error);
}

/* ---- reading ---- */

/* What follows the header, in its order. */
struct sections {
    uint64_t count, windows, metadata, metadata_length, implicit;
    const uint8_t *list, *windows_at, *metadata_at, *implicit_at;
};

static bool has_header(const uint8_t *bytes, size_t length, const char *magic) {
    return length >= INDEX_HEADER && memcmp(bytes, magic, 8) == 0 &&
           bytes_get32(bytes + AT_HEADER) == INDEX_HEADER;
}

static bool cut(const uint8_t *bytes, size_t length, size_t unit, uint64_t limit,
                struct sections *out) {
    *out = (struct sections){.count = bytes_get64(bytes + AT_COUNT),
                             .windows = bytes_get64(bytes + AT_WINDOWS),
                             .metadata = bytes_get64(bytes + AT_METADATA),
                             .metadata_length = bytes_get64(bytes + AT_METADATA_LENGTH),
                             .implicit = bytes_get64(bytes + AT_IMPLICIT)};
    const uint64_t most = INDEX_FILE_LIMIT;
    if (length > most || out->count > limit || out->windows > most || out->metadata > most ||
        out->metadata_length > EROFS_IMAGE_LIMIT || out->implicit > most / 8 ||
        INDEX_HEADER + out->count * unit + out->windows + out->metadata + out->implicit * 8 !=
            length)
        return false;
    out->list = bytes + INDEX_HEADER;
    out->windows_at = out->list + out->count * unit;
    out->metadata_at = out->windows_at + out->windows;
    out->implicit_at = out->metadata_at + out->metadata;
    return true;
}

static bool is_whole(const uint8_t *bytes, size_t length) {
    uint8_t sha256[EVP_MAX_MD_SIZE];
    return sum(bytes, length, sha256) && memcmp(sha256, bytes + AT_SHA256, 32) == 0;
}

bool layer_index_peek(const void *bytes, size_t length, struct layer_facts *out,
                      struct error *error) {
    const uint8_t *at = bytes;
    *out = (struct layer_facts){0};
    if (!has_header(at, length, LAYER_MAGIC) || at[AT_COMPRESSION] > LAYER_ZSTD ||
        at[AT_HAS_COPY] > 1 || !get_digest(at + AT_DIGEST, &out->layer) ||
        !get_digest(at + AT_DIFF_ID, &out->diff_id))
        return damaged(error);
    out->compression = (enum layer_compression)at[AT_COMPRESSION];
    out->has_copy = at[AT_HAS_COPY];
    out->blob_size = bytes_get64(at + AT_BLOB_SIZE);
    out->tar_size = bytes_get64(at + AT_TAR_SIZE);
    out->copy_size = bytes_get64(at + AT_COPY_SIZE);
    return (out->blob_size <= INT64_MAX && out->tar_size <= INT64_MAX &&
            out->copy_size <= INT64_MAX) ||
           damaged(error);
}

/* Reads the spans: each begins where the one before it ends, and their compressed bytes are in the
 * file that has them. */
static bool read_spans(const struct sections *sections, struct layer_index *out) {
    const struct layer_facts *facts = &out->facts;
    const uint64_t size = facts->has_copy ? facts->copy_size : facts->blob_size;
    uint64_t end = 0, windows = 0;
    out->spans = calloc(sections->count + 1, sizeof *out->spans);
    if (!out->spans)
        return false;
    for (const uint8_t *at = sections->list; out->span_count < sections->count; at += INDEX_SPAN) {
        struct layer_span *span = &out->spans[out->span_count++];
        *span = (struct layer_span){.in = bytes_get64(at),
                                    .out = bytes_get64(at + 8),
                                    .in_length = bytes_get32(at + 16),
                                    .out_length = bytes_get32(at + 20),
                                    .window_at = windows,
                                    .window_length = bytes_get32(at + 24),
                                    .kind = at[28],
                                    .bits = at[29]};
        memcpy(span->sha256, at + 32, 32);
        if (span->out != end || span->out_length == 0 || span->out_length > SPAN_LIMIT ||
            span->in_length > SPAN_LIMIT || span->in > size || span->in_length > size - span->in ||
            span->window_length > sections->windows - windows || span->bits > 7 ||
            span->kind > SPAN_ZSTD)
            return false;
        end += span->out_length;
        windows += span->window_length;
    }
    return end == facts->tar_size && windows == sections->windows;
}

bool layer_index_open(const void *bytes, size_t length, struct layer_index *out,
                      struct error *error) {
    struct sections sections;
    *out = (struct layer_index){0};
    if (!layer_index_peek(bytes, length, &out->facts, error))
        return false;
    if (!cut(bytes, length, INDEX_SPAN, INDEX_SPAN_LIMIT, &sections) || !is_whole(bytes, length) ||
        !read_spans(&sections, out)) {
        layer_index_finish(out);
        return damaged(error);
    }
    out->windows = sections.windows_at;
    out->windows_length = sections.windows;
    out->metadata = sections.metadata_at;
    out->metadata_packed = sections.metadata;
    out->metadata_length = sections.metadata_length;
    out->implicit = sections.implicit_at;
    out->implicit_count = sections.implicit;
    return true;
}

void layer_index_finish(struct layer_index *index) {
    free(index->spans);
    *index = (struct layer_index){0};
}

const struct layer_span *layer_index_span(const struct layer_index *index, uint64_t offset) {
    size_t low = 0, high = index->span_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (index->spans[middle].out + index->spans[middle].out_length <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low < index->span_count ? &index->spans[low] : NULL;
}

static bool unpack(const uint8_t *packed, uint64_t packed_length, uint64_t length,
                   struct buffer *out, struct error *error) {
    if (!buffer_reserve(out, length))
        return no_memory(error);
    if (ZSTD_decompress(out->bytes + out->length, length, packed, packed_length) != length)
        return damaged(error);
    out->length += length;
    out->bytes[out->length] = '\0';
    return true;
}

/* Whether the directory is one of those that no entry makes; they are in the order of the tree. */
static void mark_implicit(const struct layer_index *index, struct tree *tree) {
    uint64_t next = 0;
    for (struct tree_node *node = tree_next(tree->root, tree->root);
         node && next < index->implicit_count; node = tree_next(tree->root, node))
        if (bytes_get64(index->implicit + next * 8) == node->inode->nid &&
            tree_is_directory(node)) {
            node->is_implicit = true;
            next++;
        }
}

struct tree *layer_index_tree(const struct layer_index *index, struct error *error) {
    cleanup_buffer struct buffer image = {0};
    if (!unpack(index->metadata, index->metadata_packed, index->metadata_length, &image, error))
        return NULL;
    struct tree *tree = erofs_read(image.bytes, image.length, &index->facts.tar_size, 1, error);
    if (tree)
        mark_implicit(index, tree);
    return tree;
}

/* ---- images ---- */

static bool read_layers(const struct sections *sections, struct image_index *out) {
    out->layers = calloc(sections->count + 1, sizeof *out->layers);
    if (!out->layers)
        return false;
    for (const uint8_t *at = sections->list; out->layer_count < sections->count;
         at += INDEX_LAYER) {
        struct image_layer *layer = &out->layers[out->layer_count++];
        layer->blob_size = bytes_get64(at + 2 * DIGEST_BYTES);
        layer->tar_size = bytes_get64(at + 2 * DIGEST_BYTES + 8);
        if (!get_digest(at, &layer->layer) || !get_digest(at + DIGEST_BYTES, &layer->diff_id) ||
            layer->blob_size > INT64_MAX || layer->tar_size > INT64_MAX)
            return false;
    }
    return true;
}

bool image_index_open(const void *bytes, size_t length, struct image_index *out,
                      struct error *error) {
    struct sections sections;
    *out = (struct image_index){0};
    if (!has_header(bytes, length, IMAGE_MAGIC) ||
        !get_digest((const uint8_t *)bytes + AT_DIGEST, &out->manifest) ||
        !cut(bytes, length, INDEX_LAYER, EROFS_DEVICE_LIMIT, &sections) ||
        !is_whole(bytes, length) || !read_layers(&sections, out)) {
        image_index_finish(out);
        return damaged(error);
    }
    out->metadata = sections.metadata_at;
    out->metadata_packed = sections.metadata;
    out->metadata_length = sections.metadata_length;
    return true;
}

void image_index_finish(struct image_index *index) {
    free(index->layers);
    *index = (struct image_index){0};
}

bool image_index_metadata(const struct image_index *index, struct buffer *out,
                          struct error *error) {
    return unpack(index->metadata, index->metadata_packed, index->metadata_length, out, error);
}

struct tree *image_index_tree(const struct image_index *index, struct error *error) {
    cleanup_buffer struct buffer image = {0};
    cleanup_free uint64_t *sizes = calloc(index->layer_count + 1, sizeof *sizes);
    if (!sizes) {
        no_memory(error);
        return NULL;
    }
    for (size_t i = 0; i < index->layer_count; i++)
        sizes[i] = index->layers[i].tar_size;
    if (!image_index_metadata(index, &image, error))
        return NULL;
    return erofs_read(image.bytes, image.length, sizes, index->layer_count, error);
}
