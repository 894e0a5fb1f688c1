/*
 * Fetchers: the threads that fetch a flight's bytes, one connection each.
 *
 * A fetcher takes a span, requests it from a place, writes the bytes that arrive and takes the next
 * span, until none is left. When a request fails, client/retry.h decides what the fetcher does.
 */
#include <stdlib.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "cache/flight/fetch.h"
#include "client/retry.h"

struct fetcher {
    struct flight *flight;
    struct span *span; /* reserved by the thread that started the fetcher */
    struct plan plan;
};

/* ---- one span ---- */

/* A head is accepted: other fetchers may start. */
static bool take_head(void *context, const struct place_head *head, struct error *error) {
    struct fetch *fetch = context;
    struct flight *flight = fetch->flight;
    if (!fetch_take_head(fetch, head, error))
        return false;
    lock_acquire(&flight->state_lock);
    flight_start_fetchers(flight);
    flight_wake(flight);
    lock_release(&flight->state_lock);
    return true;
}

/* When the source's first head must be here; 0: a place has answered already. Each location gets
 * its share of the time, so that a silent one leaves some for the next. The clients of a source
 * that contends wait since the flight knows of it, and it is asked later. */
static int64_t first_deadline(struct flight *flight, const struct fetch *fetch, unsigned location)
    REQUIRES(flight->state_lock) {
    const struct flight_source *source = fetch->source;
    const struct place *place = fetch->place;
    const int64_t least_ms = clock_ms() + FLIGHT_SILENT_MS;
    if (flight->answered || place == &flight->sources.bucket) /* which has its own patience */
        return 0;
    if (place_is_replica(place))
        return source->since_ms + place->first_byte_ms;
    int64_t due_ms = source->since_ms + place->first_byte_ms * (location + 1) / place->locations;
    return fetch->span->contends && due_ms < least_ms ? least_ms : due_ms;
}

/* Asks the place for the span. */
static bool request_span(struct fetch *fetch, const struct plan *plan, struct error *error) {
    struct flight *flight = fetch->flight;
    struct place *place = fetch->place;
    lock_acquire(&flight->state_lock);
    unsigned location = atomic_load(&place->location);
    const struct place_request request = {
        .digest = &flight->digest,
        .name = &fetch->source->repository.name,
        .outcome = &fetch->outcome,
        .plain = plan->plain,
        .suffix = plan->suffix,
        .start = plan->start,
        .end = plan->end,
        .location = location,
        .is_first = !flight->answered,
        .is_last = fetch->is_last_stop,
        .deadline_ms = first_deadline(flight, fetch, location),
        .stop = &flight->flights->stopping,
        .background = &flight->background,
        .abandoned = &flight->abandoned,
    };
    lock_release(&flight->state_lock);
    const struct place_sink sink = {fetch, take_head, fetch_take_bytes, fetch_write_gathered,
                                    fetch_take_turn};
    return place->kind->fetch(place, &request, &sink, error);
}

/* Frees the span when its request has ended. True: none of its bytes is missing. */
static bool end_span(struct flight *flight, const struct fetch *fetch, bool ok, struct error *error)
    REQUIRES(flight->state_lock) {
    struct span *span = fetch->span;
    span->busy = false;
    spans_learn_rate(&flight->spans, fetch->bytes, clock_ms() - fetch->began_ms);
    if (ok && span->end == UINT64_MAX && !flight->body.size_known) {
        /* A stream of unknown length has ended. */
        flight_wake(flight);
        return body_learn_size(&flight->body, span->at, fetch->place->label, error);
    }
    if (ok && span->end != UINT64_MAX && span->at < span->end)
        return error_set(error, ERROR_UNAVAILABLE, "%s: the body ended %llu bytes too early",
                         fetch->place->label, (unsigned long long)(span->end - span->at));
    /* The span was shortened, or its request was cut after the last byte. */
    bool has_all = fetch->bytes && span->at >= span->end;
    return ok || (has_all && error->kind != ERROR_CORRUPT);
}

/* ---- after a failure ---- */

static void log_retry(struct flight *flight, const struct error *error, int64_t wait_ms)
    REQUIRES(flight->state_lock) {
    char digest[DIGEST_STRING_SIZE];
    log_at(LOG_WARN, "blob transfer interrupted; continuing",
           LOG_STRING("digest", digest_format(&flight->digest, digest)),
           LOG_STRING("error", error->text), LOG_STRING("kind", error_kind_name(error->kind)),
           LOG_NUMBER("present_bytes", extents_total(&flight->body.present)),
           LOG_NUMBER("retry_in_ms", wait_ms));
}

static void log_last_stop(struct flight *flight, const struct error *error)
    REQUIRES(flight->state_lock) {
    char digest[DIGEST_STRING_SIZE];
    log_at(LOG_WARN, "no upstream gives the blob; asking the bucket once more, for longer",
           LOG_STRING("digest", digest_format(&flight->digest, digest)),
           LOG_STRING("bucket", flight->sources.bucket.label), LOG_STRING("error", error->text));
}

/* Goes to the next place. False: there is none. */
static bool go_elsewhere(struct flight *flight, bool refused, struct error *error)
    REQUIRES(flight->state_lock) {
    struct sources *sources = &flight->sources;
    flight->body.etag[0] = '\0'; /* the next place may use another ETag */
    bool goes = sources_next_place(sources, refused, error);
    spans_take_turn(&flight->spans, sources->current);
    if (goes && sources->is_last_stop)
        log_last_stop(flight, error);
    return goes;
}

/* Goes back to the first source. */
static void start_over(struct flight *flight) REQUIRES(flight->state_lock) {
    sources_start_over(&flight->sources);
    spans_take_turn(&flight->spans, flight->sources.current);
}

/* Ends this fetcher, if there are others. Fewer are started from then on, for other blobs too. */
static bool leave_to_others(struct flight *flight) REQUIRES(flight->state_lock) {
    const unsigned at_work = spans_counted_on(&flight->spans);
    if (at_work < 2)
        return false;
    struct place *place = sources_place(&flight->sources);
    place->kind->lower(place, at_work - 1);
    return true;
}

/* Waits as retry.h says. A client that comes meanwhile ends a wait for which the place has asked.
 * False: the flight has lost its patience. */
static bool wait_before_retry(struct flight *flight, struct error *error)
    REQUIRES(flight->state_lock) {
    const int64_t now = clock_ms();
    const int64_t until_ms = flight->progress_ms + flight->flights->patience_ms;
    int64_t wait_ms = retry_wait_ms(flight->failures + 1, error->retry_after_s, now, until_ms);
    if (wait_ms < 0)
        return leave_to_others(flight);
    int64_t least_ms = now + retry_backoff_ms(flight->failures + 1);
    const unsigned arrivals = flight->arrivals;
    if (flight->failures++ > 0 && !go_elsewhere(flight, false, error))
        start_over(flight);
    log_retry(flight, error, wait_ms);
    int64_t due_ms = now + wait_ms;
    while (flight->state == FLIGHT_MOVING && clock_ms() < due_ms) {
        if (atomic_load(&flight->abandoned))
            return error_set(error, ERROR_CLOSED, "the clients left");
        condition_wait_until(&flight->changed, &flight->state_lock, due_ms);
        if (flight->arrivals != arrivals && due_ms > least_ms)
            due_ms = least_ms;
    }
    return true;
}

/* What the failure of a span's request means now. */
static enum retry_failure judge(struct flight *flight, const struct fetch *fetch,
                                const struct plan *plan, const struct error *error)
    REQUIRES(flight->state_lock) {
    const struct retry_range range = {
        .plain = plan->plain,
        .suffix = plan->suffix,
        .start = plan->start,
        .size_known = flight->body.size_known,
        .size = flight->body.size,
    };
    if (atomic_load(&flight->flights->stopping))
        return FAILURE_OWN_FAULT;
    enum retry_failure failure = fetch->place->kind->judge(error);
    /* Of a flight that goes on, nothing but a span is unwanted. */
    return failure == FAILURE_UNWANTED ? FAILURE_TAKEN_BACK : retry_refine(failure, &range);
}

static enum retry_phase phase_of(const struct flight *flight) REQUIRES(flight->state_lock) {
    if (!flight->answered)
        return PHASE_UNANSWERED;
    return spans_counted_on(&flight->spans) > 1 ? PHASE_WITH_OTHERS : PHASE_ALONE;
}

/* Performs the action of the table in retry.h. False: the flight cannot go on. */
static bool act(struct flight *flight, enum retry_action action, bool refused, struct error *error)
    REQUIRES(flight->state_lock) {
    switch (action) {
    case RETRY_GIVE_UP:
        return false;
    case RETRY_NOW:
        flight->at_once++;
        break;
    case RETRY_PLAIN:
        spans_become_plain(&flight->spans, NULL);
        break;
    case RETRY_START_OVER:
        return extents_total(&flight->body.present) == 0 && go_elsewhere(flight, false, error);
    case RETRY_ELSEWHERE:
        return go_elsewhere(flight, refused, error);
    case RETRY_LATER:
        return wait_before_retry(flight, error);
    case RETRY_FEWER:
        return leave_to_others(flight);
    }
    return true;
}

/* The request went to the bucket, and the bucket is at fault: what is missing comes from upstream.
 * Bytes of an object that is wrong are never continued with right ones: the flight fails then. */
static void leave_bucket(struct flight *flight, const struct fetch *fetch, struct error *error)
    REQUIRES(flight->state_lock) {
    struct sources *sources = &flight->sources;
    const bool is_wrong = error->kind == ERROR_CORRUPT;
    /* What it lacks, forbids or has wrong does not change while other places are asked. */
    const bool may_return = error->kind == ERROR_TIMEOUT || error->kind == ERROR_UNAVAILABLE ||
                            error->kind == ERROR_RATE_LIMITED;
    if (sources->in_bucket && !is_wrong)
        log_retry(flight, error, 0);
    sources->bucket_wrong |= is_wrong;
    sources->course.bucket_absent |= error->kind == ERROR_NOT_FOUND;
    /* A request of the first stop may end when the flight has come back. */
    if (is_wrong || fetch->is_last_stop == sources->is_last_stop)
        sources_leave_bucket(sources, may_return);
    flight->silent_ms = clock_ms(); /* nobody else was asked until now */
    if (is_wrong && (sources->in_bucket || sources->bucket_sent))
        flight_fail(flight, error);
}

/* The request went to a replica, which gives nothing more: goes on with what is missing. Upstream's
 * own word is the flight's end, unless bytes have come; then only upstream can tell how it goes on.
 * Of wrong bytes no right ones are the continuation. */
static void leave_replica(struct flight *flight, struct fetch *fetch, struct error *error)
    REQUIRES(flight->state_lock) {
    struct sources *sources = &flight->sources;
    const struct place_replica *replica = &fetch->place->replica;
    const bool is_wrong = error->kind == ERROR_CORRUPT;
    if (fetch->place != sources_place(sources))
        return; /* another fetcher has left it */
    if (replica->has_head && !is_wrong) {
        log_retry(flight, error, 0);
        flight->retries++;
        metric_add(flight->flights->takeovers, 1);
    }
    if (fetch->outcome == REPLICA_FINAL && !flight->answered) {
        sources->is_final = !sources_take_final(sources, error);
        if (sources->is_final)
            flight_fail(flight, error);
        return;
    }
    if (fetch->outcome == REPLICA_REFUSED)
        flights_log_refusal(flight->flights, replica, error);
    const bool has_sent = replica->has_sent;
    sources_leave_replica(sources, fetch->outcome);
    flight->silent_ms = clock_ms(); /* nobody else was asked until now */
    if (is_wrong && has_sent)
        flight_fail(flight, error);
}

/* A request failed: does what retry.h decides, which may end the flight. */
static void recover(struct flight *flight, struct fetch *fetch, const struct plan *plan,
                    struct error *error) REQUIRES(flight->state_lock) {
    if (flight->state != FLIGHT_MOVING)
        return;
    if (atomic_load(&flight->abandoned)) { /* no byte is here yet, so that nothing is lost */
        flight_fail(flight, error);
        return;
    }
    enum retry_failure failure = judge(flight, fetch, plan, error);
    if (place_is_replica(fetch->place) && retry_blames_place(failure)) {
        leave_replica(flight, fetch, error);
        return;
    }
    flight->retries += retry_counts(failure);
    if (fetch->place == &flight->sources.bucket && retry_blames_place(failure) &&
        (!fetch->is_last_stop || error->kind == ERROR_CORRUPT)) {
        leave_bucket(flight, fetch, error);
        return;
    }
    enum retry_action action = retry_decide(failure, phase_of(flight), flight->at_once);
    if (!act(flight, action, failure == FAILURE_REFUSED, error))
        flight_fail(flight, error);
}

/* The request failed. False: the flight counts on its bytes. The caller holds the state_lock. */
static bool pass_over(const struct fetch *fetch, const struct error *error) {
    const struct span *span = fetch->span;
    struct flight_source *source = fetch->source;
    const bool was_cut = error->kind == ERROR_CLOSED; /* by us */
    if (!span->contends && !span->beaten)
        return false;
    if (span->given_up) /* the source was not at fault: another place is asked for it */
        return true;
    /* Of two sources that contradict each other, the end of the flight shows which is right. */
    if (span->beaten && error->kind != ERROR_CORRUPT)
        sources_give_up(source, was_cut ? NULL : error);
    else if (span->contends && !was_cut)
        sources_pass_over(source, source->place.kind->judge(error) == FAILURE_REFUSED);
    return true;
}

/* Fetches the span, and handles a failure. False: the request failed, and the flight goes on
 * without it. */
static bool fetch_span(struct flight *flight, struct span *span, const struct plan *plan) {
    struct fetch fetch;
    struct error error = {0}, late;
    bool ok = fetch_init(&fetch, flight, span, plan, &error) && request_span(&fetch, plan, &error);
    /* Of two errors the first is the cause. */
    if (!fetch_flush(&fetch, ok ? &error : &late))
        ok = false;
    lock_acquire(&flight->state_lock);
    bool failed = !end_span(flight, &fetch, ok, &error);
    bool passed_over = failed && pass_over(&fetch, &error);
    if (failed && !passed_over)
        recover(flight, &fetch, plan, &error);
    /* The end of a flight that has failed is recorded by the driver. */
    bool is_news = flight->state == FLIGHT_MOVING && flight->sources.bucket_wrong &&
                   !flight->sources.wrong_known;
    flight->sources.wrong_known |= is_news;
    const bool is_wrong =
        failed && !passed_over && place_is_replica(fetch.place) && error.kind == ERROR_CORRUPT;
    lock_release(&flight->state_lock);
    if (is_wrong)
        flights_distrust_replica(flight->flights, &flight->digest, &fetch.place->replica.member,
                                 &error);
    if (is_news)
        flights_record_wrong(flight->flights, &flight->digest, &error);
    fetch_finish(&fetch);
    return !passed_over;
}

/* ---- the threads ---- */

static void run_fetcher(void *argument) {
    struct fetcher *fetcher = argument;
    struct flight *flight = fetcher->flight;
    struct flights *flights = flight->flights;
    struct span *span = fetcher->span;
    struct plan plan = fetcher->plan;
    free(fetcher);

    while (span) {
        bool goes_on = fetch_span(flight, span, &plan);
        lock_acquire(&flight->state_lock);
        bool more = goes_on && !atomic_load(&flights->stopping) &&
                    spans_counted_on(&flight->spans) <= flight_allowed(flight) &&
                    flight_plan(flight, &plan);
        span = more ? spans_reserve(&flight->spans, &plan) : NULL;
        if (!span)
            flight->spans.fetchers--;
        flight_wake(flight);
        lock_release(&flight->state_lock);
    }
    flight_release(flight);
    atomic_fetch_sub(&flights->connections, 1);
    atomic_fetch_sub(&flights->threads, 1);
}

/* Starts a fetcher for the plan. */
static bool start_fetcher(struct flight *flight, const struct plan *plan, struct error *error)
    REQUIRES(flight->state_lock) {
    struct flights *flights = flight->flights;
    struct fetcher *fetcher = malloc(sizeof *fetcher);
    struct span *span = fetcher ? spans_reserve(&flight->spans, plan) : NULL;
    if (!span) {
        free(fetcher);
        return error_set(error, ERROR_MEMORY, "no memory to fetch a blob");
    }
    *fetcher = (struct fetcher){flight, span, *plan};
    if (!plan->contends && spans_counted_on(&flight->spans) == 0) /* nobody was asked until now */
        flight->silent_ms = clock_ms();
    flight_keep(flight);
    atomic_fetch_add(&flights->connections, 1);
    atomic_fetch_add(&flights->threads, 1);
    flight->spans.fetchers++;
    if (thread_start_detached("blob-fetcher", run_fetcher, fetcher, error))
        return true;
    flight->spans.fetchers--;
    atomic_fetch_sub(&flights->threads, 1);
    atomic_fetch_sub(&flights->connections, 1);
    flight_release(flight); /* not the last reference: the caller has one */
    span->busy = false;
    free(fetcher);
    return false;
}

/* Asks another source beside a silent one, so that the readers of the other do not wait. */
static void start_contender(struct flight *flight) REQUIRES(flight->state_lock) {
    struct plan plan;
    struct error ignored;
    if (!flight->opened || atomic_load(&flight->flights->stopping) ||
        !sources_are_asked(&flight->sources) || !flight_wants_contender(flight, &plan))
        return;
    flight->sources.at[plan.source].contended_ms = clock_ms();
    start_fetcher(flight, &plan, &ignored);
}

void flight_start_fetchers(struct flight *flight) {
    struct flights *flights = flight->flights;
    const struct spans *spans = &flight->spans;
    struct plan plan;
    start_contender(flight);
    while (flight->opened && !atomic_load(&flights->stopping) &&
           flight_wants_fetcher(flight, &plan)) {
        /* max_connections holds back further connections of a flight, never its only one: that one
         * waits for its turn at the upstream. Flights of a silent upstream, which have no more than
         * that one, hold back nobody's. */
        if (spans_counted_on(spans) > 0 &&
            atomic_load(&flights->connections) >=
                atomic_load(&flights->max_connections) + atomic_load(&flights->unanswered))
            return;
        struct error error = {0};
        if (start_fetcher(flight, &plan, &error))
            continue;
        if (spans->fetchers == 0)
            flight_fail(flight, &error);
        return;
    }
}
