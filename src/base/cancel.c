/* Tells long work when to end. */
#include "base/cancel.h"

#include <stddef.h>

bool cancel_check(const struct cancel *cancel, struct error *error) {
    if (!cancel)
        return true;
    if (cancel->stop && atomic_load(cancel->stop))
        return error_set(error, ERROR_CLOSED, "tarn is stopping");
    if (cancel->is_wanted && !cancel->is_wanted(cancel->context))
        return error_set(error, ERROR_CLOSED, "the client left");
    return true;
}
