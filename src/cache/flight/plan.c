/*
 * Who fetches what next.
 *
 * A reader that stands still comes first, then what readers will want soon, then the rest of the
 * blob from its beginning. A span is about a second's worth of one connection: long enough that
 * asking costs little, short enough that a reader's range never waits long behind it and that all
 * connections end together.
 */
#include <utlist.h>
#include "base/clock.h"
#include "cache/flight/flight.h"

enum {
    FIRST_SPAN = 4 << 20, /* the first request, whose answer tells the size: one request for most */
    LEAST_SPAN = 1 << 20,
    MOST_SPAN = 16 << 20,
    FAR_SECONDS = 2, /* a span ends before a reader that would wait longer for its front */
};

bool flight_is_complete(const struct flight *flight) {
    return flight->size_known && extents_run_end(&flight->present, 0) >= flight->size;
}

static const struct span *span_holding(const struct flight *flight, uint64_t offset) {
    for (size_t i = 0; i < FLIGHT_SPANS; i++) {
        const struct span *span = &flight->spans[i];
        if (span->busy && span->at <= offset && offset < span->end)
            return span;
    }
    return NULL;
}

/* The first stretch in [from, limit) that is neither present nor being fetched. */
static bool free_gap(const struct flight *flight, uint64_t from, uint64_t limit,
                     struct extent *gap) {
    while (extents_gap(&flight->present, from, limit, gap)) {
        const struct span *holder = span_holding(flight, gap->start);
        if (!holder) {
            for (size_t i = 0; i < FLIGHT_SPANS; i++) {
                const struct span *span = &flight->spans[i];
                if (span->busy && span->at > gap->start && span->at < gap->end)
                    gap->end = span->at;
            }
            return true;
        }
        from = holder->end;
    }
    return false;
}

static unsigned busy_spans(const struct flight *flight) {
    unsigned busy = 0;
    for (size_t i = 0; i < FLIGHT_SPANS; i++)
        busy += flight->spans[i].busy;
    return busy;
}

static uint64_t span_limit(const struct flight *flight) {
    uint64_t present = extents_total(&flight->present);
    uint64_t left = flight->size > present ? flight->size - present : 0;
    unsigned connections = flight->allowed ? flight->allowed : 1;
    uint64_t limit = flight->rate > 0 ? (uint64_t)flight->rate : 2 * LEAST_SPAN;
    if (limit > left / (2 * connections)) /* the last spans shrink, so that all end together */
        limit = left / (2 * connections);
    if (limit > MOST_SPAN)
        limit = MOST_SPAN;
    return limit < LEAST_SPAN ? LEAST_SPAN : limit;
}

uint64_t flight_front(const struct flight *flight, const struct flight_reader *reader) {
    bool hashed_only = flight->passing.on && reader->whole && flight->hashed < reader->at;
    return hashed_only ? flight->hashed : reader->at;
}

/* The gap for the reader that needs one most: who stands nearest to one, and of those who stand
 * still alike the one that wants least, so that a range goes before a whole body. */
static bool reader_gap(const struct flight *flight, struct extent *best) {
    bool found = false;
    uint64_t least = UINT64_MAX, least_wish = UINT64_MAX;
    const struct flight_reader *reader;
    DL_FOREACH (flight->readers, reader) {
        struct extent gap;
        uint64_t end = reader->end < flight->size ? reader->end : flight->size;
        uint64_t at = flight_front(flight, reader);
        if (at < end && free_gap(flight, at, end, &gap) &&
            (gap.start - at < least || (gap.start - at == least && end - at < least_wish))) {
            least = gap.start - at;
            least_wish = end - at;
            *best = gap;
            found = true;
        }
    }
    return found;
}

static bool plan_first(const struct flight *flight, struct plan *plan) {
    const struct blob_range *range = &flight->first_range;
    if (busy_spans(flight))
        return false; /* its answer will tell the size */
    *plan = (struct plan){.start = extents_run_end(&flight->present, 0)};
    plan->end = plan->start + FIRST_SPAN;
    if (flight->answered)
        return true; /* a stream of unknown length that broke: on from where it is */
    switch (range->kind) {
    case BLOB_WHOLE:
        break;
    case BLOB_FROM:
        *plan = (struct plan){.start = range->first, .end = range->first + FIRST_SPAN};
        break;
    case BLOB_FROM_TO:
        *plan = (struct plan){.start = range->first, .end = range->last + 1};
        if (plan->end - plan->start > MOST_SPAN)
            plan->end = plan->start + MOST_SPAN;
        break;
    case BLOB_LAST:
        *plan = (struct plan){.suffix = true,
                              .end = range->count < MOST_SPAN ? range->count : MOST_SPAN};
        break;
    }
    return true;
}

bool flight_plan(const struct flight *flight, struct plan *plan) {
    if (flight->state != FLIGHT_MOVING || flight_is_complete(flight))
        return false;
    if (flight->passing.on && flight->reader_count == 0)
        return false; /* nobody will have it */
    if (flight->plain) {
        *plan = (struct plan){.plain = true, .end = UINT64_MAX};
        return busy_spans(flight) == 0;
    }
    if (!flight->size_known)
        return plan_first(flight, plan);
    struct extent gap;
    if (!reader_gap(flight, &gap) && !(flight->fill && free_gap(flight, 0, flight->size, &gap)))
        return false;
    uint64_t limit = span_limit(flight);
    *plan = (struct plan){.start = gap.start, .end = gap.end};
    /* Not leaving a crumb behind: up to half a span more is taken along. */
    if (gap.end - gap.start > limit + limit / 2)
        plan->end = gap.start + limit;
    return true;
}

/* A reader that would wait long for a byte far behind a span's front: the span ends before it. */
static void shorten_for_readers(struct flight *flight) {
    struct flight_reader *reader;
    DL_FOREACH (flight->readers, reader) {
        if (extents_run_end(&flight->present, reader->at) > reader->at || reader->at >= reader->end)
            continue;
        struct span *span = (struct span *)span_holding(flight, reader->at);
        if (!span || span->end == UINT64_MAX || reader->at < span->writing_to)
            continue;
        double ahead = (double)(reader->at - span->at);
        double seconds = (double)(clock_ms() - span->since_ms) / 1000 + 0.001;
        double rate = (double)(span->at - span->start) / seconds;
        if (ahead > LEAST_SPAN && ahead > rate * FAR_SECONDS)
            span->end = reader->at;
    }
}

bool flight_wants_fetcher(struct flight *flight, struct plan *plan) {
    if (flight->size_known && !flight->plain && !flight->passing.on)
        shorten_for_readers(flight);
    if (!flight_plan(flight, plan))
        return false;
    if (flight->fetchers == 0)
        return true;
    if (flight->plain || !flight->size_known || flight->failures)
        return false; /* an upstream that fails is not asked by more of us at once */
    return flight->fetchers < flight->allowed;
}
