/*
 * What a fetcher does after its request failed: a table of decisions. Pure.
 *
 *                        |  no place has     |  answered, and this   |  answered, and other
 *   failure              |  answered yet     |  fetcher is alone     |  fetchers are at work
 *   ---------------------+-------------------+-----------------------+----------------------
 *   own fault            |  end the flight   |  end the flight       |  end the flight
 *   closed               |  plan again       |  plan again           |  plan again
 *   outside              |  plan again       |  plan again           |  plan again
 *   no ranges            |  become plain     |  become plain         |  become plain
 *   wrong ranges         |  become plain     |  become plain         |  become plain
 *   wrong stream         |  start over       |  start over           |  start over
 *   refused              |  go elsewhere     |  go elsewhere         |  go elsewhere
 *   rate limited         |  go elsewhere     |  wait and try again   |  end this fetcher
 *   unavailable          |  go elsewhere     |  wait and try again   |  wait and try again
 */
#ifndef FLIGHT_RETRY_H
#define FLIGHT_RETRY_H

#include "cache/flight/place.h"

enum retry_failure {
    FAILURE_OWN_FAULT,    /* our memory or disk; or tarn is stopping */
    FAILURE_CLOSED,       /* the flight took the span back */
    FAILURE_OUTSIDE,      /* the range lies outside of the blob, whose size is known now */
    FAILURE_NO_RANGES,    /* the place refuses a range of the blob */
    FAILURE_WRONG_RANGES, /* ranges contradict each other */
    FAILURE_WRONG_STREAM, /* a plain stream contradicts what came before */
    FAILURE_REFUSED,      /* the place does not hold the blob or does not give it to us */
    FAILURE_RATE_LIMITED,
    FAILURE_UNAVAILABLE,
    RETRY_FAILURES
};

enum retry_phase { PHASE_UNANSWERED, PHASE_ALONE, PHASE_WITH_OTHERS, RETRY_PHASES };

enum retry_action {
    RETRY_END_FLIGHT,
    RETRY_PLAN,        /* take the next span */
    RETRY_PLAIN,       /* fetch without ranges, as one stream */
    RETRY_START_OVER,  /* if nothing is here yet: another place; otherwise end the flight */
    RETRY_ELSEWHERE,   /* another place; end the flight if there is none */
    RETRY_LATER,       /* wait, then another place or the same; end the flight without patience */
    RETRY_END_FETCHER, /* leave the work to the other fetchers */
};

/* What is known when a request has failed. */
struct retry_facts {
    enum place_failure failure;
    bool stopping;      /* tarn is */
    bool plain, suffix; /* of what was asked for */
    uint64_t start;     /* the same, unless plain or suffix */
    bool size_known;    /* of the blob, by now */
    uint64_t size;
    bool answered;     /* some place has sent a head */
    unsigned fetchers; /* this one included */
};

enum retry_failure retry_classify(const struct retry_facts *facts);
enum retry_phase retry_phase(const struct retry_facts *facts);
enum retry_action retry_decide(enum retry_failure failure, enum retry_phase phase);
/* Whether the failure is counted as a retry of the flight. */
bool retry_counts(enum retry_failure failure);

/* How long RETRY_LATER waits after so many failures in a row (at least 1), in milliseconds;
 * `after_s` is the place's own wish, 0: none. Contains a random part. */
int64_t retry_wait_ms(unsigned failures, int64_t after_s);

#endif
