/* Asks upstream one question at a time for each key, however many clients wait. */
#include "cache/question.h"

#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>
#include "base/clock.h"
#include "base/lock.h"
#include "base/thread.h"
#include "cache/cache_private.h"
#include "cache/waiting.h"

enum {
    STORING_LIMIT = 16, /* answers that wait for the disk before an upstream has only its share */
    STORING_SHARE = 2,  /* of one upstream beyond that */
    STORING_MOST = 256, /* of all upstreams */
};

static void question_release(struct cache *cache, struct question *question)
    REQUIRES(cache->questions_lock);
static void question_release(struct cache *cache, struct question *question) {
    (void)cache; /* only for the lock that has to be held */
    if (--question->references > 0)
        return;
    document_release(question->held);
    document_release(question->document);
    condition_finish(&question->answered);
    condition_finish(&question->has_turn);
    free(question);
}

/* Stores one answer after the other, in the order of the answers: the last one about a tag is what
 * stays, and each finds the space that the one before has left. */
static void store_in_turn(struct cache *cache, struct question *question)
    REQUIRES(cache->questions_lock);
static void store_in_turn(struct cache *cache, struct question *question) {
    question->number = ++cache->stores;
    DL_APPEND(cache->storing, question);
    while (cache->storing != question)
        condition_wait(&question->has_turn, &cache->questions_lock);
    lock_release(&cache->questions_lock);
    question->store(question);
    question->store = NULL;
    lock_acquire(&cache->questions_lock);
    DL_DELETE(cache->storing, question);
    if (cache->storing)
        condition_signal(&cache->storing->has_turn);
    condition_broadcast(&cache->questions_changed);
}

/* Whether so many answers wait for the disk that this one has to wait with them before it is given.
 * Otherwise a client could make tarn hold any number of them. While many wait, each upstream has a
 * share, so that who pulls a lot from one does not hold up the others. */
static bool is_behind(const struct cache *cache, const struct question *question)
    REQUIRES(cache->questions_lock);
static bool is_behind(const struct cache *cache, const struct question *question) {
    unsigned all = 0, own = 0;
    for (const struct question *other = cache->storing; other; other = other->next) {
        own += other->repository.upstream == question->repository.upstream;
        if (++all >= STORING_MOST)
            return true;
    }
    return all > STORING_LIMIT && own >= STORING_SHARE;
}

static void run_question(void *argument) {
    struct question *question = argument;
    struct cache *cache = question->cache;
    struct error error = {0};
    bool ok = question->answer(question, &error);
    lock_acquire(&cache->questions_lock);
    /* A 404 is stored before it is answered, because the next request may not find the tag again.
     */
    if (question->store && (!ok || is_behind(cache, question)))
        store_in_turn(cache, question);
    question->done = true;
    question->error = error;
    if (!ok) {
        document_release(question->document);
        question->document = NULL;
    }
    HASH_DEL(cache->questions, question);
    condition_broadcast(&question->answered);
    condition_broadcast(&cache->questions_changed);
    if (question->store)
        store_in_turn(cache, question);
    question_release(cache, question);
    lock_release(&cache->questions_lock);
}

static struct question *question_new(struct cache *cache, const char *key,
                                     const struct inquiry *inquiry) {
    struct question *question = calloc(1, sizeof *question);
    if (!question)
        return NULL;
    condition_init(&question->answered);
    condition_init(&question->has_turn);
    question->cache = cache;
    question->answer = inquiry->answer;
    question->repository = *inquiry->repository;
    question->held = inquiry->held ? document_keep(inquiry->held) : NULL;
    question->started_ms = clock_ms();
    question->references = 2; /* its thread's and the caller's */
    if (inquiry->reference)
        question->reference = *inquiry->reference;
    text_copy(text_of(key), question->key, sizeof question->key);
    return question;
}

/* Joins the question under way for `key`, or starts one. NULL: no memory or thread. */
static struct question *join(struct cache *cache, const char *key, const struct inquiry *inquiry,
                             bool *joined) REQUIRES(cache->questions_lock);
static struct question *join(struct cache *cache, const char *key, const struct inquiry *inquiry,
                             bool *joined) {
    struct question *question;
    HASH_FIND_STR(cache->questions, key, question);
    *joined = question != NULL;
    if (question) {
        question->references++;
        return question;
    }
    question = question_new(cache, key, inquiry);
    if (!question)
        return NULL;
    HASH_ADD_STR(cache->questions, key, question);
    bool added = question->hh.tbl != NULL; /* else no memory for the table */
    if (added && thread_start("question", THREAD_STACK, run_question, question, NULL, NULL))
        return question;
    if (added)
        HASH_DEL(cache->questions, question);
    question->references = 1;
    question_release(cache, question);
    return NULL;
}

/* Whether another caller's question was answered after this caller had looked at the slot.
 * *document is then that answer, so that upstream is not asked twice. */
static bool answered_meanwhile(struct cache *cache, const char *question_key,
                               const struct inquiry *inquiry, struct document **document,
                               struct error *error) REQUIRES(cache->questions_lock);
static bool answered_meanwhile(struct cache *cache, const char *question_key,
                               const struct inquiry *inquiry, struct document **document,
                               struct error *error) {
    struct question *question;
    HASH_FIND_STR(cache->questions, question_key, question);
    if (question)
        return false;
    enum slot_state state = slot_get(cache, inquiry->key, document, error);
    if (state == SLOT_ABSENT || (state == SLOT_ABSENT_HEAD && !inquiry->needs_bytes) ||
        (state == SLOT_FRESH && (!inquiry->needs_bytes || (*document)->has_bytes)))
        return true;
    document_release(*document);
    *document = NULL;
    return false;
}

/* Waits until the question is done, or until a held document is to be served in its place. */
static void wait_for_answer(struct cache *cache, struct question *question, bool has_held)
    REQUIRES(cache->questions_lock);
static void wait_for_answer(struct cache *cache, struct question *question, bool has_held) {
    int64_t until = has_held ? question->started_ms + cache->stale_after_ms : INT64_MAX;
    while (!question->done && clock_ms() < until && !atomic_load(&cache->stopping))
        condition_wait_until(&question->answered, &cache->questions_lock, until);
}

bool question_ask(struct cache *cache, const struct inquiry *inquiry,
                  struct question_result *result, struct error *error) {
    const char *host = inquiry->repository->name.host;
    struct upstream *upstream = inquiry->repository->upstream;
    char key[KEY_SIZE];
    /* A HEAD and a GET of the same document are two questions. */
    snprintf(key, sizeof key, "%.*s%s", KEY_SIZE - 3, inquiry->key, inquiry->is_head ? " ?" : "");
    *result = (struct question_result){0};
    lock_acquire(&cache->questions_lock);
    if (answered_meanwhile(cache, key, inquiry, &result->document, error)) {
        lock_release(&cache->questions_lock);
        result->joined = true;
        return result->document != NULL;
    }
    if (!waiting_begin(cache, upstream, error)) {
        lock_release(&cache->questions_lock);
        return false;
    }
    struct question *question =
        atomic_load(&cache->stopping) ? NULL : join(cache, key, inquiry, &result->joined);
    if (!question) {
        waiting_end(cache, upstream);
        lock_release(&cache->questions_lock);
        return error_set(error, ERROR_BUSY, "no memory or thread to ask upstream %s", host);
    }
    wait_for_answer(cache, question, inquiry->held != NULL);
    waiting_end(cache, upstream);
    bool ok = question->done && question->document;
    if (ok) {
        result->document = document_keep(question->document);
        result->confirmed = question->confirmed;
    } else if (!question->done && atomic_load(&cache->stopping)) {
        error_set(error, ERROR_UNAVAILABLE, "tarn is stopping");
    } else if (!question->done) {
        error_set(error, ERROR_TIMEOUT, "upstream %s has not answered for %lld s", host,
                  (long long)cache->stale_after_ms / 1000);
    } else if (error) {
        *error = question->error;
    }
    question_release(cache, question);
    lock_release(&cache->questions_lock);
    return ok;
}
