/*
 * The spans of a flight: the stretches of the blob that fetchers are getting now. Private to
 * cache/flight/.
 *
 * Part of struct flight. The owner holds the flight's state_lock.
 */
#ifndef FLIGHT_SPANS_H
#define FLIGHT_SPANS_H

#include <stdbool.h>
#include <stdint.h>
#include "upstream/upstream.h"

enum {
    FLIGHT_SPANS = UPSTREAM_CONNECTIONS_LIMIT + 4
}; /* one for each connection, and some spare */

/* A stretch that one fetcher is getting: [start, at) is written, [at, end) is still to come. */
struct span {
    bool busy;
    bool sent;               /* its request has its connection: the place sends [at, end) */
    bool contends;           /* another source is asked for what others are silent about; until it
                                sends a head that is accepted */
    bool beaten;             /* another source brings the bytes: what becomes of the request does
                                not matter to the flight */
    bool given_up;           /* beaten, because its place is not asked any more */
    unsigned source;         /* which source of the flight is asked */
    uint64_t start, at, end; /* end UINT64_MAX: as far as the place sends */
    uint64_t writing_to;     /* a write up to here is under way; otherwise equal to `at` */
    int64_t since_ms;        /* clock_ms() when it was reserved, or sent */
};

struct spans {
    struct span at[FLIGHT_SPANS];
    unsigned fetchers; /* threads that fetch */
    unsigned blocked;  /* fetchers that wait until they may write */
    unsigned allowed;  /* fetchers at once; 1 after the blob came wrong */
    bool plain;        /* no ranges: one stream from the first byte */
    double rate;       /* bytes a second of one connection, smoothed; 0: not known */
};

/* What a fetcher is to ask for. */
struct plan {
    bool plain;  /* ask without a range */
    bool suffix; /* ask for the last `end` bytes, because the size is not known yet */
    uint64_t start, end;
    unsigned source; /* number of the source to ask */
    bool contends;   /* it is asked beside the current one, whatever other spans are getting */
};

/* Reserves a span for the plan. NULL: none is free. */
struct span *spans_reserve(struct spans *spans, const struct plan *plan);
/* How many spans are reserved whose bytes the flight counts on: those that neither contend nor are
 * beaten. */
unsigned spans_busy(const struct spans *spans);
/* How many fetchers there are without those whose spans contend or are beaten. */
unsigned spans_counted_on(const struct spans *spans);
/* Whether the source is being asked; `beside`: whether a span of it contends. */
bool spans_ask(const struct spans *spans, unsigned source, bool beside);
/* The source is asked in turn from now on: its spans do not contend any more. */
void spans_take_turn(struct spans *spans, unsigned source);
/* Whether a write is under way. */
bool spans_write(const struct spans *spans);
/* The source brings the bytes from now on: the spans of all others end at what they are writing. */
void spans_beat_others(struct spans *spans, unsigned source);

/* The place is not asked any more: all spans end at what they are writing. */
void spans_give_up(struct spans *spans);

/* The span's request has its connection, and asks for [start, end) as they are now. Until then the
 * end may be taken back at no cost; afterwards the place sends the bytes, and those behind an
 * earlier end would be sent twice. False: nothing of the span is left to ask for. */
bool span_send(struct span *span);

/* The span that is going to write byte `offset`; NULL: none, or one that contends. */
struct span *spans_holding(struct spans *spans, uint64_t offset);
/* The first byte in (from, to) at which a span is going to write that does not contend; `to`: there
 * is none. */
uint64_t spans_next(const struct spans *spans, uint64_t from, uint64_t to);
/* Whether another span than `self` is writing into [start, end) now. */
bool spans_write_within(const struct spans *spans, const struct span *self, uint64_t start,
                        uint64_t end);

/* From now on one plain stream: all spans but `except` (may be NULL) end at what they are writing.
 */
void spans_become_plain(struct spans *spans, const struct span *except);
/* All spans but the first end at what they are writing, and one fetcher is allowed. */
void spans_keep_first(struct spans *spans);

/* A fetcher got `bytes` in `ms`. */
void spans_learn_rate(struct spans *spans, uint64_t bytes, int64_t ms);

#endif
