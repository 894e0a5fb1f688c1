/*
 * Passing through: a blob that cannot be kept still reaches its readers.
 *
 * Bytes that come after the disk gave up are written to a memory file instead of the partial. Each
 * byte has the blob's own offset there, so that fetchers, driver and readers go on as before: bytes
 * are hashed, the last bytes are held back, and several readers share one transfer. Bytes that all
 * readers have and that the driver has hashed are dropped when memory runs short. If nothing can be
 * dropped, the fetcher waits until the readers have read on: a slow client slows the transfer down,
 * because there is no place to put the bytes. If one reader falls far behind another, the slow one
 * is evicted, so that it neither stops the other nor holds more memory than BEHIND_MOST. An upload
 * to the bucket that follows goes before any reader: it then gives up.
 *
 * A reader that is evicted, or one that arrives after bytes were dropped, starts a flight of its
 * own, which fetches the blob from byte 0 because the whole must be hashed.
 */
#include <utlist.h>
#include "cache/flight/flight_private.h"

enum {
    AHEAD_MOST = 16 << 20,  /* held of one blob while no reader waits for more */
    AHEAD_LEAST = 1 << 20,  /* the same when all blobs together hold MEMORY_ENOUGH */
    BEHIND_MOST = 64 << 20, /* held of one blob when one reader waits and another is slow */
    BEHIND_LEAST = 4 << 20, /* the same when all blobs together hold MEMORY_ENOUGH */
    MEMORY_ENOUGH = 256 << 20,
};

void flight_pass(struct flight *flight, enum unkept reason, const struct error *why) {
    struct body *body = &flight->body;
    struct error error = *why;
    if (body->passing.on || flight->state != FLIGHT_MOVING)
        return;
    bool ok = passing_begin(&body->passing, reason, why, &body->present, &error);
    flight->readers.fill = false;
    /* Fetchers far ahead of the readers would only fill the memory. */
    spans_keep_first(&flight->spans);
    if (!ok || flight->readers.count == 0)
        flight_fail(flight, &error);
    flight_wake(flight);
}

/* ---- what is held in memory ---- */

/* The bytes that a reader needs. */
static struct extent reader_needs(const struct flight_reader *reader) {
    if (reader->evicted)
        return (struct extent){reader->at, reader->sending_end};
    if (reader->undecided)
        return (struct extent){0, UINT64_MAX};
    return (struct extent){reader->at, reader->end};
}

/* Whether a byte is needed by a reader, or by the driver that is about to hash it. If it is, *end
 * says up to where it is needed; otherwise *end says up to where no byte is needed. */
static bool is_needed(struct flight *flight, uint64_t offset, uint64_t *end)
    REQUIRES(flight->state_lock) {
    const struct body *body = &flight->body;
    uint64_t until = UINT64_MAX;
    struct extent wanted = {body->hashed, extents_run_end(&body->present, body->hashed)};
    const struct flight_reader *reader = flight->readers.list;
    if (flight->followed && !flight->follow_lost) {
        if (offset >= flight->follow_at) {
            *end = UINT64_MAX;
            return true;
        }
        until = flight->follow_at;
    }
    for (;;) {
        if (wanted.start <= offset && offset < wanted.end) {
            *end = wanted.end;
            return true;
        }
        if (wanted.start > offset && wanted.start < wanted.end && wanted.start < until)
            until = wanted.start;
        if (!reader)
            break;
        wanted = reader_needs(reader);
        reader = reader->next;
    }
    *end = until;
    return false;
}

static void drop_unneeded(struct flight *flight) REQUIRES(flight->state_lock) {
    struct body *body = &flight->body;
    struct passing *passing = &body->passing;
    uint64_t size = body->size_known ? body->size : UINT64_MAX;
    for (size_t i = passing->in_memory.count; i-- > 0;) { /* from the last: runs may vanish */
        struct extent run = passing->in_memory.at[i];
        for (uint64_t at = run.start, end; at < run.end; at = end) {
            bool needed = is_needed(flight, at, &end);
            if (end > run.end)
                end = run.end;
            if (!needed)
                passing_drop(passing, at, end, size, &body->present, body->hashed);
        }
    }
}

/* Whether some reader has nothing left to send before [at, end) comes. */
static bool is_awaited(struct flight *flight, uint64_t at, uint64_t end)
    REQUIRES(flight->state_lock) {
    const struct body *body = &flight->body;
    const struct flight_reader *reader;
    DL_FOREACH (flight->readers.list, reader) {
        uint64_t front = reader_front(reader, body);
        bool waits = extents_run_end(&body->present, front) == front && front < reader->end;
        if (waits && !reader->evicted && !reader->undecided && at <= front && front < end)
            return true;
    }
    return false;
}

/* Evicts the reader that is farthest behind. A reader that has not said what it wants is at 0. */
static void evict_slowest(struct flight *flight) REQUIRES(flight->state_lock) {
    if (flight->followed && !flight->follow_lost) { /* an upload goes before any client */
        flight->follow_lost = true;
        drop_unneeded(flight);
        return;
    }
    struct flight_reader *reader, *slowest = NULL;
    DL_FOREACH (flight->readers.list, reader) {
        if (!reader->evicted && (!slowest || reader->at < slowest->at))
            slowest = reader;
    }
    if (slowest)
        slowest->evicted = true;
    flight->body.passing.dropped = true; /* the reader does not come back to this flight */
    condition_broadcast(&flight->changed);
}

bool flight_is_wanted_elsewhere(struct flight *flight) {
    const struct flight_reader *reader;
    DL_FOREACH (flight->readers.list, reader) {
        uint64_t front = reader_front(reader, &flight->body);
        if (!spans_holding(&flight->spans, front) && is_awaited(flight, front, front + 1))
            return true;
    }
    return false;
}

bool flight_may_write(struct flight *flight, uint64_t at, uint64_t end) {
    const struct passing *passing = &flight->body.passing;
    if (!passing->on)
        return true;
    bool scarce = atomic_load(passing->held) > MEMORY_ENOUGH;
    uint64_t most = scarce ? AHEAD_LEAST : AHEAD_MOST;
    if (extents_total(&passing->in_memory) + (end - at) <= most)
        return true;
    drop_unneeded(flight);
    uint64_t held = extents_total(&passing->in_memory) + (end - at);
    if (held <= most)
        return true;
    if (!is_awaited(flight, at, end))
        return false;
    if (held > (scarce ? BEHIND_LEAST : BEHIND_MOST))
        evict_slowest(flight);
    return true;
}
