/* Asks for tags in use again: a ring of those that are due, and the thread that begins to ask. */
#include "cache/refresh.h"

#include "base/log.h"
#include "base/thread.h"
#include "cache/cache_private.h"
#include "cache/manifest.h"

enum {
    LEAST_TTL_MS = 30000, /* of a shorter time, nothing is taken away */
    LEAST_LEAD_MS = 5000, /* longer than most upstreams take to answer */
    MOST_LEAD_MS = 30000,
    TENTH = 10,
};

int64_t refresh_lead_ms(int64_t tag_ttl_ms) {
    if (tag_ttl_ms < LEAST_TTL_MS)
        return 0;
    int64_t lead_ms = tag_ttl_ms / TENTH;
    return lead_ms < LEAST_LEAD_MS  ? LEAST_LEAD_MS
           : lead_ms > MOST_LEAD_MS ? MOST_LEAD_MS
                                    : lead_ms;
}

/* ---- what is due ---- */

void refresh_note(struct cache *cache, const struct repository *repository,
                  const struct reference *reference, struct document *held) {
    struct refresh *refresh = &cache->refresh;
    lock_acquire(&refresh->due_lock);
    if (refresh->is_running && refresh->count < REFRESH_DUE) {
        upstream_keep(repository->upstream);
        refresh->due[(refresh->first + refresh->count++) % REFRESH_DUE] =
            (struct refresh_due){*repository, *reference, document_keep(held)};
        condition_signal(&refresh->due_changed);
    }
    lock_release(&refresh->due_lock);
}

/* Waits for a tag that is due. False: the thread ends. */
static bool take_due(struct refresh *refresh, struct refresh_due *due) {
    lock_acquire(&refresh->due_lock);
    while (refresh->is_running && refresh->count == 0)
        condition_wait(&refresh->due_changed, &refresh->due_lock);
    bool is_there = refresh->count > 0;
    if (is_there) {
        *due = refresh->due[refresh->first];
        refresh->first = (refresh->first + 1) % REFRESH_DUE;
        refresh->count--;
    }
    lock_release(&refresh->due_lock);
    return is_there;
}

static void run(void *argument) {
    struct cache *cache = argument;
    struct refresh_due due;
    while (take_due(&cache->refresh, &due)) {
        if (!atomic_load(&cache->stopping))
            manifest_refresh(cache, &due.repository, &due.reference, due.held);
        document_release(due.held);
        upstream_release(due.repository.upstream);
    }
}

/* ---- life ---- */

void refresh_init(struct refresh *refresh) {
    lock_init(&refresh->due_lock);
    condition_init(&refresh->due_changed);
}

void refresh_finish(struct refresh *refresh) {
    condition_finish(&refresh->due_changed);
    lock_finish(&refresh->due_lock);
}

void refresh_start(struct cache *cache) {
    struct refresh *refresh = &cache->refresh;
    struct error error = {0};
    lock_acquire(&refresh->due_lock);
    refresh->is_running =
        thread_start("refresh", THREAD_STACK, run, cache, &refresh->thread, &error);
    if (!refresh->is_running)
        log_at(LOG_WARN, "tags in use are asked for only when their time is over",
               LOG_STRING("error", error.text));
    lock_release(&refresh->due_lock);
}

void refresh_stop(struct refresh *refresh) {
    lock_acquire(&refresh->due_lock);
    bool was_running = refresh->is_running;
    refresh->is_running = false;
    condition_signal(&refresh->due_changed);
    lock_release(&refresh->due_lock);
    if (was_running)
        pthread_join(refresh->thread, NULL);
}
