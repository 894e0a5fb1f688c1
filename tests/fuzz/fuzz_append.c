/* The manifest and the config of a base, to which layers are added. The input's first line is the
 * manifest, the rest is the config. */
#include <string.h>
#include "base/cleanup.h"
#include "base/json.h"
#include "copy/append_config.h"
#include "fuzz.h"
#include "oci/manifest.h"

static void change(json_t *config, size_t layer_count) {
    static const char *const pairs[] = {"PATH=/bin", "A="};
    const struct append_changes changes = {.env = pairs,
                                           .env_count = 2,
                                           .labels = pairs,
                                           .label_count = 2,
                                           .entrypoint = "[\"a\"]",
                                           .cmd = "b",
                                           .user = "u",
                                           .workdir = "/"};
    const struct append_layer layer = {.history = (char *)"h",
                                       .result = {.diff_id = {.algorithm = DIGEST_SHA256}}};
    cleanup_buffer struct buffer bytes = {0};
    MUST(append_config_change(config, &changes, &layer, 1, 0));
    MUST(bounded_json_dump(config, JSON_COMPACT, &bytes));
    /* What was made can be a base again. */
    cleanup_json json_t *again = append_config_read(&bytes, layer_count + 1, NULL);
    MUST(again || bytes.length > 1 << 20);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    const char *end = memchr(bytes, '\n', length);
    const size_t first = end ? (size_t)(end - (const char *)bytes) : length;
    struct copy_manifest manifest = {.media_type = MEDIA_DOCKER_MANIFEST};
    cleanup_buffer struct buffer config = {0}, out = {0};
    struct append_base base;
    struct error error;
    buffer_append(&manifest.bytes, bytes, first);
    buffer_append(&config, bytes + first, length - first);
    if (append_base_read(&manifest, &base, &error)) {
        const struct digest digest = {.algorithm = DIGEST_SHA256};
        const size_t count = json_array_size(base.layers);
        const char *type;
        for (size_t i = 0; i < count; i++) {
            struct digest layer;
            uint64_t size;
            append_base_layer(json_array_get(base.layers, i), &layer, &size);
        }
        MUST(append_manifest(&base, NULL, 0, COMPRESS_ZSTD, &digest, 1, &out, &type));
        json_t *json = append_config_read(&config, count, &error);
        if (json)
            change(json, count);
        json_decref(json);
        append_base_finish(&base);
    }
    buffer_finish(&manifest.bytes);
    return 0;
}
