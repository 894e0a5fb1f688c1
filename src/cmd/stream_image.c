/* Opens images, finds files in them, and reads their bytes span by span. */
#include "cmd/stream_image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/cleanup.h"
#include "cmd/command.h"
#include "cmd/image_command.h"
#include "copy/platform.h"
#include "oci/manifest.h"

enum {
    ZEROS = 64 << 10,
    PENDING_MS = 120000, /* that an index may still take */
    SILENCE_MS = 30000,
};

struct stream_layer_reader {
    bool is_open;
    struct buffer bytes; /* of the layer's index */
    struct layer_index index;
    const struct layer_span *held; /* the span in `unpacked`; NULL: none */
    struct buffer packed, unpacked;
};

int stream_image_fail(const struct arguments *arguments, const char *path,
                      const struct error *error) {
    fprintf(stderr, "tarn %s: %s: %s%s%s\n", arguments->command->name, arguments->operands[0],
            path ? path : "", path ? ": " : "", error->text);
    return 1;
}

/* ---- opening ---- */

static struct stream_asking asking(const struct stream_image *image) {
    return (struct stream_asking){.source = &image->source,
                                  .image = &image->name,
                                  .silence_ms = SILENCE_MS,
                                  .pending_ms = PENDING_MS};
}

static bool find_manifest(struct stream_image *image, const struct copy_platform *platform,
                          struct digest *digest, struct error *error) {
    cleanup_buffer struct buffer bytes = {0};
    char text[DIGEST_STRING_SIZE];
    const struct reference *reference = &image->name.reference;
    const struct stream_asking asks = asking(image);
    struct manifest manifest = {0};
    const char *name =
        reference->is_digest ? digest_format(&reference->digest, text) : reference->tag;
    if (!stream_source_manifest(&asks, name, &bytes, digest, error) ||
        !manifest_parse(bytes.bytes, bytes.length, &manifest, error))
        return false;
    const struct descriptor *one =
        manifest.is_index ? copy_platform_find(&manifest, platform, error) : NULL;
    bool ok = one || !manifest.is_index;
    if (one)
        *digest = one->digest;
    manifest_finish(&manifest);
    return ok;
}

static bool open_index(struct stream_image *image, const struct copy_platform *platform,
                       struct error *error) {
    const struct stream_asking asks = asking(image);
    struct digest digest;
    if (!find_manifest(image, platform, &digest, error) ||
        !stream_source_index(&asks, "image", &digest, &image->bytes, error) ||
        !image_index_open(image->bytes.bytes, image->bytes.length, &image->index, error))
        return false;
    if (!digest_equal(&image->index.manifest, &digest))
        return error_set(error, ERROR_CORRUPT, "the index is of another image");
    image->tree = image_index_tree(&image->index, error);
    image->layers = calloc(image->index.layer_count + 1, sizeof *image->layers);
    return image->tree && (image->layers || error_set(error, ERROR_MEMORY, "out of memory"));
}

int stream_image_open(struct stream_image *image, const struct arguments *arguments) {
    struct error error = {0};
    struct copy_platform platform;
    int status = image_command_platform(arguments, &platform);
    if (status != 0)
        return status;
    image->client = client_new();
    if (!stream_source_parse_name(arguments->operands[0], &image->name, &error) ||
        !stream_source_open(&image->source, arguments_string(arguments, "from"), image->client,
                            &error))
        return error.kind == ERROR_INVALID ? command_refuse(arguments->command, "%s", error.text)
                                           : stream_image_fail(arguments, NULL, &error);
    return open_index(image, &platform, &error) ? 0 : stream_image_fail(arguments, NULL, &error);
}

void stream_image_close(struct stream_image *image) {
    for (size_t i = 0; image->layers && i < image->index.layer_count; i++) {
        struct stream_layer_reader *layer = &image->layers[i];
        layer_index_finish(&layer->index);
        buffer_finish(&layer->bytes);
        buffer_finish(&layer->packed);
        buffer_finish(&layer->unpacked);
    }
    free(image->layers);
    tree_free(image->tree);
    image_index_finish(&image->index);
    buffer_finish(&image->bytes);
    stream_source_close(&image->source);
    client_free(image->client);
    *image = (struct stream_image){0};
}

/* ---- paths ---- */

void stream_image_path(const struct tree_node *node, struct buffer *out) {
    if (!node->parent) {
        if (out->length == 0)
            buffer_append_string(out, "/");
        return;
    }
    if (node->parent->parent)
        stream_image_path(node->parent, out);
    buffer_append_string(out, "/");
    buffer_append(out, node->name, node->name_length);
}

static struct tree_node *missing(struct error *error, const char *what) {
    error_set(error, ERROR_NOT_FOUND, "%s", what);
    return NULL;
}

/* Walks along the path from `node`. */
static struct tree_node *walk(struct stream_image *image, struct tree_node *node, struct text path,
                              bool follow, struct error *error) {
    if (text_starts(path, "/"))
        node = image->tree->root;
    while (path.at) {
        struct text part = text_cut(path, '/', &path);
        if (part.length == 0 || text_is(part, "."))
            continue;
        if (!tree_is_directory(node))
            return missing(error, "not a directory");
        if (text_is(part, "..")) {
            node = node->parent ? node->parent : node;
            continue;
        }
        struct tree_node *parent = node;
        node = tree_find(image->tree, parent, part);
        if (!node)
            return missing(error, "no such file or directory");
        if (!S_ISLNK(node->inode->mode) || (!path.at && !follow))
            continue;
        if (image->passed_count == STREAM_LINKS_MOST)
            return missing(error, "too many symbolic links");
        image->passed[image->passed_count++] = node;
        node = walk(image, parent, text_of(node->inode->target), true, error);
        if (!node)
            return NULL;
    }
    return node;
}

struct tree_node *stream_image_find(struct stream_image *image, const char *path, bool follow,
                                    struct error *error) {
    image->passed_count = 0;
    return walk(image, image->tree->root, text_of(path), follow, error);
}

/* ---- bytes ---- */

static bool open_layer(struct stream_image *image, size_t at, struct error *error) {
    struct stream_layer_reader *layer = &image->layers[at];
    const struct image_layer *facts = &image->index.layers[at];
    const struct stream_asking asks = asking(image);
    if (layer->is_open)
        return true;
    if (!stream_source_index(&asks, "layer", &facts->layer, &layer->bytes, error) ||
        !layer_index_open(layer->bytes.bytes, layer->bytes.length, &layer->index, error))
        return false;
    layer->is_open = digest_equal(&layer->index.facts.layer, &facts->layer) &&
                     digest_equal(&layer->index.facts.diff_id, &facts->diff_id);
    return layer->is_open || error_set(error, ERROR_CORRUPT, "the index is of another layer");
}

/* Fetches, checks and unpacks the span that has the byte at `where`. */
static bool load(struct stream_image *image, size_t at, uint64_t where, struct error *error) {
    struct stream_layer_reader *layer = &image->layers[at];
    if (!open_layer(image, at, error))
        return false;
    const struct layer_span *span = layer_index_span(&layer->index, where);
    if (!span)
        return error_set(error, ERROR_CORRUPT, "the index does not have all of the file");
    if (layer->held == span)
        return true;
    layer->held = NULL;
    layer->unpacked.length = 0;
    if (!buffer_reserve(&layer->unpacked, span->out_length))
        return error_set(error, ERROR_MEMORY, "out of memory");
    const struct stream_asking asks = asking(image);
    const struct stream_range range = {&layer->index.facts.layer, layer->index.facts.has_copy,
                                       span->in, span->in_length};
    if (!stream_source_range(&asks, &range, &layer->packed, error) ||
        !span_unpack(span, layer->packed.bytes, layer->index.windows + span->window_at,
                     layer->unpacked.bytes, error))
        return false;
    layer->held = span;
    return true;
}

typedef bool sink_function(void *context, const void *bytes, size_t length, struct error *error);

static bool write_zeros(uint64_t length, sink_function *sink, void *context, struct error *error) {
    static const char zeros[ZEROS];
    for (; length; length -= length < ZEROS ? length : ZEROS)
        if (!sink(context, zeros, length < ZEROS ? (size_t)length : ZEROS, error))
            return false;
    return true;
}

static bool read_extent(struct stream_image *image, size_t at, struct tree_extent extent,
                        sink_function *sink, void *context, struct error *error) {
    while (extent.length) {
        if (!load(image, at, extent.where, error))
            return false;
        const struct stream_layer_reader *layer = &image->layers[at];
        uint64_t skip = extent.where - layer->held->out, left = layer->held->out_length - skip;
        uint64_t part = extent.length < left ? extent.length : left;
        if (!sink(context, layer->unpacked.bytes + skip, (size_t)part, error))
            return false;
        extent.where += part;
        extent.length -= part;
    }
    return true;
}

bool stream_image_read(struct stream_image *image, const struct tree_inode *inode,
                       sink_function *sink, void *context, struct error *error) {
    uint64_t end = 0;
    for (size_t i = 0; i < inode->extent_count; i++) {
        const struct tree_extent *extent = &inode->extents[i];
        if (!write_zeros(extent->at - end, sink, context, error) ||
            !read_extent(image, inode->device - 1, *extent, sink, context, error))
            return false;
        end = extent->at + extent->length;
    }
    return write_zeros(inode->size - end, sink, context, error);
}
