/* The one rule of trying again. */
#include "client/retry.h"

#include "base/clock.h"

enum {
    BACKOFF_FIRST_MS = 100,
    BACKOFF_MOST_MS = 5000,
    DOUBLINGS_MOST = 6,
};

/* The columns are those of enum retry_phase. */
static const enum retry_action actions[RETRY_FAILURES][RETRY_PHASES] = {
    [FAILURE_OWN_FAULT] = {RETRY_GIVE_UP, RETRY_GIVE_UP, RETRY_GIVE_UP, RETRY_GIVE_UP},
    [FAILURE_UNWANTED] = {RETRY_GIVE_UP, RETRY_GIVE_UP, RETRY_GIVE_UP, RETRY_GIVE_UP},
    [FAILURE_TAKEN_BACK] = {RETRY_GIVE_UP, RETRY_NOW, RETRY_NOW, RETRY_NOW},
    [FAILURE_OUTSIDE] = {RETRY_GIVE_UP, RETRY_NOW, RETRY_NOW, RETRY_NOW},
    [FAILURE_NO_RANGES] = {RETRY_GIVE_UP, RETRY_PLAIN, RETRY_PLAIN, RETRY_PLAIN},
    [FAILURE_WRONG_RANGES] = {RETRY_GIVE_UP, RETRY_PLAIN, RETRY_PLAIN, RETRY_PLAIN},
    [FAILURE_WRONG_STREAM] = {RETRY_GIVE_UP, RETRY_START_OVER, RETRY_START_OVER, RETRY_START_OVER},
    [FAILURE_REFUSED] = {RETRY_GIVE_UP, RETRY_ELSEWHERE, RETRY_ELSEWHERE, RETRY_ELSEWHERE},
    [FAILURE_RATE_LIMITED] = {RETRY_GIVE_UP, RETRY_ELSEWHERE, RETRY_LATER, RETRY_FEWER},
    [FAILURE_OVERLOADED] = {RETRY_LATER, RETRY_ELSEWHERE, RETRY_LATER, RETRY_FEWER},
    [FAILURE_LASTING] = {RETRY_GIVE_UP, RETRY_ELSEWHERE, RETRY_LATER, RETRY_LATER},
    [FAILURE_UNAVAILABLE] = {RETRY_LATER, RETRY_ELSEWHERE, RETRY_LATER, RETRY_LATER},
};

enum retry_failure retry_classify(const struct error *error) {
    switch (error->kind) {
    case ERROR_NO_SPACE:
    case ERROR_IO:
    case ERROR_MEMORY:
    case ERROR_FILES:
    case ERROR_INVALID:
        return FAILURE_OWN_FAULT;
    case ERROR_CLOSED:
        return FAILURE_UNWANTED;
    case ERROR_RANGE:
        return FAILURE_NO_RANGES;
    case ERROR_CORRUPT:
        return FAILURE_WRONG_RANGES;
    case ERROR_NOT_FOUND:
    case ERROR_DENIED:
        return FAILURE_REFUSED;
    case ERROR_RATE_LIMITED:
        return FAILURE_RATE_LIMITED;
    default:
        if (error->status == 503)
            return FAILURE_OVERLOADED;
        return error->lasting ? FAILURE_LASTING : FAILURE_UNAVAILABLE;
    }
}

enum retry_failure retry_refine(enum retry_failure failure, const struct retry_range *range) {
    bool within = !range->size_known || (!range->suffix && range->start < range->size);
    if (failure == FAILURE_WRONG_RANGES && range->plain)
        return FAILURE_WRONG_STREAM;
    if (failure != FAILURE_NO_RANGES)
        return failure;
    if (range->plain) /* nobody asked for a range */
        return FAILURE_LASTING;
    return within ? FAILURE_NO_RANGES : FAILURE_OUTSIDE;
}

enum retry_action retry_decide(enum retry_failure failure, enum retry_phase phase,
                               unsigned at_once) {
    enum retry_action action = actions[failure][phase];
    return action == RETRY_NOW && at_once >= RETRY_AT_ONCE ? RETRY_LATER : action;
}

bool retry_blames_place(enum retry_failure failure) {
    return failure >= FAILURE_NO_RANGES;
}

bool retry_counts(enum retry_failure failure) {
    return failure >= FAILURE_WRONG_RANGES;
}

int64_t retry_backoff_ms(unsigned failures) {
    unsigned doublings = failures <= DOUBLINGS_MOST ? failures - 1 : DOUBLINGS_MOST;
    int64_t wait_ms = (int64_t)BACKOFF_FIRST_MS << doublings;
    if (wait_ms > BACKOFF_MOST_MS)
        wait_ms = BACKOFF_MOST_MS;
    return wait_ms / 2 + clock_jitter((uint32_t)wait_ms);
}

int64_t retry_wait_ms(unsigned failures, int after_s, int64_t now_ms, int64_t until_ms) {
    int64_t wait_ms = retry_backoff_ms(failures), after_ms = (int64_t)after_s * 1000;
    if (wait_ms < after_ms)
        wait_ms = after_ms;
    return wait_ms < until_ms - now_ms ? wait_ms : -1;
}
