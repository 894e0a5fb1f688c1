/* Manifests: fresh for ever by digest, for tag_ttl by tag. */
#include "oci/manifest.h"

#include <stdlib.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "cache/ask.h"
#include "cache/cache_private.h"
#include "cache/link.h"
#include "cache/manifest.h"
#include "cache/owner.h"
#include "cache/question.h"
#include "oci/schema1.h"
#include "store/blobs.h"
#include "store/records.h"

/* How long a request to the bucket may take while upstream is silent. Three of them tell a tag. */
enum { BUCKET_WITHIN_MS = 2000 };

/* ---- manifests in the store ---- */

static struct document *document_from(const struct digest *digest, const char *media_type,
                                      const void *bytes, size_t length) {
    struct document *document = document_new(digest, media_type, length, true);
    if (document && length)
        memcpy(document->bytes, bytes, length);
    return document;
}

/* What a client is told, and what the store can hold. For MEDIA_UNKNOWN the registry finds the type
 * in the bytes. */
static const char *media_type_of(const char *told) {
    return manifest_is_media_type(text_of(told)) ? told : MEDIA_UNKNOWN;
}

/* A linked manifest from the store, or NULL. */
static struct document *load(struct cache *cache, const struct repository *repository,
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

/* The manifest that a tag last named, or NULL; *age_ms: since upstream last confirmed the tag. */
static struct document *load_tag(struct cache *cache, const struct repository *repository,
                                 const char *tag, int64_t *age_ms) {
    struct tag_record record;
    if (!store_tag_get(cache->store, &repository->name, tag, &record))
        return NULL;
    int64_t age_s = clock_wall_s() - record.checked_s;
    *age_ms = age_s < 0 ? INT64_MAX : age_s * 1000; /* the clock was set back: the age is unknown */
    return load(cache, repository, &record.digest);
}

/* ---- asking upstream; on the question's thread ---- */

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

/* Puts a manifest and its link into the store. */
static bool keep_stored(struct question *question, const struct document *document,
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
    if (keep_stored(question, document, &error)) {
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

/* Keeps the answer in memory and, if it has bytes, later in the store. */
static void keep(struct question *question) {
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
}

/* `by_head`: upstream said it to a HEAD alone. */
static void keep_absent(struct question *question, bool by_head, const struct error *error) {
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

static const char *reference_text(const struct reference *reference,
                                  char digest[static DIGEST_STRING_SIZE]) {
    return reference->is_digest ? digest_format(&reference->digest, digest) : reference->tag;
}

/* A page of a captive portal or a proxy is no manifest, even with status 200. */
static bool check_is_manifest(const struct asking *asking, struct error *error) {
    const struct question *question = asking->context;
    const char *type = asking->head.content_type;
    struct manifest manifest;
    struct error reason = {0};
    if (manifest_parse(asking->body.bytes, asking->body.length, &manifest, &reason)) {
        manifest_finish(&manifest);
        return true;
    }
    if (reason.kind == ERROR_MEMORY) {
        *error = reason;
        return false;
    }
    return error_set(error, ERROR_UNAVAILABLE,
                     "upstream %s: manifest of %s: the response (%s) has no Docker-Content-Digest "
                     "and is no manifest (%s); is there a proxy or portal in between?",
                     question->repository.name.host, question->repository.name.path,
                     *type ? type : "no type", reason.text);
}

/* A digest of a body. Schema 1 is named for a part of its bytes. */
struct body_digest {
    struct digest digest;
    bool is_schema1;
};

/* Computes the digest by the algorithm of the one that is wanted. */
static bool compute_digest(const struct buffer *body, const struct digest *wanted,
                           struct body_digest *out, struct error *error) {
    enum digest_algorithm algorithm = wanted ? wanted->algorithm : DIGEST_SHA256;
    struct digest payload;
    *out = (struct body_digest){0};
    if (!digest_of(algorithm, body->bytes, body->length, &out->digest))
        return error_set(error, ERROR_MEMORY, "out of memory");
    if ((!wanted || !digest_equal(wanted, &out->digest)) &&
        schema1_digest(body->bytes, body->length, algorithm, &payload))
        *out = (struct body_digest){payload, true};
    return true;
}

/* Checks the digest that was asked for, or that upstream named. With the right digest the bytes are
 * what was asked for, whatever they are; without any digest they must be a manifest. */
static bool check_body(const struct asking *asking, struct body_digest *out, struct error *error) {
    const struct question *question = asking->context;
    const struct digest *promised = question->reference.is_digest ? &question->reference.digest
                                    : asking->head.has_digest     ? &asking->head.digest
                                                                  : NULL;
    char is[DIGEST_STRING_SIZE], should[DIGEST_STRING_SIZE];
    if (!compute_digest(&asking->body, promised, out, error))
        return false;
    if (!promised)
        return out->is_schema1 || check_is_manifest(asking, error);
    if (!digest_equal(promised, &out->digest))
        return error_set(error, ERROR_UNAVAILABLE,
                         "upstream %s: manifest of %s: the bytes have digest %s, not %s",
                         question->repository.name.host, question->repository.name.path,
                         digest_format(&out->digest, is), digest_format(promised, should));
    return true;
}

/* Makes the response the question's document. */
static bool accept_manifest(struct asking *asking, struct error *error) {
    struct question *question = asking->context;
    const struct buffer *body = &asking->body;
    struct body_digest named;
    if (!check_body(asking, &named, error))
        return false;
    question->document = document_from(&named.digest, media_type_of(asking->head.content_type),
                                       body->bytes, body->length);
    if (!question->document)
        return error_set(error, ERROR_MEMORY, "out of memory");
    question->document->is_schema1 = named.is_schema1;
    return true;
}

/* Asks with HEAD. Where the location refuses HEAD, it is asked by GET (*by_get), and the response
 * is the question's document. */
static bool ask_head(struct question *question, struct upstream_head *head, bool *by_get,
                     struct error *error) {
    char digest[DIGEST_STRING_SIZE];
    cleanup_asking struct asking asking = {
        .request = {.what = UPSTREAM_MANIFEST,
                    .head_only = true,
                    .reference = reference_text(&question->reference, digest)},
        .limit = MANIFEST_SIZE_LIMIT,
        .accept = accept_manifest,
        .context = question,
    };
    bool ok = ask_get(question, &asking, error);
    *head = asking.head;
    *by_get = asking.by_get;
    return ok;
}

static bool ask_whole(struct question *question, struct error *error) {
    char digest[DIGEST_STRING_SIZE];
    cleanup_asking struct asking asking = {
        .request = {.what = UPSTREAM_MANIFEST,
                    .reference = reference_text(&question->reference, digest)},
        .limit = MANIFEST_SIZE_LIMIT,
        .accept = accept_manifest,
        .context = question,
    };
    return ask_get(question, &asking, error);
}

/* The stored manifest, which another repository may have brought in. Upstream's response to a HEAD
 * said that this repository holds it too, so its bytes are not fetched again. */
static struct document *adopt(struct question *question, const struct digest *digest,
                              const char *media_type) {
    cleanup_buffer struct buffer body = {0};
    if (!store_blob_read(question->cache->store, digest, MANIFEST_SIZE_LIMIT, &body, NULL))
        return NULL;
    return document_from(digest, media_type, body.bytes, body.length);
}

/* Ends a question with the response to a GET, which was accepted or (`ok` false) failed. */
static bool end_get(struct question *question, bool ok, struct error *error) {
    if (ok) {
        question->fetched = true;
        keep(question);
        return true;
    }
    question_weigh_absence(question, error);
    if (error->kind == ERROR_NOT_FOUND)
        keep_absent(question, false, error);
    return false;
}

static bool answer_by_get(struct question *question, struct error *error) {
    return end_get(question, ask_whole(question, error), error);
}

/* What may still be current, so that a HEAD can spare the GET; NULL: nothing. */
static const struct digest *confirmable(const struct question *question) {
    const struct digest *held = question->held                  ? &question->held->digest
                                : question->reference.is_digest ? &question->reference.digest
                                                                : NULL;
    uint64_t size;
    bool is_here = held && (question->held || store_blob_has(question->cache->store, held, &size));
    return is_here ? held : NULL;
}

/* Takes what is here for the document that the response to a HEAD names. False: it is not here. */
static bool confirm(struct question *question, const struct upstream_head *head,
                    const struct digest *held) {
    /* A response without a digest may come from anybody. */
    if (!head->has_digest)
        return false;
    if (digest_equal(&head->digest, held) && question->held)
        question->document = document_keep(question->held);
    else if (!question->reference.is_digest || digest_equal(&head->digest, held))
        question->document = adopt(question, &head->digest, media_type_of(head->content_type));
    question->confirmed = question->document != NULL;
    return question->confirmed;
}

/* ---- the bucket's; on the question's thread ---- */

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
    question->document = document_from(digest, media_type_of(media_type), body.bytes, body.length);
    question->from_bucket = question->document != NULL;
    return question->from_bucket;
}

/* Of an upstream that is to confirm links, what the bucket says is served, and not kept: a link
 * made here would count as confirmed. */
static bool is_kept(const struct question *question) {
    return link_ttl(&question->repository) == INT64_MAX;
}

static struct tier_visit visit_of(struct question *question) {
    return (struct tier_visit){.cancel = question_cancel(question), .doubts = !is_kept(question)};
}

/* The answer to a question by digest, if the bucket has it. */
static bool answer_from_bucket(struct question *question, struct tier_visit *visit) {
    if (!question->reference.is_digest ||
        !take_from_bucket(question, &question->reference.digest, visit))
        return false;
    if (is_kept(question))
        keep(question);
    return true;
}

/* Stores the manifest and the tag, which counts as past its time: upstream has not confirmed it. */
static void store_bucket_tag(struct question *question) {
    struct cache *cache = question->cache;
    const struct document *document = question->document;
    struct tag_record record = {.digest = document->digest, .checked_s = 1};
    struct error error;
    memcpy(record.media_type, document->media_type, sizeof record.media_type);
    if (!keep_stored(question, document, &error) ||
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
    question->document = load(cache, repository, &digest);
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

/* Upstream has failed: only the bucket can tell. */
static bool answer_last_bucket_tag(struct question *question, struct error *error) {
    struct tier_visit visit = visit_of(question);
    visit.is_last = true;
    return take_bucket_tag(question, &visit, error);
}

/* Upstream is silent and may answer yet: a bucket that counts as down is not waited for. */
static bool answer_bucket_tag(struct question *question, struct error *error) {
    struct tier_visit visit = visit_of(question);
    visit.within_ms = BUCKET_WITHIN_MS;
    return take_bucket_tag(question, &visit, error);
}

/* ---- another replica's; on the question's thread ---- */

/* The digest is computed here; what a tag names is the replica's word. */
static bool accept_from_replica(struct question *question, struct owner_answer *answer,
                                struct error *error) {
    struct asking asking = {.body = answer->body, .context = question};
    asking.head.has_digest = answer->head.has_digest;
    asking.head.digest = answer->head.digest;
    memcpy(asking.head.content_type, answer->head.content_type, sizeof asking.head.content_type);
    return accept_manifest(&asking, error);
}

static bool take_head(struct question *question, const struct upstream_head *head);

static bool accept_head_from_replica(struct question *question, struct owner_answer *answer,
                                     struct error *error) {
    struct upstream_head head = {.has_length = answer->head.has_length,
                                 .length = answer->head.length,
                                 .has_digest = answer->head.has_digest,
                                 .digest = answer->head.digest};
    memcpy(head.content_type, answer->head.content_type, sizeof head.content_type);
    return take_head(question, &head) ||
           error_set(error, ERROR_UNAVAILABLE, "the head of a manifest does not say what it is");
}

static void end_absence(struct question *question, bool head_only, struct error *error) {
    question_weigh_absence(question, error);
    if (error->kind == ERROR_NOT_FOUND)
        keep_absent(question, head_only, error);
}

static bool answer_by_owner(struct question *question, bool head_only, struct error *error) {
    cleanup_owner_answer struct owner_answer answer = {.body = {.limit = MANIFEST_SIZE_LIMIT}};
    const struct owner_topic topic = {UPSTREAM_MANIFEST, &question->repository.name,
                                      &question->reference};
    bool ok = owner_ask(question, &topic, head_only,
                        head_only ? accept_head_from_replica : accept_from_replica, &answer, error);
    question->age_ms = answer.age_ms;
    question->fresh_ms = answer.fresh_ms;
    question->fetched = ok && !head_only;
    if (ok)
        keep(question);
    else if (!question->undecided && !(head_only && question->held))
        end_absence(question, head_only, error);
    return ok;
}

static bool answer_manifest_by_owner(struct question *question, struct error *error) {
    return answer_by_owner(question, false, error);
}

/* A 404 to a HEAD says neither why nor who says so, and may not end what is held. */
static bool answer_head_by_owner(struct question *question, struct error *error) {
    bool ok = answer_by_owner(question, true, error);
    if (!ok && !question->undecided && question->held && error->kind == ERROR_NOT_FOUND) {
        ok = answer_by_owner(question, false, error);
        question->fetched = false; /* a HEAD makes tarn fetch no blobs */
    }
    return ok;
}

/* ---- both ---- */

static bool answer_from_upstream(struct question *question, struct error *error) {
    const struct digest *held = confirmable(question);
    struct upstream_head head = {0};
    bool by_get;
    if (!held)
        return answer_by_get(question, error);
    bool ok = ask_head(question, &head, &by_get, error);
    if (by_get)
        return end_get(question, ok, error);
    if (!ok &&
        error->kind != ERROR_NOT_FOUND) /* a 404 to a HEAD says neither why nor who says so */
        return false;
    if (!ok || !confirm(question, &head, held))
        return answer_by_get(question, error);
    keep(question);
    return true;
}

/* Makes the response to a HEAD the question's document. False: the head does not say enough. */
static bool take_head(struct question *question, const struct upstream_head *head) {
    const struct reference *reference = &question->reference;
    const struct document *held = question->held;
    /* A response without a digest may come from anybody. */
    if (!head->has_digest ||
        (reference->is_digest && !digest_equal(&head->digest, &reference->digest)))
        return false;
    if (held && digest_equal(&head->digest, &held->digest)) {
        question->document = document_keep(question->held);
        question->confirmed = true;
    } else if (head->has_length && head->length > 0 &&
               manifest_is_media_type(text_of(head->content_type))) {
        question->document = document_new(&head->digest, head->content_type, head->length, false);
    }
    return question->document != NULL;
}

static bool answer_head_from_upstream(struct question *question, struct error *error) {
    struct upstream_head head = {0};
    bool by_get;
    bool ok = ask_head(question, &head, &by_get, error);
    if (!by_get && !ok && error->kind == ERROR_NOT_FOUND && !question->held) {
        keep_absent(question, true, error);
        return false;
    }
    if (!by_get && !ok && error->kind != ERROR_NOT_FOUND)
        return false;
    if (!by_get && ok && take_head(question, &head)) {
        keep(question);
        return true;
    }
    ok = by_get ? end_get(question, ok, error) : answer_by_get(question, error);
    question->fetched = false; /* a HEAD makes tarn fetch no blobs */
    return ok;
}

/* The bucket; upstream; and, if upstream fails, a bucket that did not answer in time. */
static bool answer_by(struct question *question,
                      bool (*ask_upstream)(struct question *question, struct error *error),
                      struct error *error) {
    struct tier_visit visit = visit_of(question);
    return answer_from_bucket(question, &visit) || ask_upstream(question, error) ||
           (tier_visit_again(&visit, error) && answer_from_bucket(question, &visit));
}

static bool answer_manifest(struct question *question, struct error *error) {
    return answer_by(question, answer_from_upstream, error);
}

static bool answer_manifest_head(struct question *question, struct error *error) {
    return answer_by(question, answer_head_from_upstream, error);
}

/* ---- from a client ---- */

void manifest_keep_pushed(struct cache *cache, const struct repository *repository,
                          const struct cache_pushed *pushed) {
    /* As an answer of upstream, which has just confirmed it. */
    struct question answer = {.cache = cache,
                              .repository = *repository,
                              .reference = *pushed->reference,
                              .writes = slot_writes(cache, repository)};
    answer.document = document_from(pushed->digest, media_type_of(pushed->media_type),
                                    pushed->bytes, pushed->length);
    if (!answer.document) /* upstream is asked instead */
        return;
    keep(&answer);
    link_confirm(cache, repository, LINK_MANIFEST, pushed->digest, 0);
    if (answer.store)
        answer.store(&answer);
    document_release(answer.document);
}

/* ---- responses to clients ---- */

/* Looks in memory, then in the store. FRESH: *held is the result. STALE: *held may be served when
 * upstream fails. */
static enum slot_state look(struct cache *cache, const struct inquiry *inquiry,
                            struct document **held, struct error *error) {
    const struct repository *repository = inquiry->repository;
    const struct reference *reference = inquiry->reference;
    enum slot_state state = slot_get(cache, inquiry->key, held, error);
    if (state == SLOT_ABSENT_HEAD)
        return inquiry->is_head ? SLOT_ABSENT : SLOT_EMPTY;
    if (state == SLOT_ABSENT ||
        (*held && ((*held)->has_bytes || (inquiry->is_head && state == SLOT_FRESH))))
        return state;

    /* Memory has nothing, or the head alone. */
    const struct slot_moment moment = slot_moment_now(cache, NULL);
    struct document *known = *held, *stored;
    int64_t age_ms = 0;
    if (reference->is_digest)
        stored = load(cache, repository, &reference->digest);
    else if (known && state == SLOT_FRESH && (stored = load(cache, repository, &known->digest)))
        age_ms = 0; /* upstream has just named this digest */
    else
        stored = load_tag(cache, repository, reference->tag, &age_ms);
    document_release(known);
    *held = stored;
    if (!stored)
        return SLOT_EMPTY;
    int64_t ttl = reference->is_digest ? INT64_MAX : ask_tag_ttl(repository);
    if (age_ms >= ttl || (known && !reference->is_digest && age_ms > 0))
        return SLOT_STALE;
    slot_put_loaded(cache, inquiry->key, stored, reference->is_digest ? INT64_MAX : ttl - age_ms,
                    age_ms, &moment);
    return SLOT_FRESH;
}

/* Whether the held document is served although upstream failed. Only a real 404 ends a tag. */
static bool may_serve_stale(const struct repository *repository, const struct document *held,
                            const struct error *error) {
    bool is_gone = error->kind == ERROR_CLOSED; /* nobody is there to be served */
    return held && !is_gone &&
           (error->kind != ERROR_NOT_FOUND ||
            upstream_settings(repository->upstream)->keep_deleted);
}

/* Serves what is held, if the repository's readers may still have it. */
static bool serve_held(struct cache *cache, const struct cache_caller *caller,
                       struct cache_result *result, struct error *error) {
    enum link_verdict verdict =
        link_check(cache, caller, LINK_MANIFEST, &result->document->digest, error);
    if (verdict == LINK_REFUSED) {
        document_release(result->document);
        result->document = NULL;
    } else if (verdict == LINK_UNSURE && result->outcome != CACHE_STALE) {
        ask_log_stale(caller->repository, "serving a stale manifest", NULL, error);
        result->outcome = CACHE_STALE;
    }
    return verdict != LINK_REFUSED;
}

/* Takes the answer to a question. */
static void take_result(struct cache *cache, const struct repository *repository,
                        const struct question_result *answer, struct cache_result *result) {
    if (!answer->from_bucket && !answer->is_stale) /* upstream has named it */
        link_confirm(cache, repository, LINK_MANIFEST, &answer->document->digest, answer->age_ms);
    result->document = answer->document;
    result->outcome = answer->is_stale                         ? CACHE_STALE
                      : answer->from_replica && answer->joined ? CACHE_REPLICA_JOINED
                      : answer->from_replica                   ? CACHE_REPLICA
                      : answer->from_bucket                    ? CACHE_BUCKET
                      : answer->joined                         ? CACHE_JOINED
                      : answer->confirmed                      ? CACHE_REVALIDATED
                                                               : CACHE_MISS;
}

/* Upstream failed or is silent, and nothing is held: looks for the tag in the bucket. Only a real
 * 404 ends a tag there, too. */
static bool ask_bucket_tag(struct cache *cache, const struct inquiry *about,
                           const struct error *why, struct question_result *answer) {
    const bool is_silent = answer->goes_on;
    char key[KEY_SIZE];
    struct error ignored;
    if (why->kind == ERROR_NOT_FOUND || why->kind == ERROR_CLOSED)
        return false;
    ask_key(key, about->repository, "bucket-tag", about->reference);
    const struct inquiry inquiry = {.key = key,
                                    .repository = about->repository,
                                    .reference = about->reference,
                                    .answer =
                                        is_silent ? answer_bucket_tag : answer_last_bucket_tag,
                                    .needs_bytes = true,
                                    .cancel = about->cancel};
    if (!question_ask(cache, &inquiry, answer, &ignored))
        return false;
    ask_log_stale(about->repository, "serving the bucket's tag", about->reference->tag, why);
    return true;
}

/* Asks the replica that owns the manifest, or else upstream. */
static bool ask_one(struct cache *cache, const struct cache_caller *caller,
                    const struct inquiry *inquiry, struct question_result *answer,
                    struct error *error) {
    const struct owner_topic topic = {UPSTREAM_MANIFEST, &inquiry->repository->name,
                                      inquiry->reference};
    struct inquiry to_owner = *inquiry;
    to_owner.to_replica = true;
    to_owner.answer = inquiry->is_head ? answer_head_by_owner : answer_manifest_by_owner;
    return question_ask_owner(cache, owner_is_another(cache, caller, &topic) ? &to_owner : NULL,
                              inquiry, answer, error);
}

/* Asks as ask_one(); and the bucket for a tag that upstream does not tell. */
static bool ask_all(struct cache *cache, const struct cache_caller *caller, struct inquiry *inquiry,
                    struct question_result *answer, struct error *error) {
    const bool asks_bucket = inquiry->is_impatient;
    bool goes_on = true;
    while (goes_on) {
        if (ask_one(cache, caller, inquiry, answer, error))
            return true;
        goes_on = answer->goes_on && asks_bucket && inquiry->is_impatient;
        if (asks_bucket && ask_bucket_tag(cache, inquiry, error, answer))
            return true;
        inquiry->is_impatient = false; /* from now on upstream is waited for to the end */
    }
    return false;
}

static bool find_manifest(struct cache *cache, const struct cache_caller *caller,
                          const struct reference *reference, bool head_only,
                          struct cache_result *result, struct error *error) {
    const struct repository *repository = caller->repository;
    char key[KEY_SIZE];
    struct document *held;
    struct inquiry inquiry = {.key = key,
                              .repository = repository,
                              .reference = reference,
                              .answer = head_only ? answer_manifest_head : answer_manifest,
                              .is_head = head_only,
                              .needs_bytes = !head_only,
                              .cancel = caller->cancel};
    cache_record_uses(cache);
    ask_key(key, repository, "manifest", reference);
    enum slot_state state = look(cache, &inquiry, &held, error);
    *result = (struct cache_result){.document = held, .outcome = CACHE_HIT};
    if (held) /* a manifest served from memory is used as well */
        uses_record(cache, &held->digest);
    if (state == SLOT_FRESH)
        return serve_held(cache, caller, result, error);
    if (state == SLOT_ABSENT)
        return false;

    inquiry.held = held;
    inquiry.is_impatient = cache->tier && !held && !reference->is_digest;
    struct question_result answer;
    if (ask_all(cache, caller, &inquiry, &answer, error)) {
        document_release(held);
        take_result(cache, repository, &answer, result);
        return true;
    }
    if (may_serve_stale(repository, held, error)) {
        ask_log_stale(repository, "serving a stale tag", reference->tag, error);
        result->outcome = CACHE_STALE;
        return serve_held(cache, caller, result, error);
    }
    document_release(held);
    result->document = NULL;
    return false;
}

bool cache_manifest(struct cache *cache, const struct cache_caller *caller,
                    const struct reference *reference, bool head_only, struct cache_result *result,
                    struct error *error) {
    char key[KEY_SIZE];
    bool ok = find_manifest(cache, caller, reference, head_only, result, error);
    ask_key(key, caller->repository, "manifest", reference);
    if (caller->ask != REPLICA_ASK_NONE &&
        !(ok && reference->is_digest &&
          cache_link_life(cache, caller->repository, true, &reference->digest, &result->age_ms,
                          &result->max_age_ms)))
        slot_read_life(cache, key, &result->age_ms, &result->max_age_ms);
    return ok;
}
