/* Filters a list of referrers by artifact type. */
#include "oci/referrers.h"

#include <string.h>
#include "base/json.h"
#include "oci/manifest.h"

static bool has_type(const json_t *entry, const char *artifact_type) {
    const json_t *type = json_object_get(entry, "artifactType");
    return json_is_string(type) && strlen(artifact_type) == json_string_length(type) &&
           memcmp(json_string_value(type), artifact_type, json_string_length(type)) == 0;
}

bool referrers_filter(const void *index_bytes, size_t length, const char *artifact_type,
                      struct buffer *out, bool *filtered, struct error *error) {
    *filtered = false;
    if (length > MANIFEST_SIZE_LIMIT)
        return error_set(error, ERROR_INVALID, "referrers: %zu bytes are more than the limit of %d",
                         length, MANIFEST_SIZE_LIMIT);
    cleanup_json json_t *index = bounded_json_load(index_bytes, length, error);
    if (!index)
        return error_wrap(error, "referrers");
    json_t *entries = json_object_get(index, "manifests");
    const char *media_type = json_string_value(json_object_get(index, "mediaType"));
    if ((!json_is_array(entries) && !json_is_null(entries)) ||
        (media_type && strcmp(media_type, MEDIA_OCI_INDEX) != 0))
        return error_set(error, ERROR_INVALID, "referrers: it is not an OCI index");

    if (!artifact_type || !*artifact_type) {
        if (!buffer_append(out, index_bytes, length))
            return error_set(error, ERROR_MEMORY, "referrers: out of memory");
        return true;
    }
    json_t *chosen = json_array();
    bool ok = true;
    for (size_t i = 0; i < json_array_size(entries); i++) {
        if (has_type(json_array_get(entries, i), artifact_type))
            ok &= json_array_append(chosen, json_array_get(entries, i)) == 0;
    }
    if (json_object_set_new(index, "manifests", chosen) != 0 || !ok ||
        !bounded_json_dump(index, JSON_COMPACT, out))
        return error_set(error, ERROR_MEMORY, "referrers: out of memory");
    *filtered = true;
    return true;
}

bool referrers_is_index(const json_t *json) {
    const char *const media_type = json_string_value(json_object_get(json, "mediaType"));
    const json_t *entries = json_object_get(json, "manifests");
    bool says_index = media_type && strcmp(media_type, MEDIA_OCI_INDEX) == 0;
    bool has_blobs = json_object_get(json, "config") || json_object_get(json, "layers") ||
                     json_object_get(json, "fsLayers");
    return (says_index || !media_type) && !has_blobs &&
           (json_is_array(entries) || json_is_null(entries) || (says_index && !entries));
}
