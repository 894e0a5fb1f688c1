/* The manifest of an image that gets more layers. */
#include <string.h>
#include "base/cleanup.h"
#include "base/json.h"
#include "copy/append_config.h"
#include "oci/manifest.h"

#define DOCKER_LAYER "application/vnd.docker.image.rootfs.diff.tar"
#define OCI_LAYER    "application/vnd.oci.image.layer.v1.tar"

/* ---- media types ---- */

/* Docker's types of layers, and what OCI calls the same. */
static const char *const types[][2] = {
    {DOCKER_LAYER, OCI_LAYER},
    {DOCKER_LAYER ".gzip", OCI_LAYER "+gzip"},
    {DOCKER_LAYER ".zstd", OCI_LAYER "+zstd"},
    {"application/vnd.docker.image.rootfs.foreign.diff.tar",
     "application/vnd.oci.image.layer.nondistributable.v1.tar"},
    {"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
     "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"},
};

static const char *layer_type(bool is_docker, enum compress_kind compression) {
    static const size_t rows[] = {[COMPRESS_NONE] = 0, [COMPRESS_GZIP] = 1, [COMPRESS_ZSTD] = 2};
    return types[rows[compression]][is_docker ? 0 : 1];
}

/* A Docker's image has no zstd layers, so with one it becomes OCI's, and so do its layers. */
static bool make_oci(json_t *layers) {
    for (size_t i = 0; i < json_array_size(layers); i++) {
        json_t *layer = json_array_get(layers, i);
        const char *is = json_string_value(json_object_get(layer, "mediaType"));
        for (size_t row = 0; row < sizeof types / sizeof *types; row++)
            if (is && strcmp(is, types[row][0]) == 0) {
                if (json_object_set_new(layer, "mediaType", json_string(types[row][1])) != 0)
                    return false;
                break;
            }
    }
    return true;
}

/* ---- the base ---- */

static bool is_foreign(const json_t *layer) {
    const char *type = json_member_text(layer, "mediaType");
    return json_array_size(json_object_get(layer, "urls")) > 0 &&
           (strstr(type, ".foreign.") || strstr(type, ".nondistributable."));
}

bool append_base_layer(const json_t *layer, struct digest *digest, uint64_t *size) {
    const json_t *number = json_object_get(layer, "size");
    *size = (uint64_t)json_integer_value(number);
    return digest_parse(text_of(json_member_text(layer, "digest")), digest) && !is_foreign(layer);
}

static bool check_layers(const json_t *layers, struct error *error) {
    if (json_array_size(layers) > MANIFEST_DESCRIPTOR_LIMIT)
        return error_set(error, ERROR_INVALID, "the base has too many layers");
    for (size_t i = 0; i < json_array_size(layers); i++) {
        const json_t *layer = json_array_get(layers, i);
        const json_t *size = json_object_get(layer, "size");
        struct digest digest;
        if (!json_is_integer(size) || json_integer_value(size) < 0)
            return error_set(error, ERROR_INVALID, "the base's layer %zu has no size", i + 1);
        if (!digest_parse(text_of(json_member_text(layer, "digest")), &digest))
            return error_set(error, ERROR_UNSUPPORTED,
                             "the base's layer %zu has no digest by sha256 or sha512", i + 1);
    }
    return true;
}

static bool check_manifest(const json_t *json, struct error *error) {
    const char *config = json_member_text(json_object_get(json, "config"), "mediaType");
    if (!json_is_object(json) || json_object_get(json, "manifests"))
        return error_set(error, ERROR_INVALID, "the base is no image");
    if (json_integer_value(json_object_get(json, "schemaVersion")) != 2)
        return error_set(error, ERROR_UNSUPPORTED,
                         "the base has a manifest of an old kind (schema 1); push it again with a "
                         "newer Docker first");
    if (strcmp(config, APPEND_CONFIG_OCI) != 0 && strcmp(config, APPEND_CONFIG_DOCKER) != 0)
        return error_set(error, ERROR_UNSUPPORTED,
                         "the base is no container image: its config is a \"%s\"", config);
    if (!json_is_array(json_object_get(json, "layers")))
        return error_set(error, ERROR_INVALID, "the base's manifest has no list of layers");
    return check_layers(json_object_get(json, "layers"), error);
}

bool append_base_read(const struct copy_manifest *manifest, struct append_base *out,
                      struct error *error) {
    *out = (struct append_base){0};
    cleanup_json json_t *json =
        bounded_json_load(manifest->bytes.bytes, manifest->bytes.length, error);
    if (!json)
        return error_wrap(error, "the base's manifest");
    if (!check_manifest(json, error))
        return false;
    out->is_docker = strcmp(manifest->media_type, MEDIA_DOCKER_MANIFEST) == 0;
    out->layers = json_incref(json_object_get(json, "layers"));
    json_t *annotations = json_object_get(json, "annotations");
    if (json_is_object(annotations))
        out->annotations = json_incref(annotations);
    return true;
}

void append_base_finish(struct append_base *base) {
    json_decref(base->layers);
    json_decref(base->annotations);
    *base = (struct append_base){0};
}

/* ---- the new one ---- */

static json_t *describe(const char *type, const struct digest *digest, uint64_t size) {
    char text[DIGEST_STRING_SIZE];
    return json_pack("{s:s, s:I, s:s}", "mediaType", type, "size", (json_int_t)size, "digest",
                     digest_format(digest, text));
}

/* The base's layers and the new ones. NULL: out of memory. */
static json_t *join_layers(const struct append_base *base, bool is_docker,
                           const struct append_layer *layers, size_t count,
                           enum compress_kind compression) {
    json_t *all = base->layers ? json_deep_copy(base->layers) : json_array();
    bool ok = all && (is_docker || make_oci(all));
    for (size_t i = 0; ok && i < count; i++) {
        const struct compress_result *result = &layers[i].result;
        ok = json_array_append_new(all, describe(layer_type(is_docker, compression),
                                                 &result->digest, result->size)) == 0;
    }
    if (ok)
        return all;
    json_decref(all);
    return NULL;
}

bool append_manifest(const struct append_base *base, const struct append_layer *layers,
                     size_t layer_count, enum compress_kind compression,
                     const struct digest *config, uint64_t config_size, struct buffer *out,
                     const char **media_type) {
    const bool is_docker = base->is_docker && compression != COMPRESS_ZSTD;
    *media_type = is_docker ? MEDIA_DOCKER_MANIFEST : MEDIA_OCI_MANIFEST;
    json_t *all = join_layers(base, is_docker, layers, layer_count, compression);
    json_t *described =
        describe(is_docker ? APPEND_CONFIG_DOCKER : APPEND_CONFIG_OCI, config, config_size);
    cleanup_json json_t *manifest =
        json_pack("{s:i, s:s, s:o, s:o}", "schemaVersion", 2, "mediaType", *media_type, "config",
                  described, "layers", all);
    if (!manifest)
        return false;
    if (base->annotations && json_object_set(manifest, "annotations", base->annotations) != 0)
        return false;
    return bounded_json_dump(manifest, JSON_COMPACT, out);
}
