/* One flight: its life, how it fails, and what callers may ask it. */
#include "cache/flight/flight_private.h"

#include <stdlib.h>
#include "base/clock.h"
#include "store/blobs.h"
#include "store/partials.h"

enum {
    MOVING_MS = 1000, /* how long a flight counts as moving after a byte */
    LOOK_MS = 500,    /* how often a caller that waits checks `cancel` */
};

/* ---- life ---- */

struct flight *flight_new(struct flights *flights, const struct flight_wish *wish) {
    struct flight *flight = calloc(1, sizeof *flight);
    if (!flight)
        return NULL;
    flight->flights = flights;
    atomic_fetch_add(&flights->unanswered, 1);
    flight->digest = *wish->digest;
    flight->references = 2; /* the driver's and the caller's */
    flight->started_ms = flight->progress_ms = flight->silent_ms = clock_ms();
    flight->stored_fd = -1;
    lock_init(&flight->write_lock);
    lock_init(&flight->state_lock);
    condition_init(&flight->changed);
    condition_init(&flight->driven);
    body_init(&flight->body, &flights->held);
    hashing_init(&flight->hashing);
    const struct course_start start = {.asker = flights->replicas,
                                       .has_bucket = flights->tier != NULL,
                                       .ask = wish->ask,
                                       .digest = wish->digest};
    sources_init(&flight->sources, wish->repository, flights->tier, &start);
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
    lock_finish(&flight->write_lock);
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
    atomic_store(&flight->abandoned, false);
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

void flight_admit(struct flight *flight, struct flight_reader *reader) {
    readers_enter(&flight->readers, reader);
    atomic_store(&flight->abandoned, false);
    flight->arrivals++;
}

void flight_enter(struct flight *flight, struct flight_reader *reader) {
    lock_acquire(&flight->state_lock);
    flight_admit(flight, reader);
    lock_release(&flight->state_lock);
}

void flight_leave(struct flight *flight, struct flight_reader *reader) {
    lock_acquire(&flight->state_lock);
    readers_leave(&flight->readers, reader);
    if (flight->readers.count == 0 && !flight->readers.fill && !flight->answered)
        atomic_store(&flight->abandoned, true);
    flight_wake(flight);
    lock_release(&flight->state_lock);
}

/* ---- what callers ask ---- */

/* Waits for a change of the flight. `look_ms`: when `cancel` is due to be checked; 0 at first.
 * False: cancelled. Releases the lock meanwhile. */
static bool wait_for_change(struct flight *flight, const struct cancel *cancel, int64_t *look_ms,
                            struct error *error) REQUIRES(flight->state_lock) {
    if (*look_ms == 0)
        *look_ms = clock_ms() + LOOK_MS;
    condition_wait_until(&flight->changed, &flight->state_lock, *look_ms);
    if (clock_ms() < *look_ms)
        return true;
    *look_ms = 0;
    lock_release(&flight->state_lock);
    bool wanted = cancel_check(cancel, error);
    lock_acquire(&flight->state_lock);
    return wanted;
}

/* flight_wait_permission() of a flight that fetches through the source. */
static bool wait_for_source(struct flight *flight, const struct flight_source *source,
                            const struct cancel *cancel, bool *found, struct error *error)
    REQUIRES(flight->state_lock) {
    int64_t look_ms = 0;
    while (source->state == SOURCE_ASKED && flight->state == FLIGHT_MOVING) {
        if (!wait_for_change(flight, cancel, &look_ms, error))
            return false;
    }
    bool allowed = source->state == SOURCE_ANSWERED;
    bool is_asked = source->state == SOURCE_ASKED;
    /* Another source brings the blob or has brought it, and this one was not asked to the end. */
    *found = !(source->state == SOURCE_LEFT || (is_asked && flight->state == FLIGHT_VERIFIED));
    if (!allowed && error)
        *error = is_asked ? flight->failure : source->refusal;
    return allowed;
}

bool flight_wait_permission(struct flight *flight, const struct repository *repository,
                            const struct cancel *cancel, bool *found, struct error *error) {
    bool allowed = false;
    *found = false;
    lock_acquire(&flight->state_lock);
    while (!flight->opened && flight->state == FLIGHT_MOVING) /* only the disk is waited for */
        condition_wait(&flight->changed, &flight->state_lock);
    const struct flight_source *source = sources_find(&flight->sources, repository);
    /* Bytes from an earlier flight do not prove that this repository may read them now. */
    if (source && source->state != SOURCE_FAILED && source->state != SOURCE_LEFT &&
        !(flight->resumed && source->state == SOURCE_ASKED)) {
        *found = true;
        allowed = wait_for_source(flight, source, cancel, found, error);
    }
    lock_release(&flight->state_lock);
    return allowed;
}

/* Whether the flight never asked the repository, which holds the blob, because the sources before
 * it failed while the repository was asked for permission. */
static bool is_unasked(struct flight *flight, const struct repository *repository)
    REQUIRES(flight->state_lock) {
    const struct flight_source *source = sources_find(&flight->sources, repository);
    return source && source->state == SOURCE_ANSWERED &&
           source > sources_current(&flight->sources) &&
           retry_blames_place(retry_classify(&flight->failure));
}

bool flight_was_misled(struct flight *flight, const struct repository *repository) {
    lock_acquire(&flight->state_lock);
    const struct repository *last = &sources_current(&flight->sources)->repository;
    const bool sent_wrong_bytes = flight->failure.kind == ERROR_CORRUPT &&
                                  !repository_name_equal(&last->name, &repository->name);
    bool misled =
        flight->state == FLIGHT_FAILED && (sent_wrong_bytes || is_unasked(flight, repository));
    lock_release(&flight->state_lock);
    return misled;
}

void flight_add_source(struct flight *flight, const struct repository *repository) {
    lock_acquire(&flight->state_lock);
    sources_add(&flight->sources, repository);
    flight_wake(flight); /* the flight may turn to this source at once */
    lock_release(&flight->state_lock);
}

struct repository flight_repository(struct flight *flight) {
    lock_acquire(&flight->state_lock);
    const struct repository repository = sources_current(&flight->sources)->repository;
    lock_release(&flight->state_lock);
    return repository;
}

bool flight_wait_size(struct flight *flight, const struct cancel *cancel, struct error *error) {
    int64_t look_ms = 0;
    bool ok = true;
    lock_acquire(&flight->state_lock);
    while (ok && flight->state == FLIGHT_MOVING && !flight->body.size_known && !flight->answered)
        ok = wait_for_change(flight, cancel, &look_ms, error);
    if (ok && flight->state == FLIGHT_FAILED) {
        ok = false;
        if (error)
            *error = flight->failure;
    }
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

static enum flight_place place_of(struct flight *flight) REQUIRES(flight->state_lock) {
    struct sources *sources = &flight->sources;
    if (sources_ask_bucket(sources))
        return FLIGHT_AT_BUCKET;
    if (sources_are_asked(sources))
        return FLIGHT_AT_UPSTREAM;
    return sources_place(sources)->replica.has_head ? FLIGHT_AT_REPLICA : FLIGHT_ASKING;
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
    out->place = place_of(flight);
    lock_release(&flight->state_lock);
    out->rate = out->seconds > 0 ? (double)out->present / out->seconds : 0;
}
