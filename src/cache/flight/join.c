/* How a client comes to a flight: it joins the one under way or starts a new one. */
#include "base/thread.h"
#include "cache/flight/flight_private.h"

enum { RETRY_AFTER_S = 5 }; /* for clients that are refused because of too many flights */

enum join_result {
    JOINED,
    JOIN_LATER,     /* the flight has failed and is about to leave the table */
    JOIN_IMPOSSIBLE /* bytes that the reader needs were dropped or may be */
};

/* Makes `reader` (may be NULL) a reader of the flight, if it can join. */
static enum join_result try_to_join(struct flight *flight, const struct blob_range *range,
                                    struct flight_reader *reader) {
    enum join_result result = JOINED;
    lock_acquire(&flight->state_lock);
    if (flight->state == FLIGHT_FAILED)
        result = JOIN_LATER;
    else if (!passing_accepts(&flight->body.passing, &flight->readers.first, range))
        result = JOIN_IMPOSSIBLE;
    else if (reader)
        readers_enter(&flight->readers, reader);
    lock_release(&flight->state_lock);
    return result;
}

/* The flight under way, referenced; NULL: a new one is needed. */
static struct flight *join(struct flights *flights, const struct flight_wish *wish,
                           struct flight_reader *reader) REQUIRES(flights->table_lock) {
    struct flight *flight;
    enum join_result result = JOINED;
    while ((flight = flights_find(flights, wish->digest)) &&
           (result = try_to_join(flight, wish->range, reader)) == JOIN_LATER)
        condition_wait(&flights->ended, &flights->table_lock);
    if (flight && result == JOIN_IMPOSSIBLE) {
        /* The old flight lives on for its readers; a new one takes its place in the table. */
        flights_leave(flights, flight);
        return NULL;
    }
    if (flight)
        flight_keep(flight);
    return flight;
}

/* Gives back both references of a flight that has no driver. */
static void discard(struct flight *flight) {
    flight_release(flight);
    flight_release(flight);
}

/* A new flight with its driver, referenced. NULL: no memory or no thread. */
static struct flight *start(struct flights *flights, const struct flight_wish *wish,
                            struct flight_reader *reader) REQUIRES(flights->table_lock) {
    struct flight *flight = flight_new(flights, wish);
    if (!flight)
        return NULL;
    flights_apply_distrust(flights, flight);
    if (reader)
        flight_enter(flight, reader);
    if (!flights_enter(flights, flight)) {
        discard(flight);
        return NULL;
    }
    flights->count++;
    atomic_fetch_add(&flights->threads, 1);
    if (thread_start("flight-driver", THREAD_STACK_SYSTEM, flight_drive, flight, NULL, NULL))
        return flight;
    atomic_fetch_sub(&flights->threads, 1);
    flights->count--;
    flights_leave(flights, flight);
    discard(flight);
    return NULL;
}

struct flight *flights_join(struct flights *flights, const struct flight_wish *wish,
                            struct flight_reader *reader, bool *started, struct error *error) {
    *started = false;
    lock_acquire(&flights->table_lock);
    struct flight *flight = join(flights, wish, reader);
    if (!flight &&
        (flights->count >= flights->settings.max_flights || atomic_load(&flights->stopping))) {
        error_set(error, ERROR_BUSY, "too many blobs are being fetched (max_flights %u)",
                  flights->settings.max_flights);
        if (error)
            error->retry_after_s = RETRY_AFTER_S;
    } else if (!flight) {
        flight = start(flights, wish, reader);
        *started = flight != NULL;
        if (!flight)
            error_set(error, ERROR_MEMORY, "no memory or thread for a blob transfer");
    }
    lock_release(&flights->table_lock);
    return flight;
}

bool flights_fetch(struct flights *flights, const struct flight_wish *wish, struct error *error) {
    bool started;
    struct flight *flight = flights_join(flights, wish, NULL, &started, error);
    if (!flight)
        return false;
    lock_acquire(&flight->state_lock);
    flight->readers.fill = !flight->body.passing.on;
    flight_start_fetchers(flight);
    lock_release(&flight->state_lock);
    flight_release(flight);
    return true;
}
