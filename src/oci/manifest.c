/* Manifests and indexes: reading what they refer to. */
#include "oci/manifest.h"

#include <stdlib.h>
#include "base/cleanup.h"
#include "base/json.h"

/* The place of a descriptor, for messages: "layers[3]", "config". */
struct manifest_place {
    const char *member;
    size_t index;
    bool in_array;
};

static bool invalid_at(struct error *error, const struct manifest_place *place,
                       const char *reason) {
    if (place->in_array)
        return error_set(error, ERROR_INVALID, "manifest: %s[%zu]%s", place->member, place->index,
                         reason);
    return error_set(error, ERROR_INVALID, "manifest: %s%s", place->member, reason);
}

/* null counts as absent, because Go writes it for an empty list. */
static const json_t *member(const json_t *object, const char *name) {
    const json_t *value = json_object_get(object, name);
    return json_is_null(value) ? NULL : value;
}

static struct text string_of(const json_t *string) {
    return (struct text){json_string_value(string), json_string_length(string)};
}

/* Copies a string member; "" when it is absent, or too long to be a known name. False: it is not a
 * string. */
static bool copy_string(const json_t *object, const char *name, char *out, size_t size) {
    const json_t *value = member(object, name);
    out[0] = '\0';
    if (!value)
        return true;
    if (!json_is_string(value))
        return false;
    text_copy(string_of(value), out, size);
    return true;
}

/* The grammar of image-spec descriptor.md, "Digests", for algorithms that tarn does not know:
 * component (("+" | "." | "_" | "-") component)* ":" [a-zA-Z0-9=_-]+ */
static bool is_foreign_digest(struct text text) {
    struct text encoded, algorithm = text_cut(text, ':', &encoded);
    if (text_is(algorithm, "sha256") || text_is(algorithm, "sha512") || encoded.length == 0)
        return false;
    bool in_component = false;
    for (size_t i = 0; i < algorithm.length; i++) {
        char c = algorithm.at[i];
        bool is_component = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        bool is_separator = c == '+' || c == '.' || c == '_' || c == '-';
        if (!is_component && !(is_separator && in_component))
            return false;
        in_component = is_component;
    }
    for (size_t i = 0; i < encoded.length; i++) {
        char c = encoded.at[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '=' || c == '_' || c == '-'))
            return false;
    }
    return in_component;
}

/* Whether a layer may be absent from the registry, because its licence forbids to distribute it
 * there: Windows' base layers. */
static bool is_foreign_layer(const json_t *json, struct text media_type) {
    return json_array_size(member(json, "urls")) > 0 &&
           (text_starts(media_type, "application/vnd.docker.image.rootfs.foreign.") ||
            text_starts(media_type, "application/vnd.oci.image.layer.nondistributable."));
}

static bool read_platform(const json_t *json, const struct manifest_place *place,
                          struct descriptor *out, struct error *error) {
    const json_t *platform = member(json, "platform");
    if (!platform)
        return true;
    if (!json_is_object(platform))
        return invalid_at(error, place, ".platform is not an object");
    if (!copy_string(platform, "os", out->os, sizeof out->os) ||
        !copy_string(platform, "architecture", out->architecture, sizeof out->architecture) ||
        !copy_string(platform, "variant", out->variant, sizeof out->variant))
        return invalid_at(error, place,
                          ".platform has an os, architecture or variant that is not a string");
    return true;
}

/* Appends one descriptor to `out`, whose array has room for it, unless it is to be left out. */
static bool read_descriptor(const json_t *json, enum descriptor_role role,
                            const struct manifest_place *place, struct manifest *out,
                            struct error *error) {
    struct descriptor *descriptor = &out->descriptors[out->count];
    *descriptor = (struct descriptor){.role = role};
    if (!json_is_object(json))
        return invalid_at(error, place, " is not an object");
    const json_t *digest = member(json, "digest"), *size = member(json, "size");
    if (!json_is_string(digest))
        return invalid_at(error, place, ".digest is missing or not a string");
    if (!json_is_integer(size) || json_integer_value(size) < 0)
        return invalid_at(error, place, ".size is missing or not a whole number of 0 or more");
    if (!copy_string(json, "mediaType", descriptor->media_type, sizeof descriptor->media_type))
        return invalid_at(error, place, ".mediaType is not a string");
    if (role == DESCRIPTOR_MANIFEST && !read_platform(json, place, descriptor, error))
        return false;
    descriptor->size = (uint64_t)json_integer_value(size);
    bool known = digest_parse(string_of(digest), &descriptor->digest);
    if (!known && !is_foreign_digest(string_of(digest)))
        return invalid_at(error, place, ".digest is malformed");
    bool foreign =
        role == DESCRIPTOR_LAYER && is_foreign_layer(json, string_of(member(json, "mediaType")));
    out->count += known && !foreign;
    return true;
}

static bool read_one(const json_t *root, const char *name, enum descriptor_role role,
                     struct manifest *out, struct error *error) {
    const json_t *json = member(root, name);
    struct manifest_place place = {.member = name};
    return !json || read_descriptor(json, role, &place, out, error);
}

static bool read_list(const json_t *root, const char *name, enum descriptor_role role,
                      struct manifest *out, struct error *error) {
    const json_t *list = member(root, name);
    struct manifest_place place = {.member = name, .in_array = true};
    for (; place.index < json_array_size(list); place.index++) {
        if (!read_descriptor(json_array_get(list, place.index), role, &place, out, error))
            return false;
    }
    return true;
}

/* Adds the member's length to *total. False: it is neither a list nor absent. */
static bool count_list(const json_t *root, const char *name, size_t *total, struct error *error) {
    const json_t *list = member(root, name);
    if (list && !json_is_array(list))
        return error_set(error, ERROR_INVALID, "manifest: %s is not a list", name);
    *total += json_array_size(list);
    return true;
}

/*
 * Decides whether the document is a manifest or an index. A document that could be read as both is
 * refused, because two readers would see two images under one digest (CVE-2021-41190).
 */
static bool read_kind(const json_t *root, struct manifest *out, struct error *error) {
    const json_t *version = member(root, "schemaVersion");
    if (version && json_integer_value(version) != 2)
        return error_set(error, ERROR_INVALID,
                         "manifest: schemaVersion is not 2 (Docker's old schema 1 is not "
                         "supported; push the image anew with a current client)");
    if (!copy_string(root, "mediaType", out->media_type, sizeof out->media_type))
        return error_set(error, ERROR_INVALID, "manifest: mediaType is not a string");
    bool says_index = strcmp(out->media_type, MEDIA_OCI_INDEX) == 0 ||
                      strcmp(out->media_type, MEDIA_DOCKER_LIST) == 0;
    bool says_manifest = strcmp(out->media_type, MEDIA_OCI_MANIFEST) == 0 ||
                         strcmp(out->media_type, MEDIA_DOCKER_MANIFEST) == 0;
    bool has_manifests = member(root, "manifests");
    bool has_blobs = member(root, "config") || member(root, "layers") || member(root, "blobs");
    if ((has_manifests && has_blobs) || (says_index && has_blobs) ||
        (says_manifest && has_manifests))
        return error_set(error, ERROR_INVALID,
                         "manifest: it could be read as a manifest and as an index");
    /* Go writes null for an empty list, so these are an artifact without blobs or an index without
     * entries. */
    bool has_key = json_object_get(root, "manifests") || json_object_get(root, "layers") ||
                   json_object_get(root, "blobs");
    if (!has_manifests && !has_blobs && !says_index && !says_manifest && !has_key)
        return error_set(error, ERROR_INVALID,
                         "manifest: has neither config, layers, blobs nor manifests");
    out->is_index = says_index || has_manifests ||
                    (!has_blobs && !says_manifest && json_object_get(root, "manifests"));
    return true;
}

static bool read_root(const json_t *root, struct manifest *out, struct error *error) {
    size_t total = 2; /* config and subject */
    if (!json_is_object(root))
        return error_set(error, ERROR_INVALID, "manifest: it is not a JSON object");
    if (!read_kind(root, out, error) || !count_list(root, "layers", &total, error) ||
        !count_list(root, "blobs", &total, error) || !count_list(root, "manifests", &total, error))
        return false;
    if (total > MANIFEST_DESCRIPTOR_LIMIT)
        return error_set(error, ERROR_INVALID,
                         "manifest: refers to more than %d manifests and blobs",
                         MANIFEST_DESCRIPTOR_LIMIT - 2);
    out->descriptors = calloc(total, sizeof *out->descriptors);
    if (!out->descriptors)
        return error_set(error, ERROR_MEMORY, "manifest: out of memory");
    /* The artifact manifests of ORAS and of OCI's release candidates have `blobs`. */
    return read_one(root, "config", DESCRIPTOR_CONFIG, out, error) &&
           read_list(root, "layers", DESCRIPTOR_LAYER, out, error) &&
           read_list(root, "blobs", DESCRIPTOR_LAYER, out, error) &&
           read_list(root, "manifests", DESCRIPTOR_MANIFEST, out, error) &&
           read_one(root, "subject", DESCRIPTOR_SUBJECT, out, error);
}

bool manifest_parse(const void *bytes, size_t length, struct manifest *out, struct error *error) {
    *out = (struct manifest){0};
    if (length > MANIFEST_SIZE_LIMIT)
        return error_set(error, ERROR_INVALID, "manifest: %zu bytes are more than the limit of %d",
                         length, MANIFEST_SIZE_LIMIT);
    cleanup_json json_t *root = bounded_json_load(bytes, length, error);
    if (!root)
        return error_wrap(error, "manifest");
    if (read_root(root, out, error))
        return true;
    manifest_finish(out);
    return false;
}

void manifest_finish(struct manifest *manifest) {
    free(manifest->descriptors);
    *manifest = (struct manifest){0};
}

/* A restricted-name of RFC 6838 §4.2. */
static bool is_restricted_name(struct text name) {
    for (size_t i = 0; i < name.length; i++) {
        unsigned char c = (unsigned char)name.at[i];
        bool alphanumeric =
            (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        if (!alphanumeric && (i == 0 || c == '\0' || !strchr("!#$&-^_.+", c)))
            return false;
    }
    return name.length > 0;
}

bool manifest_is_media_type(struct text type) {
    struct text parameters, subtype, top;
    for (size_t i = 0; i < type.length; i++)
        if (type.at[i] < 0x20 || type.at[i] > 0x7e)
            return false;
    if (type.length >= sizeof((struct manifest *)0)->media_type)
        return false;
    top = text_cut(text_trim(text_cut(type, ';', &parameters)), '/', &subtype);
    return is_restricted_name(top) && subtype.at && is_restricted_name(subtype);
}
