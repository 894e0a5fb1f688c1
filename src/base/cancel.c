/* Tells long work when to end. */
#include "base/cancel.h"

#include <stddef.h>
#include "base/clock.h"

enum { LOOK_MS = 200 };

bool cancel_check(const struct cancel *cancel, struct error *error) {
    if (!cancel)
        return true;
    if (cancel->stop && atomic_load(cancel->stop))
        return error_set(error, ERROR_CLOSED, "tarn is stopping");
    if (cancel->is_wanted && !cancel->is_wanted(cancel->context))
        return error_set(error, ERROR_CLOSED, "the client left");
    return true;
}

bool cancel_sleep(const struct cancel *cancel, int64_t until_ms, struct error *error) {
    for (;;) {
        if (!cancel_check(cancel, error))
            return false;
        int64_t left_ms = until_ms - clock_ms();
        if (left_ms <= 0)
            return true;
        clock_sleep_ms(left_ms < LOOK_MS ? left_ms : LOOK_MS);
    }
}
