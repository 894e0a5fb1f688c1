/* Says whether an order is to go on, and waits for the store's scan. */
#include "admin/target.h"

#include "base/cancel.h"
#include "base/clock.h"
#include "store/usage.h"

enum { SCAN_WAIT_MS = 60000, POLL_MS = 100 };

bool order_target_check(const struct order_target *target, const struct line_sink *sink,
                        struct error *error) {
    const struct cancel cancel = {target->stopping, sink->is_wanted, sink->context};
    return cancel_check(&cancel, error);
}

bool order_target_wait_for_scan(const struct order_target *target, const struct line_sink *sink,
                                struct error *error) {
    int64_t until_ms = clock_ms() + SCAN_WAIT_MS;
    struct store_usage usage;
    for (;;) {
        store_usage(target->store, &usage);
        if (usage.complete) {
            if (target->cache) {
                cache_settle(target->cache);
                cache_record_uses(target->cache);
            }
            return true;
        }
        if (!order_target_check(target, sink, error))
            return false;
        if (clock_ms() >= until_ms)
            return error_set(error, ERROR_BUSY,
                             "the running tarn is still finding out which blobs it has (%llu so "
                             "far); try again later",
                             (unsigned long long)usage.blobs);
        clock_sleep_ms(POLL_MS);
    }
}
