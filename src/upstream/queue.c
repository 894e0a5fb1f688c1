/* The queue for an upstream's connections. */
#include "upstream/queue.h"

#include <string.h>
#include "base/clock.h"

enum {
    BACKGROUND_LOOK_MS = 50, /* how often a background request looks whether somebody waits for it
                                now */
    LOOK_MS = 250,           /* how often another one looks whether nobody does any more */
};

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

static bool is_set(const atomic_bool *flag) {
    return flag && atomic_load(flag);
}

static bool is_background(const struct queue_place *place) {
    return is_set(place->wait->background);
}

/* Whether the request can have a place at once. */
static bool has_room(struct queue *queue, const struct queue_place *place)
    REQUIRES(queue->places_lock) {
    return queue->free > (is_background(place) ? queue->places / 2 : 0);
}

static bool fail_busy(struct error *error) {
    error_set(error, ERROR_BUSY, "no free connection in time (max_connections reached)");
    if (error)
        error->retry_after_s = 1;
    return false;
}

/* Waits until the place is called. A request that was passed over, and that somebody waits for now,
 * takes a free place, because nobody tells it. */
static bool wait_for_call(struct queue *queue, struct queue_place *place, struct error *error)
    REQUIRES(queue->places_lock) {
    const struct queue_wait *wait = place->wait;
    while (!place->called) {
        int64_t look_ms = clock_ms() + (wait->background ? BACKGROUND_LOOK_MS : LOOK_MS);
        int64_t until = look_ms < wait->deadline_ms ? look_ms : wait->deadline_ms;
        if (condition_wait_until(&place->called_changed, &queue->places_lock, until) ||
            place->called)
            continue;
        if (is_set(wait->stop))
            return error_set(error, ERROR_CLOSED, "tarn is stopping");
        if (is_set(wait->abandoned))
            return error_set(error, ERROR_CLOSED, "the clients left");
        if (has_room(queue, place)) {
            queue->free--;
            return true;
        }
        if (until == wait->deadline_ms)
            return fail_busy(error);
    }
    return true;
}

/* A place that becomes free is handed over to the next thread that waits, so that no thread that
 * comes later can take it. */
bool queue_enter(struct queue *queue, enum queue_rank rank, const struct queue_wait *wait,
                 struct error *error) {
    struct queue_place place = {.wait = wait};
    if (wait->background)
        rank = QUEUE_BACKGROUND;
    lock_acquire(&queue->places_lock);
    bool entered = has_room(queue, &place);
    if (entered) {
        queue->free--;
    } else {
        condition_init(&place.called_changed);
        append(&queue->first[rank], &place);
        entered = wait_for_call(queue, &place, error);
        if (!place.called)
            drop(&queue->first[rank], &place);
        condition_finish(&place.called_changed);
    }
    lock_release(&queue->places_lock);
    return entered;
}

/* The first request of the rank that a client waits for, as far as is known; NULL: none. */
static struct queue_place *first_wanted(struct queue *queue, enum queue_rank rank)
    REQUIRES(queue->places_lock) {
    struct queue_place *place = queue->first[rank];
    while (place && (is_background(place) || is_set(place->wait->abandoned)))
        place = place->next;
    return place;
}

/* Whose turn it is to take a free place. A background request that somebody waits for now goes
 * before the other blobs, because it has waited already. NULL: nobody's. */
static struct queue_place *next_in_line(struct queue *queue, enum queue_rank *rank)
    REQUIRES(queue->places_lock) {
    static const enum queue_rank order[] = {QUEUE_NAMES, QUEUE_BACKGROUND, QUEUE_BLOBS};
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        struct queue_place *wanted = first_wanted(queue, order[i]);
        *rank = order[i];
        if (wanted)
            return wanted;
    }
    *rank = QUEUE_BACKGROUND;
    struct queue_place *place = queue->first[QUEUE_BACKGROUND];
    while (place && is_set(place->wait->abandoned))
        place = place->next;
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

bool queue_is_awaited(struct queue *queue) {
    bool awaited = false;
    lock_acquire(&queue->places_lock);
    for (int rank = 0; rank < QUEUE_RANKS && !awaited && queue->free == 0; rank++)
        awaited = first_wanted(queue, rank) != NULL;
    lock_release(&queue->places_lock);
    return awaited;
}
