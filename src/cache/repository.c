/* Reads which repositories the store has, and the tags, manifests and images of one. */
#include "cache/repository.h"

#include <stdlib.h>
#include "base/cleanup.h"
#include "cache/image.h"
#include "oci/manifest.h"
#include "store/records.h"

/* Makes a growing array large enough for one more element. */
static bool reserve_one(void **array, size_t count, size_t *capacity, size_t size) {
    if (count < *capacity)
        return true;
    size_t larger = *capacity ? *capacity * 2 : 16;
    void *grown = reallocarray(*array, larger, size);
    if (!grown)
        return false;
    *array = grown;
    *capacity = larger;
    return true;
}

/* ---- which repositories there are ---- */

struct collection {
    struct repository_names *names;
    bool failed;
};

static bool add_name(void *context, const struct repository_name *name) {
    struct collection *collection = context;
    struct repository_names *names = collection->names;
    void *array = names->names;
    collection->failed = !reserve_one(&array, names->count, &names->capacity, sizeof *names->names);
    names->names = array;
    if (collection->failed)
        return false;
    names->names[names->count++] = *name;
    return true;
}

/* By host, then by path. The bytes of HOST/PATH sort differently, because '-' comes before '/'. */
static int compare_names(const void *left, const void *right) {
    const struct repository_name *a = left, *b = right;
    int order = strcmp(a->host, b->host);
    return order ? order : strcmp(a->path, b->path);
}

bool repository_names_read(struct store *store, struct repository_names *out, struct error *error) {
    struct collection collection = {.names = out};
    if (!store_repositories_all(store, NULL, add_name, &collection, error))
        return false;
    if (collection.failed)
        return error_set(error, ERROR_MEMORY, "out of memory");
    if (out->count)
        qsort(out->names, out->count, sizeof *out->names, compare_names);
    return true;
}

void repository_names_finish(struct repository_names *names) {
    free(names->names);
    *names = (struct repository_names){0};
}

/* ---- what one repository holds ---- */

struct records_reading {
    struct repository_records *records;
    bool failed;
};

static bool add_tag(void *context, const char *tag, const struct tag_record *record) {
    struct records_reading *reading = context;
    struct repository_records *records = reading->records;
    void *array = records->tags;
    reading->failed =
        !reserve_one(&array, records->tag_count, &records->tag_capacity, sizeof *records->tags) ||
        !digest_set_add(&records->manifests, &record->digest, NULL) ||
        !digest_set_add(&records->tagged, &record->digest, NULL);
    records->tags = array;
    if (reading->failed)
        return false;
    struct repository_tag *added = &records->tags[records->tag_count++];
    text_copy(text_of(tag), added->tag, sizeof added->tag);
    added->digest = record->digest;
    return true;
}

static bool add_manifest(void *context, const struct digest *digest) {
    struct records_reading *reading = context;
    reading->failed = !digest_set_add(&reading->records->manifests, digest, NULL);
    return !reading->failed;
}

static int compare_tags(const void *left, const void *right) {
    const struct repository_tag *a = left, *b = right;
    return strcmp(a->tag, b->tag);
}

/* False: the link's media type says that the manifest is no index, so it need not be read. */
static bool may_be_index(const struct repository_records *records, const struct digest *digest) {
    char media_type[128];
    return !store_has_link_manifest(records->store, records->name, digest, media_type,
                                    sizeof media_type) ||
           (strcmp(media_type, MEDIA_OCI_MANIFEST) != 0 &&
            strcmp(media_type, MEDIA_DOCKER_MANIFEST) != 0);
}

static bool add_children(struct repository_records *records, const struct digest *digest) {
    struct manifest manifest = {0};
    bool ok = true;
    if (!may_be_index(records, digest) || !image_read_manifest(records->store, digest, &manifest))
        return true;
    for (size_t i = 0; ok && i < manifest.count; i++) {
        if (manifest.descriptors[i].role == DESCRIPTOR_MANIFEST)
            ok = digest_set_add(&records->children, &manifest.descriptors[i].digest, NULL);
    }
    manifest_finish(&manifest);
    return ok;
}

bool repository_records_read(struct store *store, const struct repository_name *name,
                             struct repository_records *out, struct error *error) {
    struct records_reading reading = {.records = out};
    *out = (struct repository_records){.store = store, .name = name};
    if (!store_tags(store, name, add_tag, &reading, error) ||
        !store_links(store, name, LINK_MANIFEST, add_manifest, &reading, error))
        return false;
    if (out->tag_count)
        qsort(out->tags, out->tag_count, sizeof *out->tags, compare_tags);
    const struct digest *digest;
    for (size_t at = 0; !reading.failed && (digest = digest_set_next(&out->manifests, &at));)
        reading.failed = !add_children(out, digest);
    return !reading.failed || error_set(error, ERROR_MEMORY, "out of memory");
}

void repository_records_finish(struct repository_records *records) {
    free(records->tags);
    digest_set_finish(&records->manifests);
    digest_set_finish(&records->tagged);
    digest_set_finish(&records->children);
    *records = (struct repository_records){0};
}

/* ---- the images of one repository ---- */

static int compare_by_digest(const void *left, const void *right) {
    const struct repository_tag *const *a = left, *const *b = right;
    int order = memcmp(&(*a)->digest, &(*b)->digest, sizeof(*a)->digest);
    return order ? order : strcmp((*a)->tag, (*b)->tag);
}

/* The tags by digest. NULL: out of memory. */
static const struct repository_tag **sort_tags(const struct repository_records *records) {
    const struct repository_tag **tags = calloc(records->tag_count + 1, sizeof(void *));
    for (size_t i = 0; tags && i < records->tag_count; i++)
        tags[i] = &records->tags[i];
    if (tags)
        qsort(tags, records->tag_count, sizeof(void *), compare_by_digest);
    return tags;
}

static int compare_images(const void *left, const void *right) {
    const struct repository_image *a = left, *b = right;
    int order = strcmp(a->tag_count ? a->tags[0]->tag : "", b->tag_count ? b->tags[0]->tag : "");
    return order ? order : memcmp(&a->digest, &b->digest, sizeof a->digest);
}

bool repository_images_make(const struct repository_records *records, struct repository_images *out,
                            struct error *error) {
    const struct digest *digest;
    *out = (struct repository_images){.sorted = sort_tags(records)};
    out->images = calloc(records->manifests.count + 1, sizeof *out->images);
    if (!out->sorted || !out->images) {
        repository_images_finish(out);
        return error_set(error, ERROR_MEMORY, "out of memory");
    }
    for (size_t i = 0, end; i < records->tag_count; i = end) {
        digest = &out->sorted[i]->digest;
        for (end = i; end < records->tag_count && digest_equal(&out->sorted[end]->digest, digest);)
            end++;
        out->images[out->count++] = (struct repository_image){*digest, &out->sorted[i], end - i};
    }
    for (size_t at = 0; (digest = digest_set_next(&records->manifests, &at));) {
        if (!digest_set_has(&records->tagged, digest) &&
            !digest_set_has(&records->children, digest))
            out->images[out->count++] = (struct repository_image){.digest = *digest};
    }
    qsort(out->images, out->count, sizeof *out->images, compare_images);
    return true;
}

void repository_images_finish(struct repository_images *images) {
    free(images->images);
    free(images->sorted);
    *images = (struct repository_images){0};
}
