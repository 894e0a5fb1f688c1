/* A flight's life, its driver and its readers. flight.h tells who is who. */
#include "cache/flight.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include <utlist.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "cache/lookup.h"

enum {
    HASH_STEP = 256 << 10, /* bytes read back and hashed at a time; the page cache has them */
    HELD_BACK = 512,       /* of a whole body until its digest is checked: at most half of it */
    ROOM_STEP = 16 << 20,  /* of a blob of unknown size, room is taken for so much at a time */
    LENT_MOST = 1 << 20,   /* from memory, sent at a time: until then it cannot be forgotten */
    LEAVE_MS = 300,        /* how long a failed flight waits for its fetchers before it gives up
                              the bytes it has */
};

/* ---- life ---- */

struct flights *flights_new(struct store *store, struct room *room,
                            const struct cache_settings *settings) {
    struct flights *flights = calloc(1, sizeof *flights);
    if (!flights)
        return NULL;
    flights->store = store;
    flights->room = room;
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
    for (unsigned i = 0; i < flight->source_count; i++)
        free(flight->sources[i].repository);
    upstream_target_free(&flight->target);
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
    if (result == WELCOME && reader) {
        DL_APPEND(flight->readers, reader);
        flight->reader_count++;
    }
    pthread_mutex_unlock(&flight->state_lock);
    return result;
}

/* table_lock held. */
static void leave_table(struct flight *flight) {
    if (flight->in_table)
        HASH_DEL(flight->flights->table, flight);
    flight->in_table = false;
}

/* Where to begin with a blob that came wrong the last time. table_lock held. */
static void heed_distrust(struct flights *flights, struct flight *flight) {
    unsigned places = lookup_places(flight->sources[0].upstream);
    for (size_t i = 0; i < sizeof flights->distrusted / sizeof *flights->distrusted; i++) {
        if (!digest_equal(&flights->distrusted[i].digest, &flight->digest))
            continue;
        flight->plain = true;
        flight->location = (flights->distrusted[i].location + 1) % places;
    }
}

static void distrust(struct flight *flight) {
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

static struct flight *flight_new(struct flights *flights, struct upstream *upstream,
                                 const char *repository, const struct digest *digest,
                                 const struct blob_range *range) {
    struct flight *flight = calloc(1, sizeof *flight);
    char *name = strdup(repository);
    if (!flight || !name) {
        free(flight);
        free(name);
        return NULL;
    }
    unsigned connections = upstream_settings(upstream)->connections;
    flight->flights = flights;
    flight->digest = *digest;
    flight->fd = flight->passing.memory = -1;
    flight->references = 2; /* the driver's and the caller's */
    flight->allowed = connections ? connections : 4;
    if (flight->allowed > FLIGHT_SPANS - 4)
        flight->allowed = FLIGHT_SPANS - 4;
    flight->sources[0] = (struct flight_source){.upstream = upstream, .repository = name};
    flight->source_count = 1;
    flight->first_range = *range;
    flight->started_ms = flight->progress_ms = clock_ms();
    pthread_mutex_init(&flight->state_lock, NULL);
    pthread_cond_init(&flight->changed, NULL);
    return flight;
}

static void *drive(void *argument);

/* The flight under way that takes one more in, referenced. table_lock held. */
static struct flight *join(struct flights *flights, const struct digest *digest,
                           const struct blob_range *range, struct flight_reader *reader) {
    struct flight *flight;
    enum welcome how = WELCOME;
    while ((flight = find(flights, digest)) &&
           (how = welcome(flight, range, reader)) == WELCOME_LATER)
        pthread_cond_wait(&flights->ended, &flights->table_lock);
    if (flight && how == WELCOME_NOT) { /* its readers keep it; the place is free for another */
        leave_table(flight);
        return NULL;
    }
    if (flight)
        atomic_fetch_add(&flight->references, 1);
    return flight;
}

/* Enters a new flight and starts its driver; NULL when out of memory or threads. table_lock held.
 */
static struct flight *start(struct flights *flights, struct upstream *upstream,
                            const char *repository, const struct digest *digest,
                            const struct blob_range *range, struct flight_reader *reader) {
    pthread_t thread;
    pthread_attr_t attributes;
    struct flight *flight = flight_new(flights, upstream, repository, digest, range);
    if (!flight)
        return NULL;
    heed_distrust(flights, flight);
    if (reader) {
        DL_APPEND(flight->readers, reader);
        flight->reader_count++;
    }
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
    int failed = pthread_create(&thread, &attributes, drive, flight);
    pthread_attr_destroy(&attributes);
    if (!failed)
        return flight;
    atomic_fetch_sub(&flights->threads, 1);
    leave_table(flight);
    flights->count--;
    flight_destroy(flight);
    return NULL;
}

struct flight *flights_join(struct flights *flights, struct upstream *upstream,
                            const char *repository, const struct digest *digest,
                            const struct blob_range *range, struct flight_reader *reader,
                            bool *started, struct error *error) {
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
        flight = start(flights, upstream, repository, digest, range, reader);
        *started = flight != NULL;
        if (!flight)
            error_set(error, ERROR_MEMORY, "no memory or thread for a blob transfer");
    }
    pthread_mutex_unlock(&flights->table_lock);
    return flight;
}

/* ---- the driver ---- */

/* Takes over what an earlier flight left in the partial. state_lock held. */
static bool take_over(struct flight *flight, struct error *error) {
    const struct extent *extents;
    size_t count = partial_extents(flight->partial, &extents);
    flight->size_known = partial_size(flight->partial, &flight->size);
    for (size_t i = 0; i < count; i++) {
        if (!extents_add(&flight->present, extents[i].start, extents[i].end))
            return error_set(error, ERROR_MEMORY, "out of memory");
    }
    flight->resumed = flight->size_known || count > 0;
    return true;
}

/* Whether a blob may be passed through for want of a file, and why; if not, the flight fails. */
static bool is_trouble_with_disk(const struct error *error, enum unkept *reason) {
    /* BUSY: an earlier flight, which passes the blob through, has not let go of the partial yet. It
     * has told why. */
    *reason = error->kind == ERROR_BUSY ? UNKEPT_TOO_LARGE : room_unkept_by(error);
    return error->kind == ERROR_NO_SPACE || error->kind == ERROR_IO || error->kind == ERROR_BUSY;
}

/* Opens the partial, or begins to pass through where there can be none. */
static bool open_partial(struct flight *flight, struct error *error) {
    struct flights *flights = flight->flights;
    struct partial *partial = NULL;
    int fd = -1;
    if (room_is_unreadable(flights->room))
        error_set(error, ERROR_IO, "the disk did not give back what was written a moment ago");
    else
        partial = store_partial_open(flights->store, &flight->digest, error);
    if (partial && (fd = fcntl(partial_fd(partial), F_DUPFD_CLOEXEC, 0)) < 0)
        error_set_errno(error, errno, "opening a partial blob");
    pthread_mutex_lock(&flight->state_lock);
    flight->partial = partial;
    flight->fd = fd;
    enum unkept reason;
    bool ok = fd >= 0 ? take_over(flight, error) : is_trouble_with_disk(error, &reason);
    flight->opened = ok;
    if (!ok)
        flight_fail(flight, error);
    else if (fd < 0)
        flight_pass(flight, reason, error);
    if (ok)
        flight_staff(flight);
    pthread_cond_broadcast(&flight->changed);
    pthread_mutex_unlock(&flight->state_lock);
    return ok;
}

/* Takes room for the blob, as far as it is known how much it needs. Bytes come in meanwhile: nobody
 * waits for what has to be deleted first. */
static void take_room(struct flight *flight) {
    struct room *room = flight->flights->room;
    struct error error = {0};
    pthread_mutex_lock(&flight->state_lock);
    bool told = flight->size_known || flight->answered; /* the size, or that none will be told */
    bool keeps = flight->state == FLIGHT_MOVING && !flight->passing.on && told;
    bool gives_up = flight->passing.on && flight->partial;
    uint64_t present = extents_total(&flight->present);
    uint64_t needed = flight->size_known ? flight->size : present + ROOM_STEP;
    if (!flight->size_known && !room_is_enough(room, needed))
        needed = present;
    pthread_mutex_unlock(&flight->state_lock);
    if (gives_up) /* its bytes stay readable to us, and others may try with a partial of their own
                   */
        partial_drop(flight->partial);
    if (!keeps || flight->room >= needed ||
        (flight->room && !flight->size_known && flight->room >= present + ROOM_STEP / 2))
        return;
    bool enough = room_is_enough(room, needed);
    if (room_reserve(room, flight->partial, needed, &error)) {
        flight->room = needed;
        return;
    }
    pthread_mutex_lock(&flight->state_lock);
    flight_pass(flight, enough ? UNKEPT_FULL : UNKEPT_TOO_LARGE, &error);
    pthread_mutex_unlock(&flight->state_lock);
    partial_drop(flight->partial); /* its bytes stay readable to us */
}

/* Whether anything is still to be fetched for anybody. state_lock held. */
static bool is_idle(struct flight *flight) {
    struct plan plan;
    return flight->fetchers == 0 && flight->reader_count == 0 &&
           atomic_load(&flight->references) == 1 && !flight_plan(flight, &plan);
}

/* Waits for more bytes to hash: [hashed, *end) of *fd. False: nothing more will come. */
static bool wait_for_prefix(struct flight *flight, int *fd, uint64_t *end) {
    take_room(flight);
    pthread_mutex_lock(&flight->state_lock);
    for (;;) {
        *end = extents_run_end(&flight->present, flight->hashed);
        if (flight->state != FLIGHT_MOVING || *end > flight->hashed)
            break;
        if (flight->size_known && flight->hashed == flight->size)
            break;
        if (is_idle(flight)) { /* only ranges were wanted, and all have been had */
            struct error error;
            error_set(&error, ERROR_CLOSED, "nobody wants the rest");
            flight_fail(flight, &error);
            break;
        }
        flight_staff(flight); /* should a fetcher have ended for want of memory or threads */
        bool knew = flight->size_known;
        struct timespec deadline = clock_deadline(1000);
        pthread_cond_clockwait(&flight->changed, &flight->state_lock, CLOCK_MONOTONIC, &deadline);
        if (flight->size_known && !knew) {
            pthread_mutex_unlock(&flight->state_lock);
            take_room(flight);
            pthread_mutex_lock(&flight->state_lock);
        }
    }
    bool more = flight->state == FLIGHT_MOVING && *end > flight->hashed;
    if (more)
        *fd = flight_medium(flight, flight->hashed, end);
    pthread_mutex_unlock(&flight->state_lock);
    return more;
}

/* Hashes the prefix as it grows; true when all of it was hashed. */
static bool hash_all(struct flight *flight, struct digest_hash *hash, char *step,
                     struct error *error) {
    uint64_t end;
    int fd;
    while (wait_for_prefix(flight, &fd, &end)) {
        while (flight->hashed < end) {
            uint64_t left = end - flight->hashed;
            ssize_t got =
                pread(fd, step, left < HASH_STEP ? left : HASH_STEP, (off_t)flight->hashed);
            if (got <= 0) {
                room_note_unreadable(flight->flights->room);
                return error_set_errno(error, got < 0 ? errno : EIO, "reading a partial blob");
            }
            digest_hash_update(hash, step, (size_t)got);
            pthread_mutex_lock(&flight->state_lock);
            flight->hashed += (uint64_t)got;
            if (flight->passing.on) /* what was hashed may be forgotten */
                pthread_cond_broadcast(&flight->changed);
            pthread_mutex_unlock(&flight->state_lock);
        }
    }
    pthread_mutex_lock(&flight->state_lock);
    bool all = flight->state == FLIGHT_MOVING;
    *error = flight->failure;
    pthread_mutex_unlock(&flight->state_lock);
    return all;
}

/* A copy; what it points to stays as long as the flight. */
static struct flight_source current_source(struct flight *flight) {
    pthread_mutex_lock(&flight->state_lock);
    const struct flight_source source = flight->sources[flight->source];
    pthread_mutex_unlock(&flight->state_lock);
    return source;
}

static bool verify(struct flight *flight, struct error *error) {
    struct digest_hash *hash = digest_hash_new(flight->digest.algorithm);
    cleanup_free char *step = malloc(HASH_STEP);
    struct digest digest;
    bool ok = hash && step;
    if (!ok)
        error_set(error, ERROR_MEMORY, "out of memory");
    ok = ok && hash_all(flight, hash, step, error);
    if (ok) {
        digest_hash_finish(hash, &digest);
        char is[DIGEST_STRING_SIZE];
        ok = digest_equal(&digest, &flight->digest);
        if (!ok && digest.algorithm == 0) { /* not upstream's fault */
            error_set(error, ERROR_MEMORY, "no memory to hash a blob");
        } else if (!ok) {
            error_set(error, ERROR_CORRUPT,
                      "upstream %s sent wrong bytes: their digest is %s; nothing is kept",
                      upstream_host(current_source(flight).upstream), digest_format(&digest, is));
            metric_add(flight->flights->failed_digests, 1);
        }
    }
    digest_hash_free(hash);
    return ok;
}

static void log_end(struct flight *flight, const struct error *error) {
    char digest[DIGEST_STRING_SIZE];
    const struct flight_source source = current_source(flight);
    double seconds = (double)(clock_ms() - flight->started_ms) / 1000;
    if (error)
        log_at(LOG_ERROR, "blob transfer failed",
               LOG_STRING("digest", digest_format(&flight->digest, digest)),
               LOG_STRING("upstream", upstream_host(source.upstream)),
               LOG_STRING("repository", source.repository), LOG_STRING("error", error->text),
               LOG_STRING("kind", error_kind_name(error->kind)), LOG_NUMBER("seconds", seconds));
    else
        log_at(LOG_DEBUG, "blob cached",
               LOG_STRING("digest", digest_format(&flight->digest, digest)),
               LOG_STRING("upstream", upstream_host(source.upstream)),
               LOG_STRING("repository", source.repository), LOG_NUMBER("bytes", flight->size),
               LOG_NUMBER("retries", flight->retries), LOG_NUMBER("seconds", seconds));
}

/* A failed flight's bytes stay for the next one, unless they are wrong or somebody may still write
 * them. */
static void end_failed(struct flight *flight, const struct error *error) {
    if (error->kind != ERROR_CLOSED)
        log_end(flight, error);
    if (error->kind == ERROR_CORRUPT)
        distrust(flight);
    int64_t until = clock_ms() + LEAVE_MS;
    pthread_mutex_lock(&flight->state_lock);
    while (flight->fetchers && clock_ms() < until) {
        struct timespec deadline = clock_deadline(LEAVE_MS / 10);
        pthread_cond_clockwait(&flight->changed, &flight->state_lock, CLOCK_MONOTONIC, &deadline);
    }
    bool alone = flight->fetchers == 0;
    pthread_mutex_unlock(&flight->state_lock);
    if (!flight->partial)
        return;
    /* Bytes that cannot be read back, or that went on in memory, are of no use to a later flight.
     */
    if (error->kind == ERROR_CORRUPT || error->kind == ERROR_IO || flight->passing.on || !alone)
        partial_drop(flight->partial);
    if (alone) {
        partial_free(flight->partial);
        flight->partial = NULL;
    }
}

/* The links were made as upstream answered; now they are worth a sync, and the blob its pins. */
static void settle_links(struct flight *flight) {
    for (unsigned i = 0; i < FLIGHT_SOURCES; i++) {
        pthread_mutex_lock(&flight->state_lock);
        const struct flight_source source = flight->sources[i];
        bool linked = i < flight->source_count && source.state == SOURCE_ANSWERED;
        pthread_mutex_unlock(&flight->state_lock);
        if (!linked)
            continue;
        /* Its name stays as long as the flight. */
        const char *host = upstream_host(source.upstream);
        pins_note(flight->flights->pins, host, source.repository, &flight->digest);
        store_sync_blob_links(flight->flights->store, host, source.repository,
                              flight->digest.algorithm, NULL);
    }
}

static void end_verified(struct flight *flight) {
    struct room *room = flight->flights->room;
    struct error error = {0};
    if (!flight->passing.on && partial_commit(flight->partial, &error)) {
        room_note_kept(room);
        settle_links(flight);
        log_end(flight, NULL);
        return;
    }
    if (!flight->passing.on)
        room_note_unkept(room, room_unkept_by(&error), &error);
    if (flight->partial)
        partial_drop(flight->partial);
}

static void leave_count(struct flights *flights) {
    pthread_mutex_lock(&flights->table_lock);
    flights->count--;
    pthread_mutex_unlock(&flights->table_lock);
}

static void *drive(void *argument) {
    struct flight *flight = argument;
    struct flights *flights = flight->flights;
    struct error error = {0};
    bool ok = open_partial(flight, &error) && verify(flight, &error);

    leave_count(flights); /* what is left to do needs no upstream, and makes room for others */
    pthread_mutex_lock(&flight->state_lock);
    if (ok)
        flight->state = FLIGHT_VERIFIED;
    else
        flight_fail(flight, &error);
    error = flight->failure;
    pthread_cond_broadcast(&flight->changed);
    pthread_mutex_unlock(&flight->state_lock);

    if (flight->passing.on) /* nobody begins to pass what has ended */
        room_note_unkept(flights->room, flight->passing.reason, &flight->passing.why);
    if (ok)
        end_verified(flight);
    else
        end_failed(flight, &error);
    pthread_mutex_lock(&flights->table_lock);
    leave_table(flight);
    pthread_cond_broadcast(&flights->ended);
    pthread_mutex_unlock(&flights->table_lock);
    flight_release(flight);
    atomic_fetch_sub(&flights->threads, 1);
    return NULL;
}

/* ---- those who wait ---- */

/* state_lock held. */
static struct flight_source *find_source(struct flight *flight, const struct upstream *upstream,
                                         const char *repository) {
    for (unsigned i = 0; i < flight->source_count; i++) {
        struct flight_source *source = &flight->sources[i];
        if (source->upstream == upstream && strcmp(source->repository, repository) == 0)
            return source;
    }
    return NULL;
}

bool flight_wait_permission(struct flight *flight, const struct upstream *upstream,
                            const char *repository, bool *found, struct error *error) {
    bool allowed = false;
    *found = false;
    pthread_mutex_lock(&flight->state_lock);
    while (!flight->opened && flight->state == FLIGHT_MOVING)
        pthread_cond_wait(&flight->changed, &flight->state_lock);
    struct flight_source *source = find_source(flight, upstream, repository);
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

void flight_add_source(struct flight *flight, struct upstream *upstream, const char *repository) {
    char *name = strdup(repository);
    pthread_mutex_lock(&flight->state_lock);
    struct flight_source *known = find_source(flight, upstream, repository);
    if (known) {
        known->state = SOURCE_ANSWERED;
    } else if (name && flight->source_count < FLIGHT_SOURCES) {
        flight->sources[flight->source_count++] = (struct flight_source){
            .upstream = upstream, .repository = take(name), .state = SOURCE_ANSWERED};
    }
    pthread_mutex_unlock(&flight->state_lock);
    free(name);
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

void flight_wait_end(struct flight *flight) {
    struct flights *flights = flight->flights;
    pthread_mutex_lock(&flights->table_lock);
    while (find(flights, &flight->digest) == flight)
        pthread_cond_wait(&flights->ended, &flights->table_lock);
    pthread_mutex_unlock(&flights->table_lock);
}

void flight_want_all(struct flight *flight) {
    pthread_mutex_lock(&flight->state_lock);
    flight->fill = !flight->passing.on;
    flight_staff(flight);
    pthread_mutex_unlock(&flight->state_lock);
}

void flight_leave(struct flight *flight, struct flight_reader *reader) {
    pthread_mutex_lock(&flight->state_lock);
    DL_DELETE(flight->readers, reader);
    flight->reader_count--;
    pthread_cond_broadcast(&flight->changed);
    pthread_mutex_unlock(&flight->state_lock);
}

/* Up to where bytes at `reader->at` may be sent. state_lock held. */
static uint64_t released_end(const struct flight *flight, const struct flight_reader *reader) {
    uint64_t end = extents_run_end(&flight->present, reader->at);
    if (flight->state != FLIGHT_VERIFIED && reader->whole) {
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
        (whole || upstream_settings(flight->sources[0].upstream)->range_fill))
        flight->fill = true;
    flight_staff(flight);
    pthread_mutex_unlock(&flight->state_lock);
}

/* Waits for bytes at `offset`; false when there is something else to say. state_lock held. */
static bool wait_for_bytes(struct cache_blob *blob, uint64_t offset, uint64_t *end,
                           bool (*is_there)(const void *context), const void *context,
                           struct error *error) {
    struct flight *flight = blob->flight;
    struct flight_reader *reader = blob->reader;
    bool there = true;
    for (;;) {
        *end = released_end(flight, reader);
        bool at_end = flight->state == FLIGHT_VERIFIED && offset >= flight->size;
        if (flight->state == FLIGHT_FAILED || *end > offset || at_end || !there || reader->put_out)
            break;
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
    return flight->state != FLIGHT_FAILED && !reader->put_out;
}

/* Goes on from `offset` in a flight of its own. */
static bool change_flight(struct cache_blob *blob, uint64_t offset, struct error *error) {
    struct flight *old = blob->flight;
    const struct flight_reader was = *blob->reader;
    const struct flight_source source = current_source(old);
    const struct blob_range whole = {.kind = BLOB_WHOLE};
    const struct blob_range rest = {.kind = BLOB_FROM, .first = offset};
    bool started;
    flight_leave(old, blob->reader);
    struct flight *flight =
        flights_join(old->flights, source.upstream, source.repository, &old->digest,
                     was.whole ? &whole : &rest, blob->reader, &started, error);
    if (!flight) { /* a reader that nobody knows must not be taken leave of */
        pthread_mutex_lock(&old->state_lock);
        DL_APPEND(old->readers, blob->reader);
        old->reader_count++;
        blob->reader->put_out = true;
        pthread_mutex_unlock(&old->state_lock);
        return false;
    }
    blob->flight = flight;
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
        bool put_out = blob->reader->put_out && flight->state != FLIGHT_FAILED;
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
        if (ok || !put_out)
            return ok;
        if (!change_flight(blob, offset, error))
            return false;
    }
}
