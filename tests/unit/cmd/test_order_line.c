/* The lines of the response to an order, as they are printed for people. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/json.h"
#include "cmd/order_line.h"

static void test_a_member_that_is_missing_or_of_another_type_is_empty(void **state) {
    (void)state;
    cleanup_json json_t *line =
        json_pack("{s:s, s:i, s:i}", "digest", "sha256:1", "size", 7, "bytes", -1);
    assert_string_equal(json_member_text(line, "digest"), "sha256:1");
    assert_string_equal(json_member_text(line, "size"), "");
    assert_string_equal(json_member_text(NULL, "digest"), "");
    assert_int_equal(order_line_number(line, "size"), 7);
    assert_int_equal(order_line_number(line, "bytes"), 0);
    assert_int_equal(order_line_number(line, "digest"), 0);
}

static void test_the_last_line_is_marked(void **state) {
    (void)state;
    cleanup_json json_t *last = json_pack("{s:b}", "done", 1),
                        *other = json_pack("{s:b}", "done", 0);
    assert_true(order_line_is_last(last));
    assert_false(order_line_is_last(other));
    assert_false(order_line_is_last(NULL));
}

static void test_sizes_and_counts_are_for_people(void **state) {
    (void)state;
    char text[ORDER_LINE_SIZE];
    cleanup_json json_t *one = json_pack("{s:i, s:i}", "blobs", 1, "bytes", 1536);
    cleanup_json json_t *many = json_pack("{s:I}", "blobs", (json_int_t)INT64_MAX);
    order_line_format_size(one, "bytes", text);
    assert_string_equal(text, "1.5 KiB");
    order_line_format_blobs(one, text);
    assert_string_equal(text, "1 blob");
    order_line_format_blobs(many, text);
    assert_string_equal(text, "9223372036854775807 blobs");
    order_line_format_blobs(NULL, text);
    assert_string_equal(text, "0 blobs");
}

static void assert_age(int64_t seconds, const char *wanted) {
    char time[40], text[ORDER_LINE_SIZE];
    time_t then = (time_t)(clock_wall_s() - seconds);
    struct tm parts;
    strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&then, &parts));
    cleanup_json json_t *line = json_pack("{s:s}", "last_used", time);
    order_line_format_age(line, "last_used", text);
    assert_string_equal(text, wanted);
}

static void test_a_time_is_told_by_its_largest_unit(void **state) {
    (void)state;
    char text[ORDER_LINE_SIZE];
    assert_age(-100, "just now");
    assert_age(30, "just now");
    assert_age(61, "1 minute ago");
    assert_age(3 * 3600 + 60, "3 hours ago");
    assert_age(8 * 86400, "1 week ago");
    assert_age(800 * 86400, "2 years ago");
    order_line_format_age(NULL, "last_used", text);
    assert_string_equal(text, "-");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_member_that_is_missing_or_of_another_type_is_empty),
        cmocka_unit_test(test_the_last_line_is_marked),
        cmocka_unit_test(test_sizes_and_counts_are_for_people),
        cmocka_unit_test(test_a_time_is_told_by_its_largest_unit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
