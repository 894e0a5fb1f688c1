/* Which requests a server has asked not to repeat, and for how long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>
#include "upstream/pauses.h"

enum { NOW = 1000000 };

static struct pauses pauses;

static int set_up(void **state) {
    (void)state;
    pauses_init(&pauses);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    pauses_finish(&pauses);
    return 0;
}

static void test_only_the_request_that_was_refused_pauses(void **state) {
    (void)state;
    int status = 0;
    assert_int_equal(pauses_left(&pauses, "GET a", &status, NOW), 0);
    assert_int_equal(pauses_begin(&pauses, "GET a", 429, 7, NOW), 7);
    assert_int_equal(pauses_left(&pauses, "GET a", &status, NOW), 7);
    assert_int_equal(status, 429);
    assert_int_equal(pauses_left(&pauses, "GET a", &status, NOW + 6001), 1);
    assert_int_equal(pauses_left(&pauses, "GET a", &status, NOW + 7000), 0);
    assert_int_equal(pauses_left(&pauses, "HEAD a", &status, NOW), 0);
    assert_int_equal(pauses_left(&pauses, "GET b", &status, NOW), 0);
}

static void test_a_pause_is_a_minute_at_most(void **state) {
    (void)state;
    int status;
    assert_int_equal(pauses_begin(&pauses, "a", 429, 77, NOW), 60);
    assert_int_equal(pauses_left(&pauses, "a", &status, NOW), 60);
    assert_int_equal(pauses_begin(&pauses, "a", 429, 600, NOW), 60);
}

static void test_a_time_that_is_not_said_or_absurd_is_found_out(void **state) {
    (void)state;
    static const int expected[] = {1, 2, 4, 8, 16, 32, 60, 60, 60};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        assert_int_equal(pauses_begin(&pauses, "unsaid", 429, 0, NOW), expected[i]);
        assert_int_equal(pauses_begin(&pauses, "absurd", 429, 86400, NOW), expected[i]);
    }
    assert_int_equal(pauses_begin(&pauses, "unsaid", 503, 5, NOW), 5);
    assert_int_equal(pauses_begin(&pauses, "unsaid", 503, 0, NOW), 1);
    pauses_end(&pauses, "absurd");
    assert_int_equal(pauses_begin(&pauses, "absurd", 429, 86400, NOW), 1);
}

static void test_a_success_ends_the_pause(void **state) {
    (void)state;
    int status;
    pauses_begin(&pauses, "a", 429, 30, NOW);
    pauses_begin(&pauses, "b", 429, 30, NOW);
    pauses_end(&pauses, "a");
    assert_int_equal(pauses_left(&pauses, "a", &status, NOW), 0);
    assert_int_equal(pauses_left(&pauses, "b", &status, NOW), 30);
}

static void test_the_number_of_pauses_is_bounded(void **state) {
    (void)state;
    char name[32];
    int status;
    for (int i = 0; i <= PAUSES_LIMIT; i++) {
        snprintf(name, sizeof name, "a%d", i);
        pauses_begin(&pauses, name, 429, 30, NOW + i);
    }
    assert_int_equal(pauses_left(&pauses, "a0", &status, NOW), 0); /* the oldest went */
    assert_int_equal(pauses_left(&pauses, "a1", &status, NOW + 1), 30);
    assert_int_equal(pauses_left(&pauses, name, &status, NOW + PAUSES_LIMIT), 30);
}

#define WITH_PAUSES(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_PAUSES(test_only_the_request_that_was_refused_pauses),
        WITH_PAUSES(test_a_pause_is_a_minute_at_most),
        WITH_PAUSES(test_a_time_that_is_not_said_or_absurd_is_found_out),
        WITH_PAUSES(test_a_success_ends_the_pause),
        WITH_PAUSES(test_the_number_of_pauses_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
