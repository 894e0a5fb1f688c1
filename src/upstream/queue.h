/*
 * Limits how many requests an upstream gets at once, and decides which request is next: manifests
 * and tags before blobs, background requests last, and within each rank in the order of asking.
 * Background requests leave half of the places free. A request that nobody waits for any more
 * leaves the queue.
 * Threads: any.
 */
#ifndef UPSTREAM_QUEUE_H
#define UPSTREAM_QUEUE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "base/lock.h"

enum queue_rank { QUEUE_NAMES, QUEUE_BLOBS, QUEUE_BACKGROUND, QUEUE_RANKS };

/* How long a request waits. Each flag may be NULL, may be changed by any thread, and is looked at
 * several times a second. */
struct queue_wait {
    int64_t deadline_ms;          /* clock_ms() */
    const atomic_bool *stop;      /* set: tarn stops, and the wait ends */
    const atomic_bool *abandoned; /* set: nobody waits for the response, and the wait ends */
    /* While set, no client waits for the response, and the request has QUEUE_BACKGROUND. Once it is
     * cleared, the request is as good as one for a blob. */
    const atomic_bool *background;
};

/* A thread that waits: on its stack, in the list until it is called or gives up. */
struct queue_place {
    struct condition called_changed;
    bool called; /* a place was handed over */
    const struct queue_wait *wait;
    struct queue_place *next;
};

struct queue {
    struct lock places_lock;
    unsigned places; /* constant */
    unsigned free GUARDED_BY(places_lock);
    struct queue_place *first[QUEUE_RANKS] GUARDED_BY(places_lock);
};

void queue_init(struct queue *queue, unsigned places);
void queue_finish(struct queue *queue);

/* Takes a place, waiting for one if there is none. `rank` does not count for a wait with a
 * `background`. False: ERROR_BUSY (no place in time), or ERROR_CLOSED (stopped or abandoned). */
bool queue_enter(struct queue *queue, enum queue_rank rank, const struct queue_wait *wait,
                 struct error *error);
void queue_leave(struct queue *queue);

/* Whether a request waits for a place, other than those that nobody waits for. */
bool queue_is_awaited(struct queue *queue);

#endif
