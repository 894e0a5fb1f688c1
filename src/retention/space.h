/*
 * Space: keeps the cache under its limits, and says when something cannot be kept.
 *
 * Who is about to write takes room for it first. What is stored and what is reserved for partials
 * together stay under max_size: the least recently used blobs go to make it so. When they do not
 * suffice, because the rest is pinned or in use, or because the disk is full or failing, the blob
 * is passed through without being kept (cache/flight/pass.c), and that is counted here, and logged
 * once a minute.
 *
 * Until it is known which blobs there are and which of them are pinned, nothing is evicted: what
 * comes in during these first seconds may go over the limit, and space_enforce() brings the cache
 * under it afterwards.
 *
 * Threads: all calls from any thread. While one evicts, others who need room wait for it.
 */
#ifndef RETENTION_SPACE_H
#define RETENTION_SPACE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "base/metric.h"
#include "store/partials.h"
#include "store/store.h"

/* Why a blob is not kept. */
enum unkept {
    UNKEPT_TOO_LARGE, /* larger than the whole cache */
    UNKEPT_FULL,      /* no room: the disk is full, or all that is cached is pinned or in use */
    UNKEPT_FAILING,   /* the disk fails or is read-only */
    UNKEPT_REASONS
};

struct space {
    struct store *store;
    uint64_t max_size; /* bytes; 0: no limit */
    uint64_t min_free; /* bytes left free on the file system */
    int64_t max_age_s; /* since last use; 0: no limit */
    atomic_bool open;  /* the last space_allow_eviction() allowed it */

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t made;  /* evicting has become false */
    bool evicting;
    int64_t logged_ms;          /* when trouble was last logged; 0: never */
    uint64_t unlogged;          /* troubles since */
    uint64_t missed;            /* bytes of the largest that was not kept, while degraded */
    int64_t missed_ms;          /* when something was not kept for the last time */
    _Atomic int64_t failing_ms; /* until when bytes on disk are not trusted to come back; 0: fine */

    struct metric *evicted_blobs, *evicted_bytes, *degraded, *unkept[UNKEPT_REASONS];
    struct metric *bytes, *blobs, *limit, *pinned;
};

void space_init(struct space *space, struct store *store, uint64_t max_size, uint64_t min_free,
                int64_t max_age_s);
void space_finish(struct space *space);

/* Whether a blob of `size` bytes could ever be kept. ERROR_NO_SPACE */
bool space_can_hold(const struct space *space, uint64_t size, struct error *error);

/* Makes room for a partial that will be `bytes` long, of which `missing` are to be written, and
 * reserves it. ERROR_NO_SPACE: there is none to be made, and nothing is reserved any more. */
bool space_reserve(struct space *space, struct partial *partial, uint64_t bytes, uint64_t missing,
                   struct error *error);
/* Makes room for `bytes` that are about to be written at once. ERROR_NO_SPACE */
bool space_ensure(struct space *space, uint64_t bytes, struct error *error);
/* After the file system had no room for `bytes`: evicts as much, if there is as much. True: trying
 * again makes sense. */
bool space_free_after_full(struct space *space, uint64_t bytes);

/* Counts a blob or manifest of so many bytes (0: not known) that was not kept; `why` is for the
 * log. */
void space_record_unkept(struct space *space, enum unkept reason, uint64_t bytes,
                         const struct error *why);
enum unkept space_unkept_reason(const struct error *error);  /* FULL or FAILING */
void space_record_kept(struct space *space, uint64_t bytes); /* so many were */

/* Bytes on disk could not be read back: for a while nothing new is trusted to it. */
void space_record_unreadable(struct space *space);
bool space_is_unreadable(const struct space *space);

/* Says whether blobs may be evicted: true once all blobs and pins are known, false while they are
 * not. */
void space_allow_eviction(struct space *space, bool allowed);

/* Evicts what is over a limit or too old. Now and then, from a background thread. */
void space_enforce(struct space *space, const atomic_bool *stop);
void space_update_metrics(struct space *space); /* sets the gauges */

#endif
