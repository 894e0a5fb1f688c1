/* The table of all flights of a cache, and which blobs came with wrong bytes lately. */
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "cache/flight/flight_private.h"

enum {
    END_MS = 5000,       /* how long flights_free() waits for the threads */
    BACKGROUND_PART = 4, /* as many background flights as max_flights divided by this */
    RETRY_AFTER_S = 5,   /* for clients that are refused because of too many flights */
};

/* ---- life ---- */

struct flights *flights_new(struct upkeep *upkeep, const struct flights_settings *settings) {
    struct flights *flights = calloc(1, sizeof *flights);
    if (!flights)
        return NULL;
    flights->store = upkeep->store;
    flights->space = &upkeep->space;
    flights->pins = upkeep->pins;
    flights->patience_ms = settings->patience_ms;
    flights->tier = settings->tier;
    flights->replicas = settings->replicas;
    flights->takeovers = metric_get(METRIC_COUNTER, METRIC_TAKEOVERS, METRIC_TAKEOVERS_HELP, "");
    flights->on_kept = settings->on_kept;
    flights->context = settings->context;
    if (flights->tier)
        flights->wrong_objects = metric_get(METRIC_COUNTER, METRIC_WRONG, METRIC_WRONG_HELP, "");
    flights_change(flights, settings);
    flights->failed_digests =
        metric_get(METRIC_COUNTER, "tarn_blob_digest_mismatches_total",
                   "Blobs that arrived with other bytes than their digest says.", "");
    flights->refused = metric_get(METRIC_COUNTER, METRIC_REFUSED, METRIC_REFUSED_HELP,
                                  "reason=\"upstream_flights\"");
    lock_init(&flights->table_lock);
    condition_init(&flights->ended);
    return flights;
}

void flights_change(struct flights *flights, const struct flights_settings *settings) {
    pot_resize(&flights->places, settings->max_flights);
    pot_resize(&flights->background_places, settings->max_flights / BACKGROUND_PART + 1);
    atomic_store(&flights->max_connections, settings->max_connections);
    atomic_store(&flights->flights_per_upstream, settings->flights_per_upstream);
}

void flights_stop(struct flights *flights) {
    struct error error;
    atomic_store(&flights->stopping, true);
    error_set(&error, ERROR_UNAVAILABLE, "tarn is stopping");
    error_because(&error, ERROR_REASON_STOPPING);
    lock_acquire(&flights->table_lock);
    for (struct flight *flight = flights->table; flight; flight = flight->hh.next) {
        lock_acquire(&flight->state_lock);
        flight_fail(flight, &error);
        lock_release(&flight->state_lock);
    }
    lock_release(&flights->table_lock);
}

bool flights_free(struct flights *flights) {
    if (!flights)
        return true;
    flights_stop(flights);
    for (int waited = 0; waited < END_MS && atomic_load(&flights->threads); waited += 10)
        clock_sleep_ms(10);
    if (atomic_load(&flights->threads))
        return false;
    lock_finish(&flights->table_lock);
    condition_finish(&flights->ended);
    free(flights);
    return true;
}

/* ---- the table ---- */

struct flight *flights_find(struct flights *flights, const struct digest *digest) {
    struct flight *flight;
    HASH_FIND(hh, flights->table, digest, sizeof *digest, flight);
    return flight;
}

bool flights_enter(struct flights *flights, struct flight *flight) {
    HASH_ADD(hh, flights->table, digest, sizeof flight->digest, flight);
    flight->in_table = flight->hh.tbl != NULL; /* otherwise there is no memory for the table */
    return flight->in_table;
}

void flights_leave(struct flights *flights, struct flight *flight) {
    if (flight->in_table)
        HASH_DEL(flights->table, flight);
    flight->in_table = false;
}

void flight_wait_end(struct flight *flight) {
    struct flights *flights = flight->flights;
    lock_acquire(&flights->table_lock);
    while (flights_find(flights, &flight->digest) == flight)
        condition_wait(&flights->ended, &flights->table_lock);
    lock_release(&flights->table_lock);
}

size_t flights_describe(struct flights *flights, struct flight_figures *out, size_t limit) {
    size_t filled = 0;
    size_t count =
        atomic_load(&flights->places.taken) + atomic_load(&flights->background_places.taken);
    if (limit == 0)
        return count;
    lock_acquire(&flights->table_lock);
    struct flight *flight = flights->table; /* uthash keeps the order in which they were added */
    for (; flight && filled < limit; flight = flight->hh.next)
        flight_describe(flight, &out[filled++]);
    lock_release(&flights->table_lock);
    return count;
}

bool flights_is_moving(struct flights *flights, const struct digest *digest) {
    lock_acquire(&flights->table_lock);
    struct flight *flight = flights_find(flights, digest);
    bool moving = flight && flight_is_moving(flight);
    lock_release(&flights->table_lock);
    return moving;
}

/* ---- places ---- */

static struct pot *places_of(struct flights *flights, bool background) {
    return background ? &flights->background_places : &flights->places;
}

static atomic_uint *held_of(struct upstream_held *held, bool background) {
    return background ? &held->background : &held->flights;
}

bool flights_take_place(struct flights *flights, struct upstream_held *held, bool background,
                        struct error *error) {
    struct pot *places = places_of(flights, background);
    atomic_uint *own = held_of(held, background);
    const unsigned share = background ? pot_capacity(places) / BACKGROUND_PART + 1
                                      : atomic_load(&flights->flights_per_upstream);
    if (atomic_load(&places->taken) >= pot_capacity(places))
        error_set(error, ERROR_BUSY, "too many blobs are being fetched (max_flights %u)",
                  pot_capacity(&flights->places));
    else if (!pot_may_take(places, atomic_load(own), share)) {
        metric_add(flights->refused, !background);
        error_set(error, ERROR_BUSY,
                  "too many blobs of this upstream are being fetched "
                  "(limits.per_upstream.flights %u)",
                  share);
    } else {
        pot_take(places);
        atomic_fetch_add(own, 1);
        return true;
    }
    if (error)
        error->retry_after_s = RETRY_AFTER_S;
    return false;
}

void flights_give_back_place(struct flights *flights, struct upstream_held *held, bool background) {
    pot_give_back(places_of(flights, background));
    atomic_fetch_sub(held_of(held, background), 1);
}

/* ---- distrust ---- */

/* The entry of the digest; NULL: none. */
static struct distrusted *find_distrusted(struct flights *flights, const struct digest *digest)
    REQUIRES(flights->table_lock) {
    for (size_t i = 0; i < FLIGHTS_DISTRUSTED; i++) {
        if (digest_equal(&flights->distrusted[i].digest, digest))
            return &flights->distrusted[i];
    }
    return NULL;
}

void flights_distrust(struct flights *flights, struct flight *flight) {
    struct distrusted distrusted = {.digest = flight->digest};
    lock_acquire(&flight->state_lock);
    const struct flight_source *source = sources_current(&flight->sources);
    text_copy(text_of(source->repository.name.host), distrusted.host, sizeof distrusted.host);
    distrusted.location = atomic_load(&source->place.location);
    lock_release(&flight->state_lock);
    lock_acquire(&flights->table_lock);
    struct distrusted *entry = find_distrusted(flights, &flight->digest);
    if (!entry) /* the oldest entry goes */
        entry = &flights->distrusted[flights->distrusted_next++ % FLIGHTS_DISTRUSTED];
    *entry = distrusted;
    lock_release(&flights->table_lock);
}

void flights_apply_distrust(struct flights *flights, struct flight *flight) {
    struct flight_source *source = sources_current(&flight->sources);
    struct place *place = &source->place;
    const struct distrusted *entry = find_distrusted(flights, &flight->digest);
    if (!entry || strcmp(entry->host, source->repository.name.host) != 0)
        return;
    flight->spans.plain = true;
    place_move(place, (entry->location + 1) % place->locations);
}
