/* Decides whether something is tried again. */
#include "copy/patience.h"

#include "base/cancel.h"
#include "base/clock.h"
#include "client/retry.h"
#include "copy/hosts.h"

void copy_patience_reset(struct copy_patience *patience) {
    patience->since_ms = clock_ms();
    patience->failures = 0;
    error_clear(&patience->cause);
}

/* Whether the same request may succeed a moment later. */
static bool may_pass(const struct error *error) {
    switch (retry_classify(error)) {
    case FAILURE_RATE_LIMITED:
    case FAILURE_OVERLOADED:
    case FAILURE_UNAVAILABLE:
        return error->kind != ERROR_UNSUPPORTED && error->reason != ERROR_REASON_CERTIFICATE &&
               error->reason != ERROR_REASON_ADDRESS;
    default:
        return false;
    }
}

/* The failure stands: it says what is wrong, not that nobody was asked again. */
static bool give_up(const struct copy_patience *patience, struct error *error) {
    if (error->reason == ERROR_REASON_NOT_ASKED && patience->cause.kind != ERROR_NONE)
        *error = patience->cause;
    return false;
}

bool copy_patience_wait(struct copy_patience *patience, struct error *error) {
    int64_t now = clock_ms(), limit = patience->limit_ms;
    const struct cancel cancel = {.stop = patience->stop};
    if (!patience->since_ms)
        patience->since_ms = now;
    if (!may_pass(error))
        return give_up(patience, error);
    if (error->reason != ERROR_REASON_NOT_ASKED)
        patience->cause = *error;
    bool is_unreachable = error->reason != ERROR_REASON_NONE;
    if (is_unreachable && limit > COPY_REFUSED_PATIENCE_MS)
        limit = COPY_REFUSED_PATIENCE_MS;
    patience->failures++;
    int64_t wait =
        retry_wait_ms(patience->failures, error->retry_after_s, now, patience->since_ms + limit);
    return wait >= 0 ? cancel_sleep(&cancel, now + wait, error) : give_up(patience, error);
}
