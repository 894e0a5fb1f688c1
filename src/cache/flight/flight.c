/* One flight: its life, how it fails, and what callers may ask it. */
#include "cache/flight/flight_private.h"

#include <stdlib.h>
#include "base/clock.h"
#include "store/blobs.h"
#include "store/partials.h"

enum { MOVING_MS = 1000 }; /* how long a flight counts as moving after a byte */

/* ---- life ---- */

struct flight *flight_new(struct flights *flights, const struct flight_wish *wish) {
    struct flight *flight = calloc(1, sizeof *flight);
    if (!flight)
        return NULL;
    flight->flights = flights;
    atomic_fetch_add(&flights->unanswered, 1);
    flight->digest = *wish->digest;
    flight->references = 2; /* the driver's and the caller's */
    flight->started_ms = flight->progress_ms = clock_ms();
    flight->stored_fd = -1;
    lock_init(&flight->state_lock);
    condition_init(&flight->changed);
    condition_init(&flight->driven);
    body_init(&flight->body, &flights->held);
    hashing_init(&flight->hashing);
    sources_init(&flight->sources, wish->repository);
    flight->spans.allowed = UPSTREAM_CONNECTIONS_LIMIT;
    flight->readers.first = *wish->range;
    return flight;
}

static void flight_free(struct flight *flight) {
    if (!flight->answered)
        atomic_fetch_sub(&flight->flights->unanswered, 1);
    if (flight->partial)
        partial_free(flight->partial);
    store_blob_close(flight->flights->store, &flight->digest, flight->stored_fd);
    hashing_finish(&flight->hashing);
    body_finish(&flight->body);
    sources_finish(&flight->sources);
    lock_finish(&flight->state_lock);
    condition_finish(&flight->changed);
    condition_finish(&flight->driven);
    free(flight);
}

void flight_keep(struct flight *flight) {
    atomic_fetch_add(&flight->references, 1);
}

void flight_release(struct flight *flight) {
    if (flight && atomic_fetch_sub(&flight->references, 1) == 1)
        flight_free(flight);
}

void flight_record_answer(struct flight *flight) {
    if (!flight->answered)
        atomic_fetch_sub(&flight->flights->unanswered, 1);
    flight->answered = true;
}

void flight_wake(struct flight *flight) {
    condition_broadcast(&flight->changed);
    condition_signal(&flight->driven);
}

void flight_fail(struct flight *flight, const struct error *error) {
    if (flight->state != FLIGHT_MOVING)
        return;
    flight->state = FLIGHT_FAILED;
    flight->failure = *error;
    flight_wake(flight);
}

bool flight_is_moving(struct flight *flight) {
    lock_acquire(&flight->state_lock);
    bool moving = flight->state != FLIGHT_MOVING ||
                  (flight->answered && clock_ms() - flight->progress_ms < MOVING_MS);
    lock_release(&flight->state_lock);
    return moving;
}

void flight_give_up(struct flight *flight, const struct error *why) {
    space_record_unreadable(flight->flights->space);
    lock_acquire(&flight->state_lock);
    flight_fail(flight, why);
    lock_release(&flight->state_lock);
}

/* ---- readers ---- */

void flight_enter(struct flight *flight, struct flight_reader *reader) {
    lock_acquire(&flight->state_lock);
    readers_enter(&flight->readers, reader);
    flight->arrivals++;
    lock_release(&flight->state_lock);
}

void flight_leave(struct flight *flight, struct flight_reader *reader) {
    lock_acquire(&flight->state_lock);
    readers_leave(&flight->readers, reader);
    flight_wake(flight);
    lock_release(&flight->state_lock);
}

/* ---- what callers ask ---- */

bool flight_wait_permission(struct flight *flight, const struct repository *repository, bool *found,
                            struct error *error) {
    bool allowed = false;
    *found = false;
    lock_acquire(&flight->state_lock);
    while (!flight->opened && flight->state == FLIGHT_MOVING)
        condition_wait(&flight->changed, &flight->state_lock);
    const struct flight_source *source = sources_find(&flight->sources, repository);
    /* Bytes from an earlier flight do not prove that this repository may read them now. */
    if (source && !(flight->resumed && source->state == SOURCE_ASKED)) {
        *found = true;
        while (source->state == SOURCE_ASKED && flight->state == FLIGHT_MOVING)
            condition_wait(&flight->changed, &flight->state_lock);
        allowed = source->state == SOURCE_ANSWERED;
        if (!allowed && error)
            *error = source->state == SOURCE_REFUSED ? source->refusal : flight->failure;
    }
    lock_release(&flight->state_lock);
    return allowed;
}

void flight_add_source(struct flight *flight, const struct repository *repository) {
    lock_acquire(&flight->state_lock);
    sources_add(&flight->sources, repository);
    lock_release(&flight->state_lock);
}

struct repository flight_repository(struct flight *flight) {
    lock_acquire(&flight->state_lock);
    const struct repository repository = sources_current(&flight->sources)->repository;
    lock_release(&flight->state_lock);
    return repository;
}

bool flight_wait_size(struct flight *flight, struct error *error) {
    lock_acquire(&flight->state_lock);
    while (flight->state == FLIGHT_MOVING && !flight->body.size_known && !flight->answered)
        condition_wait(&flight->changed, &flight->state_lock);
    bool ok = flight->state != FLIGHT_FAILED;
    if (!ok && error)
        *error = flight->failure;
    lock_release(&flight->state_lock);
    return ok;
}

bool flight_read_size(struct flight *flight, uint64_t *size) {
    lock_acquire(&flight->state_lock);
    bool known = flight->body.size_known;
    *size = flight->body.size;
    lock_release(&flight->state_lock);
    return known;
}

void flight_describe(struct flight *flight, struct flight_figures *out) {
    const struct body *body = &flight->body;
    *out = (struct flight_figures){0};
    digest_format(&flight->digest, out->digest);
    out->seconds = (double)(clock_ms() - flight->started_ms) / 1000;
    lock_acquire(&flight->state_lock);
    const struct repository_name *name = &sources_current(&flight->sources)->repository.name;
    text_copy(text_of(name->host), out->upstream, sizeof out->upstream);
    text_copy(text_of(name->path), out->repository, sizeof out->repository);
    out->size = body->size_known ? body->size : 0;
    out->present = extents_total(&body->present);
    out->connections = flight->spans.fetchers;
    out->readers = flight->readers.count;
    out->retries = flight->retries;
    lock_release(&flight->state_lock);
    out->rate = out->seconds > 0 ? (double)out->present / out->seconds : 0;
}
