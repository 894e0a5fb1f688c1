/* Serves manifests: fresh for ever by digest, for tag_ttl by tag. */
#include "cache/manifest.h"

#include "cache/ask.h"
#include "cache/cache_private.h"
#include "cache/document.h"
#include "cache/link.h"
#include "cache/manifest_answer.h"
#include "cache/manifest_bucket.h"
#include "cache/manifest_store.h"
#include "cache/owner.h"
#include "store/records.h"

/* ---- before a client waits for it ---- */

/* No client waits, so that its blobs need not be fetched. */
static bool answer_refresh(struct question *question, struct error *error) {
    const bool ok = question->held->has_bytes ? manifest_answer(question, error)
                                              : manifest_answer_head(question, error);
    question->fetched = false;
    if (ok && !question->from_bucket)
        link_confirm(question->cache, &question->repository, LINK_MANIFEST,
                     &question->document->digest, 0);
    return ok;
}

void manifest_refresh(struct cache *cache, const struct repository *repository,
                      const struct reference *reference, struct document *held) {
    char key[KEY_SIZE];
    const struct owner_topic topic = {UPSTREAM_MANIFEST, &repository->name, reference};
    const struct cache_caller caller = {.repository = repository, .ask = REPLICA_ASK_NONE};
    const bool to_replica = owner_is_another(cache, &caller, &topic);
    const bool is_head = !held->has_bytes;
    ask_key(key, repository, "manifest", reference);
    const struct inquiry inquiry = {.key = key,
                                    .repository = repository,
                                    .reference = reference,
                                    .answer = !to_replica ? answer_refresh
                                              : is_head   ? manifest_answer_head_by_owner
                                                          : manifest_answer_by_owner,
                                    .to_replica = to_replica,
                                    .is_head = is_head,
                                    .needs_bytes = !is_head,
                                    .held = held};
    question_begin(cache, &inquiry);
}

/* ---- from a client ---- */

void manifest_keep_pushed(struct cache *cache, const struct repository *repository,
                          const struct cache_pushed *pushed) {
    /* As an answer of upstream, which has just confirmed it. */
    struct question answer = {.cache = cache,
                              .repository = *repository,
                              .reference = *pushed->reference,
                              .writes = slot_writes(cache, repository)};
    answer.document = document_from(pushed->digest, manifest_store_media_type(pushed->media_type),
                                    pushed->bytes, pushed->length);
    if (!answer.document) /* upstream is asked instead */
        return;
    manifest_store_keep(&answer);
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
    if (state == SLOT_AGING) {
        refresh_note(cache, repository, reference, *held);
        state = SLOT_FRESH;
    }
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
        stored = manifest_store_load(cache, repository, &reference->digest);
    else if (known && state == SLOT_FRESH &&
             (stored = manifest_store_load(cache, repository, &known->digest)))
        age_ms = 0; /* upstream has just named this digest */
    else
        stored = manifest_store_load_tag(cache, repository, reference->tag, &age_ms);
    document_release(known);
    *held = stored;
    if (!stored)
        return SLOT_EMPTY;
    int64_t ttl = reference->is_digest ? INT64_MAX : ask_tag_ttl(repository);
    if (age_ms >= ttl || (known && !reference->is_digest && age_ms > 0))
        return SLOT_STALE;
    slot_put_loaded(cache, inquiry->key, stored, reference->is_digest ? INT64_MAX : ttl - age_ms,
                    age_ms, &moment);
    if (!reference->is_digest && refresh_lead_ms(ttl))
        slot_set_lead(cache, inquiry->key, refresh_lead_ms(ttl));
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
                                    .answer = is_silent ? manifest_bucket_answer_tag
                                                        : manifest_bucket_answer_last_tag,
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
    to_owner.answer = inquiry->is_head ? manifest_answer_head_by_owner : manifest_answer_by_owner;
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
                              .answer = head_only ? manifest_answer_head : manifest_answer,
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
