/* The cache's own threads: one that keeps it in order, one that looks whether its bytes are still
 * right. */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/resource.h>
#include "base/clock.h"
#include "base/log.h"
#include "cache/lookup.h"

enum {
    LOOK_MS = 5000,            /* between two looks at the limits */
    PINS_MS = 60 * 1000,       /* between two renewals of the pins */
    SWEEP_MS = 3600 * 1000,    /* between two sweeps of links and left-over transfers */
    SCAN_MS = 60 * 1000,       /* after a scan that missed something; twice as long each time */
    SWEEP_AGE_S = 3600,        /* links younger than this may be about to get their blob */
    PARTIAL_AGE_S = 24 * 3600, /* a transfer that nobody continued for so long is given up */
    SCRUB_LEAST = 256 << 10,   /* bytes a second */
    SCRUB_MOST = 64 << 20,
    SCRUB_PAUSE_MS = 60 * 1000, /* at least this between two rounds, however few the blobs */
};

/* Waits; true when the house closes. */
static bool wait_ms(struct house *house, int64_t ms) {
    const int64_t until = clock_ms() + ms;
    int64_t now;
    pthread_mutex_lock(&house->lock);
    while (!atomic_load(&house->closing) && (now = clock_ms()) < until) {
        struct timespec deadline = clock_deadline(until - now);
        pthread_cond_clockwait(&house->closes, &house->lock, CLOCK_MONOTONIC, &deadline);
    }
    pthread_mutex_unlock(&house->lock);
    return atomic_load(&house->closing);
}

/* What is done behind everybody's back takes what the others leave. */
static void step_back(void) {
    setpriority(PRIO_PROCESS, 0, 10); /* of this thread, on Linux */
}

/* ---- the keeper ---- */

/* False: not all blobs are known. */
static bool scan(struct cache *cache) {
    struct error error = {0};
    int64_t began_ms = clock_ms();
    if (!store_scan(cache->store, &cache->house.closing, &error)) {
        if (!atomic_load(&cache->house.closing))
            log_at(LOG_ERROR, "the cache's blobs are not all known: none is evicted",
                   LOG_STRING("error", error.text));
        return false;
    }
    struct store_usage usage;
    store_usage(cache->store, &usage);
    log_at(LOG_INFO, "cache scanned", LOG_NUMBER("blobs", usage.blobs),
           LOG_NUMBER("bytes", usage.bytes), LOG_NUMBER("limit_bytes", cache->room.max_size),
           LOG_NUMBER("seconds", (double)(clock_ms() - began_ms) / 1000));
    return usage.unread == 0;
}

static void sweep(struct cache *cache) {
    struct error error = {0};
    uint64_t deleted = 0;
    store_partials_clean(cache->store, PARTIAL_AGE_S);
    if (!store_sweep(cache->store, SWEEP_AGE_S, &cache->house.closing, &deleted, &error) &&
        !atomic_load(&cache->house.closing))
        log_at(LOG_WARN, "links were not swept", LOG_STRING("error", error.text));
    if (deleted)
        log_at(LOG_DEBUG, "links swept", LOG_NUMBER("deleted", deleted));
}

static void *keep(void *argument) {
    struct cache *cache = argument;
    struct house *house = &cache->house;
    step_back();
    int64_t scan_ms = 0, scan_pause_ms = SCAN_MS, pins_ms = 0, sweep_ms = 0;
    for (int64_t now = clock_ms(); !atomic_load(&house->closing); now = clock_ms()) {
        struct store_usage usage;
        if (now >= scan_ms) {
            room_close(&cache->room); /* what is found may be pinned */
            pins_ms = 0;
            scan_ms = scan(cache) ? INT64_MAX : clock_ms() + scan_pause_ms;
            scan_pause_ms = scan_pause_ms < SWEEP_MS / 2 ? scan_pause_ms * 2 : SWEEP_MS;
        }
        store_usage(cache->store, &usage);
        if (now >= pins_ms || pins_want_renewal(cache->pins)) {
            bool renewed = pins_renew(cache->pins, &house->closing);
            pins_ms = now + (renewed ? PINS_MS : LOOK_MS);
            if (usage.complete && renewed)
                room_open(&cache->room);
        }
        room_keep(&cache->room, &house->closing);
        if (now >= sweep_ms) {
            sweep(cache);
            sweep_ms = now + SWEEP_MS;
        }
        if (wait_ms(house, LOOK_MS))
            break;
    }
    return NULL;
}

/* ---- the scrubber ---- */

/* Every blob once, from *cursor on, which wraps. */
static void scrub_round(struct cache *cache, uint32_t start) {
    const struct house *house = &cache->house;
    for (int half = 0; half < 2; half++) {
        uint32_t cursor = half == 0 ? start : 0;
        struct store_blob blob;
        while (store_blob_next(cache->store, &cursor, &blob) && (half == 0 || cursor <= start) &&
               !atomic_load(&house->closing)) {
            struct error error = {0};
            struct store_usage usage;
            store_usage(cache->store, &usage);
            uint64_t rate = usage.bytes / (uint64_t)house->scrub_s;
            rate = rate < SCRUB_LEAST ? SCRUB_LEAST : rate > SCRUB_MOST ? SCRUB_MOST : rate;
            bool set_aside = true;
            store_blob_verify(cache->store, &blob.digest, rate, &house->closing, &set_aside,
                              &error);
            if (!set_aside)
                log_at(LOG_ERROR, "bad blob stays", LOG_STRING("error", error.text));
        }
    }
}

static void *scrub(void *argument) {
    struct cache *cache = argument;
    struct house *house = &cache->house;
    const int64_t period_ms = house->scrub_s * 1000;
    uint32_t random = 0;
    step_back();
    while (!wait_ms(house, SCRUB_PAUSE_MS)) {
        struct store_usage usage;
        store_usage(cache->store, &usage);
        if (!usage.complete || !usage.blobs)
            continue;
        /* Not always the same ones first: a tarn that is often restarted would never reach the
         * others. */
        if (getrandom(&random, sizeof random, 0) != sizeof random)
            random = 0;
        int64_t began_ms = clock_ms();
        scrub_round(cache, random % (uint32_t)usage.blobs);
        int64_t left_ms = period_ms - (clock_ms() - began_ms);
        if (left_ms > 0 && wait_ms(house, left_ms))
            break;
    }
    return NULL;
}

/* ---- life ---- */

bool cache_open_house(struct cache *cache, struct error *error) {
    struct house *house = &cache->house;
    int failed = pthread_create(&house->keeper, NULL, keep, cache);
    house->has_keeper = !failed;
    if (!failed && house->scrub_s > 0) {
        failed = pthread_create(&house->scrubber, NULL, scrub, cache);
        house->has_scrubber = !failed;
    }
    return !failed || error_set_errno(error, failed, "starting a thread");
}

void cache_close_house(struct cache *cache) {
    struct house *house = &cache->house;
    pthread_mutex_lock(&house->lock);
    atomic_store(&house->closing, true);
    pthread_cond_broadcast(&house->closes);
    pthread_mutex_unlock(&house->lock);
    if (house->has_keeper)
        pthread_join(house->keeper, NULL);
    if (house->has_scrubber)
        pthread_join(house->scrubber, NULL);
    house->has_keeper = house->has_scrubber = false;
}
