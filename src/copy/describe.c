/* Describes manifests. */
#include "copy/describe.h"

#include <stdio.h>
#include "base/json.h"
#include "oci/manifest.h"
#include "oci/schema1.h"

static json_t *load(const struct copy_manifest *manifest) {
    return bounded_json_load_by(0, manifest->bytes.bytes, manifest->bytes.length, NULL);
}

/* The type that the bytes tell, or NULL. Borrowed from `json`. */
static const char *own_type(const json_t *json) {
    const char *type = json_string_value(json_object_get(json, "mediaType"));
    return type && manifest_is_media_type(text_of(type)) ? type : NULL;
}

bool copy_describe(struct copy_manifest *manifest, const char *hint, const struct digest *wanted,
                   struct error *error) {
    const struct buffer *bytes = &manifest->bytes;
    enum digest_algorithm algorithm =
        wanted && wanted->algorithm ? wanted->algorithm : DIGEST_SHA256;
    cleanup_json json_t *json = load(manifest);
    const char *type = own_type(json);
    struct digest payload;
    char text[2][DIGEST_STRING_SIZE];
    if (!type && hint && manifest_is_media_type(text_of(hint)))
        type = hint;
    if (!type)
        type = json_object_get(json, "manifests") ? MEDIA_OCI_INDEX : MEDIA_OCI_MANIFEST;
    snprintf(manifest->media_type, sizeof manifest->media_type, "%s", type);
    if (!digest_of(algorithm, bytes->bytes, bytes->length, &manifest->digest))
        return error_set(error, ERROR_MEMORY, "out of memory");
    if (!wanted || !wanted->algorithm || digest_equal(wanted, &manifest->digest))
        return true;
    if (schema1_digest(bytes->bytes, bytes->length, algorithm, &payload) &&
        digest_equal(wanted, &payload)) {
        manifest->digest = payload;
        return true;
    }
    return error_set(error, ERROR_CORRUPT, "the manifest has the digest %s instead of %s",
                     digest_format(&manifest->digest, text[0]), digest_format(wanted, text[1]));
}

/* What kind of artifact a referrer is: `artifactType`, else its config's type. */
static const json_t *artifact_type(const json_t *json) {
    const json_t *type = json_object_get(json, "artifactType");
    return type ? type : json_object_get(json_object_get(json, "config"), "mediaType");
}

json_t *copy_describe_descriptor(const struct copy_manifest *manifest, bool as_referrer) {
    char digest[DIGEST_STRING_SIZE];
    json_t *out = json_pack("{s:s, s:s, s:I}", "mediaType", manifest->media_type, "digest",
                            digest_format(&manifest->digest, digest), "size",
                            (json_int_t)manifest->bytes.length);
    if (!out || !as_referrer)
        return out;
    cleanup_json json_t *json = load(manifest);
    const json_t *type = artifact_type(json), *annotations = json_object_get(json, "annotations");
    bool ok = !json_is_string(type) ||
              json_object_set_new(out, "artifactType", json_deep_copy(type)) == 0;
    ok = ok && (!json_is_object(annotations) ||
                json_object_set_new(out, "annotations", json_deep_copy(annotations)) == 0);
    if (ok)
        return out;
    json_decref(out);
    return NULL;
}

bool copy_describe_subject(const struct copy_manifest *manifest, struct digest *out) {
    cleanup_json json_t *json = load(manifest);
    const json_t *digest = json_object_get(json_object_get(json, "subject"), "digest");
    return digest_parse((struct text){json_string_value(digest), json_string_length(digest)}, out);
}

bool copy_describe_index(json_t *manifests, struct buffer *out) {
    cleanup_json json_t *index = json_pack("{s:i, s:s, s:O}", "schemaVersion", 2, "mediaType",
                                           MEDIA_OCI_INDEX, "manifests", manifests);
    return bounded_json_dump(index, JSON_COMPACT, out);
}

const char *copy_describe_fallback(const struct digest *subject,
                                   char out[static DIGEST_STRING_SIZE]) {
    digest_format(subject, out);
    *strchr(out, ':') = '-';
    if (strlen(out) > TAG_LIMIT) /* of SHA-512 */
        out[TAG_LIMIT] = '\0';
    return out;
}
