/* The least rate of a client counts only while all workers are taken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include "http/pace.h"

enum { RATE = 1000, WORKERS = 4 };

static struct bulkheads bulkheads;

/* Checks each 250 ms for ten seconds, from `now` on, a client that takes `rate` bytes a second.
 * Returns after how many milliseconds it was found too slow; 0: it never was. */
static int64_t slow_after(uint64_t rate, int64_t now) {
    struct pace pace = {0};
    for (int64_t ms = 0; ms <= 10000; ms += 250)
        if (!pace_is_kept(&pace, &bulkheads, rate * (uint64_t)ms / 1000, now + ms))
            return ms;
    return 0;
}

static void take_workers(unsigned count) {
    pot_init(&bulkheads.workers, WORKERS);
    for (unsigned i = 0; i < count; i++)
        pot_take(&bulkheads.workers);
    bulkheads.least_rate = RATE;
}

static void test_a_slow_client_is_found_only_while_all_workers_are_taken(void **state) {
    (void)state;
    take_workers(WORKERS);
    assert_int_equal(slow_after(0, 1), 2000);
    assert_int_equal(slow_after(RATE - 1, 1), 2000);
    assert_int_equal(slow_after(RATE, 1), 0);
    assert_int_equal(slow_after(100 * RATE, 1), 0);
    take_workers(WORKERS + 10); /* some requests wait in line */
    assert_int_equal(slow_after(0, 1), 2000);
    take_workers(WORKERS - 1);
    assert_int_equal(slow_after(0, 1), 0);
}

static void test_the_time_before_all_workers_were_taken_does_not_count(void **state) {
    (void)state;
    struct pace pace = {0};
    take_workers(WORKERS - 1);
    assert_true(pace_is_kept(&pace, &bulkheads, 0, 1000));
    assert_true(pace_is_kept(&pace, &bulkheads, 0, 60000));
    pot_take(&bulkheads.workers);
    assert_true(pace_is_kept(&pace, &bulkheads, 0, 60001));
    assert_true(pace_is_kept(&pace, &bulkheads, 0, 62000));
    pot_give_back(&bulkheads.workers); /* a free worker begins the time anew */
    assert_true(pace_is_kept(&pace, &bulkheads, 0, 62001));
    pot_take(&bulkheads.workers);
    assert_true(pace_is_kept(&pace, &bulkheads, 0, 62002));
    assert_true(pace_is_kept(&pace, &bulkheads, 0, 64001));
    assert_false(pace_is_kept(&pace, &bulkheads, 0, 64002));
}

static void test_bytes_of_an_earlier_time_do_not_count(void **state) {
    (void)state;
    struct pace pace = {0};
    take_workers(WORKERS);
    assert_true(pace_is_kept(&pace, &bulkheads, 1 << 20, 1000));
    assert_true(pace_is_kept(&pace, &bulkheads, (1 << 20) + 2 * RATE, 3000));
    assert_false(pace_is_kept(&pace, &bulkheads, (1 << 20) + 2 * RATE, 5000));
}

static void test_without_a_least_rate_nobody_is_too_slow(void **state) {
    (void)state;
    struct pace pace = {0};
    take_workers(WORKERS);
    bulkheads.least_rate = 0;
    assert_int_equal(slow_after(0, 1), 0);
    for (int64_t ms = 1; ms < 10000; ms += 250)
        assert_true(pace_is_kept(&pace, NULL, 0, ms));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_slow_client_is_found_only_while_all_workers_are_taken),
        cmocka_unit_test(test_the_time_before_all_workers_were_taken_does_not_count),
        cmocka_unit_test(test_bytes_of_an_earlier_time_do_not_count),
        cmocka_unit_test(test_without_a_least_rate_nobody_is_too_slow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
