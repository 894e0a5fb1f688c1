/*
 * Fetchers: the threads that bring a flight's bytes in, one upstream connection each.
 *
 * A fetcher takes a span, asks for it, writes what comes and takes the next, until there is nothing
 * left to take. What goes wrong is answered in one place, after_failure(): try again from the
 * missing byte, go to another source, or end the flight.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "cache/flight/flight.h"

enum {
    RECORD_EVERY = 1 << 20, /* bytes between two records of progress for after a crash */
    BACKOFF_FIRST_MS = 100,
    BACKOFF_MOST_MS = 5000,
    COMPARE_SIZE = 16 << 10,
    GATHER = 128 << 10,    /* bytes written at once while more is here already */
    FIRST_BYTE_MS = 25000, /* upstream_settings.first_byte_timeout_ms when not set */
};

/* One request of one fetcher. */
struct fetch {
    struct flight *flight;
    struct span *span;
    struct flight_source *source;
    const struct upstream_target *target; /* upstream_perform() fills it before the head */
    bool plain;                           /* asked without a range */
    uint64_t recorded;                    /* the span is recorded up to here */
    char *gathered;                       /* GATHER bytes: what has come but is not written yet */
    size_t gathered_length;
    int64_t began_ms; /* first byte */
    uint64_t bytes;
};

struct fetcher {
    struct flight *flight;
    struct span *span; /* reserved by whoever started the fetcher */
    struct plan plan;
};

void flight_fail(struct flight *flight, const struct error *error) {
    if (flight->state != FLIGHT_MOVING)
        return;
    flight->state = FLIGHT_FAILED;
    flight->failure = *error;
    pthread_cond_broadcast(&flight->changed);
}

/* ---- the head ---- */

/* From now on one plain stream: the spans of others end where they are. state_lock held. */
static void become_plain(struct flight *flight, const struct span *except) {
    flight->plain = true;
    for (size_t i = 0; i < FLIGHT_SPANS; i++) {
        struct span *span = &flight->spans[i];
        if (span->busy && span != except)
            span->end = span->writing_to;
    }
}

/* state_lock held. */
static bool learn_size(struct flight *flight, uint64_t size, struct error *error) {
    if (flight->size_known && flight->size != size)
        return error_set(error, ERROR_CORRUPT,
                         "upstream %s: the blob's size changed from %llu to %llu bytes in "
                         "mid-transfer",
                         upstream_host(flight->sources[flight->source].repository.upstream),
                         (unsigned long long)flight->size, (unsigned long long)size);
    const struct extents *present = &flight->present;
    if (present->count && present->at[present->count - 1].end > size)
        return error_set(error, ERROR_CORRUPT, "the blob is shorter than what has come of it");
    flight->size_known = true;
    flight->size = size;
    return true;
}

/* Takes a head's word on what follows. state_lock held. */
static bool accept_head(struct fetch *fetch, const struct upstream_head *head,
                        struct error *error) {
    struct flight *flight = fetch->flight;
    struct span *span = fetch->span;
    if (head->has_total && !learn_size(flight, head->total, error))
        return false;
    if (head->status == 416) /* a reader's range lies outside; its size is what we came for */
        return true;
    if (head->has_range) {
        if (!head->has_total)
            return error_set(error, ERROR_CORRUPT, "the answer to a range tells no total size");
        if (head->etag[0] && flight->etag[0] && strcmp(head->etag, flight->etag) != 0) {
            become_plain(flight, NULL);
            flight->etag[0] = '\0';
            return error_set(error, ERROR_CORRUPT, "the blob's ETag changed in mid-transfer");
        }
        if (!flight->etag[0])
            memcpy(flight->etag, head->etag, sizeof flight->etag);
        uint64_t end = head->range_last + 1;
        if (span->start != head->range_first || span->end > end) {
            /* A suffix, or a range beyond the end: now its place is known. */
            span->start = span->at = span->writing_to = head->range_first;
            span->end = end;
        }
        return true;
    }
    /* 200: everything from the first byte, whatever was asked for. */
    if (!fetch->plain && !(flight->size_known && flight->size <= span->end))
        become_plain(flight, span);
    span->start = span->at = span->writing_to = 0;
    span->end = flight->size_known ? flight->size : UINT64_MAX;
    return true;
}

static bool on_head(void *context, const struct upstream_head *head, struct error *error) {
    struct fetch *fetch = context;
    struct flight *flight = fetch->flight;
    struct flight_source *source = fetch->source;
    pthread_mutex_lock(&flight->state_lock);
    bool ok = flight->state == FLIGHT_MOVING || error_set(error, ERROR_CLOSED, "flight ended");
    bool was_known = flight->size_known;
    bool first = source->state != SOURCE_ANSWERED;
    ok = ok && accept_head(fetch, head, error);
    bool new_size = ok && flight->size_known && !was_known;
    struct error why;
    if (new_size && !space_can_hold(flight->flights->space, flight->size, &why))
        flight_pass(flight, UNKEPT_TOO_LARGE, &why);
    uint64_t size = flight->size;
    if (ok) {
        source->state = SOURCE_ANSWERED;
        flight->answered = true;
        if (!flight->target.url && fetch->target->url) /* where the other fetchers go at once */
            flight->target =
                (struct upstream_target){strdup(fetch->target->url), fetch->target->location};
    }
    pthread_mutex_unlock(&flight->state_lock);
    if (!ok)
        return false;

    /* Before others' bytes are recorded. A lost link costs a HEAD, a lost size a fresh start. */
    struct error ignored;
    if (first)
        store_link_blob(flight->flights->store, upstream_host(source->repository.upstream),
                        source->repository.name.path, &flight->digest, &ignored);
    if (new_size && flight->partial)
        partial_set_size(flight->partial, size, &ignored);

    pthread_mutex_lock(&flight->state_lock);
    flight_staff(flight);
    pthread_cond_broadcast(&flight->changed);
    pthread_mutex_unlock(&flight->state_lock);
    return true;
}

/* ---- the bytes ---- */

static bool write_all(int fd, const char *bytes, uint64_t length, uint64_t offset,
                      struct error *error) {
    while (length) {
        ssize_t written = pwrite(fd, bytes, length, (off_t)offset);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return error_set_errno(error, errno, "writing a partial blob");
        bytes += written;
        offset += (uint64_t)written;
        length -= (uint64_t)written;
    }
    return true;
}

/* What is present already must be what upstream sends again. */
static bool compare(int fd, const char *bytes, uint64_t length, uint64_t offset,
                    struct error *error) {
    cleanup_free char *held = malloc(COMPARE_SIZE);
    if (!held)
        return error_set(error, ERROR_MEMORY, "out of memory");
    while (length) {
        size_t step = length < COMPARE_SIZE ? length : COMPARE_SIZE;
        ssize_t got = pread(fd, held, step, (off_t)offset);
        if (got <= 0)
            return error_set_errno(error, got < 0 ? errno : EIO, "reading a partial blob");
        if (memcmp(held, bytes, (size_t)got) != 0)
            return error_set(error, ERROR_CORRUPT, "upstream sent other bytes the second time");
        bytes += got;
        offset += (uint64_t)got;
        length -= (uint64_t)got;
    }
    return true;
}

/* Whether another fetcher writes into [start, end) just now. state_lock held. */
static bool others_write(const struct flight *flight, const struct span *self, uint64_t start,
                         uint64_t end) {
    for (size_t i = 0; i < FLIGHT_SPANS; i++) {
        const struct span *span = &flight->spans[i];
        if (span->busy && span != self && span->at < end && start < span->writing_to)
            return true;
    }
    return false;
}

/* The next of the bytes that came. */
struct piece {
    uint64_t start, end;
    bool present; /* here already */
    int fd;       /* where to write it, or to compare; -1: it was here and is gone again */
};

/* Waits until a fetcher may write [at, at + length). state_lock held. */
static void await_turn(const struct fetch *fetch, size_t length) {
    struct flight *flight = fetch->flight;
    const struct span *span = fetch->span;
    while (flight->state == FLIGHT_MOVING) {
        bool may = flight_may_write(flight, span->at, span->at + length);
        bool nobody = flight->passing.on && flight->reader_count == 0;
        if (!may && !flight->plain && flight_is_wanted_elsewhere(flight))
            fetch->span->end = span->at; /* goes where somebody waits */
        if (nobody || span->at >= span->end ||
            (may && !others_write(flight, span, span->at, span->at + length)))
            break;
        pthread_cond_wait(&flight->changed, &flight->state_lock);
        if (!may)
            flight->progress_ms = clock_ms(); /* readers held it up, not upstream */
    }
}

/*
 * Takes the next piece of `length` bytes that came; an absent one is claimed for writing. False
 * when there is nothing (more) to take: the flight has ended, or the span was shortened for
 * somebody else.
 */
static bool claim(struct fetch *fetch, size_t length, struct piece *piece, struct error *error) {
    struct flight *flight = fetch->flight;
    struct span *span = fetch->span;
    pthread_mutex_lock(&flight->state_lock);
    await_turn(fetch, length);
    uint64_t limit = span->at + length < span->end ? span->at + length : span->end;
    bool nobody = flight->passing.on && flight->reader_count == 0;
    bool more = flight->state == FLIGHT_MOVING && span->at < limit && !nobody;
    if (more) {
        uint64_t run_end = extents_run_end(&flight->present, span->at);
        struct extent gap;
        *piece = (struct piece){.start = span->at, .end = limit, .present = run_end > span->at};
        if (piece->present) {
            uint64_t medium_end;
            piece->fd = flight_medium(flight, span->at, &medium_end);
            run_end = run_end < medium_end ? run_end : medium_end;
            piece->end = run_end < limit ? run_end : limit;
            if (flight->passing.on && piece->fd == flight->passing.memory)
                piece->fd = -1; /* it may be forgotten at any time */
        } else {
            piece->fd = flight_sink(flight);
            if (extents_gap(&flight->present, span->at, limit, &gap))
                piece->end = gap.end;
            span->writing_to = piece->end;
        }
    }
    pthread_mutex_unlock(&flight->state_lock);
    return more || error_set(error, ERROR_CLOSED, "nothing left to take");
}

static void note_progress(struct fetch *fetch, const struct piece *piece) {
    struct flight *flight = fetch->flight;
    struct span *span = fetch->span;
    int64_t now = clock_ms();
    pthread_mutex_lock(&flight->state_lock);
    if (!piece->present && !flight_note_written(flight, piece->fd, piece->start, piece->end)) {
        struct error error;
        error_set(&error, ERROR_MEMORY, "out of memory");
        flight_fail(flight, &error);
    }
    span->at = span->writing_to = piece->end;
    if (!piece->present) { /* what came a second time is no progress */
        flight->progress_ms = now;
        flight->failures = 0;
    }
    pthread_cond_broadcast(&flight->changed);
    pthread_mutex_unlock(&flight->state_lock);
}

/* The disk did not take a piece: from now on the blob is passed through, unless deleting something
 * helps. */
static bool write_elsewhere(struct fetch *fetch, const char *bytes, struct piece *piece,
                            struct error *error) {
    struct flight *flight = fetch->flight;
    uint64_t length = piece->end - piece->start;
    if (error->kind == ERROR_NO_SPACE && piece->fd == flight->fd) {
        pthread_mutex_lock(&flight->state_lock);
        uint64_t present = extents_total(&flight->present);
        uint64_t missing =
            flight->size_known && flight->size > present ? flight->size - present : 0;
        pthread_mutex_unlock(&flight->state_lock);
        if (space_free_after_full(flight->flights->space, missing > length ? missing : length) &&
            write_all(piece->fd, bytes, length, piece->start, error))
            return true;
    }
    if (piece->fd != flight->fd || (error->kind != ERROR_NO_SPACE && error->kind != ERROR_IO))
        return false;
    pthread_mutex_lock(&flight->state_lock);
    flight_pass(flight, space_unkept_reason(error), error);
    piece->fd = flight_sink(flight);
    bool passes = flight->passing.on;
    pthread_mutex_unlock(&flight->state_lock);
    return passes && write_all(piece->fd, bytes, length, piece->start, error);
}

/* Notes for after a crash that the span is written up to `end`. */
static void record(struct fetch *fetch, uint64_t end) {
    struct flight *flight = fetch->flight;
    struct error ignored; /* a lost record costs bytes after a crash, nothing now */
    pthread_mutex_lock(&flight->state_lock);
    bool on_disk = flight->partial && !flight->passing.on;
    pthread_mutex_unlock(&flight->state_lock);
    if (on_disk)
        partial_record(flight->partial, fetch->recorded, end, &ignored);
    fetch->recorded = end;
}

/* Writes what was gathered, and lets readers and the driver know. */
static bool write_gathered(void *context, struct error *error) {
    struct fetch *fetch = context;
    const char *from = fetch->gathered;
    size_t length = fetch->gathered_length;
    fetch->gathered_length = 0;
    while (length) {
        struct piece piece = {0};
        if (!claim(fetch, length, &piece, error))
            return false;
        uint64_t taken = piece.end - piece.start;
        bool ok = !piece.present
                      ? write_all(piece.fd, from, taken, piece.start, error) ||
                            write_elsewhere(fetch, from, &piece, error)
                      : piece.fd < 0 || compare(piece.fd, from, taken, piece.start, error);
        if (!ok)
            return false;
        note_progress(fetch, &piece);
        if (piece.end - fetch->recorded >= RECORD_EVERY)
            record(fetch, piece.end);
        from += taken;
        length -= taken;
    }
    return true;
}

/* libcurl hands on 16 KiB at most. Written one by one they would stay as many small folios in the
 * page cache, which every later sendfile pays for, and wake everybody as often. */
static bool on_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    struct fetch *fetch = context;
    metric_add(fetch->flight->flights->pulled_bytes, (int64_t)length);
    if (fetch->bytes == 0) {
        fetch->began_ms = clock_ms();
        fetch->recorded = fetch->span->at;
    }
    fetch->bytes += length;
    for (const char *from = bytes; length;) {
        size_t room = GATHER - fetch->gathered_length;
        size_t step = length < room ? length : room;
        memcpy(fetch->gathered + fetch->gathered_length, from, step);
        fetch->gathered_length += step;
        from += step;
        length -= step;
        if (fetch->gathered_length == GATHER && !write_gathered(fetch, error))
            return false;
    }
    return true;
}

/* ---- one span, and what follows from how it ended ---- */

/* state_lock held. */
static struct span *reserve(struct flight *flight, const struct plan *plan) {
    for (size_t i = 0; i < FLIGHT_SPANS; i++) {
        struct span *span = &flight->spans[i];
        if (span->busy)
            continue;
        *span = (struct span){.busy = true, .since_ms = clock_ms(), .end = plan->end};
        if (!plan->suffix)
            span->start = span->at = span->writing_to = plan->start;
        return span;
    }
    return NULL;
}

static void learn_rate(struct fetch *fetch) {
    struct flight *flight = fetch->flight;
    int64_t ms = clock_ms() - fetch->began_ms;
    if (fetch->bytes < 256 << 10)
        return; /* too few to tell a rate from a buffer */
    double rate = (double)fetch->bytes * 1000 / (double)(ms > 0 ? ms : 1);
    flight->rate = flight->rate > 0 ? (flight->rate + rate) / 2 : rate;
}

/* When the first answer must be here. Each place that can be asked gets its share of the time, so
 * that a silent one leaves some for the next. */
static int64_t first_deadline(const struct flight *flight,
                              const struct upstream_settings *settings) {
    int64_t patience =
        settings->first_byte_timeout_ms ? settings->first_byte_timeout_ms : FIRST_BYTE_MS;
    unsigned places = upstream_places(flight->sources[flight->source].repository.upstream);
    return flight->started_ms + patience * (flight->location + 1) / places;
}

static bool fetch_span(struct flight *flight, struct span *span, const struct plan *plan,
                       struct error *error) {
    pthread_mutex_lock(&flight->state_lock);
    struct flight_source *source = &flight->sources[flight->source];
    struct upstream *upstream = source->repository.upstream;
    struct upstream_target target = {flight->target.url ? strdup(flight->target.url) : NULL,
                                     flight->target.location};
    bool answered = flight->answered;
    unsigned location = flight->location;
    int64_t deadline = answered ? 0 : first_deadline(flight, upstream_settings(upstream));
    pthread_mutex_unlock(&flight->state_lock);

    char reference[DIGEST_STRING_SIZE];
    struct fetch fetch = {
        .flight = flight, .span = span, .source = source, .target = &target, .plain = plan->plain};
    const struct upstream_request request = {
        .what = UPSTREAM_BLOB,
        .repository = source->repository.name.path,
        .reference = digest_format(&flight->digest, reference),
        .has_range = !plan->plain,
        .range_first = plan->suffix ? 0 : plan->start,
        .range_last = plan->end - 1,
        .range_suffix = plan->suffix ? plan->end : 0,
        .location = location,
        .target = &target,
        .attempts = answered ? 1 : 0,
        .deadline_ms = deadline,
        .stop = &flight->flights->stopping,
    };
    const struct upstream_sink sink = {&fetch, on_head, on_bytes, write_gathered};
    fetch.gathered = malloc(GATHER);
    bool ok = fetch.gathered ? upstream_perform(upstream, &request, &sink, error)
                             : error_set(error, ERROR_MEMORY, "no memory to fetch a blob");
    struct error late; /* the cause that stopped the request is the one to tell */
    if (fetch.gathered_length && !write_gathered(&fetch, ok ? error : &late))
        ok = false;
    free(fetch.gathered);
    if (fetch.recorded < span->at && fetch.bytes)
        record(&fetch, span->at);

    pthread_mutex_lock(&flight->state_lock);
    learn_rate(&fetch);
    if (ok && span->end == UINT64_MAX && !flight->size_known) {
        ok = learn_size(flight, span->at, error); /* a stream of unknown length has ended */
        pthread_cond_broadcast(&flight->changed);
    }
    /* Shortened for somebody else, or cut after its last byte: nothing is missing of it. */
    if (!ok && error->kind != ERROR_CORRUPT && fetch.bytes && span->at >= span->end)
        ok = true;
    /* An upstream that refuses a range of what it has: no ranges then. */
    if (!ok && error->kind == ERROR_RANGE && !plan->plain &&
        (!flight->size_known || (!plan->suffix && plan->start < flight->size))) {
        become_plain(flight, NULL);
        error->kind = ERROR_CLOSED;
    }
    if (location == flight->location) {
        upstream_target_free(&flight->target);
        flight->target = target;
    } else {
        upstream_target_free(&target);
    }
    span->busy = false;
    pthread_mutex_unlock(&flight->state_lock);
    return ok;
}

/* The next place to ask: a fallback of this upstream, then another source. state_lock held. */
static bool next_place(struct flight *flight, const struct error *error) {
    struct flight_source *source = &flight->sources[flight->source];
    bool refused = error->kind == ERROR_NOT_FOUND || error->kind == ERROR_DENIED;
    const char *const *fallbacks = upstream_settings(source->repository.upstream)->fallbacks;
    upstream_target_free(&flight->target);
    flight->etag[0] = '\0'; /* another place has another */
    if (!refused && fallbacks && fallbacks[flight->location]) {
        flight->location++;
        return true;
    }
    if (refused && source->state == SOURCE_ASKED) {
        source->state = SOURCE_REFUSED;
        source->refusal = *error;
    }
    flight->location = 0;
    if (flight->source + 1 < flight->source_count) {
        flight->source++;
        return true;
    }
    return false;
}

static void log_retry(const struct flight *flight, const struct error *error, int64_t wait_ms) {
    char digest[DIGEST_STRING_SIZE];
    log_at(LOG_WARN, "blob transfer interrupted; continuing",
           LOG_STRING("digest", digest_format(&flight->digest, digest)),
           LOG_STRING("error", error->text), LOG_STRING("kind", error_kind_name(error->kind)),
           LOG_NUMBER("present_bytes", extents_total(&flight->present)),
           LOG_NUMBER("retry_in_ms", wait_ms));
}

static void wait_backoff(struct flight *flight, int64_t ms) {
    int64_t until = clock_ms() + ms, now;
    while (flight->state == FLIGHT_MOVING && (now = clock_ms()) < until) {
        struct timespec deadline = clock_deadline(until - now);
        pthread_cond_clockwait(&flight->changed, &flight->state_lock, CLOCK_MONOTONIC, &deadline);
    }
}

/*
 * A span failed, asked for plainly or by range. Decides whether this fetcher goes on (true) or
 * ends; may end the flight. state_lock held.
 */
static bool after_failure(struct flight *flight, bool was_plain, struct error *error) {
    struct flights *flights = flight->flights;
    if (flight->state != FLIGHT_MOVING)
        return false;
    if (atomic_load(&flights->stopping) || error->kind == ERROR_NO_SPACE ||
        error->kind == ERROR_IO || error->kind == ERROR_MEMORY) {
        flight_fail(flight, error);
        return false;
    }
    if (error->kind == ERROR_CLOSED)
        return true; /* the span was taken back: plan anew */
    if (error->kind == ERROR_RANGE && flight->size_known)
        return true; /* the size is known now; who asked outside it will see that */
    flight->retries++;
    if (error->kind == ERROR_CORRUPT && was_plain) {
        /* Two truths about one blob: it starts over with the next request, elsewhere if it can. */
        if (extents_total(&flight->present) > 0 || !next_place(flight, error))
            flight_fail(flight, error);
        return flight->state == FLIGHT_MOVING;
    }
    if (error->kind == ERROR_CORRUPT) { /* ranges that contradict each other: no ranges then */
        become_plain(flight, NULL);
        return true;
    }
    bool refused = error->kind == ERROR_NOT_FOUND || error->kind == ERROR_DENIED;
    if (!flight->answered || refused) {
        /* upstream_perform() has tried several times: now elsewhere, or not at all. */
        if (!next_place(flight, error))
            flight_fail(flight, error);
        return flight->state == FLIGHT_MOVING;
    }
    if (error->kind == ERROR_RATE_LIMITED && flight->fetchers > 1) {
        flight->allowed = flight->fetchers - 1; /* upstream wants fewer of us */
        return false;
    }
    bool lost_patience = clock_ms() - flight->progress_ms > flights->patience_ms;
    if (lost_patience) {
        flight_fail(flight, error);
        return false;
    }
    if (flight->failures++ > 0 && !next_place(flight, error))
        flight->source = 0; /* round again */
    unsigned doublings = flight->failures < 7 ? flight->failures - 1 : 6;
    int64_t wait_ms = (int64_t)BACKOFF_FIRST_MS << doublings;
    if (wait_ms > BACKOFF_MOST_MS)
        wait_ms = BACKOFF_MOST_MS;
    wait_ms = wait_ms / 2 + clock_jitter((uint32_t)wait_ms);
    if (error->retry_after_s * 1000 > wait_ms)
        wait_ms = error->retry_after_s * 1000;
    log_retry(flight, error, wait_ms);
    wait_backoff(flight, wait_ms);
    return flight->state == FLIGHT_MOVING;
}

static void *run_fetcher(void *argument) {
    struct fetcher *fetcher = argument;
    struct flight *flight = fetcher->flight;
    struct flights *flights = flight->flights;
    struct span *span = fetcher->span;
    struct plan plan = fetcher->plan;
    free(fetcher);

    bool more = true;
    while (more) {
        struct error error = {0};
        bool ok = fetch_span(flight, span, &plan, &error);
        pthread_mutex_lock(&flight->state_lock);
        more = ok || after_failure(flight, plan.plain, &error);
        more = more && !atomic_load(&flights->stopping) && flight->fetchers <= flight->allowed &&
               flight_plan(flight, &plan) && (span = reserve(flight, &plan)) != NULL;
        if (!more)
            flight->fetchers--;
        pthread_cond_broadcast(&flight->changed);
        pthread_mutex_unlock(&flight->state_lock);
    }
    flight_release(flight);
    atomic_fetch_sub(&flights->connections, 1);
    atomic_fetch_sub(&flights->threads, 1);
    return NULL;
}

void flight_staff(struct flight *flight) {
    struct flights *flights = flight->flights;
    struct plan plan;
    while (flight->opened && !atomic_load(&flights->stopping) &&
           flight_wants_fetcher(flight, &plan)) {
        /* The cap holds back further connections of a flight, never its only one: that one waits
         * for its turn at the upstream. */
        if (flight->fetchers > 0 && atomic_load(&flights->connections) >= flights->max_connections)
            return;
        struct fetcher *fetcher = malloc(sizeof *fetcher);
        struct span *span = fetcher ? reserve(flight, &plan) : NULL;
        if (!span) {
            struct error error;
            error_set(&error, ERROR_MEMORY, "no memory to fetch a blob");
            if (flight->fetchers == 0)
                flight_fail(flight, &error);
            free(fetcher);
            return;
        }
        *fetcher = (struct fetcher){flight, span, plan};
        atomic_fetch_add(&flight->references, 1);
        atomic_fetch_add(&flights->connections, 1);
        atomic_fetch_add(&flights->threads, 1);
        flight->fetchers++;
        pthread_t thread;
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        int failed = pthread_create(&thread, &attributes, run_fetcher, fetcher);
        pthread_attr_destroy(&attributes);
        if (failed) {
            free(fetcher);
            span->busy = false;
            flight->fetchers--;
            atomic_fetch_sub(&flights->connections, 1);
            atomic_fetch_sub(&flights->threads, 1);
            atomic_fetch_sub(&flight->references, 1);
            struct error error;
            error_set_errno(&error, failed, "starting a thread to fetch a blob");
            if (flight->fetchers == 0)
                flight_fail(flight, &error);
            return;
        }
    }
}
