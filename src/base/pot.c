/* Shares of a pot that bind only while the pot is scarce. */
#include "base/pot.h"

#include <assert.h>

void pot_init(struct pot *pot, unsigned capacity) {
    atomic_init(&pot->capacity, capacity);
    atomic_init(&pot->taken, 0);
}

void pot_resize(struct pot *pot, unsigned capacity) {
    atomic_store_explicit(&pot->capacity, capacity, memory_order_relaxed);
}

unsigned pot_capacity(const struct pot *pot) {
    return atomic_load_explicit(&pot->capacity, memory_order_relaxed);
}

void pot_take(struct pot *pot) {
    atomic_fetch_add_explicit(&pot->taken, 1, memory_order_relaxed);
}

bool pot_take_if_left(struct pot *pot) {
    unsigned taken = atomic_load_explicit(&pot->taken, memory_order_relaxed);
    while (taken < pot_capacity(pot))
        if (atomic_compare_exchange_weak(&pot->taken, &taken, taken + 1))
            return true;
    return false;
}

void pot_give_back(struct pot *pot) {
    unsigned before = atomic_fetch_sub_explicit(&pot->taken, 1, memory_order_relaxed);
    assert(before > 0);
    (void)before;
}

bool pot_is_empty(const struct pot *pot) {
    return atomic_load_explicit(&pot->taken, memory_order_relaxed) >= pot_capacity(pot);
}

bool pot_is_scarce(const struct pot *pot) {
    return atomic_load_explicit(&pot->taken, memory_order_relaxed) > pot_capacity(pot) / 2;
}

bool pot_may_take(const struct pot *pot, unsigned held, unsigned share) {
    return held < share || !pot_is_scarce(pot);
}

bool pot_may_keep(const struct pot *pot, unsigned held, unsigned share) {
    return held < share ||
           atomic_load_explicit(&pot->taken, memory_order_relaxed) <= pot_capacity(pot) / 2 + 1;
}

unsigned pot_share(const struct pot *pot, unsigned percent) {
    unsigned share = (unsigned)((unsigned long long)pot_capacity(pot) * percent / 100);
    return share ? share : 1;
}
