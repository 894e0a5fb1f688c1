/*
 * The one rule of trying again: what follows when a request to another server has failed. Pure.
 *
 * The kind of failure and the phase of the work decide. Four phases exist: one request that has
 * not seen a head; a piece of work for which no place has answered yet, after a request to one of
 * its places has failed in the end; and a transfer that has begun, over one connection or over
 * several.
 *
 *                 | one request  | no place has    | transfer, one       | transfer, several
 *   failure       |              | answered yet    | connection          | connections
 *   --------------+--------------+-----------------+---------------------+--------------------
 *   own fault     | give up      | give up         | give up             | give up
 *   unwanted      | give up      | give up         | give up             | give up
 *   taken back    | give up      | again now       | again now           | again now
 *   outside       | give up      | again now       | again now           | again now
 *   no ranges     | give up      | plain           | plain               | plain
 *   wrong ranges  | give up      | plain           | plain               | plain
 *   wrong stream  | give up      | start over      | start over          | start over
 *   refused       | give up      | elsewhere       | elsewhere           | elsewhere
 *   rate limited  | give up      | elsewhere       | later               | fewer connections
 *   overloaded    | later        | elsewhere       | later               | fewer connections
 *   lasting       | give up      | elsewhere       | later               | later
 *   unavailable   | later        | elsewhere       | later               | later
 *
 * Whatever the reason, work that gets no new byte waits longer each time, and ends when its
 * patience does: `again now` is allowed RETRY_AT_ONCE times without a new byte and is `later` from
 * then on, and `later` is giving up if the wait would end after the patience (with other
 * connections: ending this one). Patience is the time since the last new byte; of a request without
 * a head, the time until its deadline.
 */
#ifndef CLIENT_RETRY_H
#define CLIENT_RETRY_H

#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"

enum {
    RETRY_AT_ONCE = 4,  /* times that work is tried again at once, without a new byte between */
    RETRY_ATTEMPTS = 3, /* at one request, the first one included */
};

enum retry_failure {
    FAILURE_OWN_FAULT,    /* our memory, disk or request; or tarn is stopping */
    FAILURE_UNWANTED,     /* nobody waits for the result any more */
    FAILURE_TAKEN_BACK,   /* other bytes are wanted from this connection */
    FAILURE_OUTSIDE,      /* the range lies outside of the content, whose size is known now */
    FAILURE_NO_RANGES,    /* a range of the content is refused */
    FAILURE_WRONG_RANGES, /* ranges contradict each other */
    FAILURE_WRONG_STREAM, /* a plain stream contradicts what came before */
    FAILURE_REFUSED,      /* the place does not hold the thing or does not give it to us */
    FAILURE_RATE_LIMITED, /* 429 */
    FAILURE_OVERLOADED,   /* 503 */
    FAILURE_LASTING,      /* unavailable, and the same request would fail the same way */
    FAILURE_UNAVAILABLE,  /* anything else: it may work a moment later */
    RETRY_FAILURES
};

enum retry_phase { PHASE_REQUEST, PHASE_UNANSWERED, PHASE_ALONE, PHASE_WITH_OTHERS, RETRY_PHASES };

enum retry_action {
    RETRY_GIVE_UP,
    RETRY_NOW,        /* go on with what is missing */
    RETRY_PLAIN,      /* ask without ranges, as one stream */
    RETRY_START_OVER, /* if nothing is here yet: another place; otherwise give up */
    RETRY_ELSEWHERE,  /* another place; give up if there is none */
    RETRY_LATER,      /* wait (retry_wait_ms()), then go on at another place or the same */
    RETRY_FEWER,      /* end this connection, and leave the work to the others */
};

/* What an error of a request means. Of the failures that are about a range, the result is
 * FAILURE_NO_RANGES or FAILURE_WRONG_RANGES: retry_refine() tells more. */
enum retry_failure retry_classify(const struct error *error);

/* What was asked for, and what is known of the content by now. */
struct retry_range {
    bool plain, suffix; /* asked for without a range; for the last bytes */
    uint64_t start;     /* of the range, unless plain or suffix */
    bool size_known;    /* of the content */
    uint64_t size;
};

/* The failure of a request for this range. */
enum retry_failure retry_refine(enum retry_failure failure, const struct retry_range *range);

/* `at_once`: how many times in a row it was tried again at once, without a new byte between. */
enum retry_action retry_decide(enum retry_failure failure, enum retry_phase phase,
                               unsigned at_once);

/* Whether the failure lies with the place: another one may do better. */
bool retry_blames_place(enum retry_failure failure);

/* Whether the failure is counted as a retry of a transfer. */
bool retry_counts(enum retry_failure failure);

/* How long RETRY_LATER waits after so many failures in a row (at least 1) without the other side's
 * own wish, in milliseconds. Contains a random part. */
int64_t retry_backoff_ms(unsigned failures);

/* How long RETRY_LATER waits from `now_ms` on, in milliseconds; `after_s` is the other side's own
 * wish (Retry-After), 0: none. -1: give up, because the wait would not end before `until_ms`. */
int64_t retry_wait_ms(unsigned failures, int after_s, int64_t now_ms, int64_t until_ms);

#endif
