/* Manifests in the bucket. */
#include "cache/manifest_bucket.h"

#include <string.h>
#include "base/cleanup.h"
#include "cache/ask.h"
#include "cache/document.h"
#include "cache/link.h"
#include "cache/manifest_store.h"
#include "oci/manifest.h"
#include "store/blobs.h"

/* How long a request to the bucket may take while upstream is silent. Three of them tell a tag. */
enum { BUCKET_WITHIN_MS = 2000 };

/* The bytes of the manifest, from the store or else from the bucket. */
static bool read_body(struct question *question, const struct digest *digest, struct buffer *body,
                      bool *is_stored, struct tier_visit *visit) {
    struct cache *cache = question->cache;
    *is_stored = store_blob_read(cache->store, digest, MANIFEST_SIZE_LIMIT, body, NULL);
    if (*is_stored)
        return true;
    buffer_clear(body);
    return tier_read(cache->tier, digest, body, &question->found_s, visit);
}

/* Stores bytes for which upstream has to say first whether the repository holds them. */
static void put_unlinked(struct cache *cache, const struct digest *digest,
                         const struct buffer *body) {
    struct error ignored;
    if (space_ensure(&cache->upkeep->space, body->length, &ignored))
        store_blob_put(cache->store, digest, body->bytes, body->length, &ignored);
}

/* Makes the bucket's manifest the question's document, if a link says that the repository holds it.
 * Without a link its bytes go to the store, where they spare a request if upstream names them. */
static bool take_from_bucket(struct question *question, const struct digest *digest,
                             struct tier_visit *visit) {
    struct cache *cache = question->cache;
    cleanup_buffer struct buffer body = {0};
    char media_type[128];
    bool is_stored;
    if (!cache->tier || question->held || !read_body(question, digest, &body, &is_stored, visit))
        return false;
    if (!tier_has_link(cache->tier, &question->repository.name, LINK_MANIFEST, digest, media_type,
                       visit)) {
        if (!is_stored)
            put_unlinked(cache, digest, &body);
        return false;
    }
    question->document =
        document_from(digest, manifest_store_media_type(media_type), body.bytes, body.length);
    question->from_bucket = question->document != NULL;
    return question->from_bucket;
}

/* Of an upstream that is to confirm links, what the bucket says is served, and not kept: a link
 * made here would count as confirmed. */
static bool is_kept(const struct question *question) {
    return link_ttl(&question->repository) == INT64_MAX;
}

struct tier_visit manifest_bucket_visit(struct question *question) {
    return (struct tier_visit){.cancel = question_cancel(question), .doubts = !is_kept(question)};
}

bool manifest_bucket_answer(struct question *question, struct tier_visit *visit) {
    if (!question->reference.is_digest ||
        !take_from_bucket(question, &question->reference.digest, visit))
        return false;
    if (is_kept(question))
        manifest_store_keep(question);
    return true;
}

/* Stores the manifest and the tag, which counts as past its time: upstream has not confirmed it. */
static void store_bucket_tag(struct question *question) {
    struct cache *cache = question->cache;
    const struct document *document = question->document;
    struct tag_record record = {.digest = document->digest, .checked_s = 1};
    struct error error;
    memcpy(record.media_type, document->media_type, sizeof record.media_type);
    if (!manifest_store_put(question, document, &error) ||
        !store_tag_put(cache->store, &question->repository.name, question->reference.tag, &record,
                       &error))
        space_record_unkept(&cache->upkeep->space, space_unkept_reason(&error), 0, &error);
}

/* What the bucket's tag names. */
static bool take_bucket_tag(struct question *question, struct tier_visit *visit,
                            struct error *error) {
    struct cache *cache = question->cache;
    const struct repository *repository = &question->repository;
    struct digest digest;
    char key[KEY_SIZE];
    if (!tier_read_tag(cache->tier, &repository->name, question->reference.tag, &digest, visit))
        return error_set(error, ERROR_UNAVAILABLE, "the bucket does not know the tag");
    question->document = manifest_store_load(cache, repository, &digest);
    if (!question->document && !take_from_bucket(question, &digest, visit))
        return error_set(error, ERROR_UNAVAILABLE, "the bucket does not have the tag's manifest");
    question->from_bucket = true;
    if (!is_kept(question))
        return true;
    question->store = store_bucket_tag;
    const struct reference by_digest = ask_reference(&digest);
    ask_key(key, repository, "manifest", &by_digest);
    slot_put_answer(cache, key, question->document, INT64_MAX, question->writes);
    named_note(cache, repository, question->document, atomic_load(&cache->forgets));
    return true;
}

bool manifest_bucket_answer_last_tag(struct question *question, struct error *error) {
    struct tier_visit visit = manifest_bucket_visit(question);
    visit.is_last = true;
    return take_bucket_tag(question, &visit, error);
}

bool manifest_bucket_answer_tag(struct question *question, struct error *error) {
    struct tier_visit visit = manifest_bucket_visit(question);
    visit.within_ms = BUCKET_WITHIN_MS;
    return take_bucket_tag(question, &visit, error);
}
