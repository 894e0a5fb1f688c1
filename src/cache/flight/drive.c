/*
 * The driver: a flight's own thread. Opens the partial, takes room for the blob, hashes the growing
 * prefix in order, and when all of it is hashed commits it, or says why not.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "cache/flight/flight.h"

enum {
    HASH_STEP = 256 << 10, /* bytes read back and hashed at a time; the page cache has them */
    ROOM_STEP = 16 << 20,  /* of a blob of unknown size, room is taken for so much at a time */
    LEAVE_MS = 300,        /* how long a failed flight waits for its fetchers before it gives up
                              the bytes it has */
};

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
    *reason = error->kind == ERROR_BUSY ? UNKEPT_TOO_LARGE : space_unkept_reason(error);
    return error->kind == ERROR_NO_SPACE || error->kind == ERROR_IO || error->kind == ERROR_BUSY;
}

/* Opens the partial, or begins to pass through where there can be none. */
static bool open_partial(struct flight *flight, struct error *error) {
    struct flights *flights = flight->flights;
    struct partial *partial = NULL;
    int fd = -1;
    if (space_is_unreadable(flights->space))
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

/* How many bytes of room the blob needs, as far as that is known. state_lock held. */
static uint64_t room_needed(const struct flight *flight) {
    uint64_t present = extents_total(&flight->present);
    if (flight->size_known)
        return flight->size;
    if (!flight->answered) /* upstream may still tell the size */
        return 0;
    return space_can_hold(flight->flights->space, present + ROOM_STEP, NULL) ? present + ROOM_STEP
                                                                             : present;
}

/* Whether take_room() has something to do. state_lock held. */
static bool is_room_due(const struct flight *flight) {
    if (flight->state != FLIGHT_MOVING)
        return false;
    if (flight->passing.on)
        return flight->answered && !flight->gave_up;
    uint64_t needed = room_needed(flight);
    if (flight->size_known || flight->reserved == 0)
        return flight->reserved < needed;
    return flight->reserved + ROOM_STEP / 2 < needed; /* half of the last step is used */
}

/* Says once that the blob is not kept. state_lock held, and let go of while it is logged: why it
 * passes through does not change any more. */
static void note_passing(struct flight *flight) {
    uint64_t size = flight->size_known ? flight->size : 0;
    flight->gave_up = true;
    pthread_mutex_unlock(&flight->state_lock);
    space_record_unkept(flight->flights->space, flight->passing.reason, size, &flight->passing.why);
    pthread_mutex_lock(&flight->state_lock);
}

/* Takes room for the blob. Bytes come in meanwhile: nobody waits for what has to be deleted first.
 * state_lock held, and let go of for as long as it takes. */
static void take_room(struct flight *flight) {
    struct space *space = flight->flights->space;
    struct error error = {0};
    uint64_t needed = room_needed(flight), present = extents_total(&flight->present);
    if (!flight->passing.on) {
        pthread_mutex_unlock(&flight->state_lock);
        bool taken = space_reserve(space, flight->partial, needed,
                                   needed > present ? needed - present : 0, &error);
        pthread_mutex_lock(&flight->state_lock);
        if (taken) {
            flight->reserved = needed;
            return;
        }
        flight_pass(flight,
                    space_can_hold(space, needed, NULL) ? space_unkept_reason(&error)
                                                        : UNKEPT_TOO_LARGE,
                    &error);
    }
    /* Its bytes stay readable to us, and others may try with a partial of their own. */
    note_passing(flight);
    pthread_mutex_unlock(&flight->state_lock);
    if (flight->partial)
        partial_drop(flight->partial);
    pthread_mutex_lock(&flight->state_lock);
}

/* Whether anything is still to be fetched for anybody. state_lock held. */
static bool is_idle(struct flight *flight) {
    struct plan plan;
    /* Whoever comes to one that passes through comes as a reader; others only wait for its end. */
    return flight->fetchers == 0 && flight->reader_count == 0 &&
           (flight->passing.on || atomic_load(&flight->references) == 1) &&
           !flight_plan(flight, &plan);
}

/* Waits for more bytes to hash: [hashed, *end) of *fd. False: nothing more will come. */
static bool wait_for_prefix(struct flight *flight, int *fd, uint64_t *end) {
    pthread_mutex_lock(&flight->state_lock);
    for (;;) {
        while (is_room_due(flight))
            take_room(flight);
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
        struct timespec deadline = clock_deadline(1000);
        pthread_cond_clockwait(&flight->changed, &flight->state_lock, CLOCK_MONOTONIC, &deadline);
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
                space_record_unreadable(flight->flights->space);
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
                      upstream_host(flight_current_source(flight).repository.upstream),
                      digest_format(&digest, is));
            metric_add(flight->flights->failed_digests, 1);
        }
    }
    digest_hash_free(hash);
    return ok;
}

static void log_end(struct flight *flight, const struct error *error) {
    char digest[DIGEST_STRING_SIZE];
    const struct flight_source source = flight_current_source(flight);
    double seconds = (double)(clock_ms() - flight->started_ms) / 1000;
    if (error)
        log_at(LOG_ERROR, "blob transfer failed",
               LOG_STRING("digest", digest_format(&flight->digest, digest)),
               LOG_STRING("upstream", source.repository.name.host),
               LOG_STRING("repository", source.repository.name.path),
               LOG_STRING("error", error->text), LOG_STRING("kind", error_kind_name(error->kind)),
               LOG_NUMBER("seconds", seconds));
    else
        log_at(LOG_DEBUG, "blob cached",
               LOG_STRING("digest", digest_format(&flight->digest, digest)),
               LOG_STRING("upstream", source.repository.name.host),
               LOG_STRING("repository", source.repository.name.path),
               LOG_NUMBER("bytes", flight->size), LOG_NUMBER("retries", flight->retries),
               LOG_NUMBER("seconds", seconds));
}

/* A failed flight's bytes stay for the next one, unless they are wrong or somebody may still write
 * them. */
static void end_failed(struct flight *flight, const struct error *error) {
    if (error->kind != ERROR_CLOSED)
        log_end(flight, error);
    if (error->kind == ERROR_CORRUPT)
        flight_distrust(flight);
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
        const char *host = source.repository.name.host;
        pins_note(flight->flights->pins, host, source.repository.name.path, &flight->digest);
        store_link_blob_size(flight->flights->store, host, source.repository.name.path,
                             &flight->digest, flight->size, NULL);
        store_sync_blob_links(flight->flights->store, host, source.repository.name.path,
                              flight->digest.algorithm, NULL);
    }
}

static void end_verified(struct flight *flight) {
    struct space *space = flight->flights->space;
    struct error error = {0};
    /* A size that nobody told is recorded now: what an earlier process wrote may have been longer.
     */
    if (!flight->passing.on && partial_set_size(flight->partial, flight->size, &error) &&
        partial_commit(flight->partial, &error)) {
        space_record_kept(space, flight->size);
        /* For readers that are behind: what they read is not evicted. */
        flight->stored_fd = store_blob_open(flight->flights->store, &flight->digest, NULL, NULL);
        settle_links(flight);
        log_end(flight, NULL);
        return;
    }
    if (!flight->passing.on)
        space_record_unkept(space, space_unkept_reason(&error), flight->size, &error);
    if (flight->partial)
        partial_drop(flight->partial);
}

static void leave_count(struct flights *flights) {
    pthread_mutex_lock(&flights->table_lock);
    flights->count--;
    pthread_mutex_unlock(&flights->table_lock);
}

void *flight_drive(void *argument) {
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
    if (flight->passing.on && !flight->gave_up) /* nobody begins to pass what has ended */
        note_passing(flight);
    pthread_cond_broadcast(&flight->changed);
    pthread_mutex_unlock(&flight->state_lock);

    if (ok)
        end_verified(flight);
    else
        end_failed(flight, &error);
    pthread_mutex_lock(&flights->table_lock);
    flight_leave_table(flight);
    pthread_cond_broadcast(&flights->ended);
    pthread_mutex_unlock(&flights->table_lock);
    flight_release(flight);
    atomic_fetch_sub(&flights->threads, 1);
    return NULL;
}
