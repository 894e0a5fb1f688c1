/* The orders that list, count, clean and read the bucket. */
#include "admin/bucket_orders.h"

#include <stdlib.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "cache/cleaning.h"
#include "cache/inventory.h"
#include "cache/share.h"

static bool has_bucket(const struct order_target *target, struct error *error) {
    return target->bucket || error_set(error, ERROR_INVALID,
                                       "no bucket is configured (bucket.url), so --bucket has "
                                       "nothing to work on");
}

static bool check_written(const struct order_target *target, const char *what,
                          struct error *error) {
    return !bucket_settings(target->bucket)->read_only ||
           error_set(error, ERROR_DENIED,
                     "the bucket is only read (bucket.read_only), so nothing "
                     "is %s there",
                     what);
}

static struct cancel cancel_of(const struct order_target *target, const struct line_sink *sink) {
    return (struct cancel){target->stopping, sink->is_wanted, sink->context};
}

/* ---- ls ---- */

struct tags {
    const struct line_sink *sink;
    const struct image_pattern *patterns;
    size_t pattern_count;
    uint64_t count;
};

static bool matches_tag(const struct tags *tags, const struct repository_name *name,
                        const char *tag) {
    const struct digest unknown = {0};
    for (size_t i = 0; i < tags->pattern_count; i++) {
        const struct image_pattern *pattern = &tags->patterns[i];
        if (image_pattern_matches_repository(pattern, name) &&
            (image_pattern_is_whole(pattern) || image_pattern_matches_tag(pattern, tag, &unknown)))
            return true;
    }
    return tags->pattern_count == 0;
}

static bool write_tag(void *context, const struct bucket_entry *entry, struct error *error) {
    struct tags *tags = context;
    struct repository_name name;
    char tag[TAG_LIMIT + 1];
    if (!share_parse_tag(text_of(entry->key), &name, tag) || !matches_tag(tags, &name, tag))
        return true;
    tags->count++;
    return line_write(
        tags->sink,
        json_pack("{s:s, s:s, s:s}", "upstream", name.host, "repository", name.path, "tag", tag),
        error);
}

bool bucket_orders_ls(struct order_target *target, const char *const *texts,
                      const struct line_sink *sink, struct error *error) {
    const struct cancel cancel = cancel_of(target, sink);
    const struct bucket_limits limits = {.cancel = &cancel};
    struct tags tags = {.sink = sink};
    struct bucket_list list = {.prefix = SHARE_REPOSITORIES};
    if (!has_bucket(target, error))
        return false;
    cleanup_free struct image_pattern *parsed =
        image_patterns_parse(texts, &tags.pattern_count, error);
    tags.patterns = parsed;
    bool ok = parsed;
    while (ok && !list.done)
        ok = bucket_list_page(target->bucket, &list, write_tag, &tags, &limits, NULL, error);
    bucket_list_finish(&list);
    return ok &&
           line_write(sink, json_pack("{s:b, s:o}", "done", true, "tags", line_size(tags.count)),
                      error);
}

/* ---- du ---- */

struct sum {
    uint64_t blobs, bytes;
};

static bool add_blob(void *context, const struct bucket_entry *entry, struct error *error) {
    struct sum *sum = context;
    struct digest digest;
    (void)error;
    if (share_parse_blob(text_of(entry->key), &digest)) {
        sum->blobs++;
        sum->bytes += entry->size;
    }
    return true;
}

bool bucket_orders_du(struct order_target *target, const struct line_sink *sink, json_t **out,
                      struct error *error) {
    const struct cancel cancel = cancel_of(target, sink);
    const struct bucket_limits limits = {.cancel = &cancel};
    struct bucket_list list = {.prefix = SHARE_BLOBS};
    struct sum sum = {0};
    *out = NULL;
    bool ok = has_bucket(target, error);
    while (ok && !list.done)
        ok = bucket_list_page(target->bucket, &list, add_blob, &sum, &limits, NULL, error);
    int64_t now_s = list.date_s ? list.date_s : clock_wall_s();
    bucket_list_finish(&list);
    if (!ok)
        return false;
    *out = json_pack("{s:o, s:o, s:o}", "bytes", line_size(sum.bytes), "blobs",
                     line_size(sum.blobs), "as_of", line_time(now_s));
    return *out || error_set(error, ERROR_MEMORY, "out of memory");
}

/* ---- prune ---- */

static bool write_blob(void *context, const struct inventory_entry *blob, struct error *error) {
    return line_write(context,
                      json_pack("{s:o, s:o, s:o}", "digest", line_digest(&blob->digest), "size",
                                line_size(blob->size), "last_used", line_time(blob->used_s)),
                      error);
}

bool bucket_orders_prune(struct order_target *target, const struct prune_options *options,
                         const struct line_sink *sink, struct error *error) {
    const struct cancel cancel = cancel_of(target, sink);
    const struct cleaning_rule rule = {
        .older_than_s = options->older_than_ms >= 0 ? options->older_than_ms / 1000 : -1,
        .to_size = options->to_size,
        .dry_run = options->dry_run,
        .cancel = &cancel,
        .on_blob = write_blob,
        .context = (void *)sink,
    };
    struct cleaning_result result;
    if (!has_bucket(target, error) ||
        (!options->dry_run && !check_written(target, "deleted", error)) ||
        !cleaning_run(target->bucket, &rule, &result, error))
        return false;
    if (result.forbidden)
        return error_set(error, ERROR_DENIED,
                         "%s: tarn may not delete there (s3:DeleteObject is missing)",
                         bucket_label(target->bucket));
    return line_write(sink,
                      json_pack("{s:b, s:b, s:o, s:o}", "done", true, "dry_run", options->dry_run,
                                "blobs", line_size(result.removed_blobs), "bytes",
                                line_size(result.removed_bytes)),
                      error);
}

/* ---- verify ---- */

struct reading {
    struct order_target *target;
    const struct verify_options *options;
    const struct line_sink *sink;
    const struct cancel *cancel;
    uint64_t rate; /* bytes a second; 0: no limit */
    int64_t began_ms;
    uint64_t blobs, bytes;
    bool left_bad;
    struct digest_hash *hash; /* of the blob that is read */
};

/* Waits while more bytes have come than the rate allows. */
static bool take_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    struct reading *reading = context;
    digest_hash_update(reading->hash, bytes, length);
    reading->bytes += length;
    if (!reading->rate)
        return true;
    double due_ms = (double)reading->bytes / (double)reading->rate * 1000;
    return cancel_sleep(reading->cancel, reading->began_ms + (int64_t)due_ms, error);
}

static bool write_finding(struct reading *reading, const struct digest *digest,
                          const struct error *unreadable, bool set_aside, struct error *error) {
    if (unreadable)
        return line_write(
            reading->sink,
            json_pack("{s:o, s:s}", "unreadable", line_digest(digest), "error", unreadable->text),
            error);
    return line_write(reading->sink,
                      json_pack("{s:o, s:s, s:b}", "bad", line_digest(digest), "error",
                                set_aside ? "the bucket had wrong bytes, which were deleted"
                                          : "the bucket has wrong bytes",
                                "set_aside", set_aside),
                      error);
}

static bool note_bad(struct reading *reading, const struct digest *digest, struct error *error) {
    const struct bucket_limits limits = {.cancel = reading->cancel};
    char key[SHARE_KEY_SIZE];
    struct error why = {0};
    bool deletes = reading->options->repair;
    bool deleted = deletes && bucket_delete(reading->target->bucket, share_key_blob(key, digest),
                                            &limits, NULL, &why);
    reading->left_bad |= !deleted;
    return write_finding(reading, digest, NULL, deleted, error) &&
           (deleted || !deletes || write_finding(reading, digest, &why, false, error));
}

/* Whether the failure is this blob's alone. */
static bool is_of_the_blob(enum bucket_outcome outcome) {
    return outcome == BUCKET_CUT || outcome == BUCKET_REFUSED || outcome == BUCKET_BUSY;
}

static bool read_blob(void *context, const struct inventory_entry *entry, struct error *error) {
    struct reading *reading = context;
    const struct bucket_sink sink = {.context = reading, .on_bytes = take_bytes};
    const struct bucket_limits limits = {.cancel = reading->cancel};
    struct bucket_answer answer = {0};
    struct error why = {0};
    struct digest digest;
    char key[SHARE_KEY_SIZE];
    if (!entry->has_blob)
        return true;
    reading->hash = digest_hash_new(entry->digest.algorithm);
    if (!reading->hash)
        return error_set(error, ERROR_MEMORY, "out of memory");
    bool read = bucket_get(reading->target->bucket, share_key_blob(key, &entry->digest), NULL,
                           &sink, &limits, &answer, &why);
    digest_hash_finish(reading->hash, &digest);
    digest_hash_free(reading->hash);
    if (!read && answer.outcome == BUCKET_ABSENT)
        return true; /* it was deleted meanwhile */
    if (!read && !is_of_the_blob(answer.outcome)) {
        if (error)
            *error = why;
        return false;
    }
    reading->blobs++;
    if (!read)
        return write_finding(reading, &entry->digest, &why, false, error);
    return digest_equal(&digest, &entry->digest) || note_bad(reading, &entry->digest, error);
}

bool bucket_orders_verify(struct order_target *target, const struct verify_options *options,
                          const struct line_sink *sink, struct error *error) {
    const struct cancel cancel = cancel_of(target, sink);
    int64_t usual = target->cache ? ORDER_VERIFY_RATE : 0;
    struct reading reading = {
        .target = target,
        .options = options,
        .sink = sink,
        .cancel = &cancel,
        .rate = (uint64_t)(options->rate >= 0 ? options->rate : usual),
        .began_ms = clock_ms(),
    };
    if (!has_bucket(target, error) ||
        (options->repair && !check_written(target, "deleted", error)) ||
        !inventory_walk(target->bucket, &cancel, read_blob, &reading, error))
        return false;
    return line_write(sink,
                      json_pack("{s:b, s:o, s:o, s:b}", "done", true, "blobs",
                                line_size(reading.blobs), "bytes", line_size(reading.bytes),
                                "repaired", options->repair && !reading.left_bad),
                      error);
}
