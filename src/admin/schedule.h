/*
 * The schedule of images to warm: its entries, and when each is due. Private to admin/.
 *
 * Threads: a schedule belongs to one thread.
 */
#ifndef ADMIN_SCHEDULE_H
#define ADMIN_SCHEDULE_H

#include "admin/service.h"

struct warm_schedule {
    size_t count;
    struct warm_turn {
        struct warm_entry entry; /* its lists are owned */
        int64_t due_ms;          /* clock_ms(); INT64_MAX: never again */
        int64_t retry_ms;        /* the pause after the last failure; 0: it did not fail */
    } at[];
};

/* Entries that were in `before`, too, get the times that they have there. */
void schedule_take_times(struct warm_schedule *schedule, const struct warm_schedule *before);

/* The turn that is due first; NULL: none ever is. */
struct warm_turn *schedule_next(struct warm_schedule *schedule);

/* The turn has been tried. `failed`: it may succeed when it is tried again soon. */
void schedule_note(struct warm_turn *turn, bool failed);

#endif
