/* Runs of bytes: adding, removing, and searching for gaps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "base/extents.h"

static void test_extents_merge_and_find_gaps(void **state) {
    (void)state;
    struct extents extents = {0};
    struct extent gap;
    assert_true(extents_gap(&extents, 0, 10, &gap));
    assert_true(gap.start == 0 && gap.end == 10);
    assert_true(extents_add(&extents, 10, 20));
    assert_true(extents_add(&extents, 30, 40));
    assert_true(extents_add(&extents, 0, 5));
    assert_int_equal(extents.count, 3);
    assert_true(extents_gap(&extents, 0, 100, &gap));
    assert_true(gap.start == 5 && gap.end == 10);
    assert_true(extents_gap(&extents, 12, 100, &gap));
    assert_true(gap.start == 20 && gap.end == 30);
    assert_true(extents_add(&extents, 5, 35));
    assert_int_equal(extents.count, 1);
    assert_int_equal(extents_run_end(&extents, 0), 40);
    assert_int_equal(extents_run_end(&extents, 40), 40);
    assert_int_equal(extents_total(&extents), 40);
    assert_false(extents_gap(&extents, 0, 40, &gap));
    extents_finish(&extents);
}

static void test_extents_are_taken_out(void **state) {
    (void)state;
    struct extents extents = {0};
    assert_true(extents_add(&extents, 10, 40));
    assert_true(extents_add(&extents, 50, 60));
    assert_true(extents_remove(&extents, 20, 30)); /* a hole */
    assert_int_equal(extents.count, 3);
    assert_int_equal(extents_run_end(&extents, 10), 20);
    assert_int_equal(extents_run_end(&extents, 25), 25);
    assert_int_equal(extents_run_end(&extents, 30), 40);
    assert_true(extents_remove(&extents, 15, 55)); /* an end, a whole, a beginning */
    assert_int_equal(extents.count, 2);
    assert_int_equal(extents_run_end(&extents, 10), 15);
    assert_int_equal(extents_run_end(&extents, 55), 60);
    assert_true(extents_remove(&extents, 0, 100));
    assert_int_equal(extents.count, 0);
    assert_true(extents_remove(&extents, 0, 100));
    extents_finish(&extents);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_extents_merge_and_find_gaps),
        cmocka_unit_test(test_extents_are_taken_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
