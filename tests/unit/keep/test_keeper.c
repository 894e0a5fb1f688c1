/* When a keeper may act. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "keep/keeper_private.h"

static const int64_t now_ms = INT64_C(3600) * 1000;

static void test_nothing_is_created_before_there_was_a_list(void **state) {
    (void)state;
    const struct follow_state never = {.connected = true, .true_ms = now_ms};
    assert_false(keeper_is_fresh(&never, now_ms));
}

static void test_what_a_silent_watch_told_stays_true(void **state) {
    (void)state;
    const struct follow_state watched = {.listed = true, .connected = true, .true_ms = 1};
    assert_true(keeper_is_fresh(&watched, now_ms));
}

static void test_without_the_cluster_nothing_is_created_after_five_minutes(void **state) {
    (void)state;
    static const struct {
        int64_t age_ms;
        bool is_fresh;
    } cases[] = {{0, true},       {1000, true},    {299999, true},
                 {300000, false}, {300001, false}, {3000000, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct follow_state cut = {.listed = true, .true_ms = now_ms - cases[i].age_ms};
        assert_int_equal(keeper_is_fresh(&cut, now_ms), cases[i].is_fresh);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_created_before_there_was_a_list),
        cmocka_unit_test(test_what_a_silent_watch_told_stays_true),
        cmocka_unit_test(test_without_the_cluster_nothing_is_created_after_five_minutes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
