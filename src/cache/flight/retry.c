/* What a fetcher does after its request failed. */
#include "cache/flight/retry.h"

#include "base/clock.h"

enum {
    BACKOFF_FIRST_MS = 100,
    BACKOFF_MOST_MS = 5000,
    DOUBLINGS_MOST = 6,
};

static const enum retry_action actions[RETRY_FAILURES][RETRY_PHASES] = {
    [FAILURE_OWN_FAULT] = {RETRY_END_FLIGHT, RETRY_END_FLIGHT, RETRY_END_FLIGHT},
    [FAILURE_CLOSED] = {RETRY_PLAN, RETRY_PLAN, RETRY_PLAN},
    [FAILURE_OUTSIDE] = {RETRY_PLAN, RETRY_PLAN, RETRY_PLAN},
    [FAILURE_NO_RANGES] = {RETRY_PLAIN, RETRY_PLAIN, RETRY_PLAIN},
    [FAILURE_WRONG_RANGES] = {RETRY_PLAIN, RETRY_PLAIN, RETRY_PLAIN},
    [FAILURE_WRONG_STREAM] = {RETRY_START_OVER, RETRY_START_OVER, RETRY_START_OVER},
    [FAILURE_REFUSED] = {RETRY_ELSEWHERE, RETRY_ELSEWHERE, RETRY_ELSEWHERE},
    [FAILURE_RATE_LIMITED] = {RETRY_ELSEWHERE, RETRY_LATER, RETRY_END_FETCHER},
    [FAILURE_UNAVAILABLE] = {RETRY_ELSEWHERE, RETRY_LATER, RETRY_LATER},
};

/* A range that the place does not send. */
static enum retry_failure classify_range(const struct retry_facts *facts) {
    bool within = !facts->size_known || (!facts->suffix && facts->start < facts->size);
    if (!facts->plain && within)
        return FAILURE_NO_RANGES;
    return facts->size_known ? FAILURE_OUTSIDE : FAILURE_UNAVAILABLE;
}

enum retry_failure retry_classify(const struct retry_facts *facts) {
    if (facts->stopping)
        return FAILURE_OWN_FAULT;
    switch (facts->failure) {
    case PLACE_OWN_FAULT:
        return FAILURE_OWN_FAULT;
    case PLACE_CLOSED:
        return FAILURE_CLOSED;
    case PLACE_NO_RANGE:
        return classify_range(facts);
    case PLACE_WRONG:
        return facts->plain ? FAILURE_WRONG_STREAM : FAILURE_WRONG_RANGES;
    case PLACE_REFUSED:
        return FAILURE_REFUSED;
    case PLACE_RATE_LIMITED:
        return FAILURE_RATE_LIMITED;
    case PLACE_UNAVAILABLE:
        break;
    }
    return FAILURE_UNAVAILABLE;
}

enum retry_phase retry_phase(const struct retry_facts *facts) {
    if (!facts->answered)
        return PHASE_UNANSWERED;
    return facts->fetchers > 1 ? PHASE_WITH_OTHERS : PHASE_ALONE;
}

enum retry_action retry_decide(enum retry_failure failure, enum retry_phase phase) {
    return actions[failure][phase];
}

bool retry_counts(enum retry_failure failure) {
    return failure >= FAILURE_WRONG_RANGES;
}

int64_t retry_wait_ms(unsigned failures, int64_t after_s) {
    unsigned doublings = failures <= DOUBLINGS_MOST ? failures - 1 : DOUBLINGS_MOST;
    int64_t wait_ms = (int64_t)BACKOFF_FIRST_MS << doublings;
    if (wait_ms > BACKOFF_MOST_MS)
        wait_ms = BACKOFF_MOST_MS;
    wait_ms = wait_ms / 2 + clock_jitter((uint32_t)wait_ms);
    return wait_ms > after_s * 1000 ? wait_ms : after_s * 1000;
}
