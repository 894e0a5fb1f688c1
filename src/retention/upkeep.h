/*
 * Upkeep: the background threads that keep a store within its limits and in order.
 *
 * One thread, the keeper, reads which blobs there are, evicts what is over a limit or too old,
 * renews the pins, sweeps links to blobs that are gone, and deletes partials that nobody continued.
 * A second thread, the scrubber, hashes what is stored once in a period, if that is configured.
 *
 * Threads: upkeep_start() and upkeep_stop() from one thread. `space` and `pins` have their own
 * rules (space.h, pins.h).
 */
#ifndef RETENTION_UPKEEP_H
#define RETENTION_UPKEEP_H

#include <pthread.h>
#include "retention/pins.h"
#include "retention/space.h"

struct upkeep_settings {
    uint64_t max_size;      /* bytes of all blobs, those under way included; 0: no limit */
    uint64_t min_free;      /* bytes left free on the file system */
    int64_t max_age_s;      /* since last use; 0: no limit */
    int64_t scrub_s;        /* every blob is hashed again once in so many seconds; 0: none is */
    const char *const *pin; /* globs over HOST/REPOSITORY[:TAG] that are never evicted;
                               NULL-terminated, or NULL; must outlive the upkeep */
};

struct upkeep {
    struct store *store;
    struct space space;
    struct pins *pins; /* NULL: nothing is pinned */
    int64_t scrub_s;
    pthread_t keeper, scrubber;
    bool has_keeper, has_scrubber;
    atomic_bool closing;
    pthread_mutex_t waiting_lock; /* guards nothing but the waiting on `closes` */
    pthread_cond_t closes;
};

/* `store` must outlive it. NULL when out of memory. */
struct upkeep *upkeep_new(const struct upkeep_settings *settings, struct store *store);
void upkeep_free(struct upkeep *upkeep); /* stops it first; NULL is allowed */

/* Starts the threads; they run until upkeep_stop(), which waits for them. */
bool upkeep_start(struct upkeep *upkeep, struct error *error);
void upkeep_stop(struct upkeep *upkeep); /* safe if it was never started */

#endif
