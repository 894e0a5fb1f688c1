/* The rings of the page's plots, and the file that keeps them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include "base/buffer.h"
#include "registry/page/history.h"
#include "registry/page/saved.h"

enum { NOW = 1800000000 };

static struct history history;

static int set_up(void **state) {
    (void)state;
    history = (struct history){0};
    return 0;
}

static void add(int64_t now_s, uint64_t requests) {
    const struct history_figures figures = {
        .requests = requests, .hits = requests / 2, .pushed = requests << 33};
    history_add(&history, now_s, &figures);
}

static void test_what_happens_counts_in_each_range(void **state) {
    (void)state;
    add(NOW, 4);
    add(NOW, 6);
    for (enum history_range range = 0; range < HISTORY_RANGES; range++) {
        assert_int_equal(history_at(&history, range, NOW, 0).requests, 10);
        assert_int_equal(history_at(&history, range, NOW, 1).requests, 0);
        assert_int_equal(history_total(&history, range, NOW).pushed, UINT64_C(10) << 33);
    }
}

static void test_a_step_moves_back_and_then_leaves(void **state) {
    (void)state;
    add(NOW, 1);
    for (enum history_range range = 0; range < HISTORY_RANGES; range++) {
        const unsigned steps = history_step_count(range);
        for (unsigned ago = 0; ago < steps; ago++) {
            int64_t later = NOW + (int64_t)ago * history_step_s(range);
            assert_int_equal(history_at(&history, range, later, ago).requests, 1);
            assert_int_equal(history_total(&history, range, later).requests, 1);
        }
        int64_t after = NOW + steps * history_step_s(range);
        assert_int_equal(history_total(&history, range, after).requests, 0);
    }
}

static void test_a_place_is_emptied_before_it_is_used_again(void **state) {
    (void)state;
    add(NOW, 1);
    add(NOW + HISTORY_HOUR_STEPS * 60, 2);
    assert_int_equal(history_at(&history, HISTORY_HOUR, NOW + HISTORY_HOUR_STEPS * 60, 0).requests,
                     2);
}

static void test_a_clock_that_is_set_back_shows_nothing_of_the_future(void **state) {
    (void)state;
    add(NOW, 1);
    assert_int_equal(history_total(&history, HISTORY_HOUR, NOW - 120).requests, 0);
    assert_int_equal(history_total(&history, HISTORY_MONTH, 0).requests, 0);
    add(-5, 1);
    add(0, 1);
}

static void test_quantiles(void **state) {
    (void)state;
    uint64_t buckets[HISTORY_BUCKETS] = {0};
    assert_true(history_quantile_us(buckets, 0.5) < 0);
    buckets[1] = 100;
    const double low = (double)metric_bounds_us[0], high = (double)metric_bounds_us[1];
    const double middle = history_quantile_us(buckets, 0.5);
    assert_true(middle > low + (high - low) * 0.4 && middle < low + (high - low) * 0.6);
    buckets[HISTORY_BUCKETS - 1] = 100;
    assert_true(history_quantile_us(buckets, 0.5) <= high);
    assert_true(history_quantile_us(buckets, 0.99) >= (double)metric_bounds_us[METRIC_BOUNDS - 1]);
}

static void test_a_difference_never_wraps(void **state) {
    (void)state;
    const struct history_figures before = {.requests = 5, .pulled = 7},
                                 after = {.requests = 9, .pulled = 3};
    const struct history_figures difference = history_difference(&before, &after);
    assert_int_equal(difference.requests, 4);
    assert_int_equal(difference.pulled, 0);
}

/* ---- the file ---- */

static void write_file(struct buffer *file) {
    saved_begin(file);
    history_write(&history, file);
    assert_true(saved_end(file));
}

static void test_the_file_gives_back_what_was_written(void **state) {
    (void)state;
    struct buffer file = {0};
    struct text rest;
    add(NOW, UINT64_C(1) << 40);
    add(NOW - 600, 3);
    write_file(&file);
    assert_int_equal(file.length, saved_length(history_length()));
    assert_true(saved_open((struct text){file.bytes, file.length}, history_length(), &rest));
    set_up(NULL);
    history_read(&history, &rest, NOW);
    assert_int_equal(rest.length, 0);
    assert_int_equal(history_at(&history, HISTORY_HOUR, NOW, 0).requests, UINT32_MAX);
    assert_int_equal(history_at(&history, HISTORY_HOUR, NOW, 10).requests, 3);
    assert_int_equal(history_at(&history, HISTORY_HOUR, NOW, 10).pushed, UINT64_C(3) << 33);
    buffer_finish(&file);
}

static void test_steps_of_the_future_are_dropped(void **state) {
    (void)state;
    struct buffer file = {0};
    struct text rest;
    add(NOW + 10 * 86400, 3);
    write_file(&file);
    assert_true(saved_open((struct text){file.bytes, file.length}, history_length(), &rest));
    set_up(NULL);
    history_read(&history, &rest, NOW);
    assert_int_equal(history_total(&history, HISTORY_MONTH, NOW + 10 * 86400).requests, 0);
    buffer_finish(&file);
}

static void test_no_other_bytes_are_a_file(void **state) {
    (void)state;
    struct buffer file = {0};
    struct text rest;
    add(NOW, 3);
    write_file(&file);
    for (size_t length = 0; length < file.length; length += 997)
        assert_false(saved_open((struct text){file.bytes, length}, history_length(), &rest));
    for (size_t at = 0; at < file.length; at += 499) {
        file.bytes[at] ^= 4;
        assert_false(saved_open((struct text){file.bytes, file.length}, history_length(), &rest));
        file.bytes[at] ^= 4;
    }
    assert_true(saved_open((struct text){file.bytes, file.length}, history_length(), &rest));
    buffer_finish(&file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_what_happens_counts_in_each_range, set_up),
        cmocka_unit_test_setup(test_a_step_moves_back_and_then_leaves, set_up),
        cmocka_unit_test_setup(test_a_place_is_emptied_before_it_is_used_again, set_up),
        cmocka_unit_test_setup(test_a_clock_that_is_set_back_shows_nothing_of_the_future, set_up),
        cmocka_unit_test(test_quantiles),
        cmocka_unit_test(test_a_difference_never_wraps),
        cmocka_unit_test_setup(test_the_file_gives_back_what_was_written, set_up),
        cmocka_unit_test_setup(test_steps_of_the_future_are_dropped, set_up),
        cmocka_unit_test_setup(test_no_other_bytes_are_a_file, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
