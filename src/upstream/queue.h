/*
 * Limits how many requests an upstream gets at once, and decides which request is next: manifests
 * and tags before blobs, background requests last, and within each rank in the order of asking.
 * Background requests leave half of the places free.
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

/* A thread that waits: on its stack, in the list until it is called or gives up. */
struct queue_place {
    struct condition called_changed;
    bool called;                   /* a place was handed over */
    const atomic_bool *background; /* of QUEUE_BACKGROUND: see queue_enter_background() */
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

/* Takes a place, waiting for one until `deadline_ms` (clock_ms()). False: ERROR_BUSY. */
bool queue_enter(struct queue *queue, enum queue_rank rank, int64_t deadline_ms,
                 struct error *error);
/* The same for a request that nobody waits for as long as *background is set. Once it is cleared,
 * the request is as good as one for a blob. */
bool queue_enter_background(struct queue *queue, const atomic_bool *background, int64_t deadline_ms,
                            struct error *error);
void queue_leave(struct queue *queue);

#endif
