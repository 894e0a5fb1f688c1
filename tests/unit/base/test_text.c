/* Borrowed texts: comparing, cutting, decoding, globs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>
#include "base/text.h"

#define LENGTH(array) (sizeof(array) / sizeof *(array))

static const struct text nothing = {NULL, 0};

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

/* The definition of a glob, tried in every way: slow, but simple enough to be trusted. */
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
