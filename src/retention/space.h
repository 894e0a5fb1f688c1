/*
 * Space: keeps the cache within its limits, and records when a blob cannot be kept.
 *
 * A caller that is about to write asks for space first. The bytes that are stored and the bytes
 * that are reserved for partials stay under max_size together; to make that so, the least recently
 * used blobs are evicted. If that does not suffice, because the other blobs are pinned or in use,
 * or because the disk is full or failing, then the blob is passed through without being kept
 * (cache/flight/pass.c). The caller records that here, and it is counted, and logged once a minute.
 *
 * Nothing is evicted until it is known which blobs there are and which of them are pinned. In these
 * first seconds the cache may grow over its limit; space_enforce() brings it back.
 *
 * Threads: all calls from any thread. One thread evicts at a time; others that need space wait.
 */
#ifndef RETENTION_SPACE_H
#define RETENTION_SPACE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/cancel.h"
#include "base/error.h"
#include "base/lock.h"
#include "base/metric.h"
#include "store/partials.h"
#include "store/store.h"

/* Why a blob is not kept. */
enum unkept {
    UNKEPT_TOO_LARGE, /* larger than the whole cache */
    UNKEPT_FULL,      /* the disk is full, or all that is cached is pinned or in use */
    UNKEPT_FAILING,   /* the disk fails or is read-only */
    UNKEPT_UNFIT,     /* the disk is fine: no memory, or a record that cannot be written */
    UNKEPT_REASONS
};

struct space {
    struct store *store;
    /* The limits, which may change at any time (space_set_limits()). */
    _Atomic uint64_t max_size; /* bytes; 0: no limit */
    _Atomic uint64_t min_free; /* bytes left free on the file system */
    _Atomic int64_t max_age_s; /* since last use; 0: no limit */
    atomic_bool may_evict;     /* what space_allow_eviction() said last */

    struct lock evicting_lock;       /* guards evicting */
    struct condition evicting_ended; /* evicting has become false */
    bool evicting;                   /* a thread evicts */

    struct lock unkept_lock; /* guards the five below */
    int64_t logged_ms;       /* when a blob that was not kept was last logged; 0: never */
    uint64_t unlogged;       /* blobs not kept since then */
    uint64_t largest_unkept; /* bytes; of those that were not kept while degraded */
    int64_t unkept_ms;       /* when a blob was last not kept */
    bool failed;             /* it was because the disk failed */

    _Atomic int64_t unreadable_until_ms; /* until then no new bytes are trusted to the disk */

    struct metric *evicted_blobs, *evicted_bytes, *degraded, *unkept[UNKEPT_REASONS];
    struct metric *bytes, *blobs, *limit, *pinned, *oldest;
    struct metric *record_bytes, *records, *partial_bytes, *bad_bytes;

    atomic_bool sweep_wanted;         /* see space_take_sweep() */
    _Atomic uint64_t swept_removals;  /* store_blob_removals() when a sweep was last begun */
    void (*wake)(void *wake_context); /* wakes the keeper; NULL: there is none */
    void *wake_context;
};

void space_init(struct space *space, struct store *store, uint64_t max_size, uint64_t min_free,
                int64_t max_age_s);
void space_finish(struct space *space);

/* Keeps other limits from now on. What is over them is evicted by the next space_enforce(). */
void space_set_limits(struct space *space, uint64_t max_size, uint64_t min_free, int64_t max_age_s);

/* ---- before writing ---- */

/* Whether a blob of `size` bytes fits into the cache at all. ERROR_NO_SPACE */
bool space_can_hold(const struct space *space, uint64_t size, struct error *error);

struct space_wish {
    uint64_t bytes;   /* to be reserved for a partial, in place of what it has reserved */
    uint64_t missing; /* of these, bytes that are still to be written */
    uint64_t whole;   /* bytes that the blob claims to have; nothing is evicted for them */
};

/* Makes space for a partial and reserves it. ERROR_NO_SPACE, ERROR_IO: none can be made, or not for
 * the whole blob later; the partial has then no reservation any more. */
bool space_reserve(struct space *space, struct partial *partial, const struct space_wish *wish,
                   struct error *error);

/* Makes space for `bytes` that are written at once. ERROR_NO_SPACE, ERROR_IO: none can be made. */
bool space_ensure(struct space *space, uint64_t bytes, struct error *error);

/* After the file system refused `bytes`: evicts as many, if `whole` bytes, which are still to come,
 * could be made free. True: trying to write again makes sense. */
bool space_free_after_full(struct space *space, uint64_t bytes, uint64_t whole);

/* ---- what was kept and what was not ---- */

/* Counts and logs a blob or manifest of `bytes` (0: not known) that was not kept. */
void space_record_unkept(struct space *space, enum unkept reason, uint64_t bytes,
                         const struct error *why);
/* UNKEPT_FULL, UNKEPT_FAILING, or UNKEPT_UNFIT for an error that is not the disk's. */
enum unkept space_unkept_reason(const struct error *error);
/* A blob of `bytes` was kept: ends the degraded state if larger blobs would be kept too. */
void space_record_kept(struct space *space, uint64_t bytes);

/* Bytes could not be read back from the disk: for a while no new bytes are trusted to it. */
void space_record_unreadable(struct space *space);
bool space_is_unreadable(const struct space *space);

/* ---- upkeep ---- */

/* Whether blobs may be evicted: only while all blobs and pins are known. */
void space_allow_eviction(struct space *space, bool allowed);

/* The bytes on disk that tags, links and directories may take; UINT64_MAX: no limit. */
uint64_t space_record_bytes_most(const struct space *space);

/* Whether the records of blobs that are gone must be swept now. The caller does it. */
bool space_take_sweep(struct space *space);

/* Evicts what is over a limit or too old. Called by a background thread every few seconds. */
void space_enforce(struct space *space, const struct cancel *cancel);
void space_update_metrics(struct space *space); /* sets the gauges */

#endif
