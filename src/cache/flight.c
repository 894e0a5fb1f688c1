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
    LEAVE_MS = 300,        /* how long a failed flight waits for its fetchers before it gives up
                              the bytes it has */
};

/* ---- life ---- */

struct flights *flights_new(struct store *store, const struct cache_settings *settings) {
    struct flights *flights = calloc(1, sizeof *flights);
    if (!flights)
        return NULL;
    flights->store = store;
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

static bool has_failed(struct flight *flight) {
    pthread_mutex_lock(&flight->state_lock);
    bool failed = flight->state == FLIGHT_FAILED;
    pthread_mutex_unlock(&flight->state_lock);
    return failed;
}

struct flight *flights_find(struct flights *flights, const struct digest *digest) {
    pthread_mutex_lock(&flights->table_lock);
    struct flight *flight = find(flights, digest);
    if (flight)
        atomic_fetch_add(&flight->references, 1);
    pthread_mutex_unlock(&flights->table_lock);
    return flight;
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
    flight->fd = -1;
    flight->references = 2; /* the table's and the caller's */
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

struct flight *flights_join(struct flights *flights, struct upstream *upstream,
                            const char *repository, const struct digest *digest,
                            const struct blob_range *range, bool *started, struct error *error) {
    *started = false;
    pthread_mutex_lock(&flights->table_lock);
    struct flight *flight;
    while ((flight = find(flights, digest)) && has_failed(flight))
        pthread_cond_wait(&flights->ended, &flights->table_lock); /* it is leaving */
    if (flight) {
        atomic_fetch_add(&flight->references, 1);
        pthread_mutex_unlock(&flights->table_lock);
        return flight;
    }
    if (flights->count >= flights->max_flights || atomic_load(&flights->stopping)) {
        pthread_mutex_unlock(&flights->table_lock);
        error_set(error, ERROR_BUSY, "too many blobs are being fetched (max_flights %u)",
                  flights->max_flights);
        if (error)
            error->retry_after_s = 5;
        return NULL;
    }
    pthread_t thread;
    pthread_attr_t attributes;
    flight = flight_new(flights, upstream, repository, digest, range);
    if (flight) {
        heed_distrust(flights, flight);
        HASH_ADD(hh, flights->table, digest, sizeof flight->digest, flight);
        flights->count++;
        atomic_fetch_add(&flights->threads, 1);
        pthread_attr_init(&attributes);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        if (pthread_create(&thread, &attributes, drive, flight) != 0) {
            atomic_fetch_sub(&flights->threads, 1);
            HASH_DEL(flights->table, flight);
            flights->count--;
            flight_destroy(flight);
            flight = NULL;
        }
        pthread_attr_destroy(&attributes);
    }
    pthread_mutex_unlock(&flights->table_lock);
    if (!flight)
        error_set(error, ERROR_MEMORY, "no memory or thread for a blob transfer");
    *started = flight != NULL;
    return flight;
}

/* ---- the driver ---- */

/* Opens the partial and takes over what an earlier flight left there. */
static bool open_partial(struct flight *flight, struct error *error) {
    struct partial *partial = store_partial_open(flight->flights->store, &flight->digest, error);
    int fd = partial ? fcntl(partial_fd(partial), F_DUPFD_CLOEXEC, 0) : -1;
    if (partial && fd < 0)
        error_set_errno(error, errno, "opening a partial blob");
    pthread_mutex_lock(&flight->state_lock);
    flight->partial = partial;
    flight->fd = fd;
    bool ok = fd >= 0;
    if (ok) {
        const struct extent *extents;
        size_t count = partial_extents(partial, &extents);
        flight->size_known = partial_size(partial, &flight->size);
        for (size_t i = 0; ok && i < count; i++)
            ok = extents_add(&flight->present, extents[i].start, extents[i].end) ||
                 error_set(error, ERROR_MEMORY, "out of memory");
        flight->resumed = flight->size_known || count > 0;
        flight->opened = true;
    }
    if (ok)
        flight_staff(flight);
    else
        flight_fail(flight, error);
    pthread_cond_broadcast(&flight->changed);
    pthread_mutex_unlock(&flight->state_lock);
    return ok;
}

/* Whether anything is still to be fetched for anybody. state_lock held. */
static bool is_idle(struct flight *flight) {
    struct plan plan;
    return flight->fetchers == 0 && flight->reader_count == 0 &&
           atomic_load(&flight->references) == 1 && !flight_plan(flight, &plan);
}

/* Waits for more bytes to hash: [hashed, *end). False: nothing more will come. */
static bool wait_for_prefix(struct flight *flight, uint64_t *end) {
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
        struct timespec deadline = clock_deadline(1000);
        pthread_cond_clockwait(&flight->changed, &flight->state_lock, CLOCK_MONOTONIC, &deadline);
    }
    bool more = flight->state == FLIGHT_MOVING && *end > flight->hashed;
    pthread_mutex_unlock(&flight->state_lock);
    return more;
}

/* Hashes the prefix as it grows; true when all of it was hashed. */
static bool hash_all(struct flight *flight, struct digest_hash *hash, char *step,
                     struct error *error) {
    uint64_t end;
    while (wait_for_prefix(flight, &end)) {
        while (flight->hashed < end) {
            uint64_t left = end - flight->hashed;
            ssize_t got =
                pread(flight->fd, step, left < HASH_STEP ? left : HASH_STEP, (off_t)flight->hashed);
            if (got <= 0)
                return error_set_errno(error, got < 0 ? errno : EIO, "reading a partial blob");
            digest_hash_update(hash, step, (size_t)got);
            pthread_mutex_lock(&flight->state_lock);
            flight->hashed += (uint64_t)got;
            pthread_mutex_unlock(&flight->state_lock);
        }
    }
    pthread_mutex_lock(&flight->state_lock);
    bool all = flight->state == FLIGHT_MOVING;
    *error = flight->failure;
    pthread_mutex_unlock(&flight->state_lock);
    return all;
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
        ok = digest_equal(&digest, &flight->digest) ||
             error_set(error, ERROR_CORRUPT,
                       "upstream %s sent wrong bytes: their digest is %s; nothing is kept",
                       upstream_host(flight->sources[flight->source].upstream),
                       digest_format(&digest, is));
        if (!ok)
            metric_add(flight->flights->failed_digests, 1);
    }
    digest_hash_free(hash);
    return ok;
}

static void log_end(const struct flight *flight, const struct error *error) {
    char digest[DIGEST_STRING_SIZE];
    const struct flight_source *source = &flight->sources[flight->source];
    double seconds = (double)(clock_ms() - flight->started_ms) / 1000;
    if (error)
        log_at(LOG_ERROR, "blob transfer failed",
               LOG_STRING("digest", digest_format(&flight->digest, digest)),
               LOG_STRING("upstream", upstream_host(source->upstream)),
               LOG_STRING("repository", source->repository), LOG_STRING("error", error->text),
               LOG_STRING("kind", error_kind_name(error->kind)), LOG_NUMBER("seconds", seconds));
    else
        log_at(LOG_DEBUG, "blob cached",
               LOG_STRING("digest", digest_format(&flight->digest, digest)),
               LOG_STRING("upstream", upstream_host(source->upstream)),
               LOG_STRING("repository", source->repository), LOG_NUMBER("bytes", flight->size),
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
    if (error->kind == ERROR_CORRUPT || !alone)
        partial_drop(flight->partial);
    if (alone) {
        partial_free(flight->partial);
        flight->partial = NULL;
    }
}

static void end_verified(struct flight *flight) {
    struct error error = {0};
    bool kept = partial_commit(flight->partial, &error);
    log_end(flight, kept ? NULL : &error);
    if (!kept)
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

    if (ok)
        end_verified(flight);
    else
        end_failed(flight, &error);
    pthread_mutex_lock(&flights->table_lock);
    HASH_DEL(flights->table, flight);
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
    flight->fill = true;
    flight_staff(flight);
    pthread_mutex_unlock(&flight->state_lock);
}

struct flight_reader *flight_reader_new(struct flight *flight) {
    struct flight_reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return NULL;
    pthread_mutex_lock(&flight->state_lock);
    DL_APPEND(flight->readers, reader);
    flight->reader_count++;
    pthread_mutex_unlock(&flight->state_lock);
    return reader;
}

void flight_reader_free(struct flight *flight, struct flight_reader *reader) {
    if (!reader)
        return;
    pthread_mutex_lock(&flight->state_lock);
    DL_DELETE(flight->readers, reader);
    flight->reader_count--;
    pthread_mutex_unlock(&flight->state_lock);
    free(reader);
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
    if (whole || upstream_settings(flight->sources[0].upstream)->range_fill)
        flight->fill = true;
    flight_staff(flight);
    pthread_mutex_unlock(&flight->state_lock);
}

bool cache_blob_wait(struct cache_blob *blob, uint64_t offset, uint64_t *end,
                     bool (*is_there)(const void *context), const void *context,
                     struct error *error) {
    struct flight *flight = blob->flight;
    if (!flight) {
        *end = blob->size;
        return true;
    }
    struct flight_reader *reader = blob->reader;
    bool there = true;
    pthread_mutex_lock(&flight->state_lock);
    reader->at = offset;
    for (;;) {
        *end = released_end(flight, reader);
        bool at_end = flight->state == FLIGHT_VERIFIED && offset >= flight->size;
        if (flight->state == FLIGHT_FAILED || *end > offset || at_end || !there)
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
    bool ok = flight->state != FLIGHT_FAILED && there;
    if (!there)
        error_set(error, ERROR_CLOSED, "the client left");
    else if (!ok && error)
        *error = flight->failure;
    pthread_mutex_unlock(&flight->state_lock);
    return ok;
}
