/* Flights of spans, their queues, and the readers that wait for them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/file.h"
#include "node/spans/private.h"

enum {
    PAUSE_MS = 2000, /* between demands that do not belong together */
    LOOK_MS = 100,   /* how often a reader that waits looks whether it should stop */
    AHEAD_LEAST = 2, /* spans read one behind the other before more are fetched ahead */
    AHEAD_MOST = 8,  /* spans that are fetched ahead */
};

/* ---- queues ---- */

void spans_flight_queue(struct spans *spans, struct spans_flight *flight) {
    struct spans_queue *queue = &spans->queues[flight->why];
    flight->stage = FLIGHT_QUEUED;
    flight->next = NULL;
    flight->prev = queue->last;
    if (queue->last)
        queue->last->next = flight;
    else
        queue->first = flight;
    queue->last = flight;
    condition_signal(&spans->work);
}

void spans_flight_unqueue(struct spans *spans, struct spans_flight *flight) {
    struct spans_queue *queue = &spans->queues[flight->why];
    if (flight->prev)
        flight->prev->next = flight->next;
    else
        queue->first = flight->next;
    if (flight->next)
        flight->next->prev = flight->prev;
    else
        queue->last = flight->prev;
    flight->next = flight->prev = NULL;
}

/* ---- life ---- */

static struct spans_flight *new_flight(struct spans_layer *layer, size_t at, enum spans_why why) {
    struct spans_flight *flight = calloc(1, sizeof *flight);
    if (!flight)
        return NULL;
    *flight = (struct spans_flight){.layer = layer, .at = at, .why = why, .references = 1};
    condition_init(&flight->done);
    layer->references++;
    return flight;
}

struct spans_flight *spans_flight_want(struct spans *spans, struct spans_layer *layer, size_t at,
                                       enum spans_why why) {
    struct spans_slot *slot = &layer->slots[at];
    struct spans_flight *flight = slot->flight;
    if (!flight) {
        flight = slot->flight = new_flight(layer, at, why);
        if (flight)
            spans_flight_queue(spans, flight);
        return flight;
    }
    if (flight->stage == FLIGHT_QUEUED && why > flight->why) {
        spans_flight_unqueue(spans, flight);
        flight->why = why;
        spans_flight_queue(spans, flight);
    } else if (why > flight->why) {
        flight->why = why; /* for the next source, if this one fails */
    }
    return flight;
}

void spans_flight_release(struct spans *spans, struct spans_flight *flight) {
    if (--flight->references)
        return;
    spans_layer_leave(spans, flight->layer);
    condition_finish(&flight->done);
    free(flight->bytes);
    free(flight);
}

void spans_flight_fail(struct spans_flight *flight, const struct error *error) {
    flight->kind = error->kind;
    snprintf(flight->text, sizeof flight->text, "%.*s", (int)sizeof flight->text - 1, error->text);
}

void spans_flight_end(struct spans *spans, struct spans_flight *flight, const struct error *error) {
    flight->stage = FLIGHT_DONE;
    flight->ok = error == NULL;
    if (error)
        spans_flight_fail(flight, error);
    flight->layer->slots[flight->at].flight = NULL;
    condition_broadcast(&flight->done);
    spans_flight_release(spans, flight);
}

void spans_flight_end_all(struct spans *spans) {
    const struct error gone = {.kind = ERROR_CLOSED, .text = "stopped"};
    for (unsigned why = 0; why < SPANS_WHYS; why++)
        for (struct spans_flight *flight; (flight = spans->queues[why].first);) {
            spans_flight_unqueue(spans, flight);
            spans_flight_end(spans, flight, &gone);
        }
}

/* ---- readers ---- */

/* A span that was read: what is read behind it is fetched ahead once that is a habit. */
static void note_read(struct spans *spans, struct spans_layer *layer, size_t at)
    REQUIRES(spans->lock) {
    layer->slots[at].used = ++spans->uses;
    if (at + 1 == layer->read_next)
        return;
    layer->read_run = at == layer->read_next ? layer->read_run + 1 : 0;
    layer->read_next = at + 1;
    if (layer->read_run < AHEAD_LEAST || layer->is_whole)
        return;
    size_t most = layer->read_run < AHEAD_MOST ? layer->read_run : AHEAD_MOST;
    for (size_t i = at + 1; i < layer->count && i <= at + most; i++)
        if (layer->slots[i].place == SPAN_ABSENT && !layer->slots[i].flight)
            spans_flight_want(spans, layer, i, SPANS_AHEAD);
}

void spans_flight_lose(struct spans *spans, struct spans_layer *layer, size_t at) {
    layer->slots[at].place = SPAN_ABSENT;
    layer->is_verified = false;
    if (at < layer->next_absent)
        layer->next_absent = at;
    spans_budget_return(spans, layer, at);
}

/* Compares a span of an earlier process with its sum. */
static void check_kept(struct spans *spans, struct spans_layer *layer, size_t at)
    REQUIRES(spans->lock) {
    struct spans_slot *slot = &layer->slots[at];
    slot->pins++;
    lock_release(&spans->lock);
    bool ok = spans_layer_check(layer, at);
    lock_acquire(&spans->lock);
    slot->pins--;
    if (slot->place != SPAN_KEPT)
        return;
    if (ok)
        slot->place = SPAN_PRESENT;
    else if (slot->pins == 0)
        spans_flight_lose(spans, layer, at);
}

static bool read_disk(struct spans *spans, struct spans_layer *layer, const struct spans_part *part)
    REQUIRES(spans->lock) {
    struct spans_slot *slot = &layer->slots[part->at];
    slot->pins++;
    lock_release(&spans->lock);
    bool ok = file_read_all_at(layer->data_fd, part->out, part->length,
                               spans_layer_where(layer, part->at) + part->offset, NULL);
    lock_acquire(&spans->lock);
    slot->pins--;
    if (!ok && slot->place == SPAN_PRESENT && slot->pins == 0)
        spans_flight_lose(spans, layer, part->at);
    return ok;
}

/* The reader gives up: a flight that nobody else wants does not begin. */
static void leave(struct spans *spans, struct spans_flight *flight) REQUIRES(spans->lock) {
    flight->waiters--;
    if (flight->waiters == 0 && flight->stage == FLIGHT_QUEUED && flight->why == SPANS_DEMAND) {
        spans_flight_unqueue(spans, flight);
        const struct error gone = {.kind = ERROR_CLOSED};
        spans_flight_end(spans, flight, &gone);
    }
}

static bool is_stopped(const struct spans *spans, const atomic_bool *stop) {
    return (stop && atomic_load(stop)) || atomic_load(&spans->stopping);
}

/* Waits until the flight has ended. False: the reader's time is over, or it is stopped. */
static bool await(struct spans *spans, struct spans_flight *flight, int64_t until_ms,
                  const atomic_bool *stop, struct error *error) REQUIRES(spans->lock) {
    while (flight->stage != FLIGHT_DONE) {
        int64_t now = clock_ms(), look = now + LOOK_MS;
        if (is_stopped(spans, stop))
            return error_set(error, ERROR_CLOSED, "stopped");
        if (now >= until_ms)
            return error_set(error, ERROR_TIMEOUT, "no source has answered in time: %s",
                             flight->text);
        condition_wait_until(&flight->done, &spans->lock, look < until_ms ? look : until_ms);
    }
    return true;
}

static void count_wait(struct spans_image *image, int64_t us) {
    unsigned bucket = 0;
    uint64_t value = us > 0 ? (uint64_t)us : 0;
    metric_observe(image->spans->waits, us);
    atomic_fetch_add(&image->waits, 1);
    while (value >= 8) {
        value /= 2;
        bucket += 4;
    }
    bucket += value >= 4 ? (unsigned)value - 4 : 0;
    if (bucket >= SPANS_WAIT_BUCKETS)
        bucket = SPANS_WAIT_BUCKETS - 1;
    atomic_fetch_add(&image->wait_buckets[bucket], 1);
}

/* A read of one part. */
struct reading {
    struct spans_image *image;
    struct spans_layer *layer;
    const struct spans_part *part;
    int64_t until_ms;
    const atomic_bool *stop;
};

/* Notes that somebody waits, for the background. */
static void note_demand(struct spans *spans) REQUIRES(spans->lock) {
    int64_t now_ms = clock_ms();
    if (now_ms - spans->demand_ms > PAUSE_MS)
        spans->busy_ms = now_ms;
    spans->demand_ms = now_ms;
}

/* Waits for a span that is absent, and copies from its flight. */
static bool read_flight(struct spans *spans, const struct reading *reading, struct error *error)
    REQUIRES(spans->lock) {
    const struct spans_part *part = reading->part;
    struct spans_flight *flight = spans_flight_want(spans, reading->layer, part->at, SPANS_DEMAND);
    if (!flight)
        return error_set(error, ERROR_MEMORY, "out of memory");
    note_demand(spans);
    flight->references++;
    flight->waiters++;
    bool must_wait = flight->stage != FLIGHT_DONE;
    int64_t began_us = clock_us();
    bool ended = await(spans, flight, reading->until_ms, reading->stop, error);
    bool ok = ended && flight->ok;
    if (must_wait)
        count_wait(reading->image, clock_us() - began_us);
    leave(spans, flight);
    if (ended && !ok)
        error_set(error, flight->kind, "%s", flight->text);
    if (ok) {
        lock_release(&spans->lock);
        memcpy(part->out, flight->bytes + part->offset, part->length);
        lock_acquire(&spans->lock);
    }
    spans_flight_release(spans, flight);
    return ok;
}

/* One look at the span. *done: the part is read, or cannot be. */
static bool try_read(struct spans *spans, const struct reading *reading, bool *done,
                     struct error *error) REQUIRES(spans->lock) {
    struct spans_layer *layer = reading->layer;
    *done = true;
    switch (layer->slots[reading->part->at].place) {
    case SPAN_PRESENT:
        if (read_disk(spans, layer, reading->part))
            return true;
        break;
    case SPAN_KEPT:
        check_kept(spans, layer, reading->part->at);
        break;
    case SPAN_LEAVING:
        if (is_stopped(spans, reading->stop))
            return error_set(error, ERROR_CLOSED, "stopped");
        condition_wait_until(&spans->changed, &spans->lock, clock_ms() + LOOK_MS);
        break;
    default:
        if (layer->is_whole)
            return error_set(error, ERROR_CORRUPT,
                             "the disk has lost a part of a layer that was pulled whole");
        if (is_stopped(spans, reading->stop))
            return error_set(error, ERROR_CLOSED, "stopped");
        return read_flight(spans, reading, error);
    }
    *done = false;
    return false;
}

bool spans_flight_read(struct spans_image *image, struct spans_layer *layer,
                       const struct spans_part *part, const atomic_bool *stop,
                       struct error *error) {
    struct spans *spans = image->spans;
    const struct reading reading = {image, layer, part, clock_ms() + spans->settings.wait_ms, stop};
    bool ok = false, done = false;
    lock_acquire(&spans->lock);
    while (!done) {
        done = true;
        if (layer->is_bad)
            error_set(error, ERROR_CORRUPT, "the layer is not what the image says");
        else
            ok = try_read(spans, &reading, &done, error);
    }
    if (ok) {
        note_read(spans, layer, part->at);
        spans_trace_note(spans, image, layer, part->at);
    }
    lock_release(&spans->lock);
    return ok;
}
