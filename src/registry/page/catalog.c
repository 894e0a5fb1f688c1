/* Reads from the store which images there are. */
#include "registry/page/catalog.h"

#include <stdio.h>
#include <stdlib.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "cache/image.h"
#include "cache/repository.h"
#include "store/records.h"
#include "store/usage.h"

enum {
    BLOBS_COUNTED = 100000, /* digests in memory at once, of one upstream */
    WORDS = 8,              /* of a search; further ones are not looked for */
};

/* ---- one image ---- */

static char *append(char *at, const char *text) {
    size_t size = strlen(text) + 1;
    memcpy(at, text, size);
    return at + size;
}

/* Copies the names. False: out of memory. */
static bool name_image(struct catalog_image *image, const struct repository_name *repository,
                       const struct repository_image *source) {
    size_t size = strlen(repository->host) + strlen(repository->path) + 2;
    image->tag_count = source->tag_count;
    image->tags_here =
        source->tag_count < CATALOG_TAGS ? (unsigned)source->tag_count : CATALOG_TAGS;
    for (unsigned i = 0; i < image->tags_here; i++)
        size += strlen(source->tags[i]->tag) + 1;
    char *at = image->memory = malloc(size);
    if (!at)
        return false;
    image->host = at;
    image->path = at = append(at, repository->host);
    at = append(at, repository->path);
    for (unsigned i = 0; i < image->tags_here; i++) {
        image->tags[i] = at;
        at = append(at, source->tags[i]->tag);
    }
    return true;
}

static int compare_uses(const void *left, const void *right) {
    const struct catalog_image *a = left, *b = right;
    return (a->last_used_s < b->last_used_s) - (a->last_used_s > b->last_used_s);
}

static void sort_and_cut(struct catalog *catalog) {
    if (catalog->count)
        qsort(catalog->images, catalog->count, sizeof *catalog->images, compare_uses);
    while (catalog->count > CATALOG_IMAGES)
        free(catalog->images[--catalog->count].memory);
}

/* Makes room for one more image: for twice as many as are kept at most. */
static bool reserve(struct catalog *catalog) {
    if (catalog->count == 2 * CATALOG_IMAGES)
        sort_and_cut(catalog);
    if (catalog->count < catalog->capacity)
        return true;
    size_t larger = catalog->capacity ? catalog->capacity * 2 : 64;
    if (larger > 2 * CATALOG_IMAGES)
        larger = 2 * CATALOG_IMAGES;
    struct catalog_image *grown = reallocarray(catalog->images, larger, sizeof *grown);
    if (!grown)
        return false;
    catalog->images = grown;
    catalog->capacity = larger;
    return true;
}

/* ---- reading ---- */

struct reading {
    struct store *store;
    struct catalog *catalog;
    const struct cancel *cancel;
    struct error *error;
    char host[HOST_LIMIT + 1]; /* whose repositories are being read; "": none yet */
    struct digest_set seen;    /* its blobs */
    unsigned part;             /* one blob in so many is counted */
    uint64_t bytes;            /* of those counted */
    size_t repositories;
    bool failed;
};

static bool add_image(struct reading *reading, const struct repository_name *repository,
                      const struct repository_image *source) {
    cleanup_image struct image image = {0};
    struct catalog *catalog = reading->catalog;
    if (!image_read(reading->store, &source->digest, &image, reading->error))
        return false;
    if (image.bytes == 0)
        return true; /* all of its bytes were evicted */
    struct catalog_image added = {.digest = source->digest,
                                  .bytes = image.bytes,
                                  .last_used_s = image.last_used_s,
                                  .complete = image.complete,
                                  .pinned = image.pinned};
    if (!reserve(catalog) || !name_image(&added, repository, source))
        return error_set(reading->error, ERROR_MEMORY, "out of memory");
    catalog->images[catalog->count++] = added;
    catalog->all_images++;
    return true;
}

/* Adds a blob to the bytes of the upstream. When there are too many blobs, the digests decide which
 * part of them is counted. */
static bool measure(void *context, const struct digest *digest) {
    struct reading *reading = context;
    struct store_blob blob;
    bool added;
    if (digest->bytes[0] % reading->part != 0 || !store_blob_find(reading->store, digest, &blob))
        return true;
    reading->failed = !digest_set_add(&reading->seen, digest, &added);
    if (!reading->failed && added)
        reading->bytes += blob.size;
    return !reading->failed;
}

static int compare_bytes(const void *left, const void *right) {
    const struct catalog_upstream *a = left, *b = right;
    return (a->bytes < b->bytes) - (a->bytes > b->bytes);
}

/* All repositories of a host are read. Of more hosts than there are places the least goes. */
static void end_host(struct reading *reading) {
    struct catalog *catalog = reading->catalog;
    struct catalog_upstream ended = {.bytes = reading->bytes * reading->part,
                                     .repositories = reading->repositories};
    digest_set_finish(&reading->seen);
    reading->seen = (struct digest_set){0};
    reading->bytes = 0;
    reading->repositories = 0;
    if (!reading->host[0])
        return;
    memcpy(ended.host, reading->host, sizeof ended.host);
    if (catalog->upstream_count < CATALOG_UPSTREAMS)
        catalog->upstreams[catalog->upstream_count++] = ended;
    else if (catalog->upstreams[CATALOG_UPSTREAMS - 1].bytes < ended.bytes)
        catalog->upstreams[CATALOG_UPSTREAMS - 1] = ended;
    qsort(catalog->upstreams, catalog->upstream_count, sizeof ended, compare_bytes);
}

static bool read_repository(struct reading *reading, const struct repository_name *name) {
    cleanup_repository_records struct repository_records records = {0};
    cleanup_repository_images struct repository_images images = {0};
    if (!repository_records_read(reading->store, name, &records, reading->error) ||
        !repository_images_make(&records, &images, reading->error) ||
        !store_links(reading->store, name, LINK_BLOB, measure, reading, reading->error) ||
        !store_links(reading->store, name, LINK_MANIFEST, measure, reading, reading->error))
        return false;
    if (reading->failed)
        return error_set(reading->error, ERROR_MEMORY, "out of memory");
    for (size_t i = 0; i < images.count; i++) {
        if (!cancel_check(reading->cancel, reading->error) ||
            !add_image(reading, name, &images.images[i]))
            return false;
    }
    return true;
}

static bool take_repository(void *context, const struct repository_name *name) {
    struct reading *reading = context;
    if (strcmp(name->host, reading->host) != 0) {
        end_host(reading);
        memcpy(reading->host, name->host, sizeof reading->host);
    }
    reading->repositories++;
    reading->catalog->all_repositories++;
    reading->failed =
        !cancel_check(reading->cancel, reading->error) || !read_repository(reading, name);
    return !reading->failed;
}

struct catalog *catalog_read(struct store *store, const struct cancel *cancel,
                             struct error *error) {
    struct catalog *catalog = calloc(1, sizeof *catalog);
    struct store_usage usage;
    if (!catalog) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    const int64_t began_ms = clock_ms();
    store_usage(store, &usage);
    const uint64_t part = 1 + usage.blobs / BLOBS_COUNTED;
    struct reading reading = {.store = store,
                              .catalog = catalog,
                              .cancel = cancel,
                              .error = error,
                              .part = part < 256 ? (unsigned)part : 256};
    atomic_init(&catalog->references, 1);
    bool ok =
        store_repositories_all(store, NULL, take_repository, &reading, error) && !reading.failed;
    end_host(&reading);
    sort_and_cut(catalog);
    catalog->took_ms = clock_ms() - began_ms;
    if (ok)
        return catalog;
    catalog_release(catalog);
    return NULL;
}

struct catalog *catalog_keep(struct catalog *catalog) {
    atomic_fetch_add(&catalog->references, 1);
    return catalog;
}

void catalog_release(struct catalog *catalog) {
    if (!catalog || atomic_fetch_sub(&catalog->references, 1) != 1)
        return;
    for (size_t i = 0; i < catalog->count; i++)
        free(catalog->images[i].memory);
    free(catalog->images);
    free(catalog);
}

/* ---- search ---- */

static bool has(const char *text, struct text word) {
    char copy[DIGEST_STRING_SIZE];
    return text_copy(word, copy, sizeof copy) && strcasestr(text, copy) != NULL;
}

static bool has_word(const struct catalog_image *image, const char *name, const char *digest,
                     struct text word) {
    if (has(name, word) || has(digest, word))
        return true;
    for (unsigned i = 0; i < image->tags_here; i++) {
        if (has(image->tags[i], word))
            return true;
    }
    return false;
}

/* Words are also what stands on either side of the ':' in front of a tag and of the '@'. */
static size_t word_length(const char *text) {
    return strcspn(text, " \t@");
}

bool catalog_matches(const struct catalog_image *image, const char *text) {
    char name[HOST_LIMIT + NAME_LIMIT + CATALOG_TAGS + 2], digest[DIGEST_STRING_SIZE];
    snprintf(name, sizeof name, "%s/%s", image->host, image->path);
    digest_format(&image->digest, digest);
    for (unsigned words = 0; *text && words < WORDS; words++) {
        size_t length = word_length(text);
        struct text word = {text, length};
        const char *colon = memrchr(text, ':', length);
        const bool whole = has_word(image, name, digest, word);
        if (!whole && !(colon && has(name, (struct text){text, (size_t)(colon - text)}) &&
                        has_word(image, name, digest,
                                 (struct text){colon + 1, length - (size_t)(colon + 1 - text)})))
            return false;
        text += length;
        text += strspn(text, " \t@");
    }
    return true;
}
