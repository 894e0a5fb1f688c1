/* Decides whether something is tried again. */
#include "copy/patience.h"

#include "base/cancel.h"
#include "base/clock.h"
#include "client/retry.h"
#include "copy/hosts.h"

void copy_patience_reset(struct copy_patience *patience) {
    patience->since_ms = clock_ms();
    patience->failures = 0;
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

bool copy_patience_wait(struct copy_patience *patience, struct error *error) {
    int64_t now = clock_ms(), limit = patience->limit_ms;
    const struct cancel cancel = {.stop = patience->stop};
    if (!patience->since_ms)
        patience->since_ms = now;
    if (!may_pass(error))
        return false;
    bool is_unreachable = error->reason == ERROR_REASON_NO_HOST ||
                          error->reason == ERROR_REASON_NO_CONNECTION ||
                          error->reason == ERROR_REASON_TLS;
    if (is_unreachable && limit > COPY_REFUSED_PATIENCE_MS)
        limit = COPY_REFUSED_PATIENCE_MS;
    patience->failures++;
    int64_t wait =
        retry_wait_ms(patience->failures, error->retry_after_s, now, patience->since_ms + limit);
    return wait >= 0 && cancel_sleep(&cancel, now + wait, error);
}
