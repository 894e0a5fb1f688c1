/* Confirms with upstream, once in a link_ttl, that a repository still holds a digest. */
#include "cache/link.h"

#include "cache/ask.h"
#include "cache/cache_private.h"
#include "cache/question.h"
#include "oci/manifest.h"

int64_t link_ttl(const struct repository *repository) {
    int64_t ttl_ms = upstream_settings(repository->upstream)->link_ttl_ms;
    return ttl_ms ? ttl_ms : INT64_MAX;
}

bool link_is_refusal(const struct error *error) {
    return (error->kind == ERROR_DENIED || error->kind == ERROR_NOT_FOUND) && !error->doubtful &&
           error->status != 0;
}

static void make_key(char key[static KEY_SIZE], const struct repository *repository,
                     enum link_kind kind, const struct digest *digest) {
    struct reference reference = ask_reference(digest);
    ask_key(key, repository, kind == LINK_BLOB ? "linked-blob" : "linked-manifest", &reference);
}

/* Believes the link for so long. */
static void believe(struct cache *cache, const char *key, const struct digest *digest,
                    int64_t for_ms) {
    struct document *mark = document_new(digest, "", 0, false);
    if (mark)
        slot_put(cache, key, mark, for_ms);
    document_release(mark);
}

void link_confirm(struct cache *cache, const struct repository *repository, enum link_kind kind,
                  const struct digest *digest, int64_t age_ms) {
    char key[KEY_SIZE];
    int64_t ttl_ms = link_ttl(repository);
    if (ttl_ms == INT64_MAX)
        return;
    make_key(key, repository, kind, digest);
    if (age_ms < ttl_ms)
        believe(cache, key, digest, ttl_ms - age_ms);
    store_link_confirm(cache->store, &repository->name, kind, digest, age_ms / 1000);
}

void link_set_age(struct cache *cache, const struct repository *repository, enum link_kind kind,
                  const struct digest *digest, int64_t age_ms) {
    if (age_ms >= 1000 && link_ttl(repository) != INT64_MAX)
        store_link_confirm(cache->store, &repository->name, kind, digest, age_ms / 1000);
}

bool cache_link_life(struct cache *cache, const struct repository *repository, bool is_manifest,
                     const struct digest *digest, int64_t *age_ms, int64_t *max_age_ms) {
    *max_age_ms = link_ttl(repository);
    return *max_age_ms != INT64_MAX &&
           store_link_age(cache->store, &repository->name, is_manifest ? LINK_MANIFEST : LINK_BLOB,
                          digest, age_ms);
}

/* A link has one time. With a link_ttl it says when upstream confirmed the link, which no link in
 * use is without for long; else it says when the link was used. */
void link_note_use(struct cache *cache, const struct repository *repository, enum link_kind kind,
                   const struct digest *digest) {
    if (link_ttl(repository) == INT64_MAX)
        store_link_touch(cache->store, &repository->name, kind, digest);
}

static bool is_believed(struct cache *cache, const char *key) {
    struct document *mark;
    bool good = slot_get(cache, key, &mark, NULL) == SLOT_FRESH;
    document_release(mark);
    return good;
}

bool link_is_good(struct cache *cache, const struct repository *repository, enum link_kind kind,
                  const struct digest *digest) {
    char key[KEY_SIZE];
    if (link_ttl(repository) == INT64_MAX)
        return true;
    make_key(key, repository, kind, digest);
    return is_believed(cache, key);
}

/* ---- asking upstream; on the question's thread ---- */

/* Sends one request. A response that begins with 200 or 206 is enough, however it goes on. */
static bool ask(struct question *question, enum upstream_what what, bool head_only,
                struct error *error) {
    char digest[DIGEST_STRING_SIZE];
    cleanup_asking struct asking asking = {
        .request = {.what = what,
                    .head_only = head_only,
                    .reference = digest_format(&question->reference.digest, digest),
                    .has_range = what == UPSTREAM_BLOB && !head_only}, /* its first byte */
        .limit = what == UPSTREAM_BLOB ? 1 : MANIFEST_SIZE_LIMIT,
    };
    return ask_get(question, &asking, error) || asking.head.status / 100 == 2;
}

/* A response to HEAD does not say who refuses and why, and some registries refuse every HEAD, so a
 * refusal counts only in response to GET. */
static bool answer(struct question *question, enum link_kind kind, struct error *error) {
    enum upstream_what what = kind == LINK_BLOB ? UPSTREAM_BLOB : UPSTREAM_MANIFEST;
    const struct digest *digest = &question->reference.digest;
    bool ok = ask(question, what, true, error);
    if (!ok && (error->kind == ERROR_DENIED || error->kind == ERROR_NOT_FOUND ||
                error->kind == ERROR_UNSUPPORTED))
        ok = ask(question, what, false, error);
    if (ok) {
        link_confirm(question->cache, &question->repository, kind, digest, 0);
        question->document = document_keep(question->held);
        question->confirmed = true;
    } else if (link_is_refusal(error)) {
        store_link_delete(question->cache->store, &question->repository.name, kind, digest, NULL);
    }
    return ok;
}

static bool answer_blob(struct question *question, struct error *error) {
    return answer(question, LINK_BLOB, error);
}

static bool answer_manifest(struct question *question, struct error *error) {
    return answer(question, LINK_MANIFEST, error);
}

/* ---- checking ---- */

static bool ask_upstream(struct cache *cache, const struct cache_caller *caller, const char *key,
                         enum link_kind kind, const struct digest *digest, struct error *error) {
    struct question_result result;
    struct reference reference = ask_reference(digest);
    struct document *held = document_new(digest, "", 0, false);
    if (!held)
        return error_set(error, ERROR_MEMORY, "out of memory");
    const struct inquiry inquiry = {.key = key,
                                    .repository = caller->repository,
                                    .reference = &reference,
                                    .answer = kind == LINK_BLOB ? answer_blob : answer_manifest,
                                    .held = held,
                                    .cancel = caller->cancel};
    bool ok = question_ask(cache, &inquiry, &result, error);
    document_release(held);
    if (ok)
        document_release(result.document);
    return ok;
}

enum link_verdict link_check(struct cache *cache, const struct cache_caller *caller,
                             enum link_kind kind, const struct digest *digest,
                             struct error *error) {
    const struct repository *repository = caller->repository;
    char key[KEY_SIZE];
    struct error reason = {0};
    int64_t ttl_ms = link_ttl(repository), age_ms;
    if (ttl_ms == INT64_MAX)
        return LINK_GOOD;
    make_key(key, repository, kind, digest);
    if (is_believed(cache, key))
        return LINK_GOOD;
    bool is_linked = store_link_age(cache->store, &repository->name, kind, digest, &age_ms);
    if (is_linked && age_ms < ttl_ms) {
        believe(cache, key, digest, ttl_ms - age_ms);
        return LINK_GOOD;
    }
    if (ask_upstream(cache, caller, key, kind, digest, &reason))
        return LINK_GOOD;
    if (error)
        *error = reason;
    bool is_gone = reason.kind == ERROR_CLOSED; /* nobody is there to be served */
    return is_linked && !link_is_refusal(&reason) && !is_gone ? LINK_UNSURE : LINK_REFUSED;
}
