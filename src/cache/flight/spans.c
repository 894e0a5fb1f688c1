/* The spans of a flight: which stretches of the blob are being fetched now. */
#include "cache/flight/spans.h"

#include <stddef.h>
#include "base/clock.h"

enum { RATE_LEAST = 256 << 10 }; /* fewer bytes measure a buffer and not a connection */

struct span *spans_reserve(struct spans *spans, const struct plan *plan) {
    for (size_t i = 0; i < FLIGHT_SPANS; i++) {
        struct span *span = &spans->at[i];
        if (span->busy)
            continue;
        *span = (struct span){.busy = true,
                              .contends = plan->contends,
                              .source = plan->source,
                              .end = plan->end,
                              .since_ms = clock_ms()};
        if (!plan->suffix)
            span->start = span->at = span->writing_to = plan->start;
        return span;
    }
    return NULL;
}

bool span_send(struct span *span) {
    span->sent = true;
    span->since_ms = clock_ms();
    return span->at < span->end;
}

/* Whether the flight counts on the span's bytes. */
static bool is_counted_on(const struct span *span) {
    return span->busy && !span->contends && !span->beaten;
}

unsigned spans_busy(const struct spans *spans) {
    unsigned busy = 0;
    for (size_t i = 0; i < FLIGHT_SPANS; i++)
        busy += is_counted_on(&spans->at[i]);
    return busy;
}

unsigned spans_counted_on(const struct spans *spans) {
    unsigned counted_on = spans->fetchers;
    for (size_t i = 0; i < FLIGHT_SPANS; i++) {
        const struct span *span = &spans->at[i];
        counted_on -= span->busy && !is_counted_on(span);
    }
    return counted_on;
}

bool spans_ask(const struct spans *spans, unsigned source, bool beside) {
    for (size_t i = 0; i < FLIGHT_SPANS; i++) {
        const struct span *span = &spans->at[i];
        if (span->busy && span->source == source && (!beside || span->contends))
            return true;
    }
    return false;
}

void spans_take_turn(struct spans *spans, unsigned source) {
    for (size_t i = 0; i < FLIGHT_SPANS; i++) {
        if (spans->at[i].source == source)
            spans->at[i].contends = false;
    }
}

bool spans_write(const struct spans *spans) {
    for (size_t i = 0; i < FLIGHT_SPANS; i++) {
        const struct span *span = &spans->at[i];
        if (span->busy && span->writing_to > span->at)
            return true;
    }
    return false;
}

void spans_beat_others(struct spans *spans, unsigned source) {
    for (size_t i = 0; i < FLIGHT_SPANS; i++) {
        struct span *span = &spans->at[i];
        if (!span->busy || span->source == source)
            continue;
        span->end = span->writing_to;
        span->beaten = true;
    }
}

void spans_give_up(struct spans *spans) {
    for (size_t i = 0; i < FLIGHT_SPANS; i++) {
        struct span *span = &spans->at[i];
        if (!span->busy)
            continue;
        span->end = span->writing_to;
        span->beaten = span->given_up = true;
    }
}

struct span *spans_holding(struct spans *spans, uint64_t offset) {
    for (size_t i = 0; i < FLIGHT_SPANS; i++) {
        struct span *span = &spans->at[i];
        if (is_counted_on(span) && span->at <= offset && offset < span->end)
            return span;
    }
    return NULL;
}

uint64_t spans_next(const struct spans *spans, uint64_t from, uint64_t to) {
    for (size_t i = 0; i < FLIGHT_SPANS; i++) {
        const struct span *span = &spans->at[i];
        if (is_counted_on(span) && span->at > from && span->at < to)
            to = span->at;
    }
    return to;
}

bool spans_write_within(const struct spans *spans, const struct span *self, uint64_t start,
                        uint64_t end) {
    for (size_t i = 0; i < FLIGHT_SPANS; i++) {
        const struct span *span = &spans->at[i];
        uint64_t from = span->at > start ? span->at : start;
        uint64_t to = span->writing_to < end ? span->writing_to : end;
        if (span->busy && span != self && from < to)
            return true;
    }
    return false;
}

void spans_become_plain(struct spans *spans, const struct span *except) {
    spans->plain = true;
    for (size_t i = 0; i < FLIGHT_SPANS; i++) {
        struct span *span = &spans->at[i];
        if (span->busy && span != except)
            span->end = span->writing_to;
    }
}

void spans_keep_first(struct spans *spans) {
    const struct span *first = NULL;
    for (size_t i = 0; i < FLIGHT_SPANS; i++) {
        const struct span *span = &spans->at[i];
        if (is_counted_on(span) && (!first || span->at < first->at))
            first = span;
    }
    for (size_t i = 0; i < FLIGHT_SPANS; i++) {
        struct span *span = &spans->at[i];
        if (span->busy && span != first && span->end > span->writing_to)
            span->end = span->writing_to;
    }
    spans->allowed = 1;
}

void spans_learn_rate(struct spans *spans, uint64_t bytes, int64_t ms) {
    if (bytes < RATE_LEAST)
        return;
    double rate = (double)bytes * 1000 / (double)(ms > 0 ? ms : 1);
    spans->rate = spans->rate > 0 ? (spans->rate + rate) / 2 : rate;
}
