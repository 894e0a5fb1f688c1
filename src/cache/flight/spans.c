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
        *span = (struct span){
            .busy = true, .since_ms = clock_ms(), .end = plan->end, .contends = plan->contends};
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

unsigned spans_busy(const struct spans *spans) {
    unsigned busy = 0;
    for (size_t i = 0; i < FLIGHT_SPANS; i++)
        busy += spans->at[i].busy;
    return busy;
}

unsigned spans_counted_on(const struct spans *spans) {
    unsigned counted_on = spans->fetchers;
    for (size_t i = 0; i < FLIGHT_SPANS; i++) {
        const struct span *span = &spans->at[i];
        counted_on -= span->busy && (span->contends || span->beaten);
    }
    return counted_on;
}

bool spans_write(const struct spans *spans) {
    for (size_t i = 0; i < FLIGHT_SPANS; i++) {
        const struct span *span = &spans->at[i];
        if (span->busy && span->writing_to > span->at)
            return true;
    }
    return false;
}

void spans_beat_others(struct spans *spans, const struct span *winner) {
    for (size_t i = 0; i < FLIGHT_SPANS; i++) {
        struct span *span = &spans->at[i];
        if (!span->busy || span == winner)
            continue;
        span->end = span->writing_to;
        span->beaten = true;
    }
}

struct span *spans_holding(struct spans *spans, uint64_t offset) {
    for (size_t i = 0; i < FLIGHT_SPANS; i++) {
        struct span *span = &spans->at[i];
        if (span->busy && span->at <= offset && offset < span->end)
            return span;
    }
    return NULL;
}

uint64_t spans_next(const struct spans *spans, uint64_t from, uint64_t to) {
    for (size_t i = 0; i < FLIGHT_SPANS; i++) {
        const struct span *span = &spans->at[i];
        if (span->busy && span->at > from && span->at < to)
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
        if (span->busy && (!first || span->at < first->at))
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
