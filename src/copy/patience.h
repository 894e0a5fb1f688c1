/* How long the work on one thing goes on without progress: every fault that may pass is tried
 * again. Private to copy/. One thread. */
#ifndef COPY_PATIENCE_H
#define COPY_PATIENCE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"

struct copy_patience {
    int64_t limit_ms;
    const atomic_bool *stop; /* may be NULL */
    int64_t since_ms;        /* clock_ms() of the last progress; 0: not begun */
    unsigned failures;       /* in a row */
    struct error cause;      /* the last failure that tells what is wrong */
};

/* Something has moved. */
void copy_patience_reset(struct copy_patience *patience);

/* Waits before another try. False: the failure stands, because it does not pass by itself, or
 * because there is no patience left. A connection that is refused, or a host that is not known, is
 * tried for a few seconds only. */
bool copy_patience_wait(struct copy_patience *patience, struct error *error);

#endif
