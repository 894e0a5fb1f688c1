/* Reads what a manifest tells of its image. */
#include "catalog/docker_manifest.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include "base/json.h"
#include "oci/manifest.h"

static struct text string_of(const json_t *json) {
    return (struct text){json_string_value(json), json_string_length(json)};
}

/* Config and layers. CATALOG_UNTOLD: the manifest leaves a part out of what it tells, or the sum is
 * none. */
static int64_t size_of(const json_t *json, const struct manifest *manifest) {
    size_t told = json_array_size(json_object_get(json, "layers")) +
                  json_array_size(json_object_get(json, "blobs")) +
                  (json_object_get(json, "config") != NULL);
    int64_t size = 0;
    size_t counted = 0;
    for (size_t i = 0; i < manifest->count; i++) {
        const struct descriptor *part = &manifest->descriptors[i];
        if (part->role != DESCRIPTOR_CONFIG && part->role != DESCRIPTOR_LAYER)
            continue;
        if (part->size > (uint64_t)(INT64_MAX - size))
            return CATALOG_UNTOLD;
        size += (int64_t)part->size;
        counted++;
    }
    return manifest->is_index || counted == 0 || counted != told ? CATALOG_UNTOLD : size;
}

static int64_t created_of(const json_t *json) {
    const char *created = json_string_value(
        json_object_get(json_object_get(json, "annotations"), "org.opencontainers.image.created"));
    return created ? catalog_time_parse(created) : CATALOG_UNTOLD;
}

static bool add_platform(struct catalog_list *list, size_t at, const struct descriptor *child,
                         struct error *error) {
    char platform[sizeof child->os + sizeof child->architecture + sizeof child->variant + 2];
    if (!child->os[0] || !child->architecture[0])
        return true;
    snprintf(platform, sizeof platform, "%s/%s%s%s", child->os, child->architecture,
             child->variant[0] ? "/" : "", child->variant);
    return catalog_list_add_platform(list, &list->images[at], text_of(platform), error);
}

/* Enters a manifest that an index names. What the index tells of it is its platform and type. */
static bool enter_child(struct catalog_list *list, size_t at, const struct descriptor *child,
                        struct error *error) {
    const char *type;
    const char *repository = list->images[at].repository;
    size_t before = list->count;
    const struct catalog_image *entered =
        catalog_list_enter(list, text_of(repository), &child->digest, error);
    if (!entered)
        return false;
    size_t number = (size_t)(entered - list->images);
    if (!catalog_list_keep_word(list, text_of(child->media_type), &type, error))
        return false;
    if (list->count > before) /* else it is an image with a tag of its own as well */
        list->images[number].media_type = type;
    return add_platform(list, number, child, error);
}

static bool read_index(struct catalog_list *list, size_t at, const struct manifest *manifest,
                       struct error *error) {
    for (size_t i = 0; i < manifest->count; i++) {
        const struct descriptor *child = &manifest->descriptors[i];
        if (child->role == DESCRIPTOR_MANIFEST &&
            (!add_platform(list, at, child, error) || !enter_child(list, at, child, error)))
            return false;
    }
    return true;
}

bool docker_manifest_read(struct catalog_list *list, size_t at, const struct buffer *body,
                          const char *content_type, struct error *error) {
    struct manifest manifest;
    if (!manifest_parse(body->bytes, body->length, &manifest, error))
        return false;
    cleanup_json json_t *json = bounded_json_load(body->bytes, body->length, error);
    const char *type = NULL, *artifact_type = NULL;
    bool ok = json &&
              catalog_list_keep_word(
                  list, text_of(manifest.media_type[0] ? manifest.media_type : content_type), &type,
                  error) &&
              catalog_list_keep_word(list, string_of(json_object_get(json, "artifactType")),
                                     &artifact_type, error);
    if (ok) {
        struct catalog_image *image = &list->images[at];
        image->media_type = type;
        image->artifact_type = artifact_type;
        image->created_us = created_of(json);
        image->size = size_of(json, &manifest);
        ok = read_index(list, at, &manifest, error);
    }
    manifest_finish(&manifest);
    return ok;
}
