/* Reads what an image consists of, and what was refused of it. */
#include "cache/stream_parts.h"

#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "layer/index.h"
#include "layer/media_type.h"
#include "oci/manifest.h"
#include "store/aside.h"
#include "store/blobs.h"

enum {
    CONFIG_LIMIT = 8 << 20,
    REFUSED_LIMIT = 16 << 10, /* bytes of all refusals of one layer */
};

void stream_parts_finish(struct stream_parts *parts) {
    free(parts->layers);
    *parts = (struct stream_parts){0};
}

/* ---- media types ---- */

static bool is_config_type(const char *type) {
    return strcmp(type, "application/vnd.oci.image.config.v1+json") == 0 ||
           strcmp(type, "application/vnd.docker.container.image.v1+json") == 0;
}

/* ---- manifest and configuration ---- */

static void judge(struct stream_parts *parts, enum stream_state state, enum layer_refusal why) {
    parts->verdict = (struct stream_verdict){state, why};
}

static void lack(struct stream_parts *parts, const struct digest *digest) {
    judge(parts, STREAM_ABSENT, LAYER_FINE);
    parts->missing = *digest;
}

/* Takes the layers of the manifest. False: ERROR_MEMORY. */
static bool take_layers(const struct manifest *manifest, struct stream_parts *parts,
                        struct error *error) {
    parts->layers = calloc(manifest->count + 1, sizeof *parts->layers);
    if (!parts->layers)
        return error_set(error, ERROR_MEMORY, "out of memory");
    for (size_t i = 0; i < manifest->count; i++) {
        const struct descriptor *part = &manifest->descriptors[i];
        struct stream_layer *layer = &parts->layers[parts->count];
        if (part->role == DESCRIPTOR_CONFIG && !is_config_type(part->media_type))
            judge(parts, STREAM_REFUSED, LAYER_MEDIA_TYPE);
        if (part->role != DESCRIPTOR_LAYER)
            continue;
        layer->digest = part->digest;
        layer->size = part->size;
        if (!layer_media_type_parse(part->media_type, &layer->is_plain))
            judge(parts, STREAM_REFUSED, LAYER_MEDIA_TYPE);
        parts->count++;
    }
    return true;
}

/* Takes the diff IDs of the configuration, one for each layer. */
static void take_diff_ids(struct text config, struct stream_parts *parts) {
    cleanup_json json_t *root = bounded_json_load(config.at, config.length, NULL);
    const json_t *list = json_object_get(json_object_get(root, "rootfs"), "diff_ids");
    size_t count = json_array_size(list);
    /* The manifest's reader leaves out layers that lie elsewhere. */
    if (count != parts->count)
        judge(parts, STREAM_REFUSED, count > parts->count ? LAYER_MEDIA_TYPE : LAYER_DIFF_ID);
    for (size_t i = 0; i < count && i < parts->count; i++) {
        const char *text = json_string_value(json_array_get(list, i));
        if (!text || !digest_parse(text_of(text), &parts->layers[i].diff_id))
            judge(parts, STREAM_REFUSED, LAYER_DIFF_ID);
    }
}

static const struct descriptor *config_of(const struct manifest *manifest) {
    for (size_t i = 0; i < manifest->count; i++)
        if (manifest->descriptors[i].role == DESCRIPTOR_CONFIG)
            return &manifest->descriptors[i];
    return NULL;
}

static bool has_large_layer(const struct stream_parts *parts, uint64_t min_layer) {
    for (size_t i = 0; i < parts->count; i++)
        if (parts->layers[i].size >= min_layer)
            return true;
    return false;
}

/* The part that is not stored, or NULL. */
static const struct digest *find_missing(struct store *store, const struct stream_parts *parts) {
    for (size_t i = 0; i < parts->count; i++)
        if (!store_blob_has(store, &parts->layers[i].digest, NULL))
            return &parts->layers[i].digest;
    return NULL;
}

static bool read_manifest(struct store *store, const struct streams_settings *settings,
                          const struct manifest *manifest, struct stream_parts *out,
                          struct error *error) {
    cleanup_buffer struct buffer config = {0};
    const struct descriptor *descriptor = config_of(manifest);
    judge(out, STREAM_PENDING, LAYER_FINE);
    if (!descriptor)
        judge(out, STREAM_REFUSED, LAYER_MEDIA_TYPE);
    if (!take_layers(manifest, out, error))
        return false;
    if (out->verdict.state == STREAM_REFUSED)
        return true;
    if (!has_large_layer(out, settings->min_layer)) {
        judge(out, STREAM_REFUSED, LAYER_SMALL);
        return true;
    }
    struct error why = {0};
    if (!store_blob_peek(store, &descriptor->digest, CONFIG_LIMIT, &config, &why)) {
        lack(out, &descriptor->digest);
        if (why.kind == ERROR_INVALID) /* it is here, and too large */
            judge(out, STREAM_REFUSED, LAYER_SIZE);
        return true;
    }
    take_diff_ids((struct text){config.bytes ? config.bytes : "", config.length}, out);
    const struct digest *missing = find_missing(store, out);
    if (out->verdict.state == STREAM_PENDING && missing)
        lack(out, missing);
    return true;
}

bool stream_parts_read(struct store *store, const struct streams_settings *settings,
                       const struct digest *digest, struct stream_parts *out, struct error *error) {
    cleanup_buffer struct buffer bytes = {0};
    struct manifest manifest = {0};
    *out = (struct stream_parts){0};
    judge(out, STREAM_ABSENT, settings->enabled ? LAYER_FINE : LAYER_OFF);
    if (!settings->enabled)
        return true;
    if (!store_blob_peek(store, digest, MANIFEST_SIZE_LIMIT, &bytes, NULL)) {
        out->missing = *digest;
        return true;
    }
    if (!manifest_parse(bytes.bytes ? bytes.bytes : "", bytes.length, &manifest, NULL))
        return true;
    bool ok = manifest.is_index || read_manifest(store, settings, &manifest, out, error);
    manifest_finish(&manifest);
    return ok;
}

/* ---- refusals ---- */

/* Reads the refusals: lines of "DIFF_ID WORD\n", where the diff ID may be "-". */
static void read_refusals(struct store *store, const struct digest *digest, struct buffer *out) {
    store_aside_read(store, digest, ASIDE_REFUSED, REFUSED_LIMIT, out, NULL);
}

static const char *format_diff_id(const struct digest *diff_id,
                                  char out[static DIGEST_STRING_SIZE]) {
    return diff_id->algorithm ? digest_format(diff_id, out) : "-";
}

/* The refusal for this name of a diff ID; NULL: the first one of any. */
static enum layer_refusal find_refusal(struct text lines, const char *diff_id) {
    while (lines.at) {
        struct text word, line = text_cut(lines, '\n', &lines);
        struct text name = text_cut(line, ' ', &word);
        enum layer_refusal refusal;
        if ((!diff_id || text_is(name, diff_id)) && layer_refusal_parse(word, &refusal))
            return refusal;
    }
    return LAYER_FINE;
}

enum layer_refusal stream_refusal(struct store *store, const struct digest *digest,
                                  const struct digest *diff_id) {
    cleanup_buffer struct buffer lines = {0};
    char text[DIGEST_STRING_SIZE];
    read_refusals(store, digest, &lines);
    return find_refusal((struct text){lines.bytes, lines.length}, format_diff_id(diff_id, text));
}

enum layer_refusal stream_refusal_any(struct store *store, const struct digest *digest) {
    cleanup_buffer struct buffer lines = {0};
    read_refusals(store, digest, &lines);
    return find_refusal((struct text){lines.bytes, lines.length}, NULL);
}

bool stream_refuse(struct store *store, const struct digest *digest, const struct digest *diff_id,
                   enum layer_refusal why, struct error *error) {
    cleanup_buffer struct buffer lines = {0};
    char text[DIGEST_STRING_SIZE];
    /* The newest one comes first; when there are too many, the oldest ones are forgotten. */
    buffer_printf(&lines, "%s %s\n", format_diff_id(diff_id, text), layer_refusal_word(why));
    read_refusals(store, digest, &lines);
    if (lines.failed)
        return error_set(error, ERROR_MEMORY, "out of memory");
    while (lines.length >= REFUSED_LIMIT) {
        const char *last = memrchr(lines.bytes, '\n', lines.length - 1);
        lines.length = last ? (size_t)(last - lines.bytes) + 1 : 0;
    }
    return store_aside_put(store, digest, ASIDE_REFUSED, lines.bytes, lines.length, error);
}

void stream_forget_errors(struct store *store, const struct digest *digest) {
    if (stream_refusal_any(store, digest) == LAYER_ERROR)
        store_aside_delete(store, digest, ASIDE_REFUSED);
}

bool stream_has_index(struct store *store, const struct digest *layer,
                      const struct digest *diff_id) {
    uint8_t head[INDEX_HEADER];
    uint64_t size;
    struct layer_facts facts;
    cleanup_close int fd = store_aside_open(store, layer, ASIDE_INDEX, &size, NULL);
    return fd >= 0 && file_read_at(fd, head, sizeof head, 0) == (ssize_t)sizeof head &&
           layer_index_peek(head, sizeof head, &facts, NULL) && digest_equal(&facts.layer, layer) &&
           digest_equal(&facts.diff_id, diff_id);
}
