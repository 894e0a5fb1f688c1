/* Lists images, and sums up sizes. */
#include "admin/ls.h"

#include <stdlib.h>
#include "admin/bucket_orders.h"
#include "admin/image_pattern.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "cache/image.h"
#include "cache/repository.h"
#include "store/records.h"
#include "store/usage.h"

/* ---- ls ---- */

struct listing {
    struct order_target *target;
    const struct line_sink *sink;
    const struct image_pattern *patterns;
    size_t pattern_count;
    uint64_t images;
};

static bool matches_repository(const struct listing *listing, const struct repository_name *name) {
    for (size_t i = 0; i < listing->pattern_count; i++) {
        if (image_pattern_matches_repository(&listing->patterns[i], name))
            return true;
    }
    return listing->pattern_count == 0;
}

static bool has_matching_tag(const struct repository_image *row,
                             const struct image_pattern *pattern) {
    for (size_t i = 0; i < row->tag_count; i++) {
        if (image_pattern_matches_tag(pattern, row->tags[i]->tag, &row->digest))
            return true;
    }
    return false;
}

static bool matches_image(const struct listing *listing, const struct repository_name *repository,
                          const struct repository_image *row) {
    for (size_t i = 0; i < listing->pattern_count; i++) {
        const struct image_pattern *pattern = &listing->patterns[i];
        if (image_pattern_matches_repository(pattern, repository) &&
            (image_pattern_is_whole(pattern) || digest_equal(&pattern->digest, &row->digest) ||
             has_matching_tag(row, pattern)))
            return true;
    }
    return listing->pattern_count == 0;
}

static json_t *names_of(const struct repository_image *row) {
    cleanup_json json_t *names = json_array();
    for (size_t i = 0; i < row->tag_count; i++)
        if (json_array_append_new(names, json_string(row->tags[i]->tag)) != 0)
            return NULL; /* no memory: an image without some of its tags would be wrong */
    return take(names);
}

/* "yes", "pending" or "no"; *why is the word that says why not, or null. */
static const char *streams_of(const struct listing *listing, const struct digest *digest,
                              json_t **why) {
    const struct order_target *target = listing->target;
    const struct streams_settings settings =
        target->cache ? streams_settings_now(cache_streams(target->cache)) : target->streaming;
    const struct stream_verdict verdict = stream_of_image(target->store, &settings, digest);
    const char *word = layer_refusal_word(verdict.why);
    *why = *word ? json_string(word) : json_null();
    return verdict.state == STREAM_READY     ? "yes"
           : verdict.state == STREAM_PENDING ? "pending"
                                             : "no";
}

static bool write_image(struct listing *listing, const struct repository_name *name,
                        const struct repository_image *row, struct error *error) {
    cleanup_image struct image image = {0};
    if (!image_read(listing->target->store, &row->digest, &image, error))
        return false;
    if (image.bytes == 0)
        return true; /* all of its bytes were evicted */
    listing->images++;
    json_t *why;
    const char *streams = streams_of(listing, &row->digest, &why);
    return line_write(listing->sink,
                      json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:b, s:b, s:s, s:o}", "upstream",
                                name->host, "repository", name->path, "tags", names_of(row),
                                "digest", line_digest(&row->digest), "size", line_size(image.bytes),
                                "last_used", line_time(image.last_used_s), "complete",
                                image.complete, "pinned", image.pinned, "streams", streams,
                                "streams_why", why),
                      error);
}

static bool list_repository(struct listing *listing, const struct repository_name *name,
                            struct error *error) {
    cleanup_repository_records struct repository_records records = {0};
    cleanup_repository_images struct repository_images images = {0};
    if (!repository_records_read(listing->target->store, name, &records, error))
        return false;
    if (!repository_images_make(&records, &images, error))
        return false;
    for (size_t i = 0; i < images.count; i++) {
        if (!matches_image(listing, name, &images.images[i]))
            continue;
        if (!order_target_check(listing->target, listing->sink, error) ||
            !write_image(listing, name, &images.images[i], error))
            return false;
    }
    return true;
}

bool order_ls(struct order_target *target, const char *const *texts, const struct line_sink *sink,
              struct error *error) {
    struct listing listing = {.target = target, .sink = sink};
    cleanup_repository_names struct repository_names names = {0};
    cleanup_free struct image_pattern *parsed =
        image_patterns_parse(texts, &listing.pattern_count, error);
    listing.patterns = parsed;
    if (!parsed || !order_target_wait_for_scan(target, sink, error) ||
        !repository_names_read(target->store, &names, error))
        return false;
    for (size_t i = 0; i < names.count; i++) {
        if (!order_target_check(target, sink, error) ||
            (matches_repository(&listing, &names.names[i]) &&
             !list_repository(&listing, &names.names[i], error)))
            return false;
    }
    return line_write(
        sink, json_pack("{s:b, s:o}", "done", true, "images", line_size(listing.images)), error);
}

/* ---- du ---- */

enum { BLOBS_A_PASS = 100000 };

/* Sums up what the repositories of one upstream link, each blob once. It makes several passes over
 * the links, and each pass counts a part of all digests, so that a million blobs take no more
 * memory than a hundred thousand. */
struct measuring {
    struct order_target *target;
    const struct line_sink *sink;
    unsigned pass, passes;
    struct digest_set seen;
    uint64_t bytes, blobs;
    bool failed;
};

static bool measure(void *context, const struct digest *digest) {
    struct measuring *measuring = context;
    struct store_blob blob;
    bool added;
    if (digest->bytes[0] % measuring->passes != measuring->pass ||
        !store_blob_find(measuring->target->store, digest, &blob))
        return true;
    measuring->failed = !digest_set_add(&measuring->seen, digest, &added);
    if (measuring->failed)
        return false;
    if (added) {
        measuring->bytes += blob.size;
        measuring->blobs++;
    }
    return true;
}

/* One pass over `count` repositories, which are those of one upstream. */
static bool measure_pass(struct measuring *measuring, const struct repository_name *names,
                         size_t count, struct error *error) {
    struct store *store = measuring->target->store;
    for (size_t i = 0; i < count; i++) {
        if (!order_target_check(measuring->target, measuring->sink, error) ||
            !store_links(store, &names[i], LINK_BLOB, measure, measuring, error) ||
            !store_links(store, &names[i], LINK_MANIFEST, measure, measuring, error))
            return false;
        if (measuring->failed)
            return error_set(error, ERROR_MEMORY, "out of memory");
    }
    return true;
}

static bool measure_upstreams(struct order_target *target, const struct line_sink *sink,
                              uint64_t blobs, json_t *upstreams, struct error *error) {
    cleanup_repository_names struct repository_names names = {0};
    uint64_t passes = 1 + blobs / BLOBS_A_PASS;
    if (!repository_names_read(target->store, &names, error))
        return false;
    for (size_t first = 0, end; first < names.count; first = end) {
        struct measuring measuring = {
            .target = target, .sink = sink, .passes = passes < 256 ? (unsigned)passes : 256};
        const char *host = names.names[first].host;
        for (end = first; end < names.count && strcmp(names.names[end].host, host) == 0;)
            end++;
        bool ok = true;
        for (; ok && measuring.pass < measuring.passes; measuring.pass++) {
            ok = measure_pass(&measuring, &names.names[first], end - first, error);
            digest_set_finish(&measuring.seen);
        }
        if (!ok)
            return false;
        json_t *sum = json_pack("{s:o, s:o}", "bytes", line_size(measuring.bytes), "blobs",
                                line_size(measuring.blobs));
        if (json_object_set_new(upstreams, host, sum) != 0)
            return error_set(error, ERROR_MEMORY, "out of memory");
    }
    return true;
}

/* What the store itself knows. NULL: out of memory. */
static json_t *sum_of(const struct order_target *target, const struct store_usage *usage,
                      json_t *upstreams) {
    return json_pack("{s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:O}", "done", true,
                     "bytes", line_size(usage->bytes), "blobs", line_size(usage->blobs), "limit",
                     target->limit ? line_size(target->limit) : json_null(), "pinned_bytes",
                     line_size(usage->pinned_bytes), "partial_bytes",
                     line_size(usage->partial_bytes), "record_bytes",
                     line_size(usage->record_bytes), "records", line_size(usage->records),
                     "bad_bytes", line_size(usage->bad_bytes), "disk_bytes",
                     line_size(store_usage_on_disk(usage)), "upstreams", upstreams);
}

bool order_du(struct order_target *target, bool with_bucket, const struct line_sink *sink,
              struct error *error) {
    struct store_usage usage;
    cleanup_json json_t *upstreams = json_object(), *bucket = NULL;
    if (!order_target_wait_for_scan(target, sink, error))
        return false;
    store_usage(target->store, &usage);
    if (!measure_upstreams(target, sink, usage.blobs, upstreams, error) ||
        (with_bucket && !bucket_orders_du(target, sink, &bucket, error)))
        return false;
    json_t *line = sum_of(target, &usage, upstreams);
    if (bucket && json_object_set(line, "bucket", bucket) != 0) {
        json_decref(line);
        line = NULL;
    }
    return line_write(sink, line, error);
}
