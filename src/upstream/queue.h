/*
 * How many requests an upstream gets at once, and who is next: manifests and tags before blobs,
 * what runs in the background last, and within each in the order of asking. Threads: any.
 */
#ifndef UPSTREAM_QUEUE_H
#define UPSTREAM_QUEUE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"

enum queue_rank { QUEUE_NAMES, QUEUE_BLOBS, QUEUE_BACKGROUND, QUEUE_RANKS };

struct queue_place; /* one who waits */

struct queue {
    pthread_mutex_t places_lock; /* guards all below; never held for I/O */
    unsigned free;
    struct queue_place *first[QUEUE_RANKS];
};

void queue_init(struct queue *queue, unsigned places);
void queue_finish(struct queue *queue);

/* Takes a place, waiting for one until `deadline_ms` (clock_ms()). False: ERROR_BUSY. */
bool queue_enter(struct queue *queue, enum queue_rank rank, int64_t deadline_ms,
                 struct error *error);
void queue_leave(struct queue *queue);

#endif
