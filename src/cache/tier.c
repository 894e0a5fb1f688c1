/* The bucket as the cache's second tier. */
#include "cache/tier.h"

#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "cache/fill.h"
#include "cache/share.h"
#include "oci/manifest.h"
#include "store/blobs.h"

enum {
    LINK_LIMIT = 256,     /* bytes of a link */
    MARK_PARTS = 8,       /* marks of a blob in a retention */
    TAG_PAGES_MOST = 500, /* of 1,000 keys */
};

_Static_assert((int)SHARE_KEY_SIZE == (int)FLIGHT_KEY_SIZE, "a flight has room for every key");

/* ---- what flights tell ---- */

/* The size is known: a blob that is large or cannot be kept is sent while it arrives. */
static void on_sized(void *context, struct flight *flight, uint64_t size) {
    struct tier *tier = context;
    struct flight_findings findings;
    if (!tier->uploads || (size <= UPLOADS_WHOLE && !flight_is_passing(flight)))
        return;
    flight_find(flight, &findings);
    if ((findings.is_absent || findings.was_wrong) && bucket_works(tier->bucket))
        uploads_follow(tier->uploads, flight, findings.digest, size, findings.was_wrong);
}

static void on_verified(void *context, struct flight *flight) {
    struct tier *tier = context;
    struct flight_findings findings;
    struct pending_item items[FLIGHT_REPOSITORIES + 1];
    size_t count = 0;
    flight_find(flight, &findings);
    if (!tier->uploads || !(findings.is_absent || findings.was_wrong))
        return;
    items[count++] =
        (struct pending_item){.kind = findings.was_wrong ? PENDING_OVERWRITE : PENDING_DATA};
    for (unsigned i = 0; i < findings.count; i++)
        items[count++] =
            (struct pending_item){.kind = PENDING_BLOB, .name = findings.repositories[i]};
    uploads_owe(tier->uploads, findings.digest, items, count, true);
}

/* The time of the bucket's object counts as a mark; so does that of an upload, which comes next. */
static void on_end(void *context, struct flight *flight, bool kept) {
    struct tier *tier = context;
    struct flight_findings findings;
    flight_find(flight, &findings);
    if (kept && findings.found_s)
        store_blob_set_marked(tier->store, findings.digest, findings.found_s);
    else if (kept)
        store_blob_set_marked(tier->store, findings.digest, clock_wall_s());
    if (tier->uploads)
        uploads_go_on(tier->uploads, findings.digest);
    tier_note_use(tier, findings.digest);
}

static void on_healed(void *context, const struct digest *digest) {
    struct tier *tier = context;
    flights_trust_bucket(tier->table, digest);
}

/* ---- life ---- */

static struct uploads *make_uploads(struct tier *tier) {
    const struct bucket_settings *settings = bucket_settings(tier->bucket);
    const struct uploads_settings uploads = {
        .bucket = tier->bucket,
        .store = tier->store,
        .threads = settings->uploads,
        .part_size = settings->part_size,
        .mark_period_s = tier->mark_period_s,
        .context = tier,
        .on_healed = on_healed,
    };
    return uploads_new(&uploads);
}

struct tier *tier_new(struct bucket *bucket, struct store *store) {
    const struct bucket_settings *settings = bucket_settings(bucket);
    struct tier *tier = calloc(1, sizeof *tier);
    if (!tier)
        return NULL;
    tier->bucket = bucket;
    tier->store = store;
    tier->mark_period_s = settings->retention_ms / 1000 / MARK_PARTS;
    if (settings->retention_ms && !tier->mark_period_s)
        tier->mark_period_s = 1;
    tier->flights = (struct flights_tier){
        .bucket = bucket,
        .patience_ms = settings->patience_ms,
        .connections = settings->connections,
        .heals = !settings->read_only,
        .context = tier,
        .key = share_key_blob,
        .on_sized = on_sized,
        .on_verified = on_verified,
        .on_end = on_end,
    };
    if (settings->read_only)
        return tier;
    tier->uploads = make_uploads(tier);
    tier->fill = tier->uploads ? fill_new(tier->uploads, store, bucket) : NULL;
    if (tier->fill)
        return tier;
    uploads_free(tier->uploads);
    free(tier);
    return NULL;
}

void tier_set_flights(struct tier *tier, struct flights *table) {
    tier->table = table;
}

void tier_start(struct tier *tier) {
    if (!tier->uploads)
        return;
    uploads_start(tier->uploads);
    fill_start(tier->fill);
}

bool tier_end(struct tier *tier, int64_t until_ms) {
    if (!tier || !tier->uploads)
        return true;
    uploads_stop(tier->uploads);
    fill_free(tier->fill);
    tier->fill = NULL;
    return uploads_end(tier->uploads, until_ms);
}

void tier_free(struct tier *tier) {
    if (tier) {
        fill_free(tier->fill);
        uploads_free(tier->uploads);
    }
    free(tier);
}

/* ---- reading ---- */

static struct bucket_limits limits_of(const struct tier *tier, const struct tier_visit *visit) {
    const int64_t patience_ms = tier->flights.patience_ms;
    const int64_t within_ms = visit->within_ms > patience_ms ? visit->within_ms : patience_ms;
    return (struct bucket_limits){.deadline_ms = visit->is_last ? 0 : clock_ms() + within_ms,
                                  .insists = visit->is_last,
                                  .cancel = &visit->cancel};
}

/* A request has ended with the outcome. */
static void note_outcome(struct tier_visit *visit, enum bucket_outcome outcome) {
    visit->unanswered |= outcome == BUCKET_BUSY || outcome == BUCKET_UNREACHABLE ||
                         outcome == BUCKET_CUT || outcome == BUCKET_DOWN;
}

bool tier_visit_again(struct tier_visit *visit, const struct error *why) {
    if (!(visit->unanswered || visit->doubts) || visit->is_last || why->kind == ERROR_NOT_FOUND ||
        why->kind == ERROR_DENIED || why->kind == ERROR_CLOSED)
        return false;
    visit->is_last = true;
    visit->unanswered = false;
    return true;
}

static bool read_link(struct tier *tier, const char *key, struct digest *digest, char *media_type,
                      struct tier_visit *visit) {
    cleanup_buffer struct buffer bytes = {0};
    const struct bucket_limits limits = limits_of(tier, visit);
    struct bucket_answer answer;
    struct error ignored;
    bool ok = bucket_read(tier->bucket, key, LINK_LIMIT, &bytes, &limits, &answer, &ignored);
    note_outcome(visit, answer.outcome);
    if (!ok)
        return false;
    if (media_type)
        memcpy(media_type, answer.content_type, sizeof answer.content_type);
    return share_parse_link((struct text){bytes.bytes, bytes.length}, digest);
}

bool tier_has_link(struct tier *tier, const struct repository_name *name, enum link_kind kind,
                   const struct digest *digest, char *media_type, struct tier_visit *visit) {
    char key[SHARE_KEY_SIZE];
    struct digest linked;
    if (visit->doubts && !visit->is_last)
        return false;
    if (kind == LINK_BLOB)
        share_key_layer(key, name, digest);
    else
        share_key_revision(key, name, digest);
    return read_link(tier, key, &linked, media_type, visit) && digest_equal(&linked, digest);
}

bool tier_has_blob(struct tier *tier, const struct digest *digest, uint64_t *size,
                   struct tier_visit *visit) {
    char key[SHARE_KEY_SIZE];
    const struct bucket_limits limits = limits_of(tier, visit);
    struct bucket_answer answer;
    struct error ignored;
    if (flights_distrusts_bucket(tier->table, digest))
        return false;
    bool ok = bucket_head(tier->bucket, share_key_blob(key, digest), &limits, &answer, &ignored);
    note_outcome(visit, answer.outcome);
    *size = answer.length;
    return ok && answer.has_length;
}

bool tier_read(struct tier *tier, const struct digest *digest, struct buffer *out, int64_t *found_s,
               struct tier_visit *visit) {
    char key[SHARE_KEY_SIZE], text[DIGEST_STRING_SIZE];
    const struct bucket_limits limits = limits_of(tier, visit);
    struct bucket_answer answer;
    struct digest is;
    struct error error;
    if (flights_distrusts_bucket(tier->table, digest))
        return false;
    bool ok = bucket_read(tier->bucket, share_key_blob(key, digest), MANIFEST_SIZE_LIMIT, out,
                          &limits, &answer, &error);
    note_outcome(visit, answer.outcome);
    if (!ok)
        return false;
    *found_s = bucket_written_s(answer.date_s, answer.modified_s);
    if (!digest_of(digest->algorithm, out->bytes, out->length, &is) || digest_equal(&is, digest))
        return digest_equal(&is, digest);
    error_set(&error, ERROR_CORRUPT, "bucket %s: wrong bytes: their digest is %s",
              bucket_label(tier->bucket), digest_format(&is, text));
    flights_distrust_bucket(tier->table, digest, &error);
    return false;
}

bool tier_read_tag(struct tier *tier, const struct repository_name *name, const char *tag,
                   struct digest *digest, struct tier_visit *visit) {
    char key[SHARE_KEY_SIZE];
    return read_link(tier, share_key_tag(key, name, tag), digest, NULL, visit);
}

struct tag_list {
    const struct repository_name *name;
    bool (*each)(void *context, const char *tag, struct error *error);
    void *context;
};

static bool take_tag(void *context, const struct bucket_entry *entry, struct error *error) {
    const struct tag_list *tags = context;
    struct repository_name name;
    char tag[TAG_LIMIT + 1];
    /* A plain registry also keeps what a tag was before. */
    return !share_parse_tag(text_of(entry->key), &name, tag) ||
           !repository_name_equal(&name, tags->name) || tags->each(tags->context, tag, error);
}

bool tier_list_tags(struct tier *tier, const struct repository_name *name,
                    bool (*each)(void *context, const char *tag, struct error *error),
                    void *context, struct tier_visit *visit, struct error *error) {
    char prefix[SHARE_KEY_SIZE];
    struct tag_list tags = {name, each, context};
    struct bucket_list list = {.prefix = share_key_tags(prefix, name)};
    bool ok = true;
    for (unsigned pages = 0; ok && !list.done; pages++) {
        const struct bucket_limits limits = limits_of(tier, visit);
        ok = pages < TAG_PAGES_MOST
                 ? bucket_list_page(tier->bucket, &list, take_tag, &tags, &limits, NULL, error)
                 : error_set(error, ERROR_UNAVAILABLE, "the bucket's list of tags is too long");
    }
    bucket_list_finish(&list);
    return ok;
}

/* ---- writing ---- */

void tier_note_link(struct tier *tier, const struct repository_name *name,
                    const struct digest *digest) {
    const struct pending_item item = {.kind = PENDING_BLOB, .name = *name};
    if (tier && tier->uploads)
        uploads_owe(tier->uploads, digest, &item, 1, false);
}

void tier_note_manifest(struct tier *tier, const struct repository_name *name,
                        const struct digest *digest, const char *media_type, const char *tag,
                        struct text bytes) {
    struct pending_item items[3];
    size_t count = 0;
    if (!tier || !tier->uploads)
        return;
    const bool overwrites = flights_distrusts_bucket(tier->table, digest);
    items[count++] = (struct pending_item){.kind = overwrites ? PENDING_OVERWRITE : PENDING_DATA};
    items[count] = (struct pending_item){.kind = PENDING_MANIFEST, .name = *name};
    text_copy(text_of(media_type), items[count++].text, PENDING_TEXT_SIZE);
    if (tag) {
        items[count] = (struct pending_item){.kind = PENDING_TAG, .name = *name};
        text_copy(text_of(tag), items[count++].text, PENDING_TEXT_SIZE);
    }
    store_blob_set_marked(tier->store, digest, clock_wall_s());
    if (bytes.length)
        uploads_owe_bytes(tier->uploads, digest, items, count, bytes);
    else
        uploads_owe(tier->uploads, digest, items, count, false);
}

bool tier_is_settled(struct tier *tier, const struct digest *digest) {
    return tier && tier->uploads && bucket_is_up(tier->bucket) &&
           !uploads_owes(tier->uploads, digest);
}

void tier_note_absent(struct tier *tier, const struct repository_name *name,
                      const struct digest *digest) {
    const struct pending_item items[] = {{.kind = PENDING_DATA},
                                         {.kind = PENDING_BLOB, .name = *name}};
    if (tier && tier->uploads && !uploads_owes(tier->uploads, digest))
        uploads_owe(tier->uploads, digest, items, 2, false);
}

void tier_note_use(struct tier *tier, const struct digest *digest) {
    bool known;
    if (tier && tier->uploads && tier->mark_period_s &&
        store_blob_mark_due(tier->store, digest, clock_wall_s(), tier->mark_period_s, &known))
        uploads_mark(tier->uploads, digest, known);
}
