/* What is kept of manifests. */
#include "cache/manifest_store.h"

#include <string.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "cache/ask.h"
#include "cache/document.h"
#include "cache/link.h"
#include "oci/manifest.h"
#include "store/blobs.h"

/* ---- reading ---- */

const char *manifest_store_media_type(const char *told) {
    return manifest_is_media_type(text_of(told)) ? told : MEDIA_UNKNOWN;
}

struct document *manifest_store_load(struct cache *cache, const struct repository *repository,
                                     const struct digest *digest) {
    char media_type[128];
    cleanup_buffer struct buffer body = {0};
    const unsigned forgets = atomic_load(&cache->forgets);
    if (!store_has_link_manifest(cache->store, &repository->name, digest, media_type,
                                 sizeof media_type) ||
        !store_blob_read(cache->store, digest, MANIFEST_SIZE_LIMIT, &body, NULL))
        return NULL;
    link_note_use(cache, repository, LINK_MANIFEST, digest);
    struct document *document = document_from(digest, media_type, body.bytes, body.length);
    if (document)
        named_note(cache, repository, document, forgets);
    return document;
}

struct document *manifest_store_load_tag(struct cache *cache, const struct repository *repository,
                                         const char *tag, int64_t *age_ms) {
    struct tag_record record;
    if (!store_tag_get(cache->store, &repository->name, tag, &record))
        return NULL;
    int64_t age_s = clock_wall_s() - record.checked_s;
    *age_ms = age_s < 0 ? INT64_MAX : age_s * 1000; /* the clock was set back: the age is unknown */
    return manifest_store_load(cache, repository, &record.digest);
}

/* ---- keeping; on the question's thread ---- */

static void keep_tag(struct question *question, const struct document *document) {
    struct cache *cache = question->cache;
    struct tag_record record, old;
    struct error error;
    int64_t refresh_s = ask_tag_ttl(&question->repository) / 2000;
    record.digest = document->digest;
    /* What is stale stays past its time. */
    record.checked_s = question->is_stale ? 1 : clock_wall_s() - question->age_ms / 1000;
    memcpy(record.media_type, document->media_type, sizeof record.media_type);
    /* Each record costs a sync, so a mere revalidation is recorded at most once in half a tag_ttl.
     */
    if (store_tag_get(cache->store, &question->repository.name, question->reference.tag, &old) &&
        digest_equal(&old.digest, &record.digest) &&
        record.checked_s - old.checked_s < (refresh_s > 30 ? refresh_s : 30) &&
        record.checked_s >= old.checked_s)
        return;
    if (!store_tag_put(cache->store, &question->repository.name, question->reference.tag, &record,
                       &error))
        space_record_unkept(&cache->upkeep->space, space_unkept_reason(&error), 0, &error);
}

static bool put_stored(struct question *question, const struct document *document,
                       struct error *error) {
    struct store *store = question->cache->store;
    const struct digest *digest = &document->digest;
    const struct repository *repository = &question->repository;
    if (!store_blob_put(store, digest, document->bytes, document->length, error) ||
        !store_link_manifest(store, &repository->name, digest, document->media_type, error))
        return false;
    link_set_age(question->cache, repository, LINK_MANIFEST, digest,
                 question->is_stale ? link_ttl(repository) : question->age_ms);
    return true;
}

bool manifest_store_put(struct question *question, const struct document *document,
                        struct error *error) {
    struct cache *cache = question->cache;
    struct space *space = &cache->upkeep->space;
    const struct digest *digest = &document->digest;
    uint64_t size;
    bool there = store_blob_has(cache->store, digest, &size) && size == document->length;
    if (!there && !space_ensure(space, document->length, error))
        return false;
    if (!put_stored(question, document, error) &&
        !(error->kind == ERROR_NO_SPACE &&
          space_free_after_full(space, document->length, document->length) &&
          put_stored(question, document, error)))
        return false;
    space_record_kept(&cache->upkeep->space, document->length);
    pins_add(cache->upkeep->pins, &question->repository.name, digest);
    streams_note_manifest(cache->streams, &question->repository.name, digest);
    return true;
}

/* Starts to fetch the blobs that a client will ask for next. */
static void prefetch(struct question *question, const struct manifest *manifest) {
    for (size_t i = 0; i < manifest->count; i++) {
        enum descriptor_role role = manifest->descriptors[i].role;
        if (role == DESCRIPTOR_CONFIG || role == DESCRIPTOR_LAYER)
            cache_blob_fetch(question->cache, &question->repository,
                             &manifest->descriptors[i].digest, NULL);
    }
}

/* Pins again the blobs that the manifest names, now that the store holds it: a renewal of the pins
 * that did not find it yet may have dropped theirs. */
static void pin_named(struct question *question, const struct manifest *manifest) {
    for (size_t i = 0; i < manifest->count; i++) {
        if (manifest->descriptors[i].role != DESCRIPTOR_SUBJECT)
            pins_add(question->cache->upkeep->pins, &question->repository.name,
                     &manifest->descriptors[i].digest);
    }
}

/* What upstream has sent or confirmed goes to the bucket, too, unless that was done when it was
 * linked and tagged here. */
static void note_in_tier(const struct question *question, bool was_linked, bool was_tagged,
                         bool is_stored) {
    const struct document *document = question->document;
    const bool is_tag = !question->reference.is_digest;
    struct text bytes = {document->bytes, document->length};
    if (is_stored) /* the bucket gets them from the store */
        bytes = (struct text){0};
    if (question->from_bucket || question->from_replica || (was_linked && (was_tagged || !is_tag)))
        return;
    tier_note_manifest(question->cache->tier, &question->repository.name, &document->digest,
                       document->media_type, is_tag ? question->reference.tag : NULL, bytes);
}

/* Whether the tag is known to name the document. */
static bool is_tagged(const struct question *question) {
    struct tag_record record;
    return !question->reference.is_digest &&
           store_tag_get(question->cache->store, &question->repository.name,
                         question->reference.tag, &record) &&
           digest_equal(&record.digest, &question->document->digest);
}

/* The answer stands even if the document cannot be kept. */
static void store_document(struct question *question) {
    struct cache *cache = question->cache;
    const struct document *document = question->document;
    const bool was_linked = store_has_link_manifest(cache->store, &question->repository.name,
                                                    &document->digest, NULL, 0);
    const bool was_tagged = is_tagged(question);
    const bool prefetches =
        question->fetched && upstream_settings(question->repository.upstream)->prefetch;
    struct manifest manifest = {0}; /* names nothing, unless it is needed and can be read */
    struct error error = {0};
    if ((prefetches || cache->upkeep->pins) &&
        !manifest_parse(document->bytes, document->length, &manifest, NULL))
        manifest = (struct manifest){0};
    if (prefetches)
        prefetch(question, &manifest);
    if (manifest_store_put(question, document, &error)) {
        if (!question->reference.is_digest)
            keep_tag(question, document);
        pin_named(question, &manifest);
        note_in_tier(question, was_linked, was_tagged, true);
        if (question->found_s)
            store_blob_set_marked(cache->store, &document->digest, question->found_s);
    } else {
        space_record_unkept(&cache->upkeep->space, space_unkept_reason(&error), 0, &error);
        note_in_tier(question, was_linked, was_tagged, false);
    }
    manifest_finish(&manifest);
}

static void delete_tag(struct question *question) {
    store_tag_delete(question->cache->store, &question->repository.name, question->reference.tag,
                     NULL);
}

/* From when on a use of the tag lets it be asked for again. */
static void set_lead(const struct question *question, const char *key) {
    const int64_t lead_ms = refresh_lead_ms(ask_tag_ttl(&question->repository));
    if (!question->reference.is_digest && lead_ms)
        slot_set_lead(question->cache, key, lead_ms);
}

void manifest_store_keep(struct question *question) {
    struct cache *cache = question->cache;
    struct document *document = question->document;
    bool is_tag = !question->reference.is_digest;
    char key[KEY_SIZE];
    if (document->has_bytes) {
        if (!document->is_schema1)
            question->store = store_document;
        else if (is_tag) /* what the store has for the tag is out of date */
            question->store = delete_tag;
        struct reference by_digest = ask_reference(&document->digest);
        ask_key(key, &question->repository, "manifest", &by_digest);
        slot_put_answer(cache, key, document, INT64_MAX, question->writes);
        named_note(cache, &question->repository, document, atomic_load(&cache->forgets));
    }
    ask_key(key, &question->repository, "manifest", &question->reference);
    const int64_t ttl_ms = is_tag ? ask_tag_ttl(&question->repository) : INT64_MAX;
    if (question->from_replica) {
        struct slot_moment moment = slot_moment_now(cache, NULL);
        moment.is_answer = true;
        moment.writes = question->writes;
        slot_put_loaded(cache, key, document,
                        question->fresh_ms < ttl_ms ? question->fresh_ms : ttl_ms, question->age_ms,
                        &moment);
    } else {
        slot_put_answer(cache, key, document, ttl_ms, question->writes);
    }
    set_lead(question, key);
}

void manifest_store_keep_absent(struct question *question, bool by_head,
                                const struct error *error) {
    struct cache *cache = question->cache;
    char key[KEY_SIZE];
    if (!question->reference.is_digest && !by_head) {
        if (upstream_settings(question->repository.upstream)->keep_deleted && question->held)
            return;
        question->store = delete_tag;
    }
    ask_key(key, &question->repository, "manifest", &question->reference);
    slot_put_absent(cache, key, error, by_head, question_absence_ms(question), question->writes);
}
