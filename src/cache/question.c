/* Questions to upstream: one at a time for each thing, whoever asks. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/clock.h"
#include "cache/cache_private.h"

void lookup_key(char key[static KEY_SIZE], const struct upstream *upstream, const char *repository,
                const char *what, const struct reference *reference) {
    char digest[DIGEST_STRING_SIZE];
    const char *parts[] = {upstream_host(upstream),
                           "/",
                           repository,
                           " ",
                           what,
                           " ",
                           !reference             ? ""
                           : reference->is_digest ? digest_format(&reference->digest, digest)
                                                  : reference->tag};
    char *to = key, *end = key + KEY_SIZE - 1;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        for (const char *from = parts[i]; *from && to < end; from++)
            *to++ = *from;
    }
    *to = '\0';
}

int64_t lookup_tag_ttl(const struct upstream *upstream) {
    return upstream_settings(upstream)->tag_ttl_ms;
}

struct reference lookup_reference(const struct digest *digest) {
    return (struct reference){.is_digest = true, .digest = *digest};
}

/* ---- one small body ---- */

struct collecting {
    struct upstream_head *head;
    struct buffer *body;
    struct cache *cache;
};

static bool collect_head(void *context, const struct upstream_head *head, struct error *error) {
    struct collecting *collecting = context;
    *collecting->head = *head;
    if (head->has_length && collecting->body->limit && head->length > collecting->body->limit)
        return error_set(error, ERROR_UNAVAILABLE,
                         "the answer has %" PRIu64 " bytes, over the limit of %zu", head->length,
                         collecting->body->limit);
    return true;
}

static bool collect_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    struct collecting *collecting = context;
    metric_add(collecting->cache->pulled_bytes, (int64_t)length);
    struct buffer *body = collecting->body;
    if (buffer_append(body, bytes, length))
        return true;
    if (!body->limit || length <= body->limit - body->length)
        return error_set(error, ERROR_MEMORY, "out of memory");
    return error_set(error, ERROR_UNAVAILABLE, "the answer is longer than the limit of %zu bytes",
                     body->limit);
}

bool lookup_get(struct cache *cache, struct upstream *upstream, struct upstream_request *request,
                size_t limit, struct upstream_head *head, struct buffer *body,
                struct error *error) {
    const unsigned places = upstream_places(upstream);
    int64_t patience = upstream_settings(upstream)->first_byte_timeout_ms;
    int64_t began = clock_ms();
    struct collecting collecting = {head, body, cache};
    const struct upstream_sink sink = {&collecting, collect_head, collect_bytes};
    request->stop = &cache->stopping;
    for (;;) {
        buffer_clear(body);
        body->limit = limit;
        if (places > 1 && patience) /* a silent place leaves time for the next */
            request->deadline_ms = began + patience * (request->location + 1) / places;
        if (upstream_perform(upstream, request, &sink, error))
            return true;
        bool elsewhere = error->kind == ERROR_UNAVAILABLE || error->kind == ERROR_TIMEOUT ||
                         error->kind == ERROR_RATE_LIMITED;
        if (!elsewhere || request->location + 1 >= places)
            return false;
        request->location++;
    }
}

/* ---- questions ---- */

/* questions_lock held. */
static void question_release(struct question *question) {
    if (--question->references > 0)
        return;
    document_release(question->held);
    document_release(question->document);
    free(question);
}

static bool answer(struct question *question, struct error *error) {
    switch (question->kind) {
    case QUESTION_MANIFEST:
        return answer_manifest(question, error);
    case QUESTION_MANIFEST_HEAD:
        return answer_manifest_head(question, error);
    case QUESTION_BLOB_HEAD:
        return answer_blob_head(question, error);
    case QUESTION_TAGS:
        return answer_tags(question, error);
    case QUESTION_REFERRERS:
        return answer_referrers(question, error);
    }
    return false;
}

static void *run_question(void *argument) {
    struct question *question = argument;
    struct cache *cache = question->cache;
    struct error error = {0};
    bool ok = answer(question, &error);
    pthread_mutex_lock(&cache->questions_lock);
    question->done = true;
    question->error = error;
    if (!ok) {
        document_release(question->document);
        question->document = NULL;
    }
    HASH_DEL(cache->questions, question);
    pthread_cond_broadcast(&cache->answered);
    question_release(question);
    pthread_mutex_unlock(&cache->questions_lock);
    return NULL;
}

static struct question *question_new(struct cache *cache, const char *key, enum question_kind kind,
                                     struct upstream *upstream, const char *repository,
                                     const struct reference *reference, struct document *held) {
    struct question *question = calloc(1, sizeof *question);
    if (!question)
        return NULL;
    question->cache = cache;
    question->kind = kind;
    question->upstream = upstream;
    question->held = held ? document_keep(held) : NULL;
    question->started_ms = clock_ms();
    question->references = 2; /* its thread's and the caller's */
    if (reference)
        question->reference = *reference;
    text_copy(text_of(key), question->key, sizeof question->key);
    text_copy(text_of(repository), question->repository, sizeof question->repository);
    return question;
}

/* Joins or starts the question; questions_lock held. NULL: no memory or thread. */
static struct question *join(struct cache *cache, const char *key, enum question_kind kind,
                             struct upstream *upstream, const char *repository,
                             const struct reference *reference, struct document *held,
                             bool *joined) {
    struct question *question;
    HASH_FIND_STR(cache->questions, key, question);
    *joined = question != NULL;
    if (question) {
        question->references++;
        return question;
    }
    question = question_new(cache, key, kind, upstream, repository, reference, held);
    if (!question)
        return NULL;
    HASH_ADD_STR(cache->questions, key, question);
    bool added = question->hh.tbl != NULL; /* else no memory for the table */
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    bool started = added && pthread_create(&thread, &attributes, run_question, question) == 0;
    pthread_attr_destroy(&attributes);
    if (!started) {
        if (added)
            HASH_DEL(cache->questions, question);
        question->references = 1;
        question_release(question);
        return NULL;
    }
    return question;
}

/* Between the caller's look at the slot and now, somebody's question may have been answered: then
 * that is the answer, and nobody is asked twice. questions_lock held. */
static bool answered_meanwhile(struct cache *cache, const char *key, const char *question_key,
                               enum question_kind kind, struct document **document,
                               struct error *error) {
    struct question *question;
    HASH_FIND_STR(cache->questions, question_key, question);
    if (question)
        return false;
    enum slot_state state = slot_get(cache, key, document, error);
    if (state == SLOT_ABSENT ||
        (state == SLOT_FRESH && (kind != QUESTION_MANIFEST || (*document)->has_bytes)))
        return true;
    document_release(*document);
    *document = NULL;
    return false;
}

bool question_ask(struct cache *cache, const char *key, enum question_kind kind,
                  struct upstream *upstream, const char *repository,
                  const struct reference *reference, struct document *held,
                  struct document **document, bool *still, bool *joined, struct error *error) {
    char question_key[KEY_SIZE];
    /* A HEAD and a GET of one thing are two questions. */
    snprintf(question_key, sizeof question_key, "%.*s%s", KEY_SIZE - 3, key,
             kind == QUESTION_MANIFEST_HEAD ? " ?" : "");
    *document = NULL;
    pthread_mutex_lock(&cache->questions_lock);
    if (answered_meanwhile(cache, key, question_key, kind, document, error)) {
        pthread_mutex_unlock(&cache->questions_lock);
        *joined = true;
        *still = false;
        return *document != NULL;
    }
    struct question *question =
        atomic_load(&cache->stopping)
            ? NULL
            : join(cache, question_key, kind, upstream, repository, reference, held, joined);
    if (!question) {
        pthread_mutex_unlock(&cache->questions_lock);
        error_set(error, ERROR_BUSY, "no memory or thread to ask upstream %s",
                  upstream_host(upstream));
        return false;
    }
    int64_t until = held ? question->started_ms + cache->stale_after_ms : INT64_MAX;
    while (!question->done && clock_ms() < until) {
        int64_t left = until - clock_ms();
        struct timespec deadline = clock_deadline(left < 1000 ? (left > 0 ? left : 0) : 1000);
        pthread_cond_clockwait(&cache->answered, &cache->questions_lock, CLOCK_MONOTONIC,
                               &deadline);
    }
    bool ok = question->done && question->document;
    if (ok) {
        *document = document_keep(question->document);
        *still = question->still;
    } else if (!question->done) {
        error_set(error, ERROR_TIMEOUT, "upstream %s has not answered for %lld s",
                  upstream_host(upstream), (long long)cache->stale_after_ms / 1000);
    } else if (error) {
        *error = question->error;
    }
    question_release(question);
    pthread_mutex_unlock(&cache->questions_lock);
    return ok;
}
