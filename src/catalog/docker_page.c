/* Reads a page of tags, and the images that Google's registries tell beside them. */
#include "catalog/docker_page.h"

#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "oci/reference.h"

enum {
    TAGS_FIRST = 64,
    TAGS_BYTES = 64 << 20, /* of all tags of a list, each with TAG_COST */
    TAG_COST = 32,         /* memory of a tag beside its characters, roughly */
};

static struct text string_of(const json_t *json) {
    return (struct text){json_string_value(json), json_string_length(json)};
}

/* ---- tags ---- */

void docker_tags_finish(struct docker_tags *tags) {
    for (size_t i = 0; i < tags->count; i++)
        free(tags->names[i]);
    free(tags->names);
    *tags = (struct docker_tags){0};
}

static bool add_name(struct docker_tags *tags, struct text tag, struct error *error) {
    tags->bytes += tag.length + TAG_COST;
    if (tags->bytes > TAGS_BYTES)
        return error_set(error, ERROR_INVALID, "its tags take more than %d MiB", TAGS_BYTES >> 20);
    if (tags->count == tags->capacity) {
        size_t capacity = tags->capacity ? tags->capacity * 2 : TAGS_FIRST;
        char **grown = reallocarray(tags->names, capacity, sizeof *grown);
        if (!grown)
            return error_set(error, ERROR_MEMORY, "out of memory");
        tags->names = grown;
        tags->capacity = capacity;
    }
    char *name = text_dup(tag);
    if (!name)
        return error_set(error, ERROR_MEMORY, "out of memory");
    tags->names[tags->count++] = name;
    return true;
}

static bool add_names(struct docker_tags *tags, const json_t *names, struct error *error) {
    size_t index;
    const json_t *name;
    json_array_foreach (names, index, name) {
        if (!json_is_string(name))
            return error_set(error, ERROR_INVALID, "it has a tag that is no string");
        if (reference_is_tag(string_of(name)) && !add_name(tags, string_of(name), error))
            return false;
    }
    return true;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Drops the tags that `known` has, and those that repeat. Both are sorted. */
static void drop(struct docker_tags *tags, const char *const *known, size_t known_count) {
    size_t kept = 0, at = 0;
    for (size_t i = 0; i < tags->count; i++) {
        char *name = tags->names[i];
        while (at < known_count && strcmp(known[at], name) < 0)
            at++;
        bool is_known = at < known_count && strcmp(known[at], name) == 0;
        if (is_known || (kept && strcmp(tags->names[kept - 1], name) == 0))
            free(name);
        else
            tags->names[kept++] = name;
    }
    tags->count = kept;
}

bool docker_tags_settle(struct docker_tags *tags, const struct catalog_list *list) {
    size_t count = 0, used = 0;
    for (size_t i = 0; i < list->count; i++)
        count += list->images[i].tag_count;
    cleanup_free const char **known = calloc(count + 1, sizeof *known);
    if (!known)
        return false;
    for (size_t i = 0; i < list->count; i++) {
        for (uint32_t tag = 0; tag < list->images[i].tag_count; tag++)
            known[used++] = list->images[i].tags[tag];
    }
    qsort(known, count, sizeof *known, compare_names);
    if (tags->count)
        qsort(tags->names, tags->count, sizeof *tags->names, compare_names);
    drop(tags, known, count);
    return true;
}

/* ---- Google's addition ---- */

/* A whole number of at least 1, written as a string or as a number, or CATALOG_UNTOLD. */
static int64_t number_of(const json_t *json) {
    uint64_t number = 0;
    if (json_is_integer(json) && json_integer_value(json) > 0)
        return json_integer_value(json);
    if (!json_is_string(json) || !text_to_u64(string_of(json), &number) || number == 0 ||
        number > INT64_MAX)
        return CATALOG_UNTOLD;
    return (int64_t)number;
}

/* Milliseconds since 1970, in microseconds. A year of more than four digits is no time. */
static int64_t time_of(const json_t *json) {
    static const int64_t most_ms = INT64_C(253402300799999);
    int64_t ms = number_of(json);
    return ms == CATALOG_UNTOLD || ms > most_ms ? CATALOG_UNTOLD : ms * 1000;
}

static bool read_image(const json_t *json, struct catalog_list *list, struct catalog_image *image,
                       struct error *error) {
    const json_t *tags = json_object_get(json, "tag"), *tag;
    size_t index;
    image->size = number_of(json_object_get(json, "imageSizeBytes"));
    image->uploaded_us = time_of(json_object_get(json, "timeUploadedMs"));
    image->created_us = time_of(json_object_get(json, "timeCreatedMs"));
    json_array_foreach (tags, index, tag) {
        if (!json_is_string(tag))
            return error_set(error, ERROR_INVALID, "it has a tag that is no string");
        if (reference_is_tag(string_of(tag)) &&
            !catalog_list_add_tag(list, image, string_of(tag), error))
            return false;
    }
    return catalog_list_keep_word(list, string_of(json_object_get(json, "mediaType")),
                                  &image->media_type, error);
}

static bool read_images(json_t *images, const char *repository, struct catalog_list *list,
                        struct error *error) {
    const char *name;
    json_t *json;
    json_object_foreach (images, name, json) {
        struct digest digest;
        if (!json_is_object(json) || !digest_parse(text_of(name), &digest))
            return error_set(error, ERROR_INVALID, "it has a manifest that is malformed");
        struct catalog_image *image = catalog_list_enter(list, text_of(repository), &digest, error);
        if (!image || !read_image(json, list, image, error))
            return false;
    }
    return true;
}

bool docker_page_read(const json_t *page, const char *repository, struct catalog_list *list,
                      struct docker_tags *tags, struct error *error) {
    json_t *images = json_object_get(page, "manifest");
    return (!json_is_object(images) || read_images(images, repository, list, error)) &&
           add_names(tags, json_object_get(page, "tags"), error);
}
