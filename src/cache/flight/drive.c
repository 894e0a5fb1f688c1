/*
 * The driver: a flight's own thread. It opens the partial, reserves space for the blob, and hashes
 * the blob from its first byte on as bytes arrive. When all are hashed, it commits the blob, or
 * logs why it cannot.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "cache/flight/flight_private.h"
#include "store/blobs.h"
#include "store/partials.h"
#include "store/records.h"

enum {
    /* Bytes of space that are reserved ahead of those that are here: as many as are here, within
     * these bounds. A size that is only claimed reserves nothing. */
    SPACE_LEAST = 64 << 10,
    SPACE_MOST = 16 << 20,
    LOOK_MS = 1000, /* how often the driver checks whether a fetcher must be started */
    END_MS = 300,   /* how long a failed flight waits for its fetchers before it gives up the
                       bytes it has */
};

/* ---- the partial ---- */

/* Takes over the bytes that an earlier flight left in the partial. */
static bool take_over(struct flight *flight, struct error *error) REQUIRES(flight->state_lock) {
    struct body *body = &flight->body;
    const struct extent *extents;
    size_t count = partial_extents(flight->partial, &extents);
    body->size_known = partial_size(flight->partial, &body->size);
    for (size_t i = 0; i < count; i++) {
        if (!extents_add(&body->present, extents[i].start, extents[i].end))
            return error_set(error, ERROR_MEMORY, "out of memory");
    }
    flight->resumed = body->size_known || count > 0;
    return true;
}

/* Whether a blob may pass through because there is no file, and why; otherwise the flight fails. */
static bool is_disk_failure(const struct error *error, enum unkept *reason) {
    /* ERROR_BUSY: an earlier flight, which passes the blob through, still has the partial open. Its
     * reason was logged. */
    *reason = error->kind == ERROR_BUSY ? UNKEPT_TOO_LARGE : space_unkept_reason(error);
    return error->kind == ERROR_NO_SPACE || error->kind == ERROR_IO || error->kind == ERROR_BUSY ||
           error->kind == ERROR_INVALID || error->kind == ERROR_FILES;
}

/* The partial and a descriptor of our own on it; -1 with an error. */
static int open_file(struct flights *flights, const struct digest *digest, struct partial **partial,
                     struct error *error) {
    *partial = NULL;
    if (space_is_unreadable(flights->space)) {
        error_set(error, ERROR_IO,
                  "bytes that were written a moment ago cannot be read back from the disk");
        return -1;
    }
    *partial = store_partial_open(flights->store, digest, error);
    /* A file system may have bytes left, but no more files. */
    if (!*partial && error->kind == ERROR_NO_SPACE && space_free_after_full(flights->space, 1, 1))
        *partial = store_partial_open(flights->store, digest, error);
    if (!*partial)
        return -1;
    int fd = fcntl(partial_fd(*partial), F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        error_set_errno(error, errno, "opening a partial blob");
    return fd;
}

/* Opens the partial, or begins to pass through if there can be none. Fetchers are started only
 * afterwards. */
static bool open_partial(struct flight *flight, struct error *error) {
    struct partial *partial;
    enum unkept reason;
    int fd = open_file(flight->flights, &flight->digest, &partial, error);
    lock_acquire(&flight->state_lock);
    flight->partial = partial;
    flight->body.fd = fd;
    bool ok = fd >= 0 ? take_over(flight, error) : is_disk_failure(error, &reason);
    flight->opened = ok;
    if (!ok)
        flight_fail(flight, error);
    else if (fd < 0)
        flight_pass(flight, reason, error);
    if (ok)
        flight_start_fetchers(flight);
    condition_broadcast(&flight->changed);
    lock_release(&flight->state_lock);
    return ok;
}

/* ---- space on the disk ---- */

static uint64_t space_step(uint64_t present) {
    return present < SPACE_LEAST ? SPACE_LEAST : present < SPACE_MOST ? present : SPACE_MOST;
}

/* How many bytes of space to reserve now that `present` are here. */
static uint64_t space_needed(struct flight *flight, uint64_t present) REQUIRES(flight->state_lock) {
    const struct body *body = &flight->body;
    const struct space *space = flight->flights->space;
    uint64_t ahead = present + space_step(present);
    if (body->size_known && !space_can_hold(space, body->size, NULL))
        return body->size; /* it is refused */
    if (body->size_known)
        return ahead < body->size ? ahead : body->size;
    return space_can_hold(space, ahead, NULL) ? ahead : present;
}

bool flight_is_space_due(struct flight *flight) {
    const struct body *body = &flight->body;
    if (flight->state != FLIGHT_MOVING)
        return false;
    if (body->passing.on)
        return flight->answered && !flight->gave_up;
    uint64_t present = extents_total(&body->present);
    if (present == 0 || flight->reserved >= space_needed(flight, present))
        return false;
    return flight->reserved < present + space_step(present) / 2; /* half of the step is used */
}

/* Logs once that the blob is not kept. Releases the lock meanwhile, which is safe because the
 * reason does not change any more. */
static void record_passing(struct flight *flight) REQUIRES(flight->state_lock) {
    const struct passing *passing = &flight->body.passing;
    uint64_t size = flight->body.size_known ? flight->body.size : 0;
    flight->gave_up = true;
    lock_release(&flight->state_lock);
    space_record_unkept(flight->flights->space, passing->reason, size, &passing->why);
    lock_acquire(&flight->state_lock);
}

/* Reserves space for the bytes that are here and for some that follow. False: there is none, and
 * the blob passes through. Releases the lock meanwhile. */
static bool reserve_space(struct flight *flight) REQUIRES(flight->state_lock) {
    struct space *space = flight->flights->space;
    struct error error = {0};
    uint64_t present = extents_total(&flight->body.present), needed = space_needed(flight, present);
    const struct space_wish wish = {
        .bytes = needed,
        .missing = needed > present ? needed - present : 0,
        .whole = flight->body.size_known ? flight->body.size : needed,
    };
    lock_release(&flight->state_lock);
    bool reserved = space_reserve(space, flight->partial, &wish, &error);
    lock_acquire(&flight->state_lock);
    if (reserved)
        flight->reserved = needed;
    else if (space_can_hold(space, needed, NULL))
        flight_pass(flight, space_unkept_reason(&error), &error);
    else
        flight_pass(flight, UNKEPT_TOO_LARGE, &error);
    return reserved;
}

/* Reserves space for the blob, or gives the partial up. Releases the lock meanwhile, so that bytes
 * arrive while other blobs are deleted. */
static void take_space(struct flight *flight) REQUIRES(flight->state_lock) {
    if (!flight->body.passing.on && reserve_space(flight))
        return;
    /* The partial's bytes stay readable through body.fd, and another flight may try again with a
     * partial of its own. */
    record_passing(flight);
    lock_release(&flight->state_lock);
    if (flight->partial)
        partial_drop(flight->partial);
    lock_acquire(&flight->state_lock);
}

/* ---- hashing ---- */

/* Before any fetcher is started. */
static bool begin_hashing(struct flight *flight, struct error *error) {
    flight->hashing.hash = digest_hash_new(flight->digest.algorithm);
    return flight->hashing.hash || error_set(error, ERROR_MEMORY, "no memory to hash a blob");
}

/* Whether no further byte is wanted. */
static bool is_idle(struct flight *flight) REQUIRES(flight->state_lock) {
    struct plan plan;
    /* A flight that passes through is used by readers only; other references (flight_wait_end()) do
     * not keep it fetching. */
    return flight->spans.fetchers == 0 && flight->readers.count == 0 &&
           (flight->body.passing.on ||
            atomic_load(&flight->references) == 1 + (unsigned)flight->followed) &&
           !flight_plan(flight, &plan);
}

/* Whether the driver must wait: bytes may still come, and it cannot hash any now. */
static bool is_waiting(struct flight *flight) REQUIRES(flight->state_lock) {
    const struct body *body = &flight->body;
    if (flight->state != FLIGHT_MOVING)
        return false;
    if (hashing_is_taken(&flight->hashing, body))
        return true;
    return extents_run_end(&body->present, body->hashed) == body->hashed &&
           !(body->size_known && body->hashed == body->size);
}

/* Waits until there are bytes to hash, or no more will come. */
static void wait_for_bytes(struct flight *flight) REQUIRES(flight->state_lock) {
    for (;;) {
        while (flight_is_space_due(flight))
            take_space(flight);
        if (!is_waiting(flight))
            return;
        if (is_idle(flight)) { /* only ranges were wanted, and all were sent */
            struct error error;
            error_set(&error, ERROR_CLOSED, "nobody wants the rest");
            flight_fail(flight, &error);
            return;
        }
        flight_start_fetchers(flight); /* one may have ended for lack of memory or of a thread */
        condition_wait_until(&flight->driven, &flight->state_lock, clock_ms() + LOOK_MS);
    }
}

/* Hashes what the fetchers leave to the driver. True: all of the blob is hashed. */
static bool hash_all(struct flight *flight, struct error *error) {
    const struct body *body = &flight->body;
    bool ok = true;
    lock_acquire(&flight->state_lock);
    while (ok) {
        wait_for_bytes(flight);
        if (flight->state != FLIGHT_MOVING || (body->size_known && body->hashed == body->size))
            break;
        ok = flight_hash_next(flight, error);
    }
    if (flight->state != FLIGHT_MOVING) {
        *error = flight->failure;
        ok = false;
    }
    lock_release(&flight->state_lock);
    return ok;
}

/* Whether the hashed bytes are the blob. */
static bool check_digest(struct flight *flight, struct error *error) {
    struct digest digest;
    char is[DIGEST_STRING_SIZE];
    digest_hash_finish(flight->hashing.hash, &digest);
    if (digest_equal(&digest, &flight->digest))
        return true;
    if (digest.algorithm == 0) /* hashing failed; the upstream did nothing wrong */
        return error_set(error, ERROR_MEMORY, "no memory to hash a blob");
    metric_add(flight->flights->failed_digests, 1);
    lock_acquire(&flight->state_lock);
    struct member senders[COURSE_DISTRUST];
    const char *label = flight->sources.bucket_sent
                            ? flight->sources.bucket.label
                            : sources_current(&flight->sources)->place.label;
    const bool by_replica = course_senders(&flight->sources.course, senders) > 0;
    lock_release(&flight->state_lock);
    return error_set(error, ERROR_CORRUPT,
                     "%s%s sent wrong bytes: their digest is %s; nothing is kept",
                     by_replica ? "replica " : "", by_replica ? senders[0].text : label,
                     digest_format(&digest, is));
}

/* ---- the end ---- */

static void log_end(struct flight *flight, const struct error *error) {
    char digest[DIGEST_STRING_SIZE];
    const struct repository repository = flight_repository(flight);
    double seconds = (double)(clock_ms() - flight->started_ms) / 1000;
    /* Any client can ask for what upstream does not have or does not give. */
    bool refused = error && (error->kind == ERROR_NOT_FOUND || error->kind == ERROR_DENIED);
    if (error)
        log_at(refused ? LOG_INFO : LOG_ERROR, "blob transfer failed",
               LOG_STRING("digest", digest_format(&flight->digest, digest)),
               LOG_STRING("upstream", repository.name.host),
               LOG_STRING("repository", repository.name.path), LOG_STRING("error", error->text),
               LOG_STRING("kind", error_kind_name(error->kind)), LOG_NUMBER("seconds", seconds));
    else
        log_at(
            LOG_DEBUG, "blob cached", LOG_STRING("digest", digest_format(&flight->digest, digest)),
            LOG_STRING("upstream", repository.name.host),
            LOG_STRING("repository", repository.name.path), LOG_NUMBER("bytes", flight->body.size),
            LOG_NUMBER("retries", flight->retries), LOG_NUMBER("seconds", seconds));
}

/* Waits a moment for the fetchers of a failed flight. True: all have ended. */
static bool wait_for_fetchers(struct flight *flight) {
    int64_t until = clock_ms() + END_MS;
    lock_acquire(&flight->state_lock);
    while (flight->spans.fetchers && clock_ms() < until)
        condition_wait_until(&flight->changed, &flight->state_lock, until);
    bool ended = flight->spans.fetchers == 0;
    lock_release(&flight->state_lock);
    return ended;
}

/* The links were made when places answered. Without the blob they are of no use. */
static void drop_links(struct flight *flight) {
    struct store *store = flight->flights->store;
    if (store_blob_has(store, &flight->digest, NULL))
        return;
    for (unsigned i = 0; i < FLIGHT_SOURCES; i++) {
        const struct flight_source *source = &flight->sources.at[i];
        lock_acquire(&flight->state_lock);
        bool linked = i < flight->sources.count && source->state == SOURCE_ANSWERED;
        lock_release(&flight->state_lock);
        if (linked)
            store_link_delete(store, &source->repository.name, LINK_BLOB, &flight->digest, NULL);
    }
}

/* Remembers who sent wrong bytes: replicas, if any byte is theirs. Of a blob that came from the
 * bucket in part, the bucket is asked no more first: if upstream is wrong as well, the next flight
 * shows it. */
static void distrust(struct flight *flight, const struct error *error) {
    struct flights *flights = flight->flights;
    const struct sources *sources = &flight->sources;
    lock_acquire(&flight->state_lock);
    const bool blames_bucket = sources->in_bucket || sources->bucket_sent;
    struct member senders[COURSE_DISTRUST];
    const unsigned count = course_senders(&sources->course, senders);
    lock_release(&flight->state_lock);
    for (unsigned i = 0; i < count; i++)
        flights_distrust_replica(flights, &flight->digest, &senders[i], error);
    if (count > 0)
        return; /* the next flight shows whether others are wrong as well */
    if (blames_bucket)
        flights_record_wrong(flights, &flight->digest, error);
    else
        flights_distrust(flights, flight);
    flight->heals = blames_bucket && flights->tier->heals;
}

/* The bytes of a failed flight stay for the next one, unless they are wrong or cannot be read back,
 * the blob passed through, or a fetcher may still write. */
static void end_failed(struct flight *flight, const struct error *error) {
    if (error->kind != ERROR_CLOSED)
        log_end(flight, error);
    if (error->kind == ERROR_CORRUPT)
        distrust(flight, error);
    bool alone = wait_for_fetchers(flight);
    if (flight->partial && (error->kind == ERROR_CORRUPT || error->kind == ERROR_IO ||
                            flight->body.passing.on || !alone))
        partial_drop(flight->partial);
    if (flight->partial && alone) {
        partial_free(flight->partial);
        flight->partial = NULL;
    }
    if (!store_partial_is_left(flight->flights->store, &flight->digest))
        drop_links(flight);
}

/* The links were made when places answered. Now that the blob is kept, the links are synced and the
 * blob's pins are set. */
static void settle_links(struct flight *flight) {
    struct flights *flights = flight->flights;
    for (unsigned i = 0; i < FLIGHT_SOURCES; i++) {
        const struct flight_source *source = &flight->sources.at[i];
        lock_acquire(&flight->state_lock);
        bool linked = i < flight->sources.count && source->state == SOURCE_ANSWERED;
        lock_release(&flight->state_lock);
        if (!linked)
            continue;
        const struct repository_name *name = &source->repository.name;
        pins_add(flights->pins, name, &flight->digest);
        store_link_blob_size(flights->store, name, &flight->digest, flight->body.size, NULL);
        flight_date_link(flight, source);
        store_sync_blob_links(flights->store, name, flight->digest.algorithm, NULL);
    }
}

/* Commits the blob to the store. False: it could not be kept. */
static bool commit(struct flight *flight, struct error *error) {
    uint64_t size = flight->body.size;
    /* A size that no head told is recorded now, because an earlier process may have written a
     * longer file. */
    if (!partial_set_size(flight->partial, size, error) || !partial_commit(flight->partial, error))
        return false;
    space_record_kept(flight->flights->space, size);
    /* A blob that is open is not evicted: readers that are behind still read it. */
    flight->stored_fd = store_blob_open(flight->flights->store, &flight->digest, NULL, NULL);
    settle_links(flight);
    log_end(flight, NULL);
    return true;
}

static void end_verified(struct flight *flight) {
    const struct flights_tier *tier = flight->flights->tier;
    struct error error = {0};
    bool passing = flight->body.passing.on;
    if (tier)
        tier->on_verified(tier->context, flight);
    if (!passing && commit(flight, &error))
        return;
    if (!passing)
        space_record_unkept(flight->flights->space, space_unkept_reason(&error), flight->body.size,
                            &error);
    if (flight->partial)
        partial_drop(flight->partial);
    drop_links(flight);
}

/* The state becomes VERIFIED or FAILED; *error is then the flight's failure. */
static void end_hashing(struct flight *flight, bool verified, struct error *error) {
    lock_acquire(&flight->state_lock);
    if (verified)
        flight->state = FLIGHT_VERIFIED;
    else
        flight_fail(flight, error);
    *error = flight->failure;
    hashing_free_buffers(&flight->hashing);
    /* The flight ended before take_space() could log that it passes through: log it now. */
    if (flight->body.passing.on && !flight->gave_up)
        record_passing(flight);
    condition_broadcast(&flight->changed);
    lock_release(&flight->state_lock);
}

/* The flight has ended: goes on with what is to be done about the bucket. */
static void end_in_tier(struct flight *flight) {
    static const struct blob_range whole = {.kind = BLOB_WHOLE};
    struct flights *flights = flight->flights;
    const struct flights_tier *tier = flights->tier;
    const struct repository repository = flight_repository(flight);
    const struct flight_wish wish = {&repository, &flight->digest, &whole};
    struct error ignored;
    tier->on_end(tier->context, flight, flight->stored_fd >= 0);
    if (flight->heals) /* the right bytes are fetched even if no client asks again */
        flights_fetch(flights, &wish, &ignored);
}

void flight_drive(void *argument) {
    struct flight *flight = argument;
    struct flights *flights = flight->flights;
    struct error error = {0};
    bool ok = begin_hashing(flight, &error) && open_partial(flight, &error) &&
              hash_all(flight, &error) && check_digest(flight, &error);

    /* The rest needs no upstream, so the flight does not count against max_flights any more. */
    lock_acquire(&flights->table_lock);
    flights_give_back_place(flights, flight->held, flight->in_background);
    lock_release(&flights->table_lock);
    end_hashing(flight, ok, &error);
    if (ok)
        end_verified(flight);
    else
        end_failed(flight, &error);

    lock_acquire(&flights->table_lock);
    flights_leave(flights, flight);
    condition_broadcast(&flights->ended);
    lock_release(&flights->table_lock);
    if (flights->tier)
        end_in_tier(flight);
    if (flights->on_kept && flight->stored_fd >= 0)
        flights->on_kept(flights->context, &flight->digest);
    flight_release(flight);
    atomic_fetch_sub(&flights->threads, 1);
}
