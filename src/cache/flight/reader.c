/* One client's way through a blob: it waits for its next bytes, and may change the flight. */
#include <stdlib.h>
#include "base/clock.h"
#include "cache/flight/flight_private.h"

enum {
    SENDING_MOST = 1 << 20, /* bytes sent from memory at a time; they cannot be dropped meanwhile */
    LOOK_MS = 1000,         /* how often a waiting reader checks `cancel` */
};

struct flight_reader *flight_reader_open(struct flights *flights, const struct flight_wish *wish,
                                         bool *started, struct error *error) {
    struct flight_reader *reader = calloc(1, sizeof *reader);
    if (!reader) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    reader->undecided = true;
    /* Once it is served, it is served to the end. */
    reader->ask = wish->ask == REPLICA_ASK_ARRIVING ? REPLICA_ASK_FETCH : wish->ask;
    reader->flight = flights_join(flights, wish, reader, started, error);
    if (reader->flight)
        return reader;
    free(reader);
    return NULL;
}

void flight_reader_close(struct flight_reader *reader) {
    if (!reader)
        return;
    flight_leave(reader->flight, reader);
    flight_release(reader->flight);
    flight_release(reader->before);
    free(reader);
}

struct flight *flight_reader_flight(const struct flight_reader *reader) {
    return reader->flight;
}

void flight_reader_want(struct flight_reader *reader, uint64_t first, uint64_t end, bool whole) {
    struct flight *flight = reader->flight;
    lock_acquire(&flight->state_lock);
    reader->at = first;
    reader->end = end;
    reader->whole = whole;
    reader->undecided = false;
    if (!flight->body.passing.on && (whole || flight->sources.at[0].place.fills))
        flight->readers.fill = true;
    flight_start_fetchers(flight);
    lock_release(&flight->state_lock);
}

/* Whether the flight that the reader was evicted from may still fail. */
static bool is_doubtful(const struct flight_reader *reader) {
    return reader->before && reader->before->state != FLIGHT_VERIFIED;
}

/* Whether the reader can go on after it may have changed the flight. */
static bool is_consistent(struct flight *flight, const struct flight_reader *reader,
                          struct error *error) REQUIRES(flight->state_lock) {
    if (reader->before && reader->before->state == FLIGHT_FAILED)
        return error_set(error, ERROR_UNAVAILABLE,
                         "the transfer that sent the first part of the blob has failed");
    if (reader->whole && reader->end != UINT64_MAX && flight->body.size_known &&
        flight->body.size != reader->end)
        return error_set(error, ERROR_CORRUPT, "the blob's size changed between two transfers");
    return true;
}

/* Waits for bytes at reader->at. False: there are none, and `error` says why unless the reader was
 * evicted. */
static bool wait_for_bytes(struct flight *flight, struct flight_reader *reader, uint64_t *end,
                           const struct cancel *cancel, struct error *error)
    REQUIRES(flight->state_lock) {
    int64_t look_ms = clock_ms() + LOOK_MS;
    for (;;) {
        bool verified = flight->state == FLIGHT_VERIFIED && !is_doubtful(reader);
        *end = reader_released_end(reader, &flight->body, verified);
        bool at_end = verified && reader->at >= flight->body.size;
        if (flight->state == FLIGHT_FAILED || *end > reader->at || at_end || reader->evicted)
            break;
        if (!is_consistent(flight, reader, error))
            return false;
        flight_start_fetchers(flight);
        readers_set_waiting(&flight->readers, reader, true);
        condition_wait_until(&flight->changed, &flight->state_lock, look_ms);
        readers_set_waiting(&flight->readers, reader, false);
        /* By the time, because a flight that progresses elsewhere wakes the reader often. */
        if (clock_ms() < look_ms)
            continue;
        look_ms = clock_ms() + LOOK_MS;
        lock_release(&flight->state_lock);
        bool wanted = cancel_check(cancel, error);
        lock_acquire(&flight->state_lock);
        if (!wanted)
            return false;
    }
    if (flight->state == FLIGHT_FAILED && error)
        *error = flight->failure;
    return flight->state != FLIGHT_FAILED && !reader->evicted &&
           is_consistent(flight, reader, error);
}

/* Waits in the reader's current flight. *evicted: the reader goes on in another one. */
static bool wait_in_flight(struct flight_reader *reader, uint64_t at, struct flight_bytes *bytes,
                           const struct cancel *cancel, bool *evicted, struct error *error) {
    struct flight *flight = reader->flight;
    const struct passing *passing = &flight->body.passing;
    uint64_t readable_end;
    lock_acquire(&flight->state_lock);
    reader->at = reader->sending_end = at;
    if (passing->on) /* bytes that the reader has sent may be dropped: a fetcher may go on */
        condition_broadcast(&flight->changed);
    bool ok = wait_for_bytes(flight, reader, &bytes->end, cancel, error);
    *evicted = !ok && reader->evicted && flight->state != FLIGHT_FAILED;
    if (ok && bytes->end > at) {
        bytes->fd = body_readable_at(&flight->body, at, &readable_end);
        bytes->must_copy = bytes->fd == passing->memory;
        if (bytes->must_copy && readable_end > at + SENDING_MOST)
            readable_end = at + SENDING_MOST;
        if (bytes->end > readable_end)
            bytes->end = readable_end;
        reader->sending_end = bytes->end;
    }
    lock_release(&flight->state_lock);
    return ok;
}

/*
 * The reader goes on in a flight of its own, which hashes the whole blob again. The bytes that were
 * sent before were not verified, so their flight is kept in `before`, to see how it ends.
 */
static bool change_flight(struct flight_reader *reader, struct error *error) {
    struct flight *old = reader->flight;
    if (reader->before)
        return error_set(error, ERROR_NO_SPACE,
                         "the client fell behind for the second time in a blob that is not kept");
    const uint64_t at = reader->at, end = reader->end;
    const struct repository repository = flight_repository(old);
    const struct blob_range range = {.kind = reader->whole ? BLOB_WHOLE : BLOB_FROM, .first = at};
    const struct flight_wish wish = {&repository, &old->digest, &range, reader->ask};
    bool started;
    flight_leave(old, reader);
    reader->undecided = true;
    reader->evicted = false;
    reader->at = reader->end = reader->sending_end = 0;
    struct flight *flight = flights_join(old->flights, &wish, reader, &started, error);
    if (!flight) { /* flight_reader_close() will call flight_leave(): enter the old flight again */
        reader->evicted = true;
        flight_enter(old, reader);
        return false;
    }
    reader->flight = flight;
    if (reader->whole && at > 0)
        reader->before = old;
    else
        flight_release(old);
    flight_reader_want(reader, at, end, reader->whole);
    return true;
}

bool flight_reader_wait(struct flight_reader *reader, uint64_t offset, struct flight_bytes *bytes,
                        const struct cancel *cancel, struct error *error) {
    bool evicted;
    for (;;) {
        bool ok = wait_in_flight(reader, offset, bytes, cancel, &evicted, error);
        if (!evicted || !cancel_check(cancel, error))
            return ok;
        if (!change_flight(reader, error))
            return false;
    }
}
