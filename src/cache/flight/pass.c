/*
 * Passing through: a blob that cannot be kept still reaches its readers.
 *
 * What comes after the disk gave up goes to a memory file instead of the partial, at the blob's own
 * offsets, so that fetchers, driver and readers go on as before: bytes are hashed, the tail is held
 * back, and several readers share one transfer. What all readers have and the driver has hashed is
 * forgotten when memory runs short, and upstream is then held up until readers have read on: a slow
 * client's pace becomes the transfer's, as it must without a place to put the bytes. Only when one
 * reader falls far behind another is it put out, so that it neither stops the others nor holds more
 * memory than BEHIND_MOST.
 *
 * Who is put out, and whoever comes after something was forgotten, gets a flight and a transfer of
 * his own. There what he has had already is fetched once more, to be hashed.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <utlist.h>
#include "cache/flight/flight.h"

enum {
    AHEAD_MOST = 16 << 20,  /* held of one blob while no reader waits for more */
    AHEAD_LEAST = 1 << 20,  /* the same when all of them together hold MEMORY_ENOUGH */
    BEHIND_MOST = 64 << 20, /* held of one blob when one reader waits and another is slow */
    BEHIND_LEAST = 4 << 20, /* the same when all of them together hold MEMORY_ENOUGH */
    MEMORY_ENOUGH = 256 << 20,
};

void flight_pass(struct flight *flight, enum unkept reason, const struct error *why) {
    struct passing *passing = &flight->passing;
    if (passing->on || flight->state != FLIGHT_MOVING)
        return;
    struct error error = *why;
    passing->reason = reason;
    passing->why = *why;
    passing->memory = memfd_create("blob", MFD_CLOEXEC);
    bool ok = passing->memory >= 0 || error_set(&error, ERROR_MEMORY, "no memory for a blob");
    for (size_t i = 0; ok && i < flight->present.count; i++)
        ok = extents_add(&passing->on_disk, flight->present.at[i].start,
                         flight->present.at[i].end) ||
             error_set(&error, ERROR_MEMORY, "out of memory");
    passing->on = ok;
    flight->fill = false;
    flight->allowed = 1;
    /* Who fetches far ahead of the readers would only fill the memory. */
    const struct span *first = NULL;
    for (size_t i = 0; i < FLIGHT_SPANS; i++) {
        const struct span *span = &flight->spans[i];
        if (span->busy && (!first || span->at < first->at))
            first = span;
    }
    for (size_t i = 0; i < FLIGHT_SPANS; i++) {
        struct span *span = &flight->spans[i];
        if (span->busy && span != first && span->end > span->writing_to)
            span->end = span->writing_to;
    }
    if (!ok || flight->reader_count == 0)
        flight_fail(flight, &error);
    pthread_cond_broadcast(&flight->changed);
}

int flight_sink(const struct flight *flight) {
    return flight->passing.on ? flight->passing.memory : flight->fd;
}

bool flight_note_written(struct flight *flight, int sink, uint64_t start, uint64_t end) {
    struct passing *passing = &flight->passing;
    if (passing->on && sink == passing->memory) {
        if (!extents_add(&passing->in_memory, start, end))
            return false;
        atomic_fetch_add(&flight->flights->passing_bytes, (int64_t)(end - start));
    } else if (passing->on && !extents_add(&passing->on_disk, start, end)) {
        return false;
    }
    return extents_add(&flight->present, start, end);
}

int flight_medium(const struct flight *flight, uint64_t offset, uint64_t *end) {
    const struct passing *passing = &flight->passing;
    if (!passing->on) {
        *end = extents_run_end(&flight->present, offset);
        return flight->fd;
    }
    *end = extents_run_end(&passing->in_memory, offset);
    if (*end > offset)
        return passing->memory;
    *end = extents_run_end(&passing->on_disk, offset);
    if (*end > offset)
        return flight->fd;
    /* Gone, up to where something is there again. */
    struct extent gap = {offset, UINT64_MAX}, other = gap;
    extents_gap(&passing->in_memory, offset, UINT64_MAX, &gap);
    extents_gap(&passing->on_disk, offset, UINT64_MAX, &other);
    *end = gap.end < other.end ? gap.end : other.end;
    return -1;
}

/* ---- what is held in memory ---- */

/* Whether a byte is needed: by a reader, or by the driver that is about to hash it. If it is, *end
 * says up to where; if not, up to where not. */
static bool is_needed(const struct flight *flight, uint64_t offset, uint64_t *end) {
    uint64_t until = UINT64_MAX;
    struct extent wanted = {flight->hashed, extents_run_end(&flight->present, flight->hashed)};
    const struct flight_reader *reader = flight->readers;
    for (;;) {
        if (wanted.start <= offset && offset < wanted.end) {
            *end = wanted.end;
            return true;
        }
        if (wanted.start > offset && wanted.start < wanted.end && wanted.start < until)
            until = wanted.start;
        if (!reader)
            break;
        wanted = reader->put_out     ? (struct extent){reader->at, reader->lent}
                 : reader->undecided ? (struct extent){0, UINT64_MAX}
                                     : (struct extent){reader->at, reader->end};
        reader = reader->next;
    }
    *end = until;
    return false;
}

static void forget(struct flight *flight, uint64_t start, uint64_t end) {
    struct passing *passing = &flight->passing;
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    /* Whole pages only: what shares its page with bytes that stay, stays. */
    start = (start + page - 1) / page * page;
    if (!flight->size_known || end < flight->size)
        end = end / page * page;
    /* What is not hashed yet has to come once more for whoever wants the whole. */
    uint64_t again = start > flight->hashed ? start : flight->hashed;
    if (start >= end || (again < end && !extents_remove(&flight->present, again, end)) ||
        !extents_remove(&passing->in_memory, start, end))
        return;
    /* Memory, no I/O: it may be done with the lock held. */
    fallocate(passing->memory, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)start,
              (off_t)(end - start));
    atomic_fetch_sub(&flight->flights->passing_bytes, (int64_t)(end - start));
    passing->forgot = true;
}

static void forget_what_nobody_needs(struct flight *flight) {
    const struct passing *passing = &flight->passing;
    for (size_t i = passing->in_memory.count; i-- > 0;) { /* from the last: they may vanish */
        struct extent run = passing->in_memory.at[i];
        for (uint64_t at = run.start, end; at < run.end; at = end) {
            bool needed = is_needed(flight, at, &end);
            if (end > run.end)
                end = run.end;
            if (!needed)
                forget(flight, at, end);
        }
    }
}

/* Whether some reader has nothing left to send before [at, end) comes. */
static bool is_awaited(const struct flight *flight, uint64_t at, uint64_t end) {
    const struct flight_reader *reader;
    DL_FOREACH (flight->readers, reader) {
        uint64_t front = flight_front(flight, reader);
        bool waits = extents_run_end(&flight->present, front) == front && front < reader->end;
        if (waits && !reader->put_out && !reader->undecided && at <= front && front < end)
            return true;
    }
    return false;
}

/* The reader that is farthest behind goes, or who has not even said what it wants. */
static void put_slowest_out(struct flight *flight) {
    struct flight_reader *reader, *slowest = NULL;
    DL_FOREACH (flight->readers, reader) {
        if (!reader->put_out && (!slowest || reader->at < slowest->at))
            slowest = reader;
    }
    if (slowest)
        slowest->put_out = true;
    flight->passing.forgot = true; /* it does not come back to this flight */
    pthread_cond_broadcast(&flight->changed);
}

bool flight_is_wanted_elsewhere(const struct flight *flight) {
    const struct flight_reader *reader;
    DL_FOREACH (flight->readers, reader) {
        uint64_t front = flight_front(flight, reader);
        bool held = false;
        for (size_t i = 0; i < FLIGHT_SPANS; i++) {
            const struct span *span = &flight->spans[i];
            held |= span->busy && span->at <= front && front < span->end;
        }
        if (!held && is_awaited(flight, front, front + 1))
            return true;
    }
    return false;
}

bool flight_may_write(struct flight *flight, uint64_t at, uint64_t end) {
    struct passing *passing = &flight->passing;
    if (!passing->on)
        return true;
    bool scarce = atomic_load(&flight->flights->passing_bytes) > MEMORY_ENOUGH;
    uint64_t most = scarce ? AHEAD_LEAST : AHEAD_MOST;
    if (extents_total(&passing->in_memory) + (end - at) <= most)
        return true;
    forget_what_nobody_needs(flight);
    uint64_t held = extents_total(&passing->in_memory) + (end - at);
    if (held <= most)
        return true;
    if (!is_awaited(flight, at, end))
        return false;
    if (held > (scarce ? BEHIND_LEAST : BEHIND_MOST))
        put_slowest_out(flight);
    return true;
}

bool flight_is_joinable(const struct flight *flight, const struct blob_range *range) {
    const struct passing *passing = &flight->passing;
    return !passing->on || (!passing->forgot && range->kind == BLOB_WHOLE &&
                            flight->first_range.kind == BLOB_WHOLE);
}

void flight_pass_end(struct flight *flight) {
    struct passing *passing = &flight->passing;
    atomic_fetch_sub(&flight->flights->passing_bytes, (int64_t)extents_total(&passing->in_memory));
    if (passing->memory >= 0)
        close(passing->memory);
    extents_free(&passing->on_disk);
    extents_free(&passing->in_memory);
}
