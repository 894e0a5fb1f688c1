/* Counts the requests that wait for each upstream. */
#include "cache/waiting.h"

#include "cache/cache_private.h"

enum { RETRY_AFTER_S = 5 }; /* for clients that are refused */

static bool may_wait(const struct cache *cache, unsigned waiting) {
    return !cache->workers || pot_may_take(cache->workers, waiting, cache->waiting_per_upstream);
}

bool waiting_refuse(const struct cache *cache, struct upstream *upstream, struct error *error) {
    metric_add(cache->refused, 1);
    error_set(error, ERROR_BUSY,
              "upstream %s: too many requests wait for it (limits.per_upstream.waiting %u)",
              upstream_name(upstream), cache->waiting_per_upstream);
    if (error)
        error->retry_after_s = RETRY_AFTER_S;
    return false;
}

/* Counts first and looks then, so that of many requests that come at once no more than the share
 * gets through. */
bool waiting_begin(struct cache *cache, struct upstream *upstream, struct error *error) {
    atomic_fetch_add(&cache->waiting, 1);
    if (may_wait(cache, atomic_fetch_add(&upstream_held(upstream)->waiting, 1)))
        return true;
    waiting_end(cache, upstream);
    return waiting_refuse(cache, upstream, error);
}

void waiting_go_on(struct cache *cache, struct upstream *upstream) {
    atomic_fetch_add(&cache->waiting, 1);
    atomic_fetch_add(&upstream_held(upstream)->waiting, 1);
}

void waiting_end(struct cache *cache, struct upstream *upstream) {
    atomic_fetch_sub(&cache->waiting, 1);
    atomic_fetch_sub(&upstream_held(upstream)->waiting, 1);
}

bool waiting_is_crowded(const struct cache *cache, struct upstream *upstream) {
    /* One of them asks, who is counted already. */
    unsigned waiting = atomic_load(&upstream_held(upstream)->waiting);
    return waiting > 0 && !may_wait(cache, waiting - 1);
}
