#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include "base/buffer.h"
#include "base/error.h"
#include "base/metric.h"
#include "base/text.h"
#include "base/units.h"

#define LENGTH(array) (sizeof(array) / sizeof *(array))

static const struct text nothing = {NULL, 0};

/* text */

static void assert_text(struct text text, const char *expected) {
    if (!text_is(text, expected))
        fail_msg("\"%.*s\" is not \"%s\"", TEXT_PRINT(text), expected);
}

static void test_texts_are_compared_byte_for_byte(void **state) {
    (void)state;
    assert_true(text_is(text_of("abc"), "abc"));
    assert_false(text_is(text_of("abc"), "ab"));
    assert_false(text_is(text_of("ab"), "abc"));
    assert_false(text_is(text_of("abc"), "abC"));
    assert_true(text_is_nocase(text_of("aBc-1"), "AbC-1"));
    assert_false(text_is_nocase(text_of("abc"), "abd"));
    assert_true(text_starts(text_of("abc"), "ab"));
    assert_false(text_starts(text_of("a"), "ab"));
    assert_true(text_ends(text_of("abc"), "bc"));
    assert_false(text_ends(text_of("c"), "bc"));
    assert_text(text_from(text_of("abc"), 1), "bc");
}

static void test_a_text_of_nothing_is_empty(void **state) {
    (void)state;
    char out[4];
    uint64_t number;
    struct text rest;
    assert_int_equal(text_of(NULL).length, 0);
    assert_true(text_is(nothing, ""));
    assert_true(text_is_nocase(nothing, ""));
    assert_true(text_starts(nothing, ""));
    assert_true(text_ends(nothing, ""));
    assert_int_equal(text_trim(nothing).length, 0);
    assert_int_equal(text_cut(nothing, '/', &rest).length, 0);
    assert_null(rest.at);
    assert_false(text_to_u64(nothing, &number));
    assert_true(text_copy(nothing, out, sizeof out));
    assert_true(text_percent_decode(nothing, out, sizeof out));
    assert_string_equal(out, "");
    assert_true(text_matches_glob("**", nothing));
    char *copy = text_dup(nothing);
    assert_string_equal(copy, "");
    free(copy);
}

static void test_spaces_and_tabs_are_trimmed_off_both_ends(void **state) {
    (void)state;
    assert_text(text_trim(text_of(" \t a b\t ")), "a b");
    assert_text(text_trim(text_of(" \t ")), "");
    assert_text(text_trim(text_of("\na\r")), "\na\r");
}

static void test_only_decimal_digits_are_a_number(void **state) {
    (void)state;
    static const char *const bad[] = {"",
                                      "-1",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "0x1",
                                      "1.0",
                                      "1e3",
                                      "\xb2",
                                      "18446744073709551616",
                                      "99999999999999999999999"};
    uint64_t number = 7;
    for (size_t i = 0; i < LENGTH(bad); i++) {
        if (text_to_u64(text_of(bad[i]), &number))
            fail_msg("\"%s\" was taken for a number", bad[i]);
        assert_int_equal(number, 7);
    }
    assert_true(text_to_u64(text_of("18446744073709551615"), &number));
    assert_true(number == UINT64_MAX);
    assert_true(text_to_u64(text_of("0010"), &number));
    assert_int_equal(number, 10);
}

static void test_a_text_is_cut_at_the_first_separator(void **state) {
    (void)state;
    struct text rest = text_of("a//b");
    assert_text(text_cut(rest, '/', &rest), "a");
    assert_text(text_cut(rest, '/', &rest), "");
    assert_text(text_cut(rest, '/', &rest), "b");
    assert_null(rest.at);
    assert_text(text_cut(text_of("a/"), '/', &rest), "a");
    assert_non_null(rest.at);
    assert_int_equal(rest.length, 0);
}

static void test_a_copy_fits_or_is_empty(void **state) {
    (void)state;
    char out[4] = "xyz";
    assert_true(text_copy(text_of("abc"), out, sizeof out));
    assert_string_equal(out, "abc");
    assert_false(text_copy(text_of("abcd"), out, sizeof out));
    assert_string_equal(out, "");
    assert_false(text_copy((struct text){"a\0b", 3}, out, sizeof out));
    assert_string_equal(out, "");
    assert_false(text_copy(text_of(""), out, 0));
}

static void test_percent_escapes_are_decoded_strictly(void **state) {
    (void)state;
    static const char *const bad[] = {"%", "%4", "%4g", "%g4", "%%41", "%00", "a%", "12345678"};
    char out[8];
    assert_true(text_percent_decode(text_of("a%2Fb%2f+"), out, sizeof out));
    assert_string_equal(out, "a/b/+");
    assert_true(text_percent_decode(text_of("%41%42%43%44%45%46%47"), out, sizeof out));
    assert_string_equal(out, "ABCDEFG");
    assert_true(text_percent_decode(text_of("%2541"), out, sizeof out));
    assert_string_equal(out, "%41");
    for (size_t i = 0; i < LENGTH(bad); i++) {
        if (text_percent_decode(text_of(bad[i]), out, sizeof out))
            fail_msg("\"%s\" was decoded", bad[i]);
    }
    assert_false(text_percent_decode((struct text){"a\0", 2}, out, sizeof out));
    assert_false(text_percent_decode(text_of(""), out, 0));
}

/* text_matches_glob() */

static void test_globs_match_parts_and_paths(void **state) {
    (void)state;
    static const struct {
        const char *pattern, *name;
        bool matches;
    } cases[] = {
        {"a/b", "a/b", true},
        {"a/b", "a/bc", false},
        {"a/b", "xa/b", false},
        {"", "", true},
        {"", "a", false},
        {"*", "", true},
        {"*", "abc", true},
        {"*", "a/b", false},
        {"**", "", true},
        {"**", "a/b/c", true},
        {"project/**", "project/a/b", true},
        {"project/**", "project", false},
        {"project/**", "projects/a", false},
        {"project/*", "project/a", true},
        {"project/*", "project/a/b", false},
        {"*.pkg.dev", "us-docker.pkg.dev", true},
        {"*.pkg.dev", ".pkg.dev.evil.example", false},
        {"*.pkg.dev", "pkg.dev", false},
        {"**/app", "a/b/app", true},
        {"**/app", "a/b/application", false},
        {"a/**/z", "a/b/c/z", true},
        {"a/**/z", "a/z", false},
        {"**/*a/b", "x/ya/c/za/b", true},
        {"a?c", "abc", true},
        {"a?c", "a/c", false},
        {"a?c", "ac", false},
        {"*-*-*", "a-b-c-d", true},
        {"*-*-*", "a-b", false},
        {"[ab]", "a", false},
        {"[ab]", "[ab]", true},
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        if (text_matches_glob(cases[i].pattern, text_of(cases[i].name)) != cases[i].matches)
            fail_msg("%s and %s should %smatch", cases[i].pattern, cases[i].name,
                     cases[i].matches ? "" : "not ");
    }
}

/* The definition, tried in every way: slow, and so plain that it can be believed. */
static bool matches_by_definition(const char *pattern, const char *name) {
    if (pattern[0] == '*') {
        bool across = pattern[1] == '*';
        const char *rest = pattern + 1 + across;
        for (;; name++) {
            if (matches_by_definition(rest, name))
                return true;
            if (*name == '\0' || (*name == '/' && !across))
                return false;
        }
    }
    if (*pattern == '\0' || *name == '\0')
        return *pattern == *name;
    if (*pattern != *name && (*pattern != '?' || *name == '/'))
        return false;
    return matches_by_definition(pattern + 1, name + 1);
}

/* Writes the number in the alphabet's digits; false when it needs more than `size` of them. Each
 * string over the alphabet has one number (bijective numeration). */
static bool write_in(const char *alphabet, unsigned number, char *out, size_t size) {
    unsigned base = (unsigned)strlen(alphabet);
    size_t length = 0;
    for (; number; number = (number - 1) / base) {
        if (length == size)
            return false;
        out[length++] = alphabet[(number - 1) % base];
    }
    out[length] = '\0';
    return true;
}

static void test_globs_match_what_their_definition_says(void **state) {
    (void)state;
    char pattern[7], name[6];
    for (unsigned p = 0; write_in("*/?a", p, pattern, 6); p++) {
        for (unsigned n = 0; write_in("/ab", n, name, 5); n++) {
            if (text_matches_glob(pattern, text_of(name)) != matches_by_definition(pattern, name))
                fail_msg("pattern \"%s\", name \"%s\"", pattern, name);
        }
    }
}

static void test_hostile_globs_end_soon(void **state) {
    (void)state;
    char pattern[101], name[256];
    for (size_t i = 0; i < 100; i++)
        pattern[i] = "*a**a"[i % 5];
    pattern[100] = '\0';
    memset(name, 'a', sizeof name);
    name[255] = 'b';
    assert_false(text_matches_glob(pattern, (struct text){name, sizeof name}));
}

/* buffer */

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
    assert_true(buffer_append_text(&buffer, nothing));
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
    buffer_free(&buffer);
    assert_int_equal(buffer.limit, 4);
    assert_true(buffer_append_string(&buffer, "abcd"));
}

static void assert_json(const char *text, const char *expected) {
    cleanup_buffer struct buffer buffer = {0};
    assert_true(buffer_append_json(&buffer, text_of(text)));
    assert_string_equal(buffer.bytes ? buffer.bytes : "", expected);
}

static void test_json_strings_are_escaped(void **state) {
    (void)state;
    cleanup_buffer struct buffer buffer = {0};
    assert_json("", "");
    assert_json("a \"b\" \\ /", "a \\\"b\\\" \\\\ /");
    assert_json("\n\t\x1f\x7f", "\\u000a\\u0009\\u001f\\u007f");
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

/* units */

static void test_sizes_are_read_as_people_write_them(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } cases[] = {
        {"0", 0},
        {"4096", 4096},
        {"4096B", 4096},
        {"10GiB", 10ULL << 30},
        {"10Gi", 10ULL << 30},
        {"10G", 10ULL << 30},
        {"500MB", 500000000},
        {"1.5TiB", 3ULL << 39},
        {"0.5kB", 500},
        {"1 KiB", 1024},
        {"2PiB", 2ULL << 50},
        {"1.000001MB", 1000001},
        {"4000000000000B", 4000000000000},
        {"9223372036854775807", INT64_MAX},
        {"9223372036854775807B", INT64_MAX},
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        uint64_t bytes = 0;
        if (!units_parse_size(text_of(cases[i].text), &bytes) || bytes != cases[i].bytes)
            fail_msg("%s gave %llu", cases[i].text, (unsigned long long)bytes);
    }
}

static void test_what_is_no_size_is_refused(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        "-1",
        "+1",
        " 1",
        "GiB",
        "1.GiB",
        ".5GiB",
        "1..5GiB",
        "1 ",
        "1GiBx",
        "1XiB",
        "1EiB",
        "1iB",
        "1gb",
        "1GIB",
        "1 G B",
        "0x10",
        "1e3",
        "1,5G",
        "1Bi",
        "8192PiB",
        "9223372036854775808",
        "9223372036854775808B",
        "99999999999999999999999GiB",
    };
    for (size_t i = 0; i < LENGTH(bad); i++) {
        uint64_t bytes = 7;
        if (units_parse_size(text_of(bad[i]), &bytes))
            fail_msg("\"%s\" gave %llu", bad[i], (unsigned long long)bytes);
        assert_int_equal(bytes, 7);
    }
}

static void test_durations_are_read_as_people_write_them(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } cases[] = {
        {"0", 0},
        {"0s", 0},
        {"30s", 30000},
        {"5m", 300000},
        {"168h", 604800000},
        {"7d", 604800000},
        {"250ms", 250},
        {"1h30m", 5400000},
        {"1.5h", 5400000},
        {"1m1ms", 60001},
        {"36500d", 3153600000000},
    };
    static const char *const bad[] = {
        "",
        "1",
        "00",
        "-1s",
        "+1s",
        " 1s",
        "1 s",
        "s",
        "1x",
        "1S",
        "1.s",
        "1hm",
        "1h ",
        "1sm",
        "1us",
        "1h30",
        "36601d",
        "99999999999999999999d",
        "18446744073709551615s",
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        int64_t ms = -1;
        if (!units_parse_duration(text_of(cases[i].text), &ms) || ms != cases[i].ms)
            fail_msg("%s gave %lld", cases[i].text, (long long)ms);
    }
    for (size_t i = 0; i < LENGTH(bad); i++) {
        int64_t ms = 7;
        if (units_parse_duration(text_of(bad[i]), &ms))
            fail_msg("\"%s\" gave %lld", bad[i], (long long)ms);
        assert_int_equal(ms, 7);
    }
}

static void test_formatted_durations_are_read_again(void **state) {
    (void)state;
    static const int64_t times[] = {0,     1,     250,     999,       1000,         59999,
                                    60000, 61000, 3600000, 604800000, 3153600000000};
    for (size_t i = 0; i < LENGTH(times); i++) {
        char text[40];
        int64_t ms = -1;
        units_format_duration(times[i], text, sizeof text);
        if (!units_parse_duration(text_of(text), &ms) || ms != times[i])
            fail_msg("%lld became %s became %lld", (long long)times[i], text, (long long)ms);
    }
}

static void test_sizes_are_printed_for_people(void **state) {
    (void)state;
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {
        {0, "0 B"},
        {812, "812 B"},
        {1023, "1023 B"},
        {1024, "1.0 KiB"},
        {1536, "1.5 KiB"},
        {3ULL << 29, "1.5 GiB"},
        {5ULL << 40, "5.0 TiB"},
        {UINT64_MAX, "16.0 EiB"},
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        char text[16];
        units_format_size(cases[i].bytes, text, sizeof text);
        assert_string_equal(text, cases[i].text);
    }
}

/* error */

static void test_an_error_becomes_a_sentence_on_its_way_up(void **state) {
    (void)state;
    struct error error = {0};
    assert_false(error_set(&error, ERROR_DENIED, "token: %d Forbidden", 403));
    error.retry_after_s = 30;
    strcpy(error.code, "DENIED");
    assert_false(error_wrap(&error, "upstream %s", "ghcr.io"));
    assert_string_equal(error.text, "upstream ghcr.io: token: 403 Forbidden");
    assert_int_equal(error.kind, ERROR_DENIED);
    assert_int_equal(error.retry_after_s, 30);
    assert_string_equal(error.code, "DENIED");
    assert_false(error_set(&error, ERROR_IO, "anew"));
    assert_int_equal(error.retry_after_s, 0);
    assert_string_equal(error.code, "");
    error_clear(&error);
    assert_int_equal(error.kind, ERROR_NONE);
    assert_string_equal(error.text, "");
}

static void test_an_errno_tells_its_kind_and_reason(void **state) {
    (void)state;
    static const struct {
        int value;
        enum error_kind kind;
    } cases[] = {{ENOSPC, ERROR_NO_SPACE},
                 {EDQUOT, ERROR_NO_SPACE},
                 {ENOMEM, ERROR_MEMORY},
                 {EACCES, ERROR_IO}};
    for (size_t i = 0; i < LENGTH(cases); i++) {
        struct error error = {0};
        assert_false(error_set_errno(&error, cases[i].value, "writing %s", "x"));
        assert_int_equal(error.kind, cases[i].kind);
        char expected[128];
        snprintf(expected, sizeof expected, "writing x: %s", strerror(cases[i].value));
        assert_string_equal(error.text, expected);
    }
}

static void test_an_error_text_is_printable_and_bounded(void **state) {
    (void)state;
    struct error error = {0};
    char longer[1000];
    memset(longer, 'a', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    error_set(&error, ERROR_INVALID, "a\r\nb\x1b[31m\x7f");
    error_wrap(&error, "c\nd");
    assert_string_equal(error.text, "c d: a  b [31m ");
    error_wrap(&error, "%s", longer);
    assert_int_equal(strlen(error.text), sizeof error.text - 1);
    error_set(&error, ERROR_IO, "%s", longer);
    error_wrap(&error, "%s", "front");
    assert_int_equal(strlen(error.text), sizeof error.text - 1);
    assert_memory_equal(error.text, "front: aaa", 10);
    error_set_errno(&error, EIO, "%s", longer);
    assert_int_equal(strlen(error.text), sizeof error.text - 1);
}

static void test_nobody_needs_to_take_an_error(void **state) {
    (void)state;
    assert_false(error_set(NULL, ERROR_IO, "x"));
    assert_false(error_set_errno(NULL, EIO, "x"));
    assert_false(error_wrap(NULL, "x"));
    error_clear(NULL);
}

static void test_every_kind_has_a_name_of_its_own(void **state) {
    (void)state;
    for (int a = ERROR_NONE; a <= ERROR_MEMORY; a++) {
        assert_string_not_equal(error_kind_name((enum error_kind)a), "unknown");
        for (int b = ERROR_NONE; b < a; b++)
            assert_string_not_equal(error_kind_name((enum error_kind)a),
                                    error_kind_name((enum error_kind)b));
    }
}

/* metric */

static void test_metrics_of_one_name_stand_under_one_heading(void **state) {
    (void)state;
    cleanup_buffer struct buffer out = {0};
    metric_add(metric_get(METRIC_COUNTER, "test_hits_total", "Hits.", "type=\"blob\""), 2);
    metric_set(metric_get(METRIC_GAUGE, "test_bytes", "Bytes.", ""), -5);
    metric_add(metric_get(METRIC_COUNTER, "test_hits_total", "Hits.", "type=\"manifest\""), 1);
    metric_add(metric_get(METRIC_COUNTER, "test_hits_total", "Hits.", "type=\"blob\""), 1);
    metric_write(&out);
    assert_string_equal(out.bytes, "# HELP test_hits_total Hits.\n"
                                   "# TYPE test_hits_total counter\n"
                                   "test_hits_total{type=\"blob\"} 3\n"
                                   "test_hits_total{type=\"manifest\"} 1\n"
                                   "# HELP test_bytes Bytes.\n"
                                   "# TYPE test_bytes gauge\n"
                                   "test_bytes -5\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts_are_compared_byte_for_byte),
        cmocka_unit_test(test_a_text_of_nothing_is_empty),
        cmocka_unit_test(test_spaces_and_tabs_are_trimmed_off_both_ends),
        cmocka_unit_test(test_only_decimal_digits_are_a_number),
        cmocka_unit_test(test_a_text_is_cut_at_the_first_separator),
        cmocka_unit_test(test_a_copy_fits_or_is_empty),
        cmocka_unit_test(test_percent_escapes_are_decoded_strictly),
        cmocka_unit_test(test_globs_match_parts_and_paths),
        cmocka_unit_test(test_globs_match_what_their_definition_says),
        cmocka_unit_test(test_hostile_globs_end_soon),
        cmocka_unit_test(test_a_buffer_grows_and_stays_a_string),
        cmocka_unit_test(test_a_buffer_stops_at_its_limit_and_says_so),
        cmocka_unit_test(test_json_strings_are_escaped),
        cmocka_unit_test(test_bytes_that_are_no_utf8_are_replaced_in_json),
        cmocka_unit_test(test_sizes_are_read_as_people_write_them),
        cmocka_unit_test(test_what_is_no_size_is_refused),
        cmocka_unit_test(test_durations_are_read_as_people_write_them),
        cmocka_unit_test(test_formatted_durations_are_read_again),
        cmocka_unit_test(test_sizes_are_printed_for_people),
        cmocka_unit_test(test_an_error_becomes_a_sentence_on_its_way_up),
        cmocka_unit_test(test_an_errno_tells_its_kind_and_reason),
        cmocka_unit_test(test_an_error_text_is_printable_and_bounded),
        cmocka_unit_test(test_nobody_needs_to_take_an_error),
        cmocka_unit_test(test_every_kind_has_a_name_of_its_own),
        cmocka_unit_test(test_metrics_of_one_name_stand_under_one_heading),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
