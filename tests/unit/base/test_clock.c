/* Clocks, and times as people write them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "base/clock.h"

static void test_times_are_read(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t seconds;
    } good[] = {
        {"2024-05-01T12:34:56Z", 1714566896},      {"2024-05-01T12:34:56.789012345Z", 1714566896},
        {"2024-05-01T14:34:56+02:00", 1714566896}, {"2024-05-01T07:04:56.5-05:30", 1714566896},
        {"2024-02-29T23:59:59Z", 1709251199},      {"2016-12-31T23:59:60Z", 1483228800}};
    static const char *const bad[] = {"",
                                      "2024-05-01",
                                      "2024-05-01T12:34:56",
                                      "2024-05-01T12:34:56.Z",
                                      "2024-13-01T12:34:56Z",
                                      "2024-04-31T12:34:56Z",
                                      "2023-02-29T12:34:56Z",
                                      "2024-05-01T25:34:56Z",
                                      "2024-05-01T12:34:56Zx",
                                      "2024-05-01T12:34:56+2:00",
                                      "-024-05-01T12:34:56Z"};
    int64_t seconds;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(clock_parse_rfc3339(good[i].text, &seconds));
        assert_int_equal(seconds, good[i].seconds);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(clock_parse_rfc3339(bad[i], &seconds));
}

static void test_now_is_written_as_a_time_that_is_read(void **state) {
    (void)state;
    char now[CLOCK_NOW_SIZE];
    int64_t seconds, wall_s = clock_wall_s();
    clock_format_now(now);
    assert_int_equal(strlen(now), strlen("2026-11-21T03:55:00.123Z"));
    assert_true(clock_parse_rfc3339(now, &seconds));
    assert_in_range(seconds - wall_s + 1, 0, 60);
}

static void test_jitter_stays_below_its_bound(void **state) {
    (void)state;
    assert_int_equal(clock_jitter(0), 0);
    assert_int_equal(clock_jitter(1), 0);
    for (unsigned i = 0; i < 100; i++)
        assert_true(clock_jitter(10) < 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_times_are_read),
        cmocka_unit_test(test_now_is_written_as_a_time_that_is_read),
        cmocka_unit_test(test_jitter_stays_below_its_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
