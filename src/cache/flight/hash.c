/*
 * Hashes a blob under way, from its first byte on.
 *
 * Bytes that arrive in order are hashed from the buffer in which they arrived, because reading them
 * back from the file costs a copy. A fetcher that has nothing else to do hashes them itself, so
 * that no other thread needs to wake up. A fetcher whose next bytes are waiting already hands its
 * buffer to the driver, so that receiving and hashing take two processors. If the driver has not
 * taken the buffer before, that fetcher waits: the blob cannot end sooner than its hash, and
 * otherwise the driver would fall behind and read everything back. It does not wait while a reader
 * waits for a range, which may end sooner than the hash of all before it. Fetchers that write ahead
 * of the hash do not wait, and the driver reads their bytes back.
 */
#include <stdlib.h>
#include "base/file.h"
#include "cache/flight/flight_private.h"

/* Buffers are handed over while all flights together have no more connections than this. Beyond it,
 * processors are busy anyway and memory matters more: fetchers hash, and the driver reads back. */
enum { HANDING_CONNECTIONS = 32 };

/* Whether the driver has something to do. */
static bool is_driver_due(struct flight *flight) REQUIRES(flight->state_lock) {
    const struct body *body = &flight->body;
    return !body->size_known /* it may have to reserve space */ || body->hashed == body->size ||
           extents_run_end(&body->present, body->hashed) > body->hashed;
}

/* Reads the bytes of the portion from the file into its buffer. */
static bool read_back(struct flight *flight, struct portion *portion, int fd, struct error *error) {
    if (!portion->buffer)
        portion->buffer = malloc(FLIGHT_BUFFER);
    if (!portion->buffer)
        return error_set(error, ERROR_MEMORY, "out of memory");
    portion->bytes = portion->buffer;
    if (file_read_all_at(fd, portion->buffer, portion->end - portion->start, portion->start, error))
        return true;
    space_record_unreadable(flight->flights->space);
    return error_wrap(error, "a partial blob");
}

/* Hashes the portion, which comes next, and keeps its buffer. Nobody has the turn. Releases the
 * lock meanwhile. False: `fd` could not be read. */
static bool hash_portion(struct flight *flight, struct portion *portion, int fd,
                         struct error *error) REQUIRES(flight->state_lock) {
    struct hashing *hashing = &flight->hashing;
    hashing_begin_turn(hashing, portion->end);
    lock_release(&flight->state_lock);
    bool ok = portion->bytes || read_back(flight, portion, fd, error);
    if (ok)
        digest_hash_update(hashing->hash, portion->bytes, portion->end - portion->start);
    lock_acquire(&flight->state_lock);
    hashing_end_turn(hashing, &flight->body, ok);
    if (!ok)
        flight_fail(flight, error);
    if (flight->body.passing.on) /* hashed bytes may be dropped */
        condition_broadcast(&flight->changed);
    hashing_keep(hashing, portion->buffer);
    return ok;
}

/* Hashes the portion that was handed over. Releases the lock meanwhile. */
static void hash_handed(struct flight *flight) REQUIRES(flight->state_lock) {
    struct portion portion = hashing_take(&flight->hashing);
    hash_portion(flight, &portion, -1, NULL);
}

/* Waits until the portion that comes before the claimed bytes is not handed over any more. False:
 * the fetcher must go on, because the flight has ended or a reader waits for a range. */
static bool wait_for_handed(struct flight *flight) REQUIRES(flight->state_lock) {
    struct hashing *hashing = &flight->hashing;
    while (hashing->handed.buffer) {
        if (flight->state != FLIGHT_MOVING || readers_await_range(&flight->readers))
            return false;
        if (hashing->busy)
            condition_wait(&hashing->turned, &flight->state_lock);
        else /* the driver is not awake yet, or it makes space on the disk */
            hash_handed(flight);
    }
    return flight->state == FLIGHT_MOVING;
}

/* Hashes the claimed portion or hands it over. Releases the lock meanwhile. True: handed over. */
static bool hash_claimed(struct flight *flight, struct portion *portion, bool more_waits)
    REQUIRES(flight->state_lock) {
    struct hashing *hashing = &flight->hashing;
    bool goes_on = wait_for_handed(flight);
    /* Before the lock is released again: while this thread hashes, another one may claim the bytes
     * that come then. */
    hashing->claimed = UINT64_MAX;
    if (!goes_on || portion->start != hashing_next(hashing, &flight->body))
        return false;
    if (portion->buffer && (more_waits || hashing->busy) &&
        atomic_load(&flight->flights->connections) <= HANDING_CONNECTIONS) {
        hashing_hand(hashing, portion);
        return true;
    }
    if (hashing->busy) /* whoever has the turn wakes the driver */
        return false;
    portion->buffer = NULL; /* remains the caller's */
    hash_portion(flight, portion, -1, NULL);
    return false;
}

bool flight_hash_written(struct flight *flight, struct portion *portion, bool more_waits) {
    struct hashing *hashing = &flight->hashing;
    bool handed = false;
    if (hashing->claimed == portion->start)
        handed = hash_claimed(flight, portion, more_waits);
    if (!hashing->busy && is_driver_due(flight))
        condition_signal(&flight->driven);
    return handed;
}

bool flight_hash_next(struct flight *flight, struct error *error) {
    const struct body *body = &flight->body;
    if (flight->hashing.handed.buffer) {
        hash_handed(flight);
        return true;
    }
    struct portion portion = {.start = body->hashed};
    int fd = body_readable_at(body, portion.start, &portion.end);
    if (portion.end > portion.start + FLIGHT_BUFFER)
        portion.end = portion.start + FLIGHT_BUFFER;
    portion.buffer = hashing_reuse(&flight->hashing);
    return hash_portion(flight, &portion, fd, error);
}
