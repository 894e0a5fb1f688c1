/* Blobs: those in the store, those in a flight, and through which repository they may be read. */
#include "base/log.h"
#include "cache/ask.h"
#include "cache/cache_private.h"
#include "cache/link.h"
#include "cache/owner.h"
#include "cache/question.h"
#include "cache/small.h"
#include "cache/waiting.h"
#include "store/blobs.h"
#include "store/records.h"

#include <stdlib.h>

#define SIZE_UNKNOWN UINT64_MAX /* a document's length, of a blob */

/* An empty blob is rare, and a server that does not know the length of its response to HEAD may say
 * 0. */
static bool has_size(const struct upstream_head *head) {
    return head->has_length && head->length > 0;
}

/* Makes upstream's answer, which is `age_ms` old, a document without bytes. */
static bool keep_answer(struct question *question, uint64_t size, int64_t age_ms,
                        struct error *error) {
    const struct digest *digest = &question->reference.digest;
    question->document = document_new(digest, "application/octet-stream", size, false);
    if (!question->document)
        return error_set(error, ERROR_MEMORY, "out of memory");
    char key[KEY_SIZE];
    ask_key(key, &question->repository, "blob", &question->reference);
    const int64_t ttl_ms = link_ttl(&question->repository);
    link_confirm(question->cache, &question->repository, LINK_BLOB, digest, age_ms);
    question->age_ms = age_ms;
    if (age_ms < ttl_ms)
        slot_put_answer(question->cache, key, question->document,
                        ttl_ms == INT64_MAX ? INT64_MAX : ttl_ms - age_ms, question->writes);
    return true;
}

/* On the question's thread: asks upstream whether the repository has the blob, and for its size. */
static bool answer_blob_head(struct question *question, struct error *error) {
    char text[DIGEST_STRING_SIZE];
    struct cache *cache = question->cache;
    const struct digest *digest = &question->reference.digest;
    uint64_t size = SIZE_UNKNOWN, known = SIZE_UNKNOWN;
    bool named = named_find(cache, &question->repository, digest, &known);
    cleanup_asking struct asking asking = {
        .request = {.what = UPSTREAM_BLOB,
                    .head_only = true,
                    .reference = digest_format(digest, text)},
        .says_enough = has_size,
        .get_after_404 = true,
        .needs_no_length = named && known != SIZE_UNKNOWN,
    };
    bool ok = ask_get(question, &asking, error);
    if (!ok && error->kind == ERROR_NOT_FOUND)
        slot_put_absent(cache, question->key, error, false, cache->negative_ttl_ms,
                        question->writes);
    if (!ok)
        return false;
    if (asking.head.has_length)
        size = asking.head.length;
    else if (!store_blob_has(cache->store, digest, &size))
        size = known;
    return keep_answer(question, size, 0, error);
}

static bool accept_size(struct question *question, struct owner_answer *answer,
                        struct error *error) {
    return answer->head.has_length
               ? keep_answer(question, answer->head.length, answer->age_ms, error)
               : error_set(error, ERROR_UNAVAILABLE, "the head of a blob does not say its size");
}

/* The same, asked of the replica that owns the blob. */
static bool answer_blob_head_by_owner(struct question *question, struct error *error) {
    cleanup_owner_answer struct owner_answer answer = {.body = {.limit = 1}};
    const struct owner_topic topic = {UPSTREAM_BLOB, &question->repository.name,
                                      &question->reference};
    char key[KEY_SIZE];
    bool ok = owner_ask(question, &topic, true, accept_size, &answer, error);
    question->fresh_ms = answer.fresh_ms;
    if (!ok && !question->undecided && error->kind == ERROR_NOT_FOUND) {
        ask_key(key, &question->repository, "blob", &question->reference);
        slot_put_absent(question->cache, key, error, false, question_absence_ms(question),
                        question->writes);
    }
    return ok;
}

/* Links a blob that the repository has, if it is stored, and says whether it is. A link that could
 * not be kept costs another request later. */
static bool link_stored(struct cache *cache, const struct repository *repository,
                        const struct digest *digest, uint64_t *size) {
    struct error ignored;
    if (!store_blob_has(cache->store, digest, size))
        return false;
    store_link_blob(cache->store, &repository->name, digest, &ignored);
    tier_note_link(cache->tier, &repository->name, digest);
    return true;
}

/* Whether the bucket's link says that the repository holds the blob. The link says nothing about
 * when that was confirmed, so it is no proof for an upstream whose links are to be confirmed,
 * unless that upstream fails. */
static bool is_linked_in_bucket(struct cache *cache, const struct cache_caller *caller,
                                const struct digest *digest, struct tier_visit *visit) {
    return cache->tier &&
           tier_has_link(cache->tier, &caller->repository->name, LINK_BLOB, digest, NULL, visit);
}

static struct tier_visit visit_of(const struct cache_caller *caller) {
    return (struct tier_visit){.cancel = caller->cancel ? *caller->cancel : (struct cancel){0},
                               .doubts = link_ttl(caller->repository) != INT64_MAX};
}

/* The same of a blob that is stored, which is then linked here, too; but not in doubt, because a
 * link made here counts as confirmed. */
static bool adopt_link(struct cache *cache, const struct cache_caller *caller,
                       const struct digest *digest, struct tier_visit *visit) {
    struct error ignored;
    if (!is_linked_in_bucket(cache, caller, digest, visit))
        return false;
    if (!visit->doubts)
        store_link_blob(cache->store, &caller->repository->name, digest, &ignored);
    return true;
}

static enum cache_outcome outcome_of(const struct question_result *result) {
    if (result->from_replica)
        return result->joined ? CACHE_REPLICA_JOINED : CACHE_REPLICA;
    return result->joined ? CACHE_JOINED : CACHE_MISS;
}

/* Asks upstream whether the repository has the blob, unless that is known already. *size is
 * SIZE_UNKNOWN if upstream does not say it. */
static bool ask_upstream(struct cache *cache, const struct cache_caller *caller,
                         const struct digest *digest, uint64_t *size, enum cache_outcome *outcome,
                         struct error *error) {
    const struct repository *repository = caller->repository;
    char key[KEY_SIZE];
    struct reference reference = ask_reference(digest);
    struct document *document;
    int64_t age_ms = 0;
    ask_key(key, repository, "blob", &reference);
    enum slot_state state = slot_get(cache, key, &document, error);
    if (state == SLOT_ABSENT || state == SLOT_ABSENT_HEAD)
        return false;
    *outcome = CACHE_HIT;
    if (state != SLOT_FRESH) {
        document_release(document);
        const struct inquiry inquiry = {.key = key,
                                        .repository = repository,
                                        .reference = &reference,
                                        .answer = answer_blob_head,
                                        .cancel = caller->cancel};
        struct inquiry to_owner = inquiry;
        to_owner.to_replica = true;
        to_owner.answer = answer_blob_head_by_owner;
        const struct owner_topic topic = {UPSTREAM_BLOB, &repository->name, &reference};
        struct question_result result;
        if (!question_ask_owner(cache, owner_is_another(cache, caller, &topic) ? &to_owner : NULL,
                                &inquiry, &result, error))
            return false;
        document = result.document;
        age_ms = result.age_ms;
        *outcome = outcome_of(&result);
    }
    bool is_stored = link_stored(cache, repository, digest, size);
    link_set_age(cache, repository, LINK_BLOB, digest, age_ms);
    /* Only a blob in the store is a hit. Otherwise the size comes from upstream's response to an
     * earlier request. */
    if (*outcome == CACHE_HIT && !is_stored)
        *outcome = CACHE_JOINED;
    if (!is_stored || document->length != SIZE_UNKNOWN)
        *size = document->length;
    document_release(document);
    return true;
}

bool cache_blob_known(struct cache *cache, const struct repository *repository,
                      const struct digest *digest, uint64_t *size) {
    char key[KEY_SIZE];
    struct reference reference = ask_reference(digest);
    ask_key(key, repository, "stored", &reference);
    return slot_get_stored(cache, key, digest, size) &&
           link_is_good(cache, repository, LINK_BLOB, digest);
}

/* Keeps in memory that the blob is stored and linked. The result is whether that was known already.
 */
static bool keep_known(struct cache *cache, const struct repository *repository,
                       const struct digest *digest, uint64_t size,
                       const struct slot_moment *moment) {
    char key[KEY_SIZE];
    uint64_t known;
    struct reference reference = ask_reference(digest);
    ask_key(key, repository, "stored", &reference);
    if (slot_get_stored(cache, key, digest, &known) && known == size)
        return true;
    slot_put_stored(cache, key, size, moment);
    return false;
}

/* Whether the repository's readers may still have the linked blob. */
static bool may_read(struct cache *cache, const struct cache_caller *caller,
                     const struct digest *digest, enum cache_outcome *outcome,
                     struct error *error) {
    enum link_verdict verdict = link_check(cache, caller, LINK_BLOB, digest, error);
    if (verdict == LINK_UNSURE) {
        ask_log_stale(caller->repository, "serving a stale blob", NULL, error);
        *outcome = CACHE_STALE;
    }
    return verdict != LINK_REFUSED;
}

/* Whether a manifest that the repository holds names the blob: then the repository has it. */
static bool is_named(struct cache *cache, const struct repository *repository,
                     const struct digest *digest) {
    uint64_t ignored;
    bool lasts = link_ttl(repository) == INT64_MAX; /* else upstream is asked again and again */
    if (!lasts || !named_find(cache, repository, digest, &ignored))
        return false;
    link_stored(cache, repository, digest, &ignored);
    return true;
}

/* Whether upstream has told a moment ago what there is to say of the blob. */
static bool is_answered(struct cache *cache, const struct repository *repository,
                        const struct digest *digest) {
    char key[KEY_SIZE];
    struct document *document;
    const struct reference reference = ask_reference(digest);
    ask_key(key, repository, "blob", &reference);
    enum slot_state state = slot_get(cache, key, &document, NULL);
    document_release(document);
    return state != SLOT_EMPTY && state != SLOT_STALE;
}

/* Whether the repository may read a blob that came to the store through another one. If no manifest
 * of this one names it, upstream decides; or a link in the bucket. */
static bool permit_stored(struct cache *cache, const struct cache_caller *caller,
                          const struct digest *digest, uint64_t *size, enum cache_outcome *outcome,
                          struct error *error) {
    struct tier_visit visit = visit_of(caller);
    return is_named(cache, caller->repository, digest) ||
           adopt_link(cache, caller, digest, &visit) ||
           ask_upstream(cache, caller, digest, size, outcome, error) ||
           (tier_visit_again(&visit, error) && adopt_link(cache, caller, digest, &visit));
}

/* Whether the bucket has the blob for this repository. */
static bool stat_in_bucket(struct cache *cache, const struct cache_caller *caller,
                           const struct digest *digest, uint64_t *size, struct tier_visit *visit) {
    const struct repository *repository = caller->repository;
    return cache->tier && !is_answered(cache, repository, digest) &&
           tier_has_blob(cache->tier, digest, size, visit) &&
           (is_named(cache, repository, digest) ||
            is_linked_in_bucket(cache, caller, digest, visit));
}

/* What is known without upstream of a blob that is in the store, or (*outcome) in the bucket. */
static bool stat_without_upstream(struct cache *cache, const struct cache_caller *caller,
                                  const struct digest *digest, uint64_t *size,
                                  enum cache_outcome *outcome, struct tier_visit *visit) {
    if (store_blob_has(cache->store, digest, size))
        return is_named(cache, caller->repository, digest) ||
               adopt_link(cache, caller, digest, visit);
    if (!stat_in_bucket(cache, caller, digest, size, visit))
        return false;
    *outcome = CACHE_BUCKET;
    return true;
}

/* cache_blob_stat() of a blob that is not in the store, or came there through others alone. */
static bool stat_elsewhere(struct cache *cache, const struct cache_caller *caller,
                           const struct digest *digest, uint64_t *size, enum cache_outcome *outcome,
                           struct error *error) {
    char text[DIGEST_STRING_SIZE];
    struct tier_visit visit = visit_of(caller);
    struct error why = {0};
    if (stat_without_upstream(cache, caller, digest, size, outcome, &visit))
        return true;
    if (ask_upstream(cache, caller, digest, size, outcome, &why))
        return *size != SIZE_UNKNOWN ||
               error_set(error, ERROR_UNAVAILABLE, "upstream %s does not say the size of blob %s",
                         caller->repository->name.host, digest_format(digest, text));
    if (tier_visit_again(&visit, &why) &&
        stat_without_upstream(cache, caller, digest, size, outcome, &visit))
        return true;
    if (error)
        *error = why;
    return false;
}

bool cache_blob_stat(struct cache *cache, const struct cache_caller *caller,
                     const struct digest *digest, uint64_t *size, enum cache_outcome *outcome,
                     struct error *error) {
    const struct repository *repository = caller->repository;
    const struct slot_moment moment = slot_moment_now(cache, digest);
    *outcome = CACHE_HIT;
    if (!store_blob_has_linked(cache->store, &repository->name, digest, size))
        return stat_elsewhere(cache, caller, digest, size, outcome, error);
    if (!may_read(cache, caller, digest, outcome, error))
        return false;
    keep_known(cache, repository, digest, *size, &moment);
    return true;
}

/* Makes sure that the flight may be read through this repository. */
static bool permit(struct cache *cache, struct flight *flight, const struct cache_caller *caller,
                   const struct digest *digest, struct error *error) {
    const struct repository *repository = caller->repository;
    bool found;
    uint64_t size;
    enum cache_outcome ignored;
    if (flight_wait_permission(flight, repository, caller->cancel, &found, error))
        return true;
    if (found)
        return false;
    /* The bucket's link is proof, even if the flight has left the bucket after a fault. */
    const bool in_bucket = flight_is_in_bucket(flight);
    struct tier_visit visit = visit_of(caller);
    visit.is_last = flight_is_at_last_stop(flight);
    bool linked = in_bucket && is_linked_in_bucket(cache, caller, digest, &visit);
    bool ok = linked || is_named(cache, repository, digest);
    if (!ok) {
        waiting_end(cache, repository->upstream); /* a question counts for itself */
        ok = ask_upstream(cache, caller, digest, &size, &ignored, error);
        if (!ok && tier_visit_again(&visit, error))
            ok = linked = is_linked_in_bucket(cache, caller, digest, &visit);
        waiting_go_on(cache, repository->upstream);
    }
    if (ok && !(linked && visit.doubts)) /* else the flight would make a link here */
        flight_add_source(flight, repository);
    if (ok && in_bucket && !linked)
        tier_note_link(cache->tier, &repository->name, digest);
    return ok;
}

/* The range to be fetched first, with its numbers limited, so that their sum cannot overflow. */
static struct blob_range clamp_range(const struct blob_range *range) {
    struct blob_range clamped = *range;
    const uint64_t most = INT64_MAX;
    if (clamped.kind == BLOB_FROM_TO && clamped.last >= most)
        clamped.kind = BLOB_FROM;
    if ((clamped.kind == BLOB_FROM || clamped.kind == BLOB_FROM_TO) && clamped.first >= most)
        clamped = (struct blob_range){.kind = BLOB_WHOLE};
    if (clamped.kind == BLOB_LAST && (clamped.count == 0 || clamped.count >= most))
        clamped = (struct blob_range){.kind = BLOB_WHOLE};
    return clamped;
}

/* Follows a flight: makes sure that the repository may read it, and waits for its size. */
static bool follow(struct cache *cache, struct flight *flight, bool linked,
                   const struct cache_caller *caller, struct cache_blob *blob,
                   struct error *error) {
    if (linked)
        flight_add_source(flight, caller->repository);
    else if (!permit(cache, flight, caller, &blob->digest, error))
        return false;
    if (!flight_wait_size(flight, caller->cancel, error))
        return false;
    blob->size_known = flight_read_size(flight, &blob->size);
    return true;
}

/* The request begins to wait for the flight. A flight whose bytes are coming makes nobody wait for
 * long. */
static bool begin_to_wait(struct cache *cache, struct upstream *upstream,
                          const struct digest *digest, struct error *error) {
    if (!flights_is_moving(cache->flights, digest))
        return waiting_begin(cache, upstream, error);
    waiting_go_on(cache, upstream);
    return true;
}

/* Joins or starts the flight of a cold blob and follows it. `linked`: the repository is known to
 * hold the blob. The request counts as waiting. */
static bool enter_flight(struct cache *cache, const struct cache_caller *caller,
                         const struct blob_range *range, bool linked, struct cache_blob *blob,
                         struct error *error) {
    const struct repository *repository = caller->repository;
    bool started, misled, heard;
    unsigned tries = 0;
    const struct blob_range first = clamp_range(range);
    const struct flight_wish wish = {repository, &blob->digest, &first, caller->ask};
    const unsigned writes = slot_writes(cache, repository);
    blob->upstream = repository->upstream;
    do {
        struct flight_reader *reader = flight_reader_open(cache->flights, &wish, &started, error);
        if (!reader)
            return false;
        blob->outcome = started ? CACHE_MISS : CACHE_JOINED;
        struct flight *flight = flight_reader_flight(reader);
        if (follow(cache, flight, linked, caller, blob, error)) {
            blob->reader = reader;
            if (started && flight_is_from_bucket(flight))
                blob->outcome = CACHE_BUCKET;
            else if (flight_is_from_replica(flight))
                blob->outcome = started ? CACHE_REPLICA : CACHE_REPLICA_JOINED;
            return true;
        }
        heard = flight_has_heard(flight);
        /* What another repository sends says nothing about this one, which is asked once more. */
        misled = flight_was_misled(flight, repository);
        flight_reader_close(reader);
    } while (misled && ++tries < 2);
    if (started && error->kind == ERROR_NOT_FOUND && !heard) {
        char key[KEY_SIZE];
        struct reference reference = ask_reference(&blob->digest);
        ask_key(key, repository, "blob", &reference);
        slot_put_absent(cache, key, error, false, cache->negative_ttl_ms, writes);
    }
    return false;
}

static bool open_flight(struct cache *cache, const struct cache_caller *caller,
                        const struct blob_range *range, bool linked, struct cache_blob *blob,
                        struct error *error) {
    struct upstream *upstream = caller->repository->upstream;
    if (!cancel_check(caller->cancel, error) ||
        !begin_to_wait(cache, upstream, &blob->digest, error))
        return false;
    bool ok = enter_flight(cache, caller, range, linked, blob, error);
    waiting_end(cache, upstream);
    return ok;
}

/* Whether upstream said a moment ago that the repository does not hold the blob. */
static bool is_known_absent(struct cache *cache, const struct repository *repository,
                            const struct digest *digest, struct error *error) {
    char key[KEY_SIZE];
    struct document *document;
    struct reference reference = ask_reference(digest);
    ask_key(key, repository, "blob", &reference);
    bool absent = slot_get(cache, key, &document, error) == SLOT_ABSENT;
    document_release(document);
    return absent;
}

/* Whether there is a link, and it need not be confirmed. */
static bool is_linked_now(struct cache *cache, const struct repository *repository,
                          enum link_kind kind, const struct digest *digest) {
    int64_t age_ms;
    return store_link_age(cache->store, &repository->name, kind, digest, &age_ms) &&
           age_ms <= link_ttl(repository);
}

bool cache_may_stream(struct cache *cache, const struct repository *repository, bool is_manifest,
                      const struct digest *digest) {
    uint64_t size;
    if (is_manifest)
        return is_linked_now(cache, repository, LINK_MANIFEST, digest);
    return is_linked_now(cache, repository, LINK_BLOB, digest) ||
           named_find(cache, repository, digest, &size);
}

void cache_blob_close(struct cache_blob *blob) {
    if (!blob->reader && blob->is_wanted_again)
        small_read(blob);
    if (blob->reader)
        flight_reader_close(blob->reader);
    else if (blob->fd >= 0)
        store_blob_close(blob->store, &blob->digest, blob->fd);
    *blob = (struct cache_blob){.fd = -1};
}

static bool open_blob(struct cache *cache, const struct cache_caller *caller,
                      const struct digest *digest, const struct blob_range *range,
                      struct cache_blob *blob, struct error *error) {
    const struct repository *repository = caller->repository;
    *blob = (struct cache_blob){
        .fd = -1, .outcome = CACHE_HIT, .digest = *digest, .store = cache->store, .cache = cache};
    struct store_access access;
    cache_record_uses(cache);
    const struct slot_moment moment = slot_moment_now(cache, digest);
    blob->fd = store_blob_open_linked(cache->store, &repository->name, digest, &access);
    if (blob->fd >= 0 && !may_read(cache, caller, digest, &blob->outcome, error)) {
        cache_blob_close(blob);
        return false;
    }
    /* A cold blob's own transfer asks upstream; another repository's may be joined by a good link.
     */
    if (blob->fd < 0 && !access.stored)
        access.linked = access.linked && link_is_good(cache, repository, LINK_BLOB, digest);
    if (blob->fd >= 0) {
        link_note_use(cache, repository, LINK_BLOB, digest);
        tier_note_use(cache->tier, digest);
        blob->is_wanted_again = keep_known(cache, repository, digest, access.size, &moment);
    } else if (access.stored && !access.linked) {
        if (!permit_stored(cache, caller, digest, &access.size, &blob->outcome, error))
            return false;
        access.linked = true;
        blob->fd = store_blob_open(cache->store, digest, &access.size, NULL);
    }
    blob->size_known = blob->fd >= 0;
    blob->size = access.size;
    return blob->size_known || (!is_known_absent(cache, repository, digest, error) &&
                                open_flight(cache, caller, range, access.linked, blob, error));
}

/* A replica asks for a blob that is held. False: it is to be had from the bucket. */
static bool offer_held(struct cache *cache, const struct cache_caller *caller,
                       const struct digest *digest, struct error *error) {
    if (caller->ask == REPLICA_ASK_ARRIVING && tier_is_settled(cache->tier, digest))
        return error_set(error, ERROR_NOT_FOUND, "the blob is in the bucket");
    if (caller->ask == REPLICA_ASK_FETCH_ABSENT)
        tier_note_absent(cache->tier, &caller->repository->name, digest);
    return true;
}

bool cache_blob_open(struct cache *cache, const struct cache_caller *caller,
                     const struct digest *digest, const struct blob_range *range,
                     struct cache_blob *blob, struct error *error) {
    const bool is_arriving = caller->ask == REPLICA_ASK_ARRIVING;
    bool ok = open_blob(cache, caller, digest, range, blob, error);
    if (caller->ask == REPLICA_ASK_NONE)
        return ok;
    if (ok && !blob->reader && !offer_held(cache, caller, digest, error)) {
        cache_blob_close(blob);
        ok = false;
    }
    if (ok)
        blob->answer = blob->reader ? REPLICA_ANSWER_ARRIVING : REPLICA_ANSWER_HELD;
    else if (is_arriving && !error->status && error->kind == ERROR_NOT_FOUND)
        blob->answer = REPLICA_ANSWER_NO;
    return ok;
}

void cache_blob_want(struct cache_blob *blob, uint64_t first, uint64_t end, bool whole) {
    if (blob->reader)
        flight_reader_want(blob->reader, first, end, whole);
}

/* A reader that waits for bytes. */
struct blob_wait {
    struct cache_blob *blob;
    const struct cancel *cancel; /* the caller's */
    bool crowded;                /* the reader must make room for those who wait for others */
};

/* Called when nothing has come for the reader for a while. */
static bool may_wait_on(void *context) {
    struct blob_wait *wait = context;
    const struct cache_blob *blob = wait->blob;
    if (!cancel_check(wait->cancel, NULL))
        return false;
    wait->crowded = waiting_is_crowded(blob->cache, blob->upstream) &&
                    !flight_is_moving(flight_reader_flight(blob->reader));
    return !wait->crowded;
}

/* As flight_reader_wait(); and ERROR_BUSY if no bytes come and more than their share of readers
 * wait for the upstream. */
static bool wait_for_bytes(struct cache_blob *blob, uint64_t offset, struct flight_bytes *bytes,
                           const struct cancel *cancel, struct error *error) {
    struct blob_wait wait = {blob, cancel, false};
    const struct cancel both = {.is_wanted = may_wait_on, .context = &wait};
    waiting_go_on(blob->cache, blob->upstream);
    bool ok = flight_reader_wait(blob->reader, offset, bytes, &both, error);
    waiting_end(blob->cache, blob->upstream);
    if (!ok && wait.crowded)
        return waiting_refuse(blob->cache, blob->upstream, error);
    return ok;
}

bool cache_blob_wait(struct cache_blob *blob, uint64_t offset, uint64_t *end,
                     const struct cancel *cancel, struct error *error) {
    struct flight_bytes bytes = {blob->fd, blob->size, blob->must_copy};
    bool ok = !blob->reader || wait_for_bytes(blob, offset, &bytes, cancel, error);
    blob->fd = bytes.fd;
    blob->must_copy = bytes.must_copy;
    *end = bytes.end;
    return ok;
}

void cache_blob_unreadable(struct cache_blob *blob, const struct error *why) {
    struct error error = {0};
    if (blob->reader)
        flight_give_up(flight_reader_flight(blob->reader), why);
    else if (!store_blob_quarantine(blob->store, &blob->digest, blob->fd, &error))
        log_at(LOG_ERROR, "unreadable blob stays", LOG_STRING("error", error.text));
    blob->is_wanted_again = false;
}

bool cache_blob_settle(struct cache_blob *blob, struct error *error) {
    if (!blob->reader)
        return true;
    flight_wait_end(flight_reader_flight(blob->reader));
    return store_blob_has(blob->store, &blob->digest, NULL) ||
           error_set(error, ERROR_IO,
                     "the whole blob arrived but could not be kept; tarn's log says why");
}

bool cache_blob_fetch(struct cache *cache, const struct repository *repository,
                      const struct digest *digest, struct error *error) {
    const struct blob_range whole = {.kind = BLOB_WHOLE};
    const struct flight_wish wish = {repository, digest, &whole};
    return store_blob_has(cache->store, digest, NULL) || /* the first read asks if needed */
           flights_fetch(cache->flights, &wish, error);
}
