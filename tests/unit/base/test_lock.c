/* Locks and conditions, with threads that compete for them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "base/clock.h"
#include "base/lock.h"
#include "base/thread.h"

enum { THREADS = 4, ROUNDS = 2000 };

struct counter {
    struct lock count_lock;
    struct condition changed;
    unsigned count, ended GUARDED_BY(count_lock);
};

static void count_one(struct counter *counter) REQUIRES(counter->count_lock);
static void count_one(struct counter *counter) {
    counter->count++;
}

static void count_up(void *argument) {
    struct counter *counter = argument;
    for (unsigned i = 0; i < ROUNDS; i++) {
        lock_acquire(&counter->count_lock);
        count_one(counter);
        lock_release(&counter->count_lock);
    }
    lock_acquire(&counter->count_lock);
    counter->ended++;
    condition_signal(&counter->changed);
    lock_release(&counter->count_lock);
}

static void test_one_thread_at_a_time_holds_a_lock(void **state) {
    (void)state;
    struct counter counter = {0};
    pthread_t threads[THREADS];
    lock_init(&counter.count_lock);
    condition_init(&counter.changed);
    for (unsigned i = 0; i < THREADS; i++)
        assert_true(
            thread_start("test-count", THREAD_STACK, count_up, &counter, &threads[i], NULL));
    lock_acquire(&counter.count_lock);
    while (counter.ended < THREADS)
        condition_wait(&counter.changed, &counter.count_lock);
    assert_int_equal(counter.count, THREADS * ROUNDS);
    lock_release(&counter.count_lock);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    condition_finish(&counter.changed);
    lock_finish(&counter.count_lock);
}

static void test_a_wait_ends_at_its_deadline_and_not_before(void **state) {
    (void)state;
    static struct lock lock = LOCK_INITIALIZER;
    static struct condition condition = CONDITION_INITIALIZER;
    int64_t deadline_ms = clock_ms() + 20;
    lock_acquire(&lock);
    while (condition_wait_until(&condition, &lock, deadline_ms))
        ; /* woken without a signal */
    assert_true(clock_ms() >= deadline_ms);
    assert_false(condition_wait_until(&condition, &lock, clock_ms()));
    assert_false(condition_wait_until(&condition, &lock, -1));
    assert_false(condition_wait_until(&condition, &lock, INT64_MIN));
    lock_release(&lock);
}

struct gate {
    struct lock open_lock;
    struct condition opened;
    bool is_open;
    unsigned passed;
};

static void pass(void *argument) {
    struct gate *gate = argument;
    lock_acquire(&gate->open_lock);
    while (!gate->is_open)
        assert_true(condition_wait_until(&gate->opened, &gate->open_lock, INT64_MAX));
    gate->passed++;
    lock_release(&gate->open_lock);
}

static void test_a_broadcast_wakes_everybody_also_those_without_a_deadline(void **state) {
    (void)state;
    struct gate gate = {0};
    pthread_t threads[THREADS];
    lock_init(&gate.open_lock);
    condition_init(&gate.opened);
    for (unsigned i = 0; i < THREADS; i++)
        assert_true(thread_start("test-gate", THREAD_STACK, pass, &gate, &threads[i], NULL));
    lock_acquire(&gate.open_lock);
    assert_int_equal(gate.passed, 0);
    gate.is_open = true;
    lock_release(&gate.open_lock);
    condition_broadcast(&gate.opened);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(gate.passed, THREADS);
    condition_finish(&gate.opened);
    lock_finish(&gate.open_lock);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_thread_at_a_time_holds_a_lock),
        cmocka_unit_test(test_a_wait_ends_at_its_deadline_and_not_before),
        cmocka_unit_test(test_a_broadcast_wakes_everybody_also_those_without_a_deadline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
