/* What is there: images one by one, and sums. */
#include <stdlib.h>
#include "admin/image.h"
#include "admin/image_pattern.h"
#include "admin/line.h"
#include "base/cleanup.h"
#include "base/json.h"

/* ---- ls ---- */

/* An image of a repository: a manifest, and which of the tags, sorted by digest, are its. */
struct row {
    struct digest digest;
    const struct repository_tag *const *tags; /* in the order of their names */
    size_t tag_count;
};

struct listing {
    struct contents *contents;
    const struct contents_sink *sink;
    const struct content_name *names;
    size_t name_count;
    uint64_t images;
};

static bool takes_repository(const struct listing *listing, const struct repository_name *name) {
    for (size_t i = 0; i < listing->name_count; i++) {
        if (content_name_takes_repository(&listing->names[i], name->host, name->path))
            return true;
    }
    return listing->name_count == 0;
}

static bool has_tag_taken(const struct row *row, const struct content_name *name) {
    for (size_t i = 0; i < row->tag_count; i++) {
        if (content_name_takes_tag(name, row->tags[i]->tag, &row->digest))
            return true;
    }
    return false;
}

static bool takes_image(const struct listing *listing, const struct repository_name *repository,
                        const struct row *row) {
    for (size_t i = 0; i < listing->name_count; i++) {
        const struct content_name *name = &listing->names[i];
        if (content_name_takes_repository(name, repository->host, repository->path) &&
            (content_name_is_whole(name) || digest_equal(&name->digest, &row->digest) ||
             has_tag_taken(row, name)))
            return true;
    }
    return listing->name_count == 0;
}

static int compare_by_digest(const void *left, const void *right) {
    const struct repository_tag *const *a = left, *const *b = right;
    int order = memcmp(&(*a)->digest, &(*b)->digest, sizeof(*a)->digest);
    return order ? order : strcmp((*a)->tag, (*b)->tag);
}

/* The tags by digest; the list is the caller's. NULL: out of memory. */
static const struct repository_tag **sort_tags(const struct repository_records *records) {
    const struct repository_tag **tags = calloc(records->tag_count + 1, sizeof(void *));
    for (size_t i = 0; tags && i < records->tag_count; i++)
        tags[i] = &records->tags[i];
    if (tags)
        qsort(tags, records->tag_count, sizeof(void *), compare_by_digest);
    return tags;
}

static int compare_rows(const void *left, const void *right) {
    const struct row *a = left, *b = right;
    int order = strcmp(a->tag_count ? a->tags[0]->tag : "", b->tag_count ? b->tags[0]->tag : "");
    return order ? order : memcmp(&a->digest, &b->digest, sizeof a->digest);
}

/* One row an image, in the order of their first tags, those without any in front. */
static struct row *make_rows(const struct repository_records *records,
                             const struct repository_tag *const *tags, size_t *count) {
    struct row *rows = calloc(records->manifests.count + 1, sizeof *rows);
    const struct digest *digest;
    *count = 0;
    for (size_t i = 0, end; rows && i < records->tag_count; i = end) {
        digest = &tags[i]->digest;
        for (end = i; end < records->tag_count && digest_equal(&tags[end]->digest, digest);)
            end++;
        rows[(*count)++] = (struct row){*digest, &tags[i], end - i};
    }
    for (size_t at = 0; rows && (digest = digest_set_next(&records->manifests, &at));) {
        if (!digest_set_has(&records->tagged, digest) &&
            !digest_set_has(&records->children, digest))
            rows[(*count)++] = (struct row){.digest = *digest};
    }
    if (rows)
        qsort(rows, *count, sizeof *rows, compare_rows);
    return rows;
}

static json_t *names_of(const struct row *row) {
    json_t *names = json_array();
    for (size_t i = 0; i < row->tag_count; i++)
        json_array_append_new(names, json_string(row->tags[i]->tag));
    return names;
}

static bool write_image(struct listing *listing, const struct repository_name *name,
                        const struct row *row, struct error *error) {
    cleanup_image struct image image = {0};
    if (!image_read(listing->contents->store, &row->digest, &image, error))
        return false;
    if (image.bytes == 0)
        return true; /* only its name is left */
    listing->images++;
    return contents_write(
        listing->sink,
        json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:b, s:b}", "upstream", name->host, "repository",
                  name->path, "tags", names_of(row), "digest", contents_digest(&row->digest),
                  "size", contents_size(image.bytes), "last_used", contents_time(image.last_used_s),
                  "complete", image.complete, "pinned", image.pinned),
        error);
}

static bool list_repository(struct listing *listing, const struct repository_name *name,
                            struct error *error) {
    cleanup_repository_records struct repository_records records = {0};
    if (!repository_records_read(listing->contents->store, name, &records, error))
        return false;
    size_t count;
    cleanup_free const struct repository_tag **tags = sort_tags(&records);
    cleanup_free struct row *rows = tags ? make_rows(&records, tags, &count) : NULL;
    if (!rows)
        return error_set(error, ERROR_MEMORY, "out of memory");
    for (size_t i = 0; i < count; i++) {
        if (!takes_image(listing, name, &rows[i]))
            continue;
        if (!contents_go_on(listing->contents, listing->sink, error) ||
            !write_image(listing, name, &rows[i], error))
            return false;
    }
    return true;
}

bool contents_ls(struct contents *contents, const char *const *texts,
                 const struct contents_sink *sink, struct error *error) {
    struct listing listing = {.contents = contents, .sink = sink};
    cleanup_repository_names struct repository_names names = {0};
    cleanup_free struct content_name *parsed =
        content_names_parse(texts, &listing.name_count, error);
    listing.names = parsed;
    if (!parsed || !contents_wait_for_scan(contents, sink, error) ||
        !repository_names_read(contents->store, &names, error))
        return false;
    for (size_t i = 0; i < names.count; i++) {
        if (!contents_go_on(contents, sink, error) ||
            (takes_repository(&listing, &names.names[i]) &&
             !list_repository(&listing, &names.names[i], error)))
            return false;
    }
    return contents_write(
        sink, json_pack("{s:b, s:o}", "done", true, "images", contents_size(listing.images)),
        error);
}

/* ---- du ---- */

enum { BLOBS_A_PASS = 100000 };

/* What an upstream's repositories link, each blob once. In passes over the links, each for a part
 * of all digests, so that a million blobs take no more memory than a hundred thousand. */
struct measuring {
    struct store *store;
    unsigned pass, passes;
    struct digest_set seen;
    uint64_t bytes, blobs;
    bool failed;
};

static bool measure(void *context, const struct digest *digest) {
    struct measuring *measuring = context;
    struct store_blob blob;
    bool is_new;
    if (digest->bytes[0] % measuring->passes != measuring->pass ||
        !store_blob_find(measuring->store, digest, &blob))
        return true;
    measuring->failed = !digest_set_add(&measuring->seen, digest, &is_new);
    if (measuring->failed)
        return false;
    if (is_new) {
        measuring->bytes += blob.size;
        measuring->blobs++;
    }
    return true;
}

/* The repositories [first, end) are those of one upstream. */
static bool measure_pass(struct contents *contents, const struct contents_sink *sink,
                         const struct repository_names *names, size_t first, size_t end,
                         struct measuring *measuring, struct error *error) {
    for (size_t i = first; i < end; i++) {
        const struct repository_name *name = &names->names[i];
        if (!contents_go_on(contents, sink, error) ||
            !store_links(contents->store, name->host, name->path, LINK_BLOB, measure, measuring,
                         error) ||
            !store_links(contents->store, name->host, name->path, LINK_MANIFEST, measure, measuring,
                         error))
            return false;
        if (measuring->failed)
            return error_set(error, ERROR_MEMORY, "out of memory");
    }
    return true;
}

static bool measure_upstreams(struct contents *contents, const struct contents_sink *sink,
                              uint64_t blobs, json_t *upstreams, struct error *error) {
    cleanup_repository_names struct repository_names names = {0};
    uint64_t passes = 1 + blobs / BLOBS_A_PASS;
    if (!repository_names_read(contents->store, &names, error))
        return false;
    for (size_t first = 0, end; first < names.count; first = end) {
        struct measuring measuring = {.store = contents->store,
                                      .passes = passes < 256 ? (unsigned)passes : 256};
        const char *host = names.names[first].host;
        for (end = first; end < names.count && strcmp(names.names[end].host, host) == 0;)
            end++;
        bool ok = true;
        for (; ok && measuring.pass < measuring.passes; measuring.pass++) {
            ok = measure_pass(contents, sink, &names, first, end, &measuring, error);
            digest_set_free(&measuring.seen);
        }
        if (!ok)
            return false;
        json_object_set_new(upstreams, host,
                            json_pack("{s:o, s:o}", "bytes", contents_size(measuring.bytes),
                                      "blobs", contents_size(measuring.blobs)));
    }
    return true;
}

bool contents_du(struct contents *contents, const struct contents_sink *sink, struct error *error) {
    struct store_usage usage;
    cleanup_json json_t *upstreams = json_object();
    if (!contents_wait_for_scan(contents, sink, error))
        return false;
    store_usage(contents->store, &usage);
    if (!measure_upstreams(contents, sink, usage.blobs, upstreams, error))
        return false;
    return contents_write(
        sink,
        json_pack("{s:b, s:o, s:o, s:o, s:o, s:o, s:O}", "done", true, "bytes",
                  contents_size(usage.bytes), "blobs", contents_size(usage.blobs), "limit",
                  contents->limit ? contents_size(contents->limit) : json_null(), "pinned_bytes",
                  contents_size(usage.pinned_bytes), "partial_bytes",
                  contents_size(usage.partial_bytes), "upstreams", upstreams),
        error);
}
