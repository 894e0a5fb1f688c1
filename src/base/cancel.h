/*
 * Tells long work when to end.
 *
 * The caller of long work passes a `struct cancel` down, and the work calls cancel_check() between
 * two steps, at least once a second. There are two reasons to end, and each may be absent: `stop`
 * is set because tarn stops, or `is_wanted` says false because the client left. NULL and a zeroed
 * struct both mean that the work never ends early.
 */
#ifndef BASE_CANCEL_H
#define BASE_CANCEL_H

#include <stdatomic.h>
#include <stdint.h>
#include "base/error.h"

struct cancel {
    const atomic_bool *stop;          /* set by any thread, never cleared; outlives the work */
    bool (*is_wanted)(void *context); /* called by the working thread, which must hold no lock */
    void *context;
};

/* True: go on. False: end (ERROR_CLOSED). */
bool cancel_check(const struct cancel *cancel, struct error *error);

/* Sleeps until clock_ms() reaches `until_ms`. False: it was cancelled (ERROR_CLOSED). */
bool cancel_sleep(const struct cancel *cancel, int64_t until_ms, struct error *error);

#endif
