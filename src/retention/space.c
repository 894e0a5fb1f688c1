#include "retention/space.h"

#include <inttypes.h>
#include "base/clock.h"
#include "base/log.h"
#include "store/usage.h"

enum {
    LOG_EVERY_MS = 60000,
    CALM_MS = 300000,    /* without trouble: it is over, whatever was missed */
    DISTRUST_MS = 10000, /* a disk that could not give bytes back is tried again after this */
};

/* ---- life ---- */

void space_init(struct space *space, struct store *store, uint64_t max_size, uint64_t min_free,
                int64_t max_age_s) {
    static const char *const reasons[UNKEPT_REASONS] = {"reason=\"too_large\"", "reason=\"full\"",
                                                        "reason=\"failing\""};
    *space = (struct space){
        .store = store, .max_size = max_size, .min_free = min_free, .max_age_s = max_age_s};
    pthread_mutex_init(&space->lock, NULL);
    pthread_cond_init(&space->made, NULL);
    space->evicted_blobs = metric_get(METRIC_COUNTER, "tarn_evicted_blobs_total",
                                      "Blobs deleted to stay under a limit.", "");
    space->evicted_bytes = metric_get(METRIC_COUNTER, "tarn_evicted_bytes_total",
                                      "Bytes deleted to stay under a limit.", "");
    for (int reason = 0; reason < UNKEPT_REASONS; reason++)
        space->unkept[reason] =
            metric_get(METRIC_COUNTER, "tarn_passed_through_blobs_total",
                       "Blobs and manifests passed on without being kept.", reasons[reason]);
    space->degraded =
        metric_get(METRIC_GAUGE, "tarn_store_degraded",
                   "1 while the disk is full or failing and nothing new is kept.", "");
    space->bytes = metric_get(METRIC_GAUGE, "tarn_store_bytes", "Bytes of all cached blobs.", "");
    space->blobs = metric_get(METRIC_GAUGE, "tarn_store_blobs", "Cached blobs.", "");
    space->pinned =
        metric_get(METRIC_GAUGE, "tarn_store_pinned_bytes", "Bytes of pinned blobs.", "");
    space->limit = metric_get(METRIC_GAUGE, "tarn_store_limit_bytes",
                              "Bytes that the cache stays under; 0: no limit.", "");
    metric_set(space->limit, (int64_t)max_size);
}

void space_finish(struct space *space) {
    pthread_mutex_destroy(&space->lock);
    pthread_cond_destroy(&space->made);
}

void space_update_metrics(struct space *space) {
    struct store_usage usage;
    store_usage(space->store, &usage);
    metric_set(space->bytes, (int64_t)usage.bytes);
    metric_set(space->blobs, (int64_t)usage.blobs);
    metric_set(space->pinned, (int64_t)usage.pinned_bytes);
}

/* ---- making room ---- */

bool space_can_hold(const struct space *space, uint64_t size, struct error *error) {
    return space->max_size == 0 || size <= space->max_size ||
           error_set(error, ERROR_NO_SPACE,
                     "%" PRIu64 " bytes are more than the whole cache may hold (max_size %" PRIu64
                     ")",
                     size, space->max_size);
}

void space_allow_eviction(struct space *space, bool allowed) {
    atomic_store(&space->open, allowed);
}

static void begin_evicting(struct space *space) {
    pthread_mutex_lock(&space->lock);
    while (space->evicting)
        pthread_cond_wait(&space->made, &space->lock);
    space->evicting = true;
    pthread_mutex_unlock(&space->lock);
}

static void end_evicting(struct space *space) {
    pthread_mutex_lock(&space->lock);
    space->evicting = false;
    pthread_cond_signal(&space->made);
    pthread_mutex_unlock(&space->lock);
}

/* What is about to be written: beside what is reserved, and of both that. */
struct need {
    uint64_t more, free;
};

/* How many bytes must go; 0: none. */
static uint64_t excess(struct space *space, struct need need) {
    struct store_usage usage;
    uint64_t left, over = 0;
    store_usage(space->store, &usage);
    uint64_t there = usage.bytes + usage.reserved_bytes + usage.partial_bytes + need.more;
    if (space->max_size && there > space->max_size)
        over = there - space->max_size;
    /* A file system that does not say what it has left will say so when it is full. */
    uint64_t free = space->min_free + need.free;
    if (free && store_free_bytes(space->store, &left, NULL) && left < free && free - left > over)
        over = free - left;
    return over;
}

/* One who evicts: how much went, and whether left-over partials were cleaned away already. */
struct evicting {
    uint64_t bytes;
    bool cleaned;
    struct error error; /* why nothing more can go */
};

/* What was left by transfers that nobody continues. */
static uint64_t clean_partials(struct space *space) {
    struct store_usage before, after;
    store_usage(space->store, &before);
    if (before.partial_bytes == 0)
        return 0;
    store_partials_clean(space->store, 0);
    store_usage(space->store, &after);
    return before.partial_bytes > after.partial_bytes ? before.partial_bytes - after.partial_bytes
                                                      : 0;
}

/* Deletes the least recently used blob; left-over partials go before any of them. False: nothing
 * can go. begin_evicting() is done. */
static bool evict_one(struct space *space, int64_t before_s, struct evicting *evicting) {
    struct store_blob blob;
    if (before_s == INT64_MAX && !evicting->cleaned) {
        uint64_t bytes = clean_partials(space);
        evicting->cleaned = true;
        evicting->bytes += bytes;
        if (bytes)
            return true;
    }
    if (!store_evict(space->store, before_s, &blob, &evicting->error))
        return false;
    char digest[DIGEST_STRING_SIZE];
    evicting->bytes += blob.size;
    metric_add(space->evicted_blobs, 1);
    metric_add(space->evicted_bytes, (int64_t)blob.size);
    log_at(LOG_DEBUG, "blob evicted", LOG_STRING("digest", digest_format(&blob.digest, digest)),
           LOG_NUMBER("bytes", blob.size),
           LOG_NUMBER("unused_seconds", clock_wall_s() - blob.last_used_s));
    return true;
}

/* What could go at most. */
static uint64_t evictable(struct space *space) {
    struct store_usage usage;
    store_usage(space->store, &usage);
    return usage.bytes - usage.pinned_bytes + usage.partial_bytes;
}

/* Evicts until there is what is needed; nothing, when all that may go would not suffice. Never more
 * than was over in the beginning: on a file system with snapshots what is deleted may free nothing.
 * begin_evicting() is done. */
static bool make(struct space *space, struct need need, const atomic_bool *stop,
                 struct error *error) {
    struct evicting evicting = {0};
    const uint64_t over = excess(space, need);
    bool more = stop || over <= evictable(space); /* the keeper does what it can */
    while (more && evicting.bytes < over && excess(space, need) > 0 && !(stop && atomic_load(stop)))
        more = evict_one(space, INT64_MAX, &evicting);
    if (evicting.bytes >= over || excess(space, need) == 0)
        return true;
    return evicting.error.kind == ERROR_IO
               ? error_set(error, ERROR_IO, "no room can be made: %s", evicting.error.text)
               : error_set(error, ERROR_NO_SPACE,
                           "no room: what else is cached is pinned or in use, or too little, or "
                           "others fill the disk");
}

bool space_reserve(struct space *space, struct partial *partial, uint64_t bytes, uint64_t missing,
                   struct error *error) {
    const struct need need = {.free = missing};
    if (!space_can_hold(space, bytes, error)) {
        partial_reserve(partial, 0);
        return false;
    }
    partial_reserve(partial, bytes);
    /* Before all blobs are known, those that are were just used: the least recently used are not
     * among them. A disk that is full says so itself. */
    if (!atomic_load(&space->open) || excess(space, need) == 0)
        return true;
    /* Two that want the last room at once: one gets it, not neither. */
    partial_reserve(partial, 0);
    begin_evicting(space);
    partial_reserve(partial, bytes);
    bool made = make(space, need, NULL, error);
    if (!made)
        partial_reserve(partial, 0);
    end_evicting(space);
    return made;
}

bool space_ensure(struct space *space, uint64_t bytes, struct error *error) {
    const struct need need = {.more = bytes, .free = bytes};
    if (!space_can_hold(space, bytes, error))
        return false;
    if (!atomic_load(&space->open) || excess(space, need) == 0)
        return true;
    begin_evicting(space);
    bool made = make(space, need, NULL, error);
    end_evicting(space);
    return made;
}

bool space_free_after_full(struct space *space, uint64_t bytes) {
    struct evicting evicting = {0};
    uint64_t left = 0;
    if (!atomic_load(&space->open))
        return false;
    begin_evicting(space);
    /* Somebody who met the same full disk may have made it meanwhile. */
    bool made = store_free_bytes(space->store, &left, NULL) && left >= bytes;
    bool enough = left + evictable(space) >= bytes;
    while (!made && enough && evicting.bytes < bytes && evict_one(space, INT64_MAX, &evicting))
        ;
    end_evicting(space);
    return made || evicting.bytes > 0;
}

void space_enforce(struct space *space, const atomic_bool *stop) {
    bool open = atomic_load(&space->open);
    if (open && space->max_age_s) {
        int64_t before_s = clock_wall_s() - space->max_age_s;
        struct evicting evicting = {0};
        begin_evicting(space);
        while (!atomic_load(stop) && evict_one(space, before_s, &evicting))
            ;
        end_evicting(space);
    }
    if (open && excess(space, (struct need){0})) {
        begin_evicting(space);
        make(space, (struct need){0}, stop, NULL);
        end_evicting(space);
    }
    space_update_metrics(space);
}

/* ---- trouble ---- */

enum unkept space_unkept_reason(const struct error *error) {
    return error->kind == ERROR_NO_SPACE ? UNKEPT_FULL : UNKEPT_FAILING;
}

void space_record_unkept(struct space *space, enum unkept reason, uint64_t bytes,
                         const struct error *why) {
    metric_add(space->unkept[reason], 1);
    if (reason == UNKEPT_TOO_LARGE) { /* as configured, and no trouble with the disk */
        log_at(LOG_DEBUG, "blob passed through", LOG_STRING("reason", why->text));
        return;
    }
    metric_set(space->degraded, 1);
    int64_t now = clock_ms();
    uint64_t more = 0;
    pthread_mutex_lock(&space->lock);
    space->missed = bytes > space->missed ? bytes : space->missed;
    space->missed_ms = now;
    bool due = space->logged_ms == 0 || now - space->logged_ms >= LOG_EVERY_MS;
    if (due) {
        more = space->unlogged;
        space->unlogged = 0;
        space->logged_ms = now;
    } else {
        space->unlogged++;
    }
    pthread_mutex_unlock(&space->lock);
    if (due)
        log_at(LOG_ERROR,
               reason == UNKEPT_FULL
                   ? "no room: passing through what cannot be kept"
                   : "the disk is failing or read-only: passing through what cannot be kept",
               LOG_STRING("error", why->text), LOG_NUMBER("more_since_last", more));
}

/* That something small fits says nothing of what did not. */
void space_record_kept(struct space *space, uint64_t bytes) {
    if (metric_value(space->degraded) == 0)
        return;
    pthread_mutex_lock(&space->lock);
    const struct need missed = {.more = space->missed, .free = space->missed};
    bool as_large = bytes >= space->missed || clock_ms() - space->missed_ms > CALM_MS;
    pthread_mutex_unlock(&space->lock);
    /* A cache that is full of what may go has room. */
    if (!as_large && excess(space, missed) > evictable(space))
        return;
    pthread_mutex_lock(&space->lock);
    space->missed = 0;
    pthread_mutex_unlock(&space->lock);
    metric_set(space->degraded, 0);
    if (log_enabled(LOG_INFO))
        log_event(LOG_INFO, "the disk takes new blobs again", NULL, 0);
}

void space_record_unreadable(struct space *space) {
    atomic_store(&space->failing_ms, clock_ms() + DISTRUST_MS);
}

bool space_is_unreadable(const struct space *space) {
    return clock_ms() < atomic_load(&space->failing_ms);
}
