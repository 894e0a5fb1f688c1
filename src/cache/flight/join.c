/* How a client comes to a flight: it joins the one under way or starts a new one. */
#include "base/thread.h"
#include "cache/flight/flight_private.h"

enum join_result {
    JOINED,
    JOIN_REFUSED,   /* a replica asks whether the blob is arriving, and it comes from a replica */
    JOIN_LATER,     /* the flight has failed and is about to leave the table */
    JOIN_IMPOSSIBLE /* bytes that the reader needs were dropped or may be */
};

/* Makes `reader` (may be NULL) a reader of the flight, if it can join. */
static enum join_result try_to_join(struct flight *flight, const struct flight_wish *wish,
                                    struct flight_reader *reader) {
    const struct blob_range *range = wish->range;
    enum join_result result = JOINED;
    lock_acquire(&flight->state_lock);
    if (wish->ask == REPLICA_ASK_ARRIVING &&
        (flight->state == FLIGHT_FAILED || course_asks_replica(&flight->sources.course)))
        result = JOIN_REFUSED;
    else if (flight->state == FLIGHT_FAILED)
        result = JOIN_LATER;
    else if (!passing_accepts(&flight->body.passing, &flight->readers.first, range))
        result = wish->ask == REPLICA_ASK_ARRIVING ? JOIN_REFUSED : JOIN_IMPOSSIBLE;
    else if (reader) {
        flight_admit(flight, reader);
        atomic_store(&flight->background, false);
        if (wish->ask != REPLICA_ASK_NONE)
            flight_serve_replica(flight, wish->ask);
        flight_wake(flight);
    }
    lock_release(&flight->state_lock);
    return result;
}

/* The flight under way, referenced; NULL: a new one is needed. */
static struct flight *join(struct flights *flights, const struct flight_wish *wish,
                           struct flight_reader *reader) REQUIRES(flights->table_lock) {
    struct flight *flight;
    enum join_result result = JOINED;
    while ((flight = flights_find(flights, wish->digest)) &&
           (result = try_to_join(flight, wish, reader)) == JOIN_LATER)
        condition_wait(&flights->ended, &flights->table_lock);
    if (flight && result == JOIN_REFUSED)
        return NULL;
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

/* A new flight with its driver, referenced. NULL: no memory or no thread. The place that the caller
 * has taken is the flight's from then on. */
static struct flight *start(struct flights *flights, const struct flight_wish *wish,
                            struct flight_reader *reader) REQUIRES(flights->table_lock) {
    struct flight *flight = flight_new(flights, wish);
    if (!flight)
        return NULL;
    flight->in_background = !reader;
    atomic_store(&flight->background, !reader);
    flight->held = upstream_held(wish->repository->upstream);
    flights_apply_distrust(flights, flight);
    flights_choose_tier(flights, flight);
    flights_choose_replicas(flights, flight);
    sources_begin(&flight->sources);
    if (reader)
        flight_enter(flight, reader);
    if (!flights_enter(flights, flight)) {
        discard(flight);
        return NULL;
    }
    atomic_fetch_add(&flights->threads, 1);
    if (thread_start_detached("flight-driver", flight_drive, flight, NULL))
        return flight;
    atomic_fetch_sub(&flights->threads, 1);
    flights_leave(flights, flight);
    discard(flight);
    return NULL;
}

/* Takes a place and starts a flight in it. */
static struct flight *start_in_place(struct flights *flights, const struct flight_wish *wish,
                                     struct flight_reader *reader, struct error *error)
    REQUIRES(flights->table_lock) {
    struct upstream_held *held = upstream_held(wish->repository->upstream);
    const bool background = !reader;
    if (!flights_take_place(flights, held, background, error)) {
        error_wrap(error, "upstream %s", wish->repository->name.host);
        return NULL;
    }
    struct flight *flight = start(flights, wish, reader);
    if (flight)
        return flight;
    flights_give_back_place(flights, held, background);
    error_set(error, ERROR_MEMORY, "no memory or thread for a blob transfer");
    return NULL;
}

struct flight *flights_join(struct flights *flights, const struct flight_wish *wish,
                            struct flight_reader *reader, bool *started, struct error *error) {
    lock_acquire(&flights->table_lock);
    struct flight *flight = join(flights, wish, reader);
    *started = !flight;
    if (!flight && wish->ask == REPLICA_ASK_ARRIVING)
        error_set(error, ERROR_NOT_FOUND, "the blob is not arriving here");
    else if (!flight && atomic_load(&flights->stopping))
        error_set(error, ERROR_BUSY, "tarn is stopping");
    else if (!flight)
        flight = start_in_place(flights, wish, reader, error);
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
    if (flight->readers.fill)
        atomic_store(&flight->abandoned, false);
    flight_start_fetchers(flight);
    lock_release(&flight->state_lock);
    flight_release(flight);
    return true;
}
