/* Those who wait for a flight: for leave to read it, for its size, for their next byte. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "cache/flight/flight.h"

enum {
    HELD_BACK = 512,     /* of a whole body until its digest is checked: at most half of it */
    LENT_MOST = 1 << 20, /* from memory, sent at a time: until then it cannot be forgotten */
};

/* state_lock held. */
static struct flight_source *find_source(struct flight *flight,
                                         const struct repository *repository) {
    for (unsigned i = 0; i < flight->source_count; i++) {
        struct flight_source *source = &flight->sources[i];
        if (source->repository.upstream == repository->upstream &&
            strcmp(source->repository.name.path, repository->name.path) == 0)
            return source;
    }
    return NULL;
}

bool flight_wait_permission(struct flight *flight, const struct repository *repository, bool *found,
                            struct error *error) {
    bool allowed = false;
    *found = false;
    pthread_mutex_lock(&flight->state_lock);
    while (!flight->opened && flight->state == FLIGHT_MOVING)
        pthread_cond_wait(&flight->changed, &flight->state_lock);
    struct flight_source *source = find_source(flight, repository);
    /* What an earlier flight brought in says nothing about who may read it now. */
    if (source && !(flight->resumed && source->state == SOURCE_ASKED)) {
        *found = true;
        while (source->state == SOURCE_ASKED && flight->state == FLIGHT_MOVING)
            pthread_cond_wait(&flight->changed, &flight->state_lock);
        allowed = source->state == SOURCE_ANSWERED;
        if (!allowed && error)
            *error = source->state == SOURCE_REFUSED ? source->refusal : flight->failure;
    }
    pthread_mutex_unlock(&flight->state_lock);
    return allowed;
}

void flight_add_source(struct flight *flight, const struct repository *repository) {
    pthread_mutex_lock(&flight->state_lock);
    struct flight_source *known = find_source(flight, repository);
    if (known) {
        known->state = SOURCE_ANSWERED;
    } else if (flight->source_count < FLIGHT_SOURCES) {
        flight->sources[flight->source_count++] =
            (struct flight_source){.repository = *repository, .state = SOURCE_ANSWERED};
    }
    pthread_mutex_unlock(&flight->state_lock);
}

bool flight_wait_size(struct flight *flight, struct error *error) {
    pthread_mutex_lock(&flight->state_lock);
    while (flight->state == FLIGHT_MOVING && !flight->size_known && !flight->answered)
        pthread_cond_wait(&flight->changed, &flight->state_lock);
    bool ok = flight->state != FLIGHT_FAILED;
    if (!ok && error)
        *error = flight->failure;
    pthread_mutex_unlock(&flight->state_lock);
    return ok;
}

void flight_want_all(struct flight *flight) {
    pthread_mutex_lock(&flight->state_lock);
    flight->fill = !flight->passing.on;
    flight_staff(flight);
    pthread_mutex_unlock(&flight->state_lock);
}

void flight_enter(struct flight *flight, struct flight_reader *reader) {
    DL_APPEND(flight->readers, reader);
    flight->reader_count++;
}

void flight_leave(struct flight *flight, struct flight_reader *reader) {
    pthread_mutex_lock(&flight->state_lock);
    DL_DELETE(flight->readers, reader);
    flight->reader_count--;
    pthread_cond_broadcast(&flight->changed);
    pthread_mutex_unlock(&flight->state_lock);
}

/* Up to where bytes at `reader->at` may be sent. `doubtful`: the flight that its first part came
 * from is not verified. state_lock held. */
static uint64_t released_end(const struct flight *flight, const struct flight_reader *reader,
                             bool doubtful) {
    uint64_t end = extents_run_end(&flight->present, reader->at);
    if ((flight->state != FLIGHT_VERIFIED || doubtful) && reader->whole) {
        uint64_t held = HELD_BACK;
        if (flight->size_known && flight->size / 2 < held)
            held = (flight->size + 1) / 2;
        uint64_t limit = flight->size_known ? flight->size : end;
        limit = limit > held ? limit - held : 0;
        end = end < limit ? end : limit;
    }
    return end > reader->at ? (end < reader->end ? end : reader->end) : reader->at;
}

void cache_blob_want(struct cache_blob *blob, uint64_t first, uint64_t end, bool whole) {
    struct flight *flight = blob->flight;
    if (!flight)
        return;
    pthread_mutex_lock(&flight->state_lock);
    blob->reader->at = first;
    blob->reader->end = end;
    blob->reader->whole = whole;
    blob->reader->undecided = false;
    if (!flight->passing.on &&
        (whole || upstream_settings(flight->sources[0].repository.upstream)->range_fill))
        flight->fill = true;
    flight_staff(flight);
    pthread_mutex_unlock(&flight->state_lock);
}

/* What can be said against a reader's going on, its flight being in order otherwise. state_lock
 * held. */
static bool is_consistent(const struct cache_blob *blob, struct error *error) {
    const struct flight *flight = blob->flight;
    if (blob->before && blob->before->state == FLIGHT_FAILED)
        return error_set(error, ERROR_UNAVAILABLE,
                         "the transfer that the first part of the blob came from has failed");
    if (blob->reader->whole && blob->size_known && flight->size_known && flight->size != blob->size)
        return error_set(error, ERROR_CORRUPT, "the blob's size changed between two transfers");
    return true;
}

/* Waits for bytes at `offset`; false when there is something else to say. state_lock held. */
static bool wait_for_bytes(struct cache_blob *blob, uint64_t offset, uint64_t *end,
                           bool (*is_there)(const void *context), const void *context,
                           struct error *error) {
    struct flight *flight = blob->flight;
    struct flight_reader *reader = blob->reader;
    bool there = true;
    for (;;) {
        bool doubtful = blob->before && blob->before->state != FLIGHT_VERIFIED;
        *end = released_end(flight, reader, doubtful);
        bool at_end = flight->state == FLIGHT_VERIFIED && !doubtful && offset >= flight->size;
        if (flight->state == FLIGHT_FAILED || *end > offset || at_end || !there || reader->put_out)
            break;
        if (!is_consistent(blob, error))
            return false;
        flight_staff(flight);
        struct timespec deadline = clock_deadline(1000);
        int waited = pthread_cond_clockwait(&flight->changed, &flight->state_lock, CLOCK_MONOTONIC,
                                            &deadline);
        if (waited == ETIMEDOUT && is_there) {
            pthread_mutex_unlock(&flight->state_lock);
            there = is_there(context);
            pthread_mutex_lock(&flight->state_lock);
        }
    }
    if (!there)
        return error_set(error, ERROR_CLOSED, "the client left");
    if (flight->state == FLIGHT_FAILED && error)
        *error = flight->failure;
    return flight->state != FLIGHT_FAILED && !reader->put_out && is_consistent(blob, error);
}

/* Goes on from `offset` in a flight of its own, which hashes the whole blob again. What was sent
 * before was not verified; its flight is kept in `before`, to see how it ends. */
static bool change_flight(struct cache_blob *blob, uint64_t offset, struct error *error) {
    struct flight *old = blob->flight;
    if (blob->before)
        return error_set(error, ERROR_NO_SPACE,
                         "the client fell behind for the second time in a blob that is not kept");
    const struct flight_reader was = *blob->reader;
    const struct flight_source source = flight_current_source(old);
    const struct blob_range whole = {.kind = BLOB_WHOLE};
    const struct blob_range rest = {.kind = BLOB_FROM, .first = offset};
    bool started;
    flight_leave(old, blob->reader);
    struct flight *flight = flights_join(old->flights, &source.repository, &old->digest,
                                         was.whole ? &whole : &rest, blob->reader, &started, error);
    if (!flight) { /* a reader that nobody knows must not be taken leave of */
        pthread_mutex_lock(&old->state_lock);
        flight_enter(old, blob->reader);
        blob->reader->put_out = true;
        pthread_mutex_unlock(&old->state_lock);
        return false;
    }
    blob->flight = flight;
    if (was.whole && offset > 0)
        blob->before = old;
    else
        flight_release(old);
    cache_blob_want(blob, offset, was.end, was.whole);
    return true;
}

bool cache_blob_wait(struct cache_blob *blob, uint64_t offset, uint64_t *end,
                     bool (*is_there)(const void *context), const void *context,
                     struct error *error) {
    if (!blob->flight) {
        *end = blob->size;
        return true;
    }
    for (;;) {
        struct flight *flight = blob->flight;
        pthread_mutex_lock(&flight->state_lock);
        blob->reader->at = blob->reader->lent = offset;
        if (flight->passing.on) /* what it has had may be forgotten, and the transfer go on */
            pthread_cond_broadcast(&flight->changed);
        bool ok = wait_for_bytes(blob, offset, end, is_there, context, error);
        bool put_out = !ok && blob->reader->put_out && flight->state != FLIGHT_FAILED;
        uint64_t there_until = *end;
        if (ok && *end > offset) {
            blob->fd = flight_medium(flight, offset, &there_until);
            *end = there_until < *end ? there_until : *end;
            blob->fleeting = blob->fd == flight->passing.memory;
            if (blob->fleeting && *end > offset + LENT_MOST)
                *end = offset + LENT_MOST;
            blob->reader->lent = *end;
        }
        pthread_mutex_unlock(&flight->state_lock);
        if (!put_out || (is_there && !is_there(context)))
            return ok;
        if (!change_flight(blob, offset, error))
            return false;
    }
}
