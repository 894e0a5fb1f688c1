/* One pass over a layer: digests, spans, tree, and perhaps a copy. */
#include "layer/build.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include "layer/refusal.h"
#include "layer/tar.h"
#include "layer/unpack.h"

enum { COPY_LEVEL = 3, HEAD_BYTES = 4 };

struct build {
    struct build_recipe recipe;
    struct digest_hash *blob_hash, *tar_hash;
    struct layer_spans spans;
    struct tree *tree;
    struct tar_reader *reader;
    struct scan *scan; /* NULL: the first bytes are not here yet */
    uint8_t head[HEAD_BYTES];
    size_t head_length;
    enum layer_compression compression;
    uint64_t blob_size;
    /* Of the copy: */
    ZSTD_CCtx *packer;
    uint8_t *frame, *packed; /* SPAN_BYTES that are not packed yet; and packed */
    size_t filled;
    uint64_t copied;            /* bytes of the copy */
    struct layer_spans ignored; /* those of the blob itself */
};

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "index a layer: out of memory");
}

struct build *build_new(const struct build_recipe *recipe) {
    struct build *build = calloc(1, sizeof *build);
    if (!build)
        return NULL;
    build->recipe = *recipe;
    build->blob_hash = digest_hash_new(recipe->layer.algorithm);
    build->tar_hash = digest_hash_new(recipe->diff_id.algorithm);
    build->tree = tree_new(TREE_MEMORY);
    build->reader = build->tree ? tar_reader_new(unpack_entry, build->tree) : NULL;
    bool ok = build->blob_hash && build->tar_hash && build->reader;
    if (ok && recipe->copy) {
        build->packer = ZSTD_createCCtx();
        build->frame = malloc(SPAN_BYTES);
        build->packed = malloc(ZSTD_compressBound(SPAN_BYTES));
        ok = build->packer && build->frame && build->packed;
    }
    if (ok)
        return build;
    build_free(build);
    return NULL;
}

void build_free(struct build *build) {
    if (!build)
        return;
    scan_free(build->scan);
    tar_reader_free(build->reader);
    tree_free(build->tree);
    digest_hash_free(build->blob_hash);
    digest_hash_free(build->tar_hash);
    layer_spans_finish(&build->spans);
    layer_spans_finish(&build->ignored);
    ZSTD_freeCCtx(build->packer);
    free(build->frame);
    free(build->packed);
    free(build);
}

/* ---- the copy ---- */

static bool add_span(struct build *build, const struct layer_span *span, struct error *error) {
    struct layer_spans *spans = &build->spans;
    if (spans->count == spans->capacity) {
        size_t capacity = spans->capacity ? spans->capacity * 2 : 256;
        void *list = realloc(spans->list, capacity * sizeof *spans->list);
        if (!list)
            return no_memory(error);
        spans->list = list;
        spans->capacity = capacity;
    }
    spans->list[spans->count++] = *span;
    return true;
}

static bool end_frame(struct build *build, struct error *error) {
    struct digest digest;
    if (build->filled == 0)
        return true;
    size_t length = ZSTD_compressCCtx(build->packer, build->packed, ZSTD_compressBound(SPAN_BYTES),
                                      build->frame, build->filled, COPY_LEVEL);
    if (ZSTD_isError(length) || !digest_of(DIGEST_SHA256, build->packed, length, &digest))
        return no_memory(error);
    const struct layer_span *last =
        build->spans.count ? &build->spans.list[build->spans.count - 1] : NULL;
    struct layer_span span = {.in = build->copied,
                              .out = last ? last->out + last->out_length : 0,
                              .in_length = (uint32_t)length,
                              .out_length = (uint32_t)build->filled,
                              .kind = SPAN_ZSTD};
    memcpy(span.sha256, digest.bytes, sizeof span.sha256);
    build->copied += length;
    build->filled = 0;
    return add_span(build, &span, error) &&
           build->recipe.copy(build->recipe.context, build->packed, length, error);
}

static bool copy(struct build *build, const uint8_t *bytes, size_t length, struct error *error) {
    while (length) {
        size_t part = SPAN_BYTES - build->filled < length ? SPAN_BYTES - build->filled : length;
        memcpy(build->frame + build->filled, bytes, part);
        build->filled += part;
        bytes += part;
        length -= part;
        if (build->filled == SPAN_BYTES && !end_frame(build, error))
            return false;
    }
    return true;
}

/* ---- the pass ---- */

static bool take_archive(void *context, const void *bytes, size_t length, struct error *error) {
    struct build *build = context;
    digest_hash_update(build->tar_hash, bytes, length);
    return tar_reader_feed(build->reader, bytes, length, error) &&
           (!build->recipe.copy || copy(build, bytes, length, error));
}

/* Begins to unpack, when the first bytes say how, or when there are no more. */
static bool begin(struct build *build, struct error *error) {
    build->compression = build->recipe.is_plain
                             ? LAYER_PLAIN
                             : layer_compression_of(build->head, build->head_length);
    build->scan = scan_new(build->compression, build->recipe.copy ? &build->ignored : &build->spans,
                           take_archive, build);
    if (!build->scan)
        return no_memory(error);
    if (build->recipe.copy)
        scan_allow_large_frames(build->scan);
    return scan_feed(build->scan, build->head, build->head_length, error);
}

bool build_feed(struct build *build, const void *bytes, size_t length, struct error *error) {
    const uint8_t *at = bytes;
    digest_hash_update(build->blob_hash, bytes, length);
    build->blob_size += length;
    if (!build->scan) {
        size_t part = HEAD_BYTES - build->head_length;
        if (part > length)
            part = length;
        memcpy(build->head + build->head_length, at, part);
        build->head_length += part;
        at += part;
        length -= part;
        if (build->head_length < HEAD_BYTES)
            return true;
        if (!begin(build, error))
            return false;
    }
    return scan_feed(build->scan, at, length, error);
}

static bool check_digests(struct build *build, struct error *error) {
    struct digest blob, diff_id;
    char wanted[DIGEST_STRING_SIZE], found[DIGEST_STRING_SIZE];
    digest_hash_finish(build->blob_hash, &blob);
    digest_hash_finish(build->tar_hash, &diff_id);
    if (!digest_equal(&blob, &build->recipe.layer))
        return error_set(error, ERROR_CORRUPT, "the bytes of %s are %s",
                         digest_format(&build->recipe.layer, wanted), digest_format(&blob, found));
    if (!digest_equal(&diff_id, &build->recipe.diff_id))
        return layer_refuse(
            error, LAYER_DIFF_ID, "it unpacks to %s, but the image's configuration says %s",
            digest_format(&diff_id, found), digest_format(&build->recipe.diff_id, wanted));
    return true;
}

bool build_finish(struct build *build, struct buffer *out, struct error *error) {
    if (!build->scan && !begin(build, error))
        return false;
    if (!scan_finish(build->scan, error) || !tar_reader_finish(build->reader, error) ||
        (build->recipe.copy && !end_frame(build, error)) || !check_digests(build, error))
        return false;
    const struct layer_facts facts = {.layer = build->recipe.layer,
                                      .diff_id = build->recipe.diff_id,
                                      .compression = build->compression,
                                      .has_copy = build->recipe.copy != NULL,
                                      .blob_size = build->blob_size,
                                      .tar_size = scan_wrote(build->scan),
                                      .copy_size = build->copied};
    return layer_index_write(&facts, &build->spans, build->tree, out, error);
}

bool build_needs_copy(const struct build *build) {
    return build->scan && scan_needs_copy(build->scan);
}
