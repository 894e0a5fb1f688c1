/* A flight's life, and the table of those under way. flight.h tells who is who. */
#include "cache/flight/flight.h"

#include <stdlib.h>
#include <unistd.h>
#include "base/clock.h"
#include "cache/flight/flight.h"

/* ---- life ---- */

struct flights *flights_new(struct upkeep *upkeep, const struct cache_settings *settings) {
    struct flights *flights = calloc(1, sizeof *flights);
    if (!flights)
        return NULL;
    flights->store = upkeep->store;
    flights->space = &upkeep->space;
    flights->pins = upkeep->pins;
    flights->max_flights = settings->max_flights ? settings->max_flights : 512;
    flights->max_connections = settings->max_connections ? settings->max_connections : 64;
    flights->patience_ms = settings->patience_ms ? settings->patience_ms : 120000;
    flights->pulled_bytes = metric_get(METRIC_COUNTER, "registry_proxy_pulled_bytes_total",
                                       "Bytes pulled from upstreams.", "type=\"blob\"");
    flights->failed_digests =
        metric_get(METRIC_COUNTER, "tarn_blob_digest_mismatches_total",
                   "Blobs that arrived with other bytes than their digest says.", "");
    pthread_mutex_init(&flights->table_lock, NULL);
    pthread_cond_init(&flights->ended, NULL);
    return flights;
}

bool flights_free(struct flights *flights) {
    if (!flights)
        return true;
    atomic_store(&flights->stopping, true);
    pthread_mutex_lock(&flights->table_lock);
    for (struct flight *flight = flights->table; flight; flight = flight->hh.next) {
        struct error error;
        error_set(&error, ERROR_UNAVAILABLE, "tarn is stopping");
        pthread_mutex_lock(&flight->state_lock);
        flight_fail(flight, &error);
        pthread_mutex_unlock(&flight->state_lock);
    }
    pthread_mutex_unlock(&flights->table_lock);
    for (int i = 0; i < 500 && atomic_load(&flights->threads); i++)
        clock_sleep_ms(10);
    if (atomic_load(&flights->threads))
        return false;
    pthread_mutex_destroy(&flights->table_lock);
    pthread_cond_destroy(&flights->ended);
    free(flights);
    return true;
}

static void flight_destroy(struct flight *flight) {
    if (flight->partial)
        partial_free(flight->partial);
    if (flight->fd >= 0)
        close(flight->fd);
    upstream_target_free(&flight->target);
    store_blob_close(flight->flights->store, &flight->digest, flight->stored_fd);
    flight_pass_end(flight);
    extents_free(&flight->present);
    pthread_mutex_destroy(&flight->state_lock);
    pthread_cond_destroy(&flight->changed);
    free(flight);
}

void flight_release(struct flight *flight) {
    if (flight && atomic_fetch_sub(&flight->references, 1) == 1)
        flight_destroy(flight);
}

/* table_lock held. */
static struct flight *find(struct flights *flights, const struct digest *digest) {
    struct flight *flight;
    HASH_FIND(hh, flights->table, digest, sizeof *digest, flight);
    return flight;
}

/* How a flight under way receives one more. */
enum welcome { WELCOME, WELCOME_LATER, WELCOME_NOT };

/* Makes `reader`, if there is one, a reader of the flight. LATER: it has failed and is leaving.
 * table_lock held. */
static enum welcome welcome(struct flight *flight, const struct blob_range *range,
                            struct flight_reader *reader) {
    pthread_mutex_lock(&flight->state_lock);
    enum welcome result = flight->state == FLIGHT_FAILED      ? WELCOME_LATER
                          : flight_is_joinable(flight, range) ? WELCOME
                                                              : WELCOME_NOT;
    if (result == WELCOME && reader)
        flight_enter(flight, reader);
    pthread_mutex_unlock(&flight->state_lock);
    return result;
}

/* table_lock held. */
void flight_leave_table(struct flight *flight) {
    if (flight->in_table)
        HASH_DEL(flight->flights->table, flight);
    flight->in_table = false;
}

/* Where to begin with a blob that came wrong the last time. table_lock held. */
static void heed_distrust(struct flights *flights, struct flight *flight) {
    unsigned places = upstream_places(flight->sources[0].repository.upstream);
    for (size_t i = 0; i < sizeof flights->distrusted / sizeof *flights->distrusted; i++) {
        if (!digest_equal(&flights->distrusted[i].digest, &flight->digest))
            continue;
        flight->plain = true;
        flight->location = (flights->distrusted[i].location + 1) % places;
    }
}

void flight_distrust(struct flight *flight) {
    struct flights *flights = flight->flights;
    const size_t slots = sizeof flights->distrusted / sizeof *flights->distrusted;
    pthread_mutex_lock(&flights->table_lock);
    size_t slot = flights->distrusted_next % slots;
    for (size_t i = 0; i < slots; i++) {
        if (digest_equal(&flights->distrusted[i].digest, &flight->digest))
            slot = i;
    }
    flights->distrusted_next += slot == flights->distrusted_next % slots;
    flights->distrusted[slot].digest = flight->digest;
    flights->distrusted[slot].location = flight->location;
    pthread_mutex_unlock(&flights->table_lock);
}

static struct flight *flight_new(struct flights *flights, const struct repository *repository,
                                 const struct digest *digest, const struct blob_range *range) {
    struct flight *flight = calloc(1, sizeof *flight);
    if (!flight)
        return NULL;
    unsigned connections = upstream_settings(repository->upstream)->connections;
    flight->flights = flights;
    flight->digest = *digest;
    flight->fd = flight->passing.memory = flight->stored_fd = -1;
    flight->references = 2; /* the driver's and the caller's */
    flight->allowed = connections ? connections : 4;
    if (flight->allowed > FLIGHT_SPANS - 4)
        flight->allowed = FLIGHT_SPANS - 4;
    flight->sources[0] = (struct flight_source){.repository = *repository};
    flight->source_count = 1;
    flight->first_range = *range;
    flight->started_ms = flight->progress_ms = clock_ms();
    pthread_mutex_init(&flight->state_lock, NULL);
    pthread_cond_init(&flight->changed, NULL);
    return flight;
}

/* The flight under way that takes one more in, referenced. table_lock held. */
static struct flight *join(struct flights *flights, const struct digest *digest,
                           const struct blob_range *range, struct flight_reader *reader) {
    struct flight *flight;
    enum welcome how = WELCOME;
    while ((flight = find(flights, digest)) &&
           (how = welcome(flight, range, reader)) == WELCOME_LATER)
        pthread_cond_wait(&flights->ended, &flights->table_lock);
    if (flight && how == WELCOME_NOT) { /* its readers keep it; the place is free for another */
        flight_leave_table(flight);
        return NULL;
    }
    if (flight)
        atomic_fetch_add(&flight->references, 1);
    return flight;
}

/* Enters a new flight and starts its driver; NULL when out of memory or threads. table_lock held.
 */
static struct flight *start(struct flights *flights, const struct repository *repository,
                            const struct digest *digest, const struct blob_range *range,
                            struct flight_reader *reader) {
    pthread_t thread;
    pthread_attr_t attributes;
    struct flight *flight = flight_new(flights, repository, digest, range);
    if (!flight)
        return NULL;
    heed_distrust(flights, flight);
    if (reader) /* nobody else knows the flight yet */
        flight_enter(flight, reader);
    HASH_ADD(hh, flights->table, digest, sizeof flight->digest, flight);
    if (!flight->hh.tbl) { /* no memory for the table */
        flight_destroy(flight);
        return NULL;
    }
    flight->in_table = true;
    flights->count++;
    atomic_fetch_add(&flights->threads, 1);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    int failed = pthread_create(&thread, &attributes, flight_drive, flight);
    pthread_attr_destroy(&attributes);
    if (!failed)
        return flight;
    atomic_fetch_sub(&flights->threads, 1);
    flight_leave_table(flight);
    flights->count--;
    flight_destroy(flight);
    return NULL;
}

struct flight *flights_join(struct flights *flights, const struct repository *repository,
                            const struct digest *digest, const struct blob_range *range,
                            struct flight_reader *reader, bool *started, struct error *error) {
    *started = false;
    if (reader)
        *reader = (struct flight_reader){.undecided = true};
    pthread_mutex_lock(&flights->table_lock);
    struct flight *flight = join(flights, digest, range, reader);
    if (!flight && (flights->count >= flights->max_flights || atomic_load(&flights->stopping))) {
        error_set(error, ERROR_BUSY, "too many blobs are being fetched (max_flights %u)",
                  flights->max_flights);
        if (error)
            error->retry_after_s = 5;
    } else if (!flight) {
        flight = start(flights, repository, digest, range, reader);
        *started = flight != NULL;
        if (!flight)
            error_set(error, ERROR_MEMORY, "no memory or thread for a blob transfer");
    }
    pthread_mutex_unlock(&flights->table_lock);
    return flight;
}

struct flight_source flight_current_source(struct flight *flight) {
    pthread_mutex_lock(&flight->state_lock);
    const struct flight_source source = flight->sources[flight->source];
    pthread_mutex_unlock(&flight->state_lock);
    return source;
}

void flight_wait_end(struct flight *flight) {
    struct flights *flights = flight->flights;
    pthread_mutex_lock(&flights->table_lock);
    while (find(flights, &flight->digest) == flight)
        pthread_cond_wait(&flights->ended, &flights->table_lock);
    pthread_mutex_unlock(&flights->table_lock);
}
