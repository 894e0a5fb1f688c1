#include "retention/upkeep.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/resource.h>
#include "base/clock.h"
#include "base/log.h"
#include "store/blobs.h"
#include "store/partials.h"
#include "store/records.h"
#include "store/usage.h"

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

/* Waits; true when the upkeep is to stop. */
static bool wait_ms(struct upkeep *upkeep, int64_t ms) {
    const int64_t until = clock_ms() + ms;
    int64_t now;
    pthread_mutex_lock(&upkeep->waiting_lock);
    while (!atomic_load(&upkeep->closing) && (now = clock_ms()) < until) {
        struct timespec deadline = clock_deadline(until - now);
        pthread_cond_clockwait(&upkeep->closes, &upkeep->waiting_lock, CLOCK_MONOTONIC, &deadline);
    }
    pthread_mutex_unlock(&upkeep->waiting_lock);
    return atomic_load(&upkeep->closing);
}

/* Background work runs at low priority. */
static void lower_priority(void) {
    setpriority(PRIO_PROCESS, 0, 10); /* of this thread, on Linux */
}

/* ---- the keeper ---- */

/* False: not all blobs are known. */
static bool scan(struct upkeep *upkeep) {
    struct error error = {0};
    int64_t began_ms = clock_ms();
    if (!store_scan(upkeep->store, &upkeep->closing, &error)) {
        if (!atomic_load(&upkeep->closing))
            log_at(LOG_ERROR, "the cache's blobs are not all known: none is evicted",
                   LOG_STRING("error", error.text));
        return false;
    }
    struct store_usage usage;
    store_usage(upkeep->store, &usage);
    log_at(LOG_INFO, "cache scanned", LOG_NUMBER("blobs", usage.blobs),
           LOG_NUMBER("bytes", usage.bytes), LOG_NUMBER("limit_bytes", upkeep->space.max_size),
           LOG_NUMBER("seconds", (double)(clock_ms() - began_ms) / 1000));
    return usage.unread == 0;
}

static void sweep(struct upkeep *upkeep) {
    struct error error = {0};
    uint64_t deleted = 0;
    store_partials_clean(upkeep->store, PARTIAL_AGE_S);
    if (!store_sweep(upkeep->store, SWEEP_AGE_S, &upkeep->closing, &deleted, &error) &&
        !atomic_load(&upkeep->closing))
        log_at(LOG_WARN, "links were not swept", LOG_STRING("error", error.text));
    if (deleted)
        log_at(LOG_DEBUG, "links swept", LOG_NUMBER("deleted", deleted));
}

static void *keep(void *argument) {
    struct upkeep *upkeep = argument;
    lower_priority();
    int64_t scan_ms = 0, scan_pause_ms = SCAN_MS, pins_ms = 0, sweep_ms = 0;
    for (int64_t now = clock_ms(); !atomic_load(&upkeep->closing); now = clock_ms()) {
        struct store_usage usage;
        if (now >= scan_ms) {
            space_allow_eviction(&upkeep->space, false); /* what is found may be pinned */
            pins_ms = 0;
            scan_ms = scan(upkeep) ? INT64_MAX : clock_ms() + scan_pause_ms;
            scan_pause_ms = scan_pause_ms < SWEEP_MS / 2 ? scan_pause_ms * 2 : SWEEP_MS;
        }
        store_usage(upkeep->store, &usage);
        if (now >= pins_ms || pins_want_renewal(upkeep->pins)) {
            bool renewed = pins_renew(upkeep->pins, &upkeep->closing);
            pins_ms = now + (renewed ? PINS_MS : LOOK_MS);
            if (usage.complete && renewed)
                space_allow_eviction(&upkeep->space, true);
        }
        space_enforce(&upkeep->space, &upkeep->closing);
        if (now >= sweep_ms) {
            sweep(upkeep);
            sweep_ms = now + SWEEP_MS;
        }
        if (wait_ms(upkeep, LOOK_MS))
            break;
    }
    return NULL;
}

/* ---- the scrubber ---- */

/* Every blob once, from *cursor on, which wraps. */
static void scrub_round(struct upkeep *upkeep, uint32_t start) {
    for (int half = 0; half < 2; half++) {
        uint32_t cursor = half == 0 ? start : 0;
        struct store_blob blob;
        while (store_blob_next(upkeep->store, &cursor, &blob) && (half == 0 || cursor <= start) &&
               !atomic_load(&upkeep->closing)) {
            struct error error = {0};
            struct store_usage usage;
            store_usage(upkeep->store, &usage);
            uint64_t rate = usage.bytes / (uint64_t)upkeep->scrub_s;
            rate = rate < SCRUB_LEAST ? SCRUB_LEAST : rate > SCRUB_MOST ? SCRUB_MOST : rate;
            bool set_aside = true;
            store_blob_verify(upkeep->store, &blob.digest, rate, &upkeep->closing, &set_aside,
                              &error);
            if (!set_aside)
                log_at(LOG_ERROR, "bad blob stays", LOG_STRING("error", error.text));
        }
    }
}

static void *scrub(void *argument) {
    struct upkeep *upkeep = argument;
    const int64_t period_ms = upkeep->scrub_s * 1000;
    uint32_t random = 0;
    lower_priority();
    while (!wait_ms(upkeep, SCRUB_PAUSE_MS)) {
        struct store_usage usage;
        store_usage(upkeep->store, &usage);
        if (!usage.complete || !usage.blobs)
            continue;
        /* Not always the same ones first: a tarn that is often restarted would never reach the
         * others. */
        if (getrandom(&random, sizeof random, 0) != sizeof random)
            random = 0;
        int64_t began_ms = clock_ms();
        scrub_round(upkeep, random % (uint32_t)usage.blobs);
        int64_t left_ms = period_ms - (clock_ms() - began_ms);
        if (left_ms > 0 && wait_ms(upkeep, left_ms))
            break;
    }
    return NULL;
}

/* ---- life ---- */

struct upkeep *upkeep_new(const struct upkeep_settings *settings, struct store *store) {
    struct upkeep *upkeep = calloc(1, sizeof *upkeep);
    bool ok;
    if (!upkeep)
        return NULL;
    upkeep->pins = pins_new(store, settings->pin, &ok);
    if (!ok) {
        free(upkeep);
        return NULL;
    }
    upkeep->store = store;
    upkeep->scrub_s = settings->scrub_s;
    space_init(&upkeep->space, store, settings->max_size, settings->min_free, settings->max_age_s);
    pthread_mutex_init(&upkeep->waiting_lock, NULL);
    pthread_cond_init(&upkeep->closes, NULL);
    return upkeep;
}

void upkeep_free(struct upkeep *upkeep) {
    if (!upkeep)
        return;
    upkeep_stop(upkeep);
    pins_free(upkeep->pins);
    space_finish(&upkeep->space);
    pthread_mutex_destroy(&upkeep->waiting_lock);
    pthread_cond_destroy(&upkeep->closes);
    free(upkeep);
}

bool upkeep_start(struct upkeep *upkeep, struct error *error) {
    int failed = pthread_create(&upkeep->keeper, NULL, keep, upkeep);
    upkeep->has_keeper = !failed;
    if (!failed && upkeep->scrub_s > 0) {
        failed = pthread_create(&upkeep->scrubber, NULL, scrub, upkeep);
        upkeep->has_scrubber = !failed;
    }
    return !failed || error_set_errno(error, failed, "starting a thread");
}

void upkeep_stop(struct upkeep *upkeep) {
    pthread_mutex_lock(&upkeep->waiting_lock);
    atomic_store(&upkeep->closing, true);
    pthread_cond_broadcast(&upkeep->closes);
    pthread_mutex_unlock(&upkeep->waiting_lock);
    if (upkeep->has_keeper)
        pthread_join(upkeep->keeper, NULL);
    if (upkeep->has_scrubber)
        pthread_join(upkeep->scrubber, NULL);
    upkeep->has_keeper = upkeep->has_scrubber = false;
}
