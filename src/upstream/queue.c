#include "upstream/queue.h"

#include <string.h>
#include "base/clock.h"

/* On the waiting thread's stack, in the list until it is called or gives up. */
struct queue_place {
    pthread_cond_t called_changed;
    bool called; /* a place was handed over */
    struct queue_place *next;
};

void queue_init(struct queue *queue, unsigned places) {
    memset(queue, 0, sizeof *queue);
    pthread_mutex_init(&queue->places_lock, NULL);
    queue->free = places;
}

void queue_finish(struct queue *queue) {
    pthread_mutex_destroy(&queue->places_lock);
}

static void append(struct queue_place **list, struct queue_place *place) {
    while (*list)
        list = &(*list)->next;
    *list = place;
}

static void drop(struct queue_place **list, const struct queue_place *place) {
    while (*list && *list != place)
        list = &(*list)->next;
    if (*list)
        *list = place->next;
}

/* A place that becomes free is handed to the next directly: nobody who comes later can take it. */
bool queue_enter(struct queue *queue, enum queue_rank rank, int64_t deadline_ms,
                 struct error *error) {
    pthread_mutex_lock(&queue->places_lock);
    if (queue->free > 0) {
        queue->free--;
        pthread_mutex_unlock(&queue->places_lock);
        return true;
    }
    struct queue_place place = {.called = false};
    pthread_cond_init(&place.called_changed, NULL);
    append(&queue->first[rank], &place);
    int64_t wait = deadline_ms - clock_ms();
    struct timespec until = clock_deadline(wait > 0 ? wait : 0);
    while (!place.called && pthread_cond_clockwait(&place.called_changed, &queue->places_lock,
                                                   CLOCK_MONOTONIC, &until) == 0)
        ;
    if (!place.called)
        drop(&queue->first[rank], &place);
    pthread_mutex_unlock(&queue->places_lock);
    pthread_cond_destroy(&place.called_changed);
    if (place.called)
        return true;
    error_set(error, ERROR_BUSY, "no free connection in time (max_connections reached)");
    if (error)
        error->retry_after_s = 1;
    return false;
}

void queue_leave(struct queue *queue) {
    pthread_mutex_lock(&queue->places_lock);
    struct queue_place *next = NULL;
    for (int rank = 0; rank < QUEUE_RANKS && !next; rank++) {
        next = queue->first[rank];
        if (next)
            queue->first[rank] = next->next;
    }
    if (next) {
        next->called = true;
        pthread_cond_signal(&next->called_changed);
    } else {
        queue->free++;
    }
    pthread_mutex_unlock(&queue->places_lock);
}
