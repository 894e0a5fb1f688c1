/* The keeper and the scrubber: what each does, and when. */
#include "retention/upkeep.h"

#include <stdlib.h>
#include <sys/random.h>
#include <sys/resource.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "store/blobs.h"
#include "store/partials.h"
#include "store/records.h"
#include "store/uploads.h"
#include "store/usage.h"

enum {
    LOOK_MS = 5000,            /* between two checks of the limits */
    PINS_MS = 60 * 1000,       /* between two renewals of the pins */
    SWEEP_MS = 3600 * 1000,    /* between two sweeps of links and left-over transfers */
    SCAN_MS = 60 * 1000,       /* between a scan that missed something and the next; doubles */
    SWEEP_AGE_S = 3600,        /* the blob of a younger link may still arrive */
    RECORDS_MOST = 4000000,    /* tags, links and their directories */
    TAGS_MOST = 10000,         /* of one repository */
    PARTIAL_AGE_S = 24 * 3600, /* a partial that nobody continued for so long is deleted */
    SCRUB_LEAST = 256 << 10,   /* bytes a second */
    SCRUB_MOST = 64 << 20,
    SCRUB_PAUSE_MS = 60 * 1000, /* the least time between two rounds, however few the blobs */
};

static bool is_stopping(const struct upkeep *upkeep) {
    return !cancel_check(&upkeep->cancel, NULL);
}

/* Lets the keeper look at the limits now. */
static void wake(void *context) {
    struct upkeep *upkeep = context;
    lock_acquire(&upkeep->waiting_lock);
    condition_broadcast(&upkeep->wakes);
    lock_release(&upkeep->waiting_lock);
}

/* Waits until `until_ms`, or until the upkeep is to stop or its settings are not those of number
 * `seen` any more. The keeper also wakes up for wake(). */
static void wait_until(struct upkeep *upkeep, int64_t until_ms, unsigned seen, bool is_keeper) {
    lock_acquire(&upkeep->waiting_lock);
    while (!is_stopping(upkeep) && atomic_load(&upkeep->changes) == seen &&
           !(is_keeper && atomic_load(&upkeep->space.sweep_wanted)) &&
           condition_wait_until(&upkeep->wakes, &upkeep->waiting_lock, until_ms))
        ;
    lock_release(&upkeep->waiting_lock);
}

/* Background work runs at low priority. */
static void lower_priority(void) {
    setpriority(PRIO_PROCESS, 0, 10); /* of this thread, on Linux */
}

/* ---- the keeper ---- */

/* False: not all blobs are known, so that another scan is needed. */
static bool scan(struct upkeep *upkeep) {
    struct error error = {0};
    int64_t began_ms = clock_ms();
    if (!store_scan(upkeep->store, &upkeep->cancel, &error)) {
        if (!is_stopping(upkeep))
            log_at(LOG_ERROR, "not all blobs are known: none is evicted",
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

/* Deletes records of blobs that are gone and were not written for `age_s` seconds, and then those
 * that are over a limit. */
static void sweep(struct upkeep *upkeep, int64_t age_s) {
    struct error error = {0};
    uint64_t deleted = 0, trimmed = 0;
    const struct record_limits limits = {
        .records = RECORDS_MOST,
        .bytes = space_record_bytes_most(&upkeep->space),
        .tags = TAGS_MOST,
        .keeps = pins_name_repository,
        .context = upkeep->pins,
    };
    const struct cancel *cancel = &upkeep->cancel;
    if (!(store_sweep(upkeep->store, age_s, cancel, &deleted, &error) &&
          store_records_trim(upkeep->store, &limits, cancel, &trimmed, &error)) &&
        !is_stopping(upkeep))
        log_at(LOG_WARN, "links were not swept", LOG_STRING("error", error.text));
    if (deleted || trimmed)
        log_at(LOG_DEBUG, "links swept", LOG_NUMBER("deleted", deleted),
               LOG_NUMBER("trimmed", trimmed));
}

static void clean(struct upkeep *upkeep) {
    store_partials_clean(upkeep->store, PARTIAL_AGE_S);
    store_uploads_clean(upkeep->store, UPLOAD_AGE_S);
    sweep(upkeep, SWEEP_AGE_S);
    store_records_count(upkeep->store, &upkeep->cancel, NULL);
}

/* Whether there are many more records than after the last sweep. */
static bool has_grown(struct upkeep *upkeep, uint64_t *records) {
    struct store_usage usage;
    store_usage(upkeep->store, &usage);
    bool grown = usage.records > *records + *records / 2 + TAGS_MOST / 2 ||
                 usage.record_bytes > space_record_bytes_most(&upkeep->space);
    if (grown)
        *records = usage.records;
    return grown;
}

static void keep(void *argument) {
    struct upkeep *upkeep = argument;
    lower_priority();
    uint64_t records = 0;
    int64_t scan_ms = 0, scan_pause_ms = SCAN_MS, pins_ms = 0, sweep_ms = 0;
    for (int64_t now = clock_ms(); !is_stopping(upkeep); now = clock_ms()) {
        const unsigned seen = atomic_load(&upkeep->changes);
        struct store_usage usage;
        if (now >= scan_ms) {
            space_allow_eviction(&upkeep->space, false); /* a blob that it finds may be pinned */
            pins_ms = 0;
            scan_ms = scan(upkeep) ? INT64_MAX : clock_ms() + scan_pause_ms;
            scan_pause_ms = scan_pause_ms < SWEEP_MS / 2 ? scan_pause_ms * 2 : SWEEP_MS;
        }
        store_usage(upkeep->store, &usage);
        if (now >= pins_ms || pins_want_renewal(upkeep->pins)) {
            bool renewed = pins_renew(upkeep->pins, &upkeep->cancel);
            pins_ms = now + (renewed ? PINS_MS : LOOK_MS);
            if (usage.complete && renewed)
                space_allow_eviction(&upkeep->space, true);
        }
        space_enforce(&upkeep->space, &upkeep->cancel);
        if (now >= sweep_ms) {
            clean(upkeep); /* it counts the records, which may be more than was known */
            sweep_ms = now + SWEEP_MS;
            space_enforce(&upkeep->space, &upkeep->cancel);
        } else if (space_take_sweep(&upkeep->space) || has_grown(upkeep, &records)) {
            sweep(upkeep, 0); /* a link that is lost costs a request */
            space_enforce(&upkeep->space, &upkeep->cancel);
        }
        wait_until(upkeep, now + LOOK_MS, seen, true);
    }
}

/* ---- the scrubber ---- */

/* Verifies a blob as fast as all blobs need to be verified once in a period. */
static void scrub_blob(struct upkeep *upkeep, const struct digest *digest) {
    struct error error = {0};
    struct store_usage usage;
    store_usage(upkeep->store, &usage);
    const int64_t scrub_s = upkeep->scrub_s;
    uint64_t rate = scrub_s > 0 ? usage.bytes / (uint64_t)scrub_s : 0;
    rate = rate < SCRUB_LEAST ? SCRUB_LEAST : rate > SCRUB_MOST ? SCRUB_MOST : rate;
    bool quarantined = true;
    store_blob_verify(upkeep->store, digest, rate, &upkeep->cancel, &quarantined, &error);
    if (!quarantined)
        log_at(LOG_ERROR, "bad blob stays", LOG_STRING("error", error.text));
}

/* Verifies every blob once, from the place `start` to the end, and then from the beginning. Ends
 * early when scrubbing is turned off. */
static void scrub_round(struct upkeep *upkeep, uint32_t start) {
    for (int half = 0; half < 2; half++) {
        uint32_t cursor = half == 0 ? start : 0;
        struct store_blob blob;
        while (store_blob_next(upkeep->store, &cursor, &blob) && (half == 0 || cursor <= start) &&
               !is_stopping(upkeep) && upkeep->scrub_s > 0)
            scrub_blob(upkeep, &blob.digest);
    }
}

/* One round, from a random blob: a process that is often restarted would otherwise never reach the
 * last ones. */
static void scrub_all(struct upkeep *upkeep) {
    struct store_usage usage;
    uint32_t random = 0;
    store_usage(upkeep->store, &usage);
    if (!usage.complete || !usage.blobs)
        return;
    if (getrandom(&random, sizeof random, 0) != sizeof random)
        random = 0;
    scrub_round(upkeep, random % (uint32_t)usage.blobs);
}

/* When the next round begins after one that began at `began_ms`. A round that has found no blobs,
 * because not all are known yet, is tried again soon. */
static int64_t next_round_ms(struct upkeep *upkeep, int64_t began_ms) {
    struct store_usage usage;
    store_usage(upkeep->store, &usage);
    const int64_t least_ms = clock_ms() + SCRUB_PAUSE_MS;
    const int64_t due_ms = began_ms + upkeep->scrub_s * 1000;
    return usage.complete && usage.blobs && due_ms > least_ms ? due_ms : least_ms;
}

static void scrub(void *argument) {
    struct upkeep *upkeep = argument;
    int64_t due_ms = clock_ms() + SCRUB_PAUSE_MS, began_ms = clock_ms();
    lower_priority();
    while (!is_stopping(upkeep)) {
        const unsigned seen = atomic_load(&upkeep->changes);
        wait_until(upkeep, upkeep->scrub_s > 0 ? due_ms : INT64_MAX, seen, false);
        if (is_stopping(upkeep) || upkeep->scrub_s <= 0)
            continue;
        if (clock_ms() >= due_ms) {
            began_ms = clock_ms();
            scrub_all(upkeep);
        }
        due_ms = next_round_ms(upkeep, began_ms); /* with the period as it is now */
    }
}

/* ---- life ---- */

struct upkeep *upkeep_new(const struct upkeep_settings *settings, struct store *store) {
    struct upkeep *upkeep = calloc(1, sizeof *upkeep);
    if (!upkeep)
        return NULL;
    upkeep->pins = pins_new(store, settings->pin);
    if (!upkeep->pins) {
        free(upkeep);
        return NULL;
    }
    upkeep->store = store;
    upkeep->scrub_s = settings->scrub_s;
    space_init(&upkeep->space, store, settings->max_size, settings->min_free, settings->max_age_s);
    upkeep->cancel.stop = &upkeep->stopping;
    lock_init(&upkeep->waiting_lock);
    condition_init(&upkeep->wakes);
    upkeep->space.wake = wake;
    upkeep->space.wake_context = upkeep;
    return upkeep;
}

void upkeep_free(struct upkeep *upkeep) {
    if (!upkeep)
        return;
    upkeep_stop(upkeep);
    pins_free(upkeep->pins);
    space_finish(&upkeep->space);
    lock_finish(&upkeep->waiting_lock);
    condition_finish(&upkeep->wakes);
    free(upkeep);
}

bool upkeep_start(struct upkeep *upkeep, struct error *error) {
    /* A large stack for the keeper, because the sweep calls itself once for each part of a name. */
    upkeep->has_keeper =
        thread_start("keeper", THREAD_STACK_SYSTEM, keep, upkeep, &upkeep->keeper, error);
    upkeep->has_scrubber = upkeep->has_keeper && thread_start("scrubber", THREAD_STACK, scrub,
                                                              upkeep, &upkeep->scrubber, error);
    return upkeep->has_scrubber;
}

void upkeep_change(struct upkeep *upkeep, const struct upkeep_settings *settings,
                   struct pin_patterns *pins) {
    /* Nothing is evicted before it is known what is pinned now. */
    if (pins_differ(upkeep->pins, pins))
        space_allow_eviction(&upkeep->space, false);
    pins_take(upkeep->pins, pins);
    space_set_limits(&upkeep->space, settings->max_size, settings->min_free, settings->max_age_s);
    lock_acquire(&upkeep->waiting_lock);
    atomic_store(&upkeep->scrub_s, settings->scrub_s);
    atomic_fetch_add(&upkeep->changes, 1);
    condition_broadcast(&upkeep->wakes);
    lock_release(&upkeep->waiting_lock);
}

void upkeep_stop(struct upkeep *upkeep) {
    lock_acquire(&upkeep->waiting_lock);
    atomic_store(&upkeep->stopping, true);
    condition_broadcast(&upkeep->wakes);
    lock_release(&upkeep->waiting_lock);
    if (upkeep->has_keeper)
        pthread_join(upkeep->keeper, NULL);
    if (upkeep->has_scrubber)
        pthread_join(upkeep->scrubber, NULL);
    upkeep->has_keeper = upkeep->has_scrubber = false;
}
