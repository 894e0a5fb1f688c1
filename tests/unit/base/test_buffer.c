/* Growing runs of bytes, their limits, and JSON strings in them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include "base/buffer.h"

static void test_a_buffer_grows_and_stays_a_string(void **state) {
    (void)state;
    cleanup_buffer struct buffer buffer = {0};
    for (int i = 0; i < 1000; i++)
        assert_true(buffer_printf(&buffer, "%03d,", i));
    assert_int_equal(buffer.length, 4000);
    assert_int_equal(strlen(buffer.bytes), 4000);
    assert_memory_equal(buffer.bytes + 3996, "999,", 4);
    buffer_clear(&buffer);
    assert_string_equal(buffer.bytes, "");
    assert_true(buffer_append(&buffer, NULL, 0));
    assert_true(buffer_append(&buffer, "a\0b", 3));
    assert_int_equal(buffer.length, 3);
}

static void test_a_buffer_stops_at_its_limit_and_says_so(void **state) {
    (void)state;
    cleanup_buffer struct buffer buffer = {.limit = 4};
    assert_true(buffer_append_string(&buffer, "abcd"));
    assert_false(buffer_append_string(&buffer, "e"));
    assert_true(buffer.failed);
    assert_false(buffer_append_string(&buffer, ""));
    assert_string_equal(buffer.bytes, "abcd");
    buffer_clear(&buffer);
    assert_false(buffer.failed);
    assert_false(buffer_reserve(&buffer, SIZE_MAX));
    buffer_finish(&buffer);
    assert_int_equal(buffer.limit, 4);
    assert_true(buffer_append_string(&buffer, "abcd"));
}

static void assert_json(const char *text, const char *expected) {
    cleanup_buffer struct buffer buffer = {0};
    assert_true(buffer_append_json(&buffer, text_of(text)));
    assert_string_equal(buffer.bytes ? buffer.bytes : "", expected);
}

static void test_numbers_are_written_in_decimal(void **state) {
    (void)state;
    static const int64_t numbers[] = {0, 7, -7, 10, 1234567890, INT64_MAX, INT64_MIN};
    cleanup_buffer struct buffer buffer = {0};
    char expected[32];
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        buffer_clear(&buffer);
        assert_true(buffer_append_number(&buffer, numbers[i]));
        snprintf(expected, sizeof expected, "%lld", (long long)numbers[i]);
        assert_string_equal(buffer.bytes, expected);
    }
}

/* Whether the text just fits, lacks one byte of room or is far too long. */
static void test_text_of_each_length_is_formatted_whole(void **state) {
    (void)state;
    char word[700];
    memset(word, 'w', sizeof word);
    for (int length = 0; length < (int)sizeof word; length++) {
        cleanup_buffer struct buffer buffer = {.limit = 600};
        assert_true(buffer_append_string(&buffer, "begin "));
        bool fits = buffer_printf(&buffer, "%.*s", length, word);
        assert_true(fits == (length <= 600 - 6));
        assert_int_equal(buffer.length, fits ? 6 + length : 6);
        assert_int_equal(strlen(buffer.bytes), buffer.length);
    }
}

static void test_json_strings_are_escaped(void **state) {
    (void)state;
    cleanup_buffer struct buffer buffer = {0};
    assert_json("", "");
    assert_json("a \"b\" \\ /", "a \\\"b\\\" \\\\ /");
    assert_json("\n\t\x1f\x7f", "\\u000a\\u0009\\u001f\\u007f");
    assert_json("\xc2\x80\xc2\x9b\xc2\x9f\xc2\xa0", "\\u0080\\u009b\\u009f\xc2\xa0"); /* C1 */
    assert_json("\xc3\xa4 \xe2\x82\xac \xf0\x9f\x90\x8b", "\xc3\xa4 \xe2\x82\xac \xf0\x9f\x90\x8b");
    assert_true(buffer_append_json(&buffer, (struct text){"a\0b", 3}));
    assert_string_equal(buffer.bytes, "a\\u0000b");
}

#define REPLACEMENT "\xef\xbf\xbd"

static void test_bytes_that_are_no_utf8_are_replaced_in_json(void **state) {
    (void)state;
    assert_json("a\xff", "a" REPLACEMENT);
    assert_json("\x80", REPLACEMENT);
    assert_json("\xc3", REPLACEMENT);                                 /* cut */
    assert_json("\xe2\x82", REPLACEMENT REPLACEMENT);                 /* cut */
    assert_json("\xc3(", REPLACEMENT "(");                            /* no continuation */
    assert_json("\xc0\xaf", REPLACEMENT REPLACEMENT);                 /* overlong slash */
    assert_json("\xe0\x80\xaf", REPLACEMENT REPLACEMENT REPLACEMENT); /* overlong slash */
    assert_json("\xed\xa0\x80", REPLACEMENT REPLACEMENT REPLACEMENT); /* surrogate */
    assert_json("\xf4\x90\x80\x80", REPLACEMENT REPLACEMENT REPLACEMENT REPLACEMENT); /* > 10FFFF */
    assert_json("\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf");
}

static void test_what_is_not_plain_is_percent_encoded(void **state) {
    (void)state;
    cleanup_buffer struct buffer buffer = {0};
    assert_true(buffer_append_percent(&buffer, "aZ09-._~ /:@&=+%\"\xc3\xa4", ""));
    assert_string_equal(buffer.bytes, "aZ09-._~%20%2F%3A%40%26%3D%2B%25%22%C3%A4");
    buffer_clear(&buffer);
    assert_true(buffer_append_percent(&buffer, "a/b:c?", "/:"));
    assert_string_equal(buffer.bytes, "a/b:c%3F");
    buffer_clear(&buffer);
    assert_true(buffer_append_percent(&buffer, "", ""));
    assert_int_equal(buffer.length, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_buffer_grows_and_stays_a_string),
        cmocka_unit_test(test_a_buffer_stops_at_its_limit_and_says_so),
        cmocka_unit_test(test_numbers_are_written_in_decimal),
        cmocka_unit_test(test_text_of_each_length_is_formatted_whole),
        cmocka_unit_test(test_json_strings_are_escaped),
        cmocka_unit_test(test_bytes_that_are_no_utf8_are_replaced_in_json),
        cmocka_unit_test(test_what_is_not_plain_is_percent_encoded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
