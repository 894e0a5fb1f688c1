/*
 * A value that many threads read and that is exchanged as a whole, while readers go on with the
 * one that they began with.
 *
 * A reader holds the value for as long as it needs it: during a request, for example. Holding costs
 * one lock, which is held for two instructions, and nothing is allocated. A value that was
 * exchanged is freed by shared_sweep(), when nobody holds it any more: a reader must not wait,
 * and freeing may take long.
 *
 * The type of a value has a struct shared_value as its first member.
 *
 * Threads: any; shared_exchange() and shared_sweep() by one thread at a time.
 */
#ifndef BASE_SHARED_H
#define BASE_SHARED_H

#include <stdatomic.h>
#include "base/lock.h"

struct shared_value { /* zeroed at first */
    atomic_uint holders;
    struct shared_value *next; /* of those that were exchanged */
};

struct shared {
    struct lock now_lock;
    struct shared_value *now GUARDED_BY(now_lock);
    struct shared_value *old; /* exchanged and not freed; for the thread that exchanges */
};

void shared_init(struct shared *shared, struct shared_value *first);
/* Nobody holds a value any more. Frees all of them. */
void shared_finish(struct shared *shared, void (*free_value)(struct shared_value *value));

struct shared_value *shared_hold(struct shared *shared);
/* One more hold on a value that the caller holds. */
void shared_keep(struct shared_value *value);
void shared_release(struct shared_value *value); /* never waits */

/* Readers that come now get `value`. */
void shared_exchange(struct shared *shared, struct shared_value *value);
/* Frees the values that were exchanged and that nobody holds. */
void shared_sweep(struct shared *shared, void (*free_value)(struct shared_value *value));

#endif
