/* The queue for an upstream's connections. */
#include "upstream/queue.h"

#include <string.h>
#include "base/clock.h"

enum { LOOK_MS = 50 }; /* how often a background request looks whether somebody waits for it now */

void queue_init(struct queue *queue, unsigned places) {
    memset(queue, 0, sizeof *queue);
    lock_init(&queue->places_lock);
    queue->places = queue->free = places;
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

static bool is_background(const struct queue_place *place) {
    return place->background && atomic_load(place->background);
}

/* Whether the request can have a place at once. */
static bool has_room(struct queue *queue, const struct queue_place *place)
    REQUIRES(queue->places_lock) {
    return queue->free > (is_background(place) ? queue->places / 2 : 0);
}

/* Waits until the place is called. A background request that has become urgent takes a free place,
 * because nobody tells it. False: the time is over. */
static bool wait_for_call(struct queue *queue, struct queue_place *place, int64_t deadline_ms)
    REQUIRES(queue->places_lock) {
    while (!place->called) {
        int64_t until = deadline_ms, look_ms = clock_ms() + LOOK_MS;
        if (place->background && look_ms < until)
            until = look_ms;
        if (condition_wait_until(&place->called_changed, &queue->places_lock, until) ||
            place->called)
            continue;
        if (place->background && has_room(queue, place)) {
            queue->free--;
            return true;
        }
        if (until == deadline_ms)
            return false;
    }
    return true;
}

/* A place that becomes free is handed over to the next thread that waits, so that no thread that
 * comes later can take it. */
static bool enter(struct queue *queue, enum queue_rank rank, struct queue_place *place,
                  int64_t deadline_ms, struct error *error) {
    lock_acquire(&queue->places_lock);
    bool entered = has_room(queue, place);
    if (entered) {
        queue->free--;
    } else {
        condition_init(&place->called_changed);
        append(&queue->first[rank], place);
        entered = wait_for_call(queue, place, deadline_ms);
        if (!place->called)
            drop(&queue->first[rank], place);
        condition_finish(&place->called_changed);
    }
    lock_release(&queue->places_lock);
    if (entered)
        return true;
    error_set(error, ERROR_BUSY, "no free connection in time (max_connections reached)");
    if (error)
        error->retry_after_s = 1;
    return false;
}

bool queue_enter(struct queue *queue, enum queue_rank rank, int64_t deadline_ms,
                 struct error *error) {
    struct queue_place place = {.called = false};
    return enter(queue, rank, &place, deadline_ms, error);
}

bool queue_enter_background(struct queue *queue, const atomic_bool *background, int64_t deadline_ms,
                            struct error *error) {
    struct queue_place place = {.background = background};
    return enter(queue, QUEUE_BACKGROUND, &place, deadline_ms, error);
}

/* Whose turn it is to take a free place. A background request that somebody waits for now goes
 * before the other blobs, because it has waited already. NULL: nobody's. */
static struct queue_place *next_in_line(struct queue *queue, enum queue_rank *rank)
    REQUIRES(queue->places_lock) {
    *rank = QUEUE_NAMES;
    if (queue->first[QUEUE_NAMES])
        return queue->first[QUEUE_NAMES];
    *rank = QUEUE_BACKGROUND;
    for (struct queue_place *place = queue->first[QUEUE_BACKGROUND]; place; place = place->next)
        if (!is_background(place))
            return place;
    *rank = QUEUE_BLOBS;
    if (queue->first[QUEUE_BLOBS])
        return queue->first[QUEUE_BLOBS];
    *rank = QUEUE_BACKGROUND;
    struct queue_place *place = queue->first[QUEUE_BACKGROUND];
    return place && has_room(queue, place) ? place : NULL;
}

void queue_leave(struct queue *queue) {
    enum queue_rank rank;
    lock_acquire(&queue->places_lock);
    queue->free++;
    struct queue_place *next = next_in_line(queue, &rank);
    if (next) {
        queue->free--;
        drop(&queue->first[rank], next);
        next->called = true;
        condition_signal(&next->called_changed);
    }
    lock_release(&queue->places_lock);
}
