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
    /* So many answers wait for the disk, or so many bytes, before an upstream has only its share.
     */
    STORING_LIMIT = 96,
    STORING_BYTES = 8 << 20,
    STORING_SHARE = 2,  /* of one upstream beyond that */
    STORING_MOST = 256, /* of all upstreams */
    LOOK_MS = 500,      /* how often a caller that waits looks whether its client has gone */
};

static void question_release(struct cache *cache, struct question *question)
    REQUIRES(cache->questions_lock);
static void question_release(struct cache *cache, struct question *question) {
    (void)cache; /* only for the lock that has to be held */
    if (--question->references > 0)
        return;
    document_release(question->held);
    document_release(question->document);
    upstream_release(question->repository.upstream);
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
    if (question->writes == slot_writes(cache, &question->repository))
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
    uint64_t bytes = 0;
    for (const struct question *other = cache->storing; other; other = other->next) {
        own += other->repository.upstream == question->repository.upstream;
        if (other->document)
            bytes += other->document->length;
        if (++all >= STORING_MOST)
            return true;
    }
    return (all > STORING_LIMIT || bytes > STORING_BYTES) && own >= STORING_SHARE;
}

/* Whether the question was given up because its callers had gone, and another has come since. */
static bool is_wanted_again(struct cache *cache, struct question *question,
                            const struct error *error) REQUIRES(cache->questions_lock);
static bool is_wanted_again(struct cache *cache, struct question *question,
                            const struct error *error) {
    bool given_up = question->was_abandoned && error->kind == ERROR_CLOSED;
    question->was_abandoned = false;
    return given_up && question->waiting > 0 && !atomic_load(&cache->stopping);
}

/* Asks upstream. Returns with the lock held. */
static bool answer(struct cache *cache, struct question *question, struct error *error)
    ACQUIRE(cache->questions_lock);
static bool answer(struct cache *cache, struct question *question, struct error *error) {
    for (;;) {
        error_clear(error);
        bool ok = question->answer(question, error);
        lock_acquire(&cache->questions_lock);
        if (ok || !is_wanted_again(cache, question, error))
            return ok;
        lock_release(&cache->questions_lock);
    }
}

static void run_question(void *argument) {
    struct question *question = argument;
    struct cache *cache = question->cache;
    struct error error = {0};
    bool ok = answer(cache, question, &error);
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
    cache->refreshing -= question->is_refresh;
    if (question->is_outdated)
        cache->outdated--;
    else
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
    question->from_replica = inquiry->to_replica;
    question->repository = *inquiry->repository;
    upstream_keep(question->repository.upstream);
    question->held = inquiry->held ? document_keep(inquiry->held) : NULL;
    question->started_ms = clock_ms();
    question->writes = slot_writes(cache, inquiry->repository);
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
    if (question && question->writes != slot_writes(cache, inquiry->repository)) {
        HASH_DEL(cache->questions, question);
        question->is_outdated = true;
        cache->outdated++;
        question = NULL;
    }
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
    if (added && thread_start_detached("question", run_question, question, NULL))
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
    if (question && question->writes == slot_writes(cache, inquiry->repository))
        return false;
    enum slot_state state = slot_get(cache, inquiry->key, document, error);
    bool is_fresh = state == SLOT_FRESH || state == SLOT_AGING;
    if (state == SLOT_ABSENT || (state == SLOT_ABSENT_HEAD && !inquiry->needs_bytes) ||
        (is_fresh && (!inquiry->needs_bytes || (*document)->has_bytes)))
        return true;
    document_release(*document);
    *document = NULL;
    return false;
}

/* Waits until the question is done, or until a held document is to be served in its place. False:
 * the caller was cancelled. */
static bool wait_for_answer(struct cache *cache, struct question *question,
                            const struct inquiry *inquiry, struct error *error)
    REQUIRES(cache->questions_lock);
static bool wait_for_answer(struct cache *cache, struct question *question,
                            const struct inquiry *inquiry, struct error *error) {
    const bool is_bounded = inquiry->held || inquiry->is_impatient;
    int64_t until = is_bounded ? question->started_ms + cache->stale_after_ms : INT64_MAX;
    int64_t look_ms = clock_ms() + LOOK_MS;
    while (!question->done && clock_ms() < until && !atomic_load(&cache->stopping)) {
        condition_wait_until(&question->answered, &cache->questions_lock,
                             look_ms < until ? look_ms : until);
        if (question->done || clock_ms() < look_ms)
            continue;
        lock_release(&cache->questions_lock);
        bool wanted = cancel_check(inquiry->cancel, error);
        lock_acquire(&cache->questions_lock);
        if (!wanted)
            return false;
        look_ms = clock_ms() + LOOK_MS;
    }
    return true;
}

/* Waits for the question's answer, as one of its callers. False: the caller was cancelled. */
static bool wait_in(struct cache *cache, struct question *question, const struct inquiry *inquiry,
                    struct error *error) REQUIRES(cache->questions_lock);
static bool wait_in(struct cache *cache, struct question *question, const struct inquiry *inquiry,
                    struct error *error) {
    question->waiting++;
    atomic_store(&question->abandoned, false);
    bool wanted = wait_for_answer(cache, question, inquiry, error);
    question->waiting--;
    if (wanted)
        question->is_for_all = true;
    if (question->waiting == 0 && !question->is_for_all) {
        question->was_abandoned = true;
        atomic_store(&question->abandoned, true);
    }
    return wanted;
}

/* Takes the answer as the caller's result. False: there is none. */
static bool take_answer(struct cache *cache, const struct question *question,
                        struct question_result *result, struct error *error)
    REQUIRES(cache->questions_lock);
static bool take_answer(struct cache *cache, const struct question *question,
                        struct question_result *result, struct error *error) {
    const char *host = question->repository.name.host;
    if (question->done && question->document) {
        result->document = document_keep(question->document);
        result->confirmed = question->confirmed;
        result->from_bucket = question->from_bucket;
        result->from_replica = question->from_replica;
        result->age_ms = question->age_ms;
        result->is_stale = question->is_stale;
        return true;
    }
    result->goes_on = !question->done;
    result->undecided = question->done && question->undecided;
    if (!question->done && atomic_load(&cache->stopping))
        return error_set(error, ERROR_UNAVAILABLE, "tarn is stopping") ||
               error_because(error, ERROR_REASON_STOPPING);
    if (!question->done)
        return error_set(error, ERROR_TIMEOUT, "upstream %s has not answered for %lld s", host,
                         (long long)cache->stale_after_ms / 1000);
    if (error)
        *error = question->error;
    return false;
}

/* A HEAD and a GET of the same document are two questions, and so are one to upstream and one to a
 * replica: what a replica asks here must not wait for the latter. */
static void make_key(char key[static KEY_SIZE], const struct inquiry *inquiry) {
    snprintf(key, KEY_SIZE, "%.*s%s%s", KEY_SIZE - 5, inquiry->key, inquiry->is_head ? " ?" : "",
             inquiry->to_replica ? " @" : "");
}

bool question_ask(struct cache *cache, const struct inquiry *inquiry,
                  struct question_result *result, struct error *error) {
    const char *host = inquiry->repository->name.host;
    struct upstream *upstream = inquiry->repository->upstream;
    char key[KEY_SIZE];
    make_key(key, inquiry);
    *result = (struct question_result){0};
    if (!cancel_check(inquiry->cancel, error))
        return false;
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
    bool ok = wait_in(cache, question, inquiry, error);
    waiting_end(cache, upstream);
    ok = ok && take_answer(cache, question, result, error);
    question_release(cache, question);
    lock_release(&cache->questions_lock);
    return ok;
}

void question_begin(struct cache *cache, const struct inquiry *inquiry) {
    char key[KEY_SIZE];
    bool joined;
    make_key(key, inquiry);
    if (waiting_is_crowded(cache, inquiry->repository->upstream))
        return;
    lock_acquire(&cache->questions_lock);
    bool may_begin = cache->refreshing < REFRESH_AT_ONCE && !atomic_load(&cache->stopping);
    struct question *question = may_begin ? join(cache, key, inquiry, &joined) : NULL;
    if (question && !joined) {
        question->is_for_all = question->is_refresh = true;
        cache->refreshing++;
    }
    if (question)
        question_release(cache, question);
    lock_release(&cache->questions_lock);
}

static bool is_wanted(void *context) {
    const struct question *question = context;
    return !atomic_load(&question->abandoned);
}

struct cancel question_cancel(struct question *question) {
    return (struct cancel){
        .stop = &question->cache->stopping, .is_wanted = is_wanted, .context = question};
}

bool question_ask_owner(struct cache *cache, const struct inquiry *to_owner,
                        const struct inquiry *to_upstream, struct question_result *result,
                        struct error *error) {
    if (to_owner && (question_ask(cache, to_owner, result, error) || !result->undecided))
        return result->document != NULL;
    return question_ask(cache, to_upstream, result, error);
}

void question_weigh_absence(const struct question *question, struct error *error) {
    if (error->kind == ERROR_NOT_FOUND && error->doubtful && question->held)
        error->kind = ERROR_UNAVAILABLE;
}

int64_t question_absence_ms(const struct question *question) {
    const int64_t ttl_ms = question->cache->negative_ttl_ms;
    return question->from_replica && question->fresh_ms < ttl_ms ? question->fresh_ms : ttl_ms;
}
