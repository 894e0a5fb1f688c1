/* Which bytes are present: runs added, removed, sorted and found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdlib.h>
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

static void test_extents_are_removed(void **state) {
    (void)state;
    struct extents extents = {0};
    assert_true(extents_add(&extents, 10, 40));
    assert_true(extents_add(&extents, 50, 60));
    assert_true(extents_remove(&extents, 20, 30)); /* a hole */
    assert_int_equal(extents.count, 3);
    assert_int_equal(extents_run_end(&extents, 10), 20);
    assert_int_equal(extents_run_end(&extents, 25), 25);
    assert_int_equal(extents_run_end(&extents, 30), 40);
    assert_true(
        extents_remove(&extents, 15, 55)); /* the end of a run, a whole run, the start of a run */
    assert_int_equal(extents.count, 2);
    assert_int_equal(extents_run_end(&extents, 10), 15);
    assert_int_equal(extents_run_end(&extents, 55), 60);
    assert_true(extents_remove(&extents, 0, 100));
    assert_int_equal(extents.count, 0);
    assert_true(extents_remove(&extents, 0, 100));
    extents_finish(&extents);
}

enum { MODEL_SIZE = 64 };

/* Checks that the list agrees with the model on each byte, is sorted, and has no two runs that
 * touch. */
static void assert_is(const struct extents *extents, const bool model[static MODEL_SIZE]) {
    size_t total = 0;
    for (uint64_t at = 0; at < MODEL_SIZE; at++) {
        uint64_t end = at, gap_end;
        struct extent gap;
        while (end < MODEL_SIZE && model[end])
            end++;
        assert_int_equal(extents_run_end(extents, at), end);
        for (gap_end = end; gap_end < MODEL_SIZE && !model[gap_end];)
            gap_end++;
        assert_int_equal(extents_gap(extents, at, MODEL_SIZE, &gap), end < MODEL_SIZE);
        if (end < MODEL_SIZE)
            assert_true(gap.start == end && gap.end == gap_end);
        total += model[at];
    }
    assert_int_equal(extents_total(extents), total);
    for (size_t i = 0; i < extents->count; i++) {
        assert_true(extents->at[i].start < extents->at[i].end);
        assert_true(i == 0 || extents->at[i - 1].end < extents->at[i].start);
    }
}

static void test_extents_are_what_was_added_and_not_removed(void **state) {
    (void)state;
    srand(1);
    for (int round = 0; round < 200; round++) {
        struct extents extents = {0};
        bool model[MODEL_SIZE] = {false};
        for (int step = 0; step < 40; step++) {
            int start = rand() % MODEL_SIZE, end = start + rand() % 12;
            bool add = rand() % 2;
            end = end > MODEL_SIZE ? MODEL_SIZE : end;
            for (int at = start; at < end; at++)
                model[at] = add;
            assert_true(add ? extents_add(&extents, (uint64_t)start, (uint64_t)end)
                            : extents_remove(&extents, (uint64_t)start, (uint64_t)end));
            assert_is(&extents, model);
        }
        extents_finish(&extents);
    }
}

static void test_extents_appended_in_any_order_are_sorted_and_merged(void **state) {
    (void)state;
    srand(2);
    for (int round = 0; round < 200; round++) {
        struct extents extents = {0};
        bool model[MODEL_SIZE] = {false};
        for (int i = 0; i < round % 20; i++) {
            int start = rand() % MODEL_SIZE, end = start + rand() % 6;
            end = end > MODEL_SIZE ? MODEL_SIZE : end;
            for (int at = start; at < end; at++)
                model[at] = true;
            assert_true(extents_append(&extents, (uint64_t)start, (uint64_t)end));
        }
        extents_sort(&extents);
        assert_is(&extents, model);
        extents_finish(&extents);
    }
}

/* A quarter of a million runs that do not touch, as a hostile file may hold them. If any step were
 * quadratic, the test would reach its time limit. */
static void test_many_extents_in_the_worst_order_cost_little(void **state) {
    (void)state;
    enum { RUNS = 1 << 18 };
    struct extents extents = {0}, copy = {0};
    for (uint64_t i = RUNS; i-- > 0;)
        assert_true(extents_append(&extents, 4 * i, 4 * i + 1));
    extents_sort(&extents);
    assert_int_equal(extents.count, RUNS);
    for (size_t i = 0; i < extents.count; i++)
        assert_true(extents_add(&copy, extents.at[i].start, extents.at[i].end));
    assert_int_equal(extents_total(&copy), RUNS);
    assert_true(extents_remove(&copy, 8, UINT64_MAX));
    assert_int_equal(copy.count, 2);
    extents_finish(&extents);
    extents_finish(&copy);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_extents_merge_and_find_gaps),
        cmocka_unit_test(test_extents_are_removed),
        cmocka_unit_test(test_extents_are_what_was_added_and_not_removed),
        cmocka_unit_test(test_extents_appended_in_any_order_are_sorted_and_merged),
        cmocka_unit_test(test_many_extents_in_the_worst_order_cost_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
