/* Range requests: RFC 9110 §14.1.2 and §14.2. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include "http/http.h"

static struct http_range parse(const char *value) {
    return http_range_parse(text_of(value));
}

static void test_one_range_of_each_kind_is_understood(void **state) {
    (void)state;
    struct http_range range = parse("bytes=0-499");
    assert_int_equal(range.kind, HTTP_RANGE_FROM_TO);
    assert_int_equal(range.first, 0);
    assert_int_equal(range.last, 499);
    range = parse("bytes=500-");
    assert_int_equal(range.kind, HTTP_RANGE_FROM);
    assert_int_equal(range.first, 500);
    range = parse("bytes=-20");
    assert_int_equal(range.kind, HTTP_RANGE_LAST);
    assert_int_equal(range.count, 20);
    range = parse("BYTES=7-7");
    assert_int_equal(range.kind, HTTP_RANGE_FROM_TO);
}

static void test_what_is_no_single_byte_range_asks_for_the_whole(void **state) {
    (void)state;
    static const char *const values[] = {
        "",          "bytes",      "bytes=",      "bytes=-",     "bytes=a-b",   "bytes=5",
        "bytes=9-3", "bytes=,",    "bytes=0-1,x", "items=0-5",   "bytes=1 - 2", "bytes=0-1x",
        "bytes=--1", "bytes=+1-2", "bytes 0-1",   "bytes=0x1-2", "bytes=-1-2",  "=0-1",
    };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        assert_int_equal(parse(values[i]).kind, HTTP_RANGE_NONE);
    assert_int_equal(http_range_parse((struct text){NULL, 0}).kind, HTTP_RANGE_NONE);
}

static void settles(const char *value, uint64_t size, uint64_t first, uint64_t length) {
    struct http_range range = parse(value);
    uint64_t got_first = 0, got_length = 0;
    assert_true(http_range_apply(&range, size, &got_first, &got_length));
    assert_int_equal(got_first, first);
    assert_int_equal(got_length, length);
}

static void is_unsatisfiable(const char *value, uint64_t size) {
    struct http_range range = parse(value);
    uint64_t first, length;
    assert_false(http_range_apply(&range, size, &first, &length));
}

static void test_a_range_is_cut_to_the_content(void **state) {
    (void)state;
    settles("bytes=0-499", 1000, 0, 500);
    settles("bytes=0-0", 1000, 0, 1);
    settles("bytes=999-", 1000, 999, 1);
    settles("bytes=500-5000", 1000, 500, 500);
    settles("bytes=-300", 1000, 700, 300);
    settles("bytes=-5000", 1000, 0, 1000);
    settles("", 1000, 0, 1000);
    settles("", 0, 0, 0);
}

static void test_several_ranges_become_the_one_that_covers_them(void **state) {
    (void)state;
    settles("bytes=0-1,4-5", 1000, 0, 6);
    settles("bytes=500-599, 100-199 ,300-399", 1000, 100, 500);
    settles("bytes=10-19,900-", 1000, 10, 990);
    settles("bytes=990-990,-20", 1000, 980, 20);
    settles("bytes=0-0,-1", 1000, 0, 1000);
    settles("bytes=10-19,5000-5001", 1000, 10, 10);
    settles("bytes=7-8,", 1000, 7, 2);
    settles("bytes= , 7-8", 1000, 7, 2);
    settles("bytes=0-1,99999999999999999999-", 1000, 0, 2);
    is_unsatisfiable("bytes=1000-1001,2000-", 1000);
    is_unsatisfiable("bytes=-0,-0", 1000);
    assert_int_equal(parse("bytes=7-8,").kind, HTTP_RANGE_FROM_TO);
    struct http_range range = parse("bytes=30-39,10-19");
    assert_int_equal(range.kind, HTTP_RANGE_SEVERAL);
    assert_int_equal(range.first, 10);
    assert_int_equal(range.last, 39);
    assert_int_equal(range.count, 0);
}

static void test_a_range_behind_the_end_is_unsatisfiable(void **state) {
    (void)state;
    is_unsatisfiable("bytes=1000-", 1000);
    is_unsatisfiable("bytes=1000-1001", 1000);
    is_unsatisfiable("bytes=-0", 1000);
    is_unsatisfiable("bytes=0-", 0);
    is_unsatisfiable("bytes=-1", 0);
}

static void test_numbers_beyond_64_bits_do_not_wrap(void **state) {
    (void)state;
    settles("bytes=0-99999999999999999999999", 1000, 0, 1000);
    settles("bytes=-99999999999999999999999", 1000, 0, 1000);
    is_unsatisfiable("bytes=99999999999999999999999-", UINT64_MAX);
    settles("bytes=0-18446744073709551615", UINT64_MAX, 0, UINT64_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_range_of_each_kind_is_understood),
        cmocka_unit_test(test_what_is_no_single_byte_range_asks_for_the_whole),
        cmocka_unit_test(test_a_range_is_cut_to_the_content),
        cmocka_unit_test(test_several_ranges_become_the_one_that_covers_them),
        cmocka_unit_test(test_a_range_behind_the_end_is_unsatisfiable),
        cmocka_unit_test(test_numbers_beyond_64_bits_do_not_wrap),
    };
    return cmocka_run_group_tests_name("http_range", tests, NULL, NULL);
}
