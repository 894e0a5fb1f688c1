/*
 * Many small jobs that wait for something, several at once. Each is one of the numbers from 0 to
 * count - 1.
 *
 * Threads: jobs_run() is called by one thread, which does a part of the work itself. It returns
 * when no other thread works any more.
 */
#ifndef BASE_JOBS_H
#define BASE_JOBS_H

#include <stdbool.h>
#include <stddef.h>
#include "base/cancel.h"
#include "base/error.h"
#include "base/lock.h"

enum { JOBS_LIMIT = 64 };

struct jobs {
    const char *name; /* of the threads */
    size_t count;
    unsigned at_once; /* threads at most, the caller's included; not 0 */
    const struct cancel
        *cancel; /* looked at before each; may be NULL; any of the threads calls it */
    /* Does one of them. False: no further one is begun. */
    bool (*work)(struct jobs *jobs, size_t number, struct error *error);
    void *context;

    /* Guards what `work` shares between its threads, and the next three. */
    struct lock state_lock;
    size_t next GUARDED_BY(state_lock);
    bool failed GUARDED_BY(state_lock);
    /* Of the first that failed by itself, else of the first that was cancelled (CLOSED). */
    struct error error GUARDED_BY(state_lock);
};

/* False: one of them failed, and those that were not begun by then are not done. */
bool jobs_run(struct jobs *jobs, struct error *error);

#endif
