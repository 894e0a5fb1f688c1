/* A value that is exchanged as a whole while readers hold the one before. */
#include "base/shared.h"

#include <stddef.h>

void shared_init(struct shared *shared, struct shared_value *first) {
    *shared = (struct shared){.now = first};
    lock_init(&shared->now_lock);
}

void shared_finish(struct shared *shared, void (*free_value)(struct shared_value *value)) {
    shared_sweep(shared, free_value);
    if (shared->now)
        free_value(shared->now);
    lock_finish(&shared->now_lock);
}

struct shared_value *shared_hold(struct shared *shared) {
    lock_acquire(&shared->now_lock);
    struct shared_value *value = shared->now;
    atomic_fetch_add_explicit(&value->holders, 1, memory_order_relaxed);
    lock_release(&shared->now_lock);
    return value;
}

void shared_keep(struct shared_value *value) {
    atomic_fetch_add_explicit(&value->holders, 1, memory_order_relaxed);
}

void shared_release(struct shared_value *value) {
    atomic_fetch_sub_explicit(&value->holders, 1, memory_order_release);
}

/* After this no reader can begin to hold the value before: the number of its holders only falls. */
void shared_exchange(struct shared *shared, struct shared_value *value) {
    lock_acquire(&shared->now_lock);
    struct shared_value *before = shared->now;
    shared->now = value;
    lock_release(&shared->now_lock);
    before->next = shared->old;
    shared->old = before;
}

void shared_sweep(struct shared *shared, void (*free_value)(struct shared_value *value)) {
    struct shared_value **place = &shared->old;
    while (*place) {
        struct shared_value *value = *place;
        if (atomic_load_explicit(&value->holders, memory_order_acquire) > 0) {
            place = &value->next;
            continue;
        }
        *place = value->next;
        free_value(value);
    }
}
