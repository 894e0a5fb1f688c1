/*
 * Which span is fetched next.
 *
 * First come the bytes for a reader that has nothing to send, then the bytes that readers will want
 * soon, then the rest of the blob from its beginning. A span is about as much as one connection
 * brings in a second: long enough that a request costs little, and short enough that a reader's
 * range never waits long behind it and that all connections end together.
 */
#include <utlist.h>
#include "base/clock.h"
#include "cache/flight/flight_private.h"

enum {
    FIRST_SPAN = 4 << 20, /* the first request, whose head tells the size; the only request for most
                             blobs */
    LEAST_SPAN = 1 << 20,
    MOST_SPAN = 16 << 20,
    /* Of a blob that other replicas follow. They have what comes before the first gap, and if this
     * replica dies, what is behind the gap is fetched again. */
    FOLLOWED_SPAN = 8 << 20,
    /* A request under way is cut before a byte for which a reader would wait longer. */
    FAR_SECONDS = 8,
    WATCH_SECONDS = 2, /* but not before its rate is known */
};

/* The first stretch in [from, limit) that is neither present nor being fetched. `beside`: even one
 * that is being fetched. */
static bool free_gap(struct flight *flight, uint64_t from, uint64_t limit, bool beside,
                     struct extent *gap) REQUIRES(flight->state_lock) {
    while (extents_gap(&flight->body.present, from, limit, gap)) {
        if (beside)
            return true;
        const struct span *holder = spans_holding(&flight->spans, gap->start);
        if (!holder) {
            gap->end = spans_next(&flight->spans, gap->start, gap->end);
            return true;
        }
        from = holder->end;
    }
    return false;
}

/* Whether a reader wants a part of the blob. */
static bool wants_range(struct flight *flight) REQUIRES(flight->state_lock) {
    const struct flight_reader *reader;
    DL_FOREACH (flight->readers.list, reader) {
        if (!reader->undecided && !reader->whole)
            return true;
    }
    return false;
}

/* A replica sends a whole blob over one connection, because it comes to the replica in order. */
unsigned flight_allowed(struct flight *flight) {
    const struct place *place = sources_place(&flight->sources);
    unsigned allowed = place->kind->allowed(place);
    if (place_is_replica(place) && !wants_range(flight))
        return 1;
    return allowed < flight->spans.allowed ? allowed : flight->spans.allowed;
}

/* How long a span may be. */
static uint64_t span_limit(struct flight *flight) REQUIRES(flight->state_lock) {
    const struct spans *spans = &flight->spans;
    uint64_t present = extents_total(&flight->body.present), size = flight->body.size;
    uint64_t left = size > present ? size - present : 0;
    unsigned connections = flight_allowed(flight);
    const struct place *place = sources_place(&flight->sources);
    if (place->kind->most_span)
        return place->kind->most_span;
    uint64_t limit = spans->rate > 0 ? (uint64_t)spans->rate : 2 * LEAST_SPAN;
    if (limit > left / (2 * connections)) /* the last spans shrink, so that all end together */
        limit = left / (2 * connections);
    if (limit > MOST_SPAN)
        limit = MOST_SPAN;
    if (flight->sources.course.for_replica && limit > FOLLOWED_SPAN)
        limit = FOLLOWED_SPAN;
    return limit < LEAST_SPAN ? LEAST_SPAN : limit;
}

/*
 * The gap of the reader that needs one most: of the reader whose gap is nearest to its next byte.
 * Of readers that are equally near, the one that wants the fewest bytes, so that a range goes
 * before a whole blob.
 */
static bool reader_gap(struct flight *flight, bool beside, struct extent *best)
    REQUIRES(flight->state_lock) {
    const struct body *body = &flight->body;
    bool found = false;
    uint64_t nearest = UINT64_MAX, least_wanted = UINT64_MAX;
    const struct flight_reader *reader;
    DL_FOREACH (flight->readers.list, reader) {
        struct extent gap;
        uint64_t end = reader->end < body->size ? reader->end : body->size;
        uint64_t at = reader_front(reader, body);
        if (at >= end || !free_gap(flight, at, end, beside, &gap))
            continue;
        uint64_t distance = gap.start - at, wanted = end - at;
        if (distance < nearest || (distance == nearest && wanted < least_wanted)) {
            nearest = distance;
            least_wanted = wanted;
            *best = gap;
            found = true;
        }
    }
    return found;
}

/* The span of a flight whose size is not known. The head of its response will tell the size. */
static void plan_first(struct flight *flight, struct plan *plan) REQUIRES(flight->state_lock) {
    const struct blob_range *range = &flight->readers.first;
    const uint64_t own = sources_place(&flight->sources)->kind->first_span;
    const uint64_t first_span = own ? own : FIRST_SPAN;
    *plan = (struct plan){.start = extents_run_end(&flight->body.present, 0)};
    plan->end = plan->start + first_span;
    if (flight->answered)
        return; /* a stream of unknown length broke: it continues where it broke */
    switch (range->kind) {
    case BLOB_WHOLE:
        break;
    case BLOB_FROM:
        *plan = (struct plan){.start = range->first, .end = range->first + first_span};
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
}

/* The span of a flight whose size is known. */
static bool plan_gap(struct flight *flight, bool beside, struct plan *plan)
    REQUIRES(flight->state_lock) {
    struct extent gap;
    if (!reader_gap(flight, beside, &gap) &&
        !(flight->readers.fill && free_gap(flight, 0, flight->body.size, beside, &gap)))
        return false;
    uint64_t limit = span_limit(flight);
    *plan = (struct plan){.start = gap.start, .end = gap.end};
    /* Extend the span by up to half if that finishes the gap. */
    if (gap.end - gap.start > limit + limit / 2)
        plan->end = gap.start + limit;
    return true;
}

/* `beside`: whatever other spans are getting. */
static bool make_plan(struct flight *flight, bool beside, struct plan *plan)
    REQUIRES(flight->state_lock) {
    const struct body *body = &flight->body;
    if (flight->state != FLIGHT_MOVING || body_is_complete(body))
        return false;
    if (body->passing.on && flight->readers.count == 0)
        return false; /* nobody would get the bytes */
    if (!flight->spans.plain && body->size_known)
        return plan_gap(flight, beside, plan);
    if (!beside && spans_busy(&flight->spans) > 0)
        return false; /* one stream, whose head or end tells the size */
    if (flight->spans.plain)
        *plan = (struct plan){.plain = true, .end = UINT64_MAX};
    else
        plan_first(flight, plan);
    return true;
}

bool flight_plan(struct flight *flight, struct plan *plan) {
    if (!make_plan(flight, false, plan))
        return false;
    plan->source = flight->sources.current;
    return true;
}

/* Nothing is asked beside a silence that is not the source's: readers that are slow, a disk that
 * is, or nobody who wants bytes. */
bool flight_wants_contender(struct flight *flight, struct plan *plan) {
    const struct spans *spans = &flight->spans;
    struct sources *sources = &flight->sources;
    if (sources->count < 2 || spans_counted_on(spans) == 0 || spans->blocked > 0 ||
        atomic_load(&flight->abandoned) || spans_write(spans))
        return false;
    const int64_t now = clock_ms();
    const struct flight_source *source = sources_contender(sources, spans, flight->silent_ms);
    if (!source || now - flight->silent_ms < FLIGHT_SILENT_MS)
        return false;
    for (unsigned i = 0; i < sources->count; i++) {
        if (now - sources->at[i].contended_ms < FLIGHT_SILENT_MS)
            return false; /* the last one has its turn first */
    }
    if (!make_plan(flight, true, plan))
        return false;
    plan->source = (unsigned)(source - sources->at);
    plan->contends = true;
    return true;
}

/* Whether the span should end at `offset`, where a reader waits. A request that has been sent is
 * cut only if the reader would wait very long, because bytes that are under way are then sent
 * twice. */
static bool is_too_far(const struct span *span, uint64_t offset) {
    double ahead = (double)(offset - span->at);
    double seconds = (double)(clock_ms() - span->since_ms) / 1000;
    if (ahead <= LEAST_SPAN)
        return false;
    if (!span->sent)
        return true;
    return seconds >= WATCH_SECONDS &&
           ahead > (double)(span->at - span->start) / seconds * FAR_SECONDS;
}

/* Cuts a span before a reader's next byte if the reader would wait long for it. */
static void shorten_for_readers(struct flight *flight) REQUIRES(flight->state_lock) {
    struct flight_reader *reader;
    DL_FOREACH (flight->readers.list, reader) {
        if (extents_run_end(&flight->body.present, reader->at) > reader->at ||
            reader->at >= reader->end)
            continue;
        struct span *span = spans_holding(&flight->spans, reader->at);
        if (span && span->end != UINT64_MAX && reader->at >= span->writing_to &&
            is_too_far(span, reader->at))
            span->end = reader->at;
    }
}

bool flight_wants_fetcher(struct flight *flight, struct plan *plan) {
    const struct spans *spans = &flight->spans;
    if (flight->body.size_known && !spans->plain && !flight->body.passing.on)
        shorten_for_readers(flight);
    if (!flight_plan(flight, plan))
        return false;
    const unsigned at_work = spans_counted_on(spans);
    if (at_work == 0)
        return true;
    if (spans->plain || !flight->body.size_known || flight->failures)
        return false; /* a place that fails is not asked by more fetchers at once */
    return at_work < flight_allowed(flight);
}
