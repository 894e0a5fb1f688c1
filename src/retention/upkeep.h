/*
 * Upkeep: the background threads that keep a store within its limits and in order.
 *
 * One thread, the keeper, reads which blobs there are, evicts blobs that are over a limit or too
 * old, renews the pins, sweeps links to blobs that are gone, and deletes partials that nobody
 * continued. A second thread, the scrubber, hashes every stored blob once in a period; it sleeps
 * while no period is configured.
 *
 * Threads: upkeep_start() and upkeep_stop() from one thread. `space` and `pins` have their own
 * rules (space.h, pins.h).
 */
#ifndef RETENTION_UPKEEP_H
#define RETENTION_UPKEEP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/cancel.h"
#include "base/error.h"
#include "base/lock.h"
#include "retention/pins.h"
#include "retention/space.h"

struct upkeep_settings {
    uint64_t max_size;      /* bytes of all blobs, with those being fetched; 0: no limit */
    uint64_t min_free;      /* bytes left free on the file system */
    int64_t max_age_s;      /* since last use; 0: no limit */
    int64_t scrub_s;        /* each blob is hashed again once in so many seconds; 0: never */
    const char *const *pin; /* globs over HOST/REPOSITORY[:TAG] whose images are never evicted;
                               NULL-terminated, or NULL; copied */
};

struct upkeep {
    struct store *store;
    struct space space;
    struct pins *pins;
    _Atomic int64_t scrub_s; /* 0: the scrubber waits */
    pthread_t keeper, scrubber;
    bool has_keeper, has_scrubber;
    atomic_uint changes; /* of the settings: a round of the scrubber ends early */
    atomic_bool stopping;
    struct cancel cancel;     /* says `stopping` to long work */
    struct lock waiting_lock; /* held while `stopping` is set, and while it is waited for */
    struct condition wakes;   /* stopping has become true, or something has changed */
};

/* `store` must outlive the upkeep. NULL when out of memory. */
struct upkeep *upkeep_new(const struct upkeep_settings *settings, struct store *store);
void upkeep_free(struct upkeep *upkeep); /* stops it first; NULL is allowed */

/* Other settings apply from now on, and what is over a limit is evicted soon. The pins are those of
 * `pins_prepare(settings->pin)`, which this call takes over. From one thread at a time, while the
 * upkeep runs. Cannot fail. */
void upkeep_change(struct upkeep *upkeep, const struct upkeep_settings *settings,
                   struct pin_patterns *pins);

/* Starts the threads; they run until upkeep_stop(), which waits for their end. False: not all could
 * be started; upkeep_stop() ends those that were. */
bool upkeep_start(struct upkeep *upkeep, struct error *error);
void upkeep_stop(struct upkeep *upkeep); /* allowed if it was never started */

#endif
