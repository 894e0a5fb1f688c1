/* The queue for an upstream's connections. */
#include "upstream/queue.h"

#include <string.h>

void queue_init(struct queue *queue, unsigned places) {
    memset(queue, 0, sizeof *queue);
    lock_init(&queue->places_lock);
    queue->free = places;
}

void queue_finish(struct queue *queue) {
    lock_finish(&queue->places_lock);
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

/* A place that becomes free is handed over to the next thread that waits, so that no thread that
 * comes later can take it. */
bool queue_enter(struct queue *queue, enum queue_rank rank, int64_t deadline_ms,
                 struct error *error) {
    lock_acquire(&queue->places_lock);
    if (queue->free > 0) {
        queue->free--;
        lock_release(&queue->places_lock);
        return true;
    }
    struct queue_place place = {.called = false};
    condition_init(&place.called_changed);
    append(&queue->first[rank], &place);
    while (!place.called &&
           condition_wait_until(&place.called_changed, &queue->places_lock, deadline_ms))
        ;
    if (!place.called)
        drop(&queue->first[rank], &place);
    lock_release(&queue->places_lock);
    condition_finish(&place.called_changed);
    if (place.called)
        return true;
    error_set(error, ERROR_BUSY, "no free connection in time (max_connections reached)");
    if (error)
        error->retry_after_s = 1;
    return false;
}

void queue_leave(struct queue *queue) {
    lock_acquire(&queue->places_lock);
    struct queue_place *next = NULL;
    for (int rank = 0; rank < QUEUE_RANKS && !next; rank++) {
        next = queue->first[rank];
        if (next)
            queue->first[rank] = next->next;
    }
    if (next) {
        next->called = true;
        condition_signal(&next->called_changed);
    } else {
        queue->free++;
    }
    lock_release(&queue->places_lock);
}
