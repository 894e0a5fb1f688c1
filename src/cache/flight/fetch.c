/* One request of a fetcher: checks the head, and writes the bytes of the span to the file. */
#include "cache/flight/fetch.h"

#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "store/partials.h"
#include "store/records.h"

enum {
    RECORD_EVERY = 1 << 20, /* bytes between two records, which are used after a crash */
    COMPARE_SIZE = 16 << 10,
    /* Bytes gathered for a request's first write, because a reader may wait for them. Later writes
     * are of FLIGHT_BUFFER while bytes are ready. */
    FIRST_WRITE = 64 << 10,
};

/* ---- life ---- */

/* Gets a buffer to gather bytes in. */
static bool take_buffer(struct fetch *fetch, struct error *error) {
    struct flight *flight = fetch->flight;
    lock_acquire(&flight->state_lock);
    fetch->gathered = hashing_reuse(&flight->hashing);
    lock_release(&flight->state_lock);
    if (!fetch->gathered)
        fetch->gathered = malloc(FLIGHT_BUFFER);
    return fetch->gathered || error_set(error, ERROR_MEMORY, "no memory to fetch a blob");
}

bool fetch_init(struct fetch *fetch, struct flight *flight, struct span *span,
                const struct plan *plan, struct error *error) {
    *fetch = (struct fetch){.flight = flight, .span = span, .plain = plan->plain};
    lock_acquire(&flight->state_lock);
    if (!span->contends && !span->beaten) /* the flight may have gone on to another source */
        span->source = flight->sources.current;
    fetch->source = &flight->sources.at[span->source];
    fetch->place = span->contends ? &fetch->source->place : sources_place(&flight->sources);
    fetch->is_last_stop = !span->contends && flight->sources.is_last_stop;
    const bool beaten = span->beaten;
    lock_release(&flight->state_lock);
    return beaten ? error_set(error, ERROR_CLOSED, "another source has answered")
                  : take_buffer(fetch, error);
}

void fetch_finish(struct fetch *fetch) {
    free(fetch->gathered);
}

/* ---- the request ---- */

/* Whether the bytes come from another source: it has won, or it was silent and is not silent any
 * more. */
static bool is_beaten(const struct flight *flight, const struct fetch *fetch)
    REQUIRES(flight->state_lock) {
    const struct span *span = fetch->span;
    return span->beaten || (span->contends && flight->silent_ms > fetch->source->contended_ms);
}

bool fetch_take_turn(void *context, uint64_t *start, uint64_t *end, struct error *error) {
    struct fetch *fetch = context;
    struct flight *flight = fetch->flight;
    struct span *span = fetch->span;
    lock_acquire(&flight->state_lock);
    bool wanted = span_send(span) && flight->state == FLIGHT_MOVING && !is_beaten(flight, fetch);
    *start = span->at;
    *end = span->end;
    lock_release(&flight->state_lock);
    return wanted || error_set(error, ERROR_CLOSED, "nothing left to ask for");
}

/* ---- the head ---- */

static void move_span(struct span *span, uint64_t start, uint64_t end) {
    span->start = span->at = span->writing_to = start;
    span->end = end;
}

/* The response is a range. */
static bool accept_range(struct flight *flight, struct span *span, const struct place_head *head,
                         struct error *error) REQUIRES(flight->state_lock) {
    char *etag = flight->body.etag;
    if (!head->has_total)
        return error_set(error, ERROR_CORRUPT,
                         "the response to a range request does not tell the total size");
    if (head->etag[0] && etag[0] && strcmp(head->etag, etag) != 0) {
        spans_become_plain(&flight->spans, NULL);
        etag[0] = '\0';
        return error_set(error, ERROR_CORRUPT, "the blob's ETag changed during the transfer");
    }
    if (!etag[0])
        text_copy(text_of(head->etag), etag, sizeof flight->body.etag);
    /* Where a suffix begins, or where a range beyond the end ends, is known only now. */
    if (span->start != head->first || span->end > head->last + 1)
        move_span(span, head->first, head->last + 1);
    return true;
}

/* The response is the whole blob, even if a range was requested. */
static void accept_whole(struct flight *flight, struct span *span, bool plain)
    REQUIRES(flight->state_lock) {
    const struct body *body = &flight->body;
    if (!plain && !(body->size_known && body->size <= span->end))
        spans_become_plain(&flight->spans, span);
    move_span(span, 0, body->size_known ? body->size : UINT64_MAX);
}

/* Updates size, ETag and the span from the head. */
static bool accept_head(struct flight *flight, struct fetch *fetch, const struct place_head *head,
                        struct error *error) REQUIRES(flight->state_lock) {
    if (flight->state != FLIGHT_MOVING)
        return error_set(error, ERROR_CLOSED, "flight ended");
    const char *label = fetch->place->label;
    if (head->has_total && !body_learn_size(&flight->body, head->total, label, error))
        return false;
    if (head->is_outside) /* this request brings the size only */
        return true;
    if (head->has_range)
        return accept_range(flight, fetch->span, head, error);
    accept_whole(flight, fetch->span, fetch->plain);
    return true;
}

/* accept_head() of a source that contends: the flight turns to it. */
static bool accept_contender(struct flight *flight, struct fetch *fetch,
                             const struct place_head *head, struct error *error)
    REQUIRES(flight->state_lock) {
    struct body *body = &flight->body;
    char etag[sizeof body->etag];
    text_copy(text_of(body->etag), etag, sizeof etag);
    body->etag[0] = '\0'; /* this source may use another one */
    /* No size is learned from a source to which the flight does not turn. */
    bool ok = head->is_outside ? error_set(error, ERROR_RANGE, "the range is outside of the blob")
                               : accept_head(flight, fetch, head, error);
    if (!ok) {
        text_copy(text_of(etag), body->etag, sizeof body->etag);
        return false;
    }
    const unsigned source = fetch->span->source;
    spans_take_turn(&flight->spans, source);
    spans_beat_others(&flight->spans, source);
    sources_turn_to(&flight->sources, &flight->spans, source);
    return true;
}

/* The source holds the blob, as upstream has said so long ago. */
static void take_answer(struct flight_source *source, int64_t age_ms) {
    if (source->state != SOURCE_ANSWERED || age_ms < source->link_age_ms)
        source->link_age_ms = age_ms;
    source->state = SOURCE_ANSWERED;
}

/* The head of a source that does not bring the bytes: its repository may be read now, too. */
static bool hear_beaten(struct flight *flight, struct fetch *fetch, const struct place_head *head,
                        struct error *error) REQUIRES(flight->state_lock) {
    const struct body *body = &flight->body;
    if (head->has_total && body->size_known && head->total != body->size)
        return error_set(error, ERROR_CORRUPT, "another source says another size");
    if (!head->is_outside && flight->state != FLIGHT_FAILED)
        take_answer(fetch->source, head->age_ms);
    flight_wake(flight);
    return error_set(error, ERROR_CLOSED, "another source has answered");
}

/* Whether the request went to the bucket. */
static bool asks_bucket(const struct fetch *fetch) {
    return fetch->place == &fetch->flight->sources.bucket;
}

/* The current source brings the bytes; one that contends does if its head comes while the current
 * one is silent. */
static bool judge_head(struct flight *flight, struct fetch *fetch, const struct place_head *head,
                       struct error *error) REQUIRES(flight->state_lock) {
    if (is_beaten(flight, fetch))
        return hear_beaten(flight, fetch, head, error);
    bool ok = fetch->span->contends ? accept_contender(flight, fetch, head, error)
                                    : accept_head(flight, fetch, head, error);
    if (!ok)
        return false;
    if (asks_bucket(fetch))
        sources_find_in_bucket(&flight->sources);
    else
        take_answer(fetch->source, head->age_ms);
    fetch->place->replica.has_head |= place_is_replica(fetch->place);
    if (!flight->answered && !head->is_outside) /* the first head ends a silence as bytes do */
        flight->silent_ms = clock_ms();
    return true;
}

bool fetch_take_head(void *context, const struct place_head *head, struct error *error) {
    struct fetch *fetch = context;
    struct flight *flight = fetch->flight;
    struct flight_source *source = fetch->source;
    const struct body *body = &flight->body;
    struct error why;
    lock_acquire(&flight->state_lock);
    bool was_known = body->size_known, was_answered = source->state == SOURCE_ANSWERED;
    bool ok = judge_head(flight, fetch, head, error);
    bool new_size = ok && body->size_known && !was_known;
    uint64_t size = body->size;
    if (new_size && !space_can_hold(flight->flights->space, size, &why))
        flight_pass(flight, UNKEPT_TOO_LARGE, &why);
    if (ok && !head->is_outside)
        flight_record_answer(flight);
    bool answers = source->state == SOURCE_ANSWERED && !was_answered && !asks_bucket(fetch);
    bool tells = ok && !head->is_outside && body->size_known && fetch->place == &source->place &&
                 !flight->told_size;
    flight->told_size |= tells;
    lock_release(&flight->state_lock);

    /* Record link and size before any bytes. If the link is lost in a crash the next read costs one
     * HEAD; if the size is lost the blob is fetched from the start. */
    const struct repository_name *name = &source->repository.name;
    struct error ignored;
    if (answers && store_link_blob(flight->flights->store, name, &flight->digest, &ignored))
        flight_date_link(flight, source);
    if (new_size && flight->partial)
        partial_set_size(flight->partial, size, &ignored);
    const struct flights_tier *tier = flight->flights->tier;
    if (tells && tier)
        tier->on_sized(tier->context, flight, size);
    return ok;
}

/* ---- the bytes ---- */

/* Checks that bytes that were sent a second time are equal to the present ones. */
static bool compare(int fd, const char *bytes, uint64_t length, uint64_t offset,
                    struct error *error) {
    cleanup_free char *held = malloc(COMPARE_SIZE);
    if (!held)
        return error_set(error, ERROR_MEMORY, "out of memory");
    while (length) {
        size_t step = length < COMPARE_SIZE ? length : COMPARE_SIZE;
        if (!file_read_all_at(fd, held, step, offset, error))
            return error_wrap(error, "a partial blob");
        if (memcmp(held, bytes, step) != 0)
            return error_set(error, ERROR_CORRUPT, "upstream sent different bytes the second time");
        bytes += step;
        offset += step;
        length -= step;
    }
    return true;
}

/* The next stretch of the bytes that have arrived. */
struct piece {
    uint64_t start, end;
    bool present; /* here already */
    int fd;       /* to write it to, or to compare it with; -1: present, but it cannot be compared,
                     because it was dropped or may be dropped at any time */
};

/* Writes a piece. Fetchers take turns. */
static bool write_piece(struct flight *flight, const char *bytes, const struct piece *piece,
                        struct error *error) {
    lock_acquire(&flight->write_lock);
    bool ok = file_write_all_at(piece->fd, bytes, piece->end - piece->start, piece->start, error);
    lock_release(&flight->write_lock);
    return ok || error_wrap(error, "a partial blob");
}

/* Whether bytes that arrive now are of use. */
static bool is_of_use(const struct flight *flight) REQUIRES(flight->state_lock) {
    return flight->state == FLIGHT_MOVING &&
           !(flight->body.passing.on && flight->readers.count == 0);
}

/* Waits until a fetcher may write [at, at + length) of its span, or must give up the span. */
static void wait_for_turn(struct flight *flight, struct span *span, size_t length)
    REQUIRES(flight->state_lock) {
    while (is_of_use(flight)) {
        bool may = flight_may_write(flight, span->at, span->at + length);
        if (!may && !flight->spans.plain && flight_is_wanted_elsewhere(flight))
            span->end = span->at; /* frees the fetcher for bytes that a reader waits for */
        if (span->at >= span->end ||
            (may && !spans_write_within(&flight->spans, span, span->at, span->at + length)))
            break;
        flight->spans.blocked++;
        condition_wait(&flight->changed, &flight->state_lock);
        flight->spans.blocked--;
        if (!may)
            /* The readers were slow, not the place. */
            flight->progress_ms = flight->silent_ms = clock_ms();
    }
}

/* Bytes at piece->start are present, up to `run_end`. */
static void take_present(struct flight *flight, struct piece *piece, uint64_t run_end)
    REQUIRES(flight->state_lock) {
    const struct body *body = &flight->body;
    uint64_t readable_end;
    piece->present = true;
    piece->fd = body_readable_at(body, piece->start, &readable_end);
    if (body->passing.on && piece->fd == body->passing.memory)
        piece->fd = -1; /* the piece may be dropped at any time */
    if (piece->end > run_end)
        piece->end = run_end;
    if (piece->end > readable_end)
        piece->end = readable_end;
}

/* Bytes at piece->start are absent. The fetcher is going to write them, up to a present byte. */
static void take_absent(struct flight *flight, struct span *span, struct piece *piece)
    REQUIRES(flight->state_lock) {
    struct extent gap;
    piece->fd = body_write_fd(&flight->body);
    if (extents_gap(&flight->body.present, piece->start, piece->end, &gap))
        piece->end = gap.end;
    span->writing_to = piece->end;
}

/* Takes the next piece of `length` bytes that have arrived. False: none is wanted (any more),
 * because the flight has ended or the span was shortened. */
static bool take_piece(struct fetch *fetch, size_t length, struct piece *piece,
                       struct error *error) {
    struct flight *flight = fetch->flight;
    struct span *span = fetch->span;
    lock_acquire(&flight->state_lock);
    wait_for_turn(flight, span, length);
    uint64_t end = span->at + length < span->end ? span->at + length : span->end;
    *piece = (struct piece){.start = span->at, .end = end};
    bool more = is_of_use(flight) && piece->start < end;
    if (more) {
        uint64_t run_end = extents_run_end(&flight->body.present, piece->start);
        if (run_end > piece->start)
            take_present(flight, piece, run_end);
        else
            take_absent(flight, span, piece);
    }
    lock_release(&flight->state_lock);
    return more || error_set(error, ERROR_CLOSED, "nothing left to take");
}

/* Records that a piece was written or compared, and wakes those that wait for it. */
static void record_piece(struct fetch *fetch, const struct piece *piece) {
    struct flight *flight = fetch->flight;
    struct span *span = fetch->span;
    int64_t now = clock_ms();
    lock_acquire(&flight->state_lock);
    if (!piece->present && !body_record(&flight->body, piece->fd, piece->start, piece->end)) {
        struct error error;
        error_set(&error, ERROR_MEMORY, "out of memory");
        flight_fail(flight, &error);
    }
    span->at = span->writing_to = piece->end;
    if (!piece->present) { /* bytes that were sent a second time are no progress */
        flight->sources.bucket_sent |= asks_bucket(fetch);
        fetch->place->replica.has_sent |= place_is_replica(fetch->place);
        flight->progress_ms = now;
        flight->paced += (unsigned)(piece->end - piece->start);
        flight->failures = flight->at_once = 0;
        hashing_claim(&flight->hashing, &flight->body, piece->start);
    }
    if (flight->paced >= FLIGHT_PACE) {
        flight->silent_ms = now;
        flight->paced = 0;
    }
    if (flight_is_space_due(flight))
        condition_signal(&flight->driven);
    bool wakes = flight->spans.blocked > 0 || readers_are_served(&flight->readers, &flight->body);
    lock_release(&flight->state_lock);
    if (wakes) /* without the lock, for which those that wake up would wait at once */
        condition_broadcast(&flight->changed);
}

/* Lets a piece that was written be hashed. True: its buffer was handed over. */
static bool hash_piece(struct fetch *fetch, struct portion *portion, bool more_waits) {
    struct flight *flight = fetch->flight;
    lock_acquire(&flight->state_lock);
    bool handed = flight_hash_written(flight, portion, more_waits);
    lock_release(&flight->state_lock);
    return handed;
}

/* Bytes of the blob that are still to be written, as far as is known. */
static uint64_t missing_bytes(struct flight *flight) {
    const struct body *body = &flight->body;
    lock_acquire(&flight->state_lock);
    uint64_t present = extents_total(&body->present);
    uint64_t missing = body->size_known && body->size > present ? body->size - present : 0;
    lock_release(&flight->state_lock);
    return missing;
}

/* Writing a piece failed: tries again if blobs could be deleted; otherwise the blob passes through
 * from now on. */
static bool write_elsewhere(struct fetch *fetch, const char *bytes, struct piece *piece,
                            struct error *error) {
    struct flight *flight = fetch->flight;
    uint64_t length = piece->end - piece->start;
    bool is_full = error->kind == ERROR_NO_SPACE;
    if (piece->fd != flight->body.fd || (!is_full && error->kind != ERROR_IO))
        return false;
    if (is_full) {
        uint64_t missing = missing_bytes(flight);
        if (space_free_after_full(flight->flights->space, length,
                                  missing > length ? missing : length) &&
            write_piece(flight, bytes, piece, error))
            return true;
    }
    lock_acquire(&flight->state_lock);
    flight_pass(flight, space_unkept_reason(error), error);
    bool passes = flight->body.passing.on;
    piece->fd = body_write_fd(&flight->body);
    lock_release(&flight->state_lock);
    return passes && write_piece(flight, bytes, piece, error);
}

/* Records that the span is written up to `end`, to continue from there after a crash. */
static void record_progress(struct fetch *fetch, uint64_t end) {
    struct flight *flight = fetch->flight;
    struct error ignored; /* without the record, bytes are fetched again after a crash */
    lock_acquire(&flight->state_lock);
    bool on_disk = flight->partial && !flight->body.passing.on;
    lock_release(&flight->state_lock);
    if (on_disk)
        partial_record(flight->partial, fetch->recorded, end, &ignored);
    fetch->recorded = end;
}

/* Writes an absent piece, or compares a present one with what is here. */
static bool put_piece(struct fetch *fetch, const char *bytes, struct piece *piece,
                      struct error *error) {
    uint64_t length = piece->end - piece->start;
    if (piece->present)
        return piece->fd < 0 || compare(piece->fd, bytes, length, piece->start, error);
    return write_piece(fetch->flight, bytes, piece, error) ||
           write_elsewhere(fetch, bytes, piece, error);
}

/* Writes what was gathered. `more_waits`: the bytes after it have arrived already. */
static bool write_gathered(struct fetch *fetch, bool more_waits, struct error *error) {
    const char *from = fetch->gathered;
    size_t length = fetch->gathered_length;
    fetch->gathered_length = 0;
    fetch->wrote |= length > 0;
    while (length) {
        struct piece piece;
        if (!take_piece(fetch, length, &piece, error) || !put_piece(fetch, from, &piece, error))
            return false;
        size_t step = (size_t)(piece.end - piece.start);
        bool is_last = step == length;
        struct portion portion = {is_last ? fetch->gathered : NULL, from, piece.start, piece.end};
        record_piece(fetch, &piece);
        if (!piece.present && hash_piece(fetch, &portion, more_waits || !is_last))
            fetch->gathered = NULL;
        if (piece.end - fetch->recorded >= RECORD_EVERY)
            record_progress(fetch, piece.end);
        from += step;
        length -= step;
    }
    return true;
}

bool fetch_write_gathered(void *context, struct error *error) {
    return write_gathered(context, false, error);
}

bool fetch_take_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    struct fetch *fetch = context;
    if (fetch->bytes == 0) {
        fetch->began_ms = clock_ms();
        fetch->recorded = fetch->span->at;
    }
    fetch->bytes += length;
    for (const char *from = bytes; length;) {
        const size_t enough = fetch->wrote ? FLIGHT_BUFFER : FIRST_WRITE;
        if (!fetch->gathered && !take_buffer(fetch, error))
            return false;
        size_t left = enough - fetch->gathered_length;
        size_t step = length < left ? length : left;
        memcpy(fetch->gathered + fetch->gathered_length, from, step);
        fetch->gathered_length += step;
        from += step;
        length -= step;
        if (fetch->gathered_length == enough && !write_gathered(fetch, true, error))
            return false;
    }
    return true;
}

bool fetch_flush(struct fetch *fetch, struct error *error) {
    bool ok = fetch_write_gathered(fetch, error);
    if (fetch->bytes && fetch->recorded < fetch->span->at)
        record_progress(fetch, fetch->span->at);
    return ok;
}
