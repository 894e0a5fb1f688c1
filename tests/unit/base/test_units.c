/* Sizes and durations as people write and read them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "base/units.h"

#define LENGTH(array) (sizeof(array) / sizeof *(array))

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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes_are_read_as_people_write_them),
        cmocka_unit_test(test_what_is_no_size_is_refused),
        cmocka_unit_test(test_durations_are_read_as_people_write_them),
        cmocka_unit_test(test_formatted_durations_are_read_again),
        cmocka_unit_test(test_sizes_are_printed_for_people),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
