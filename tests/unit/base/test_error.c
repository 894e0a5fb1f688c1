/* Errors as sentences: their text, kind and bounds. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "base/error.h"

#define LENGTH(array) (sizeof(array) / sizeof *(array))

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
    } cases[] = {{ENOSPC, ERROR_NO_SPACE}, {EDQUOT, ERROR_NO_SPACE}, {ENAMETOOLONG, ERROR_INVALID},
                 {EILSEQ, ERROR_INVALID},  {ENOMEM, ERROR_MEMORY},   {EMFILE, ERROR_FILES},
                 {ENFILE, ERROR_FILES},    {EACCES, ERROR_IO}};
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_error_becomes_a_sentence_on_its_way_up),
        cmocka_unit_test(test_an_errno_tells_its_kind_and_reason),
        cmocka_unit_test(test_an_error_text_is_printable_and_bounded),
        cmocka_unit_test(test_nobody_needs_to_take_an_error),
        cmocka_unit_test(test_every_kind_has_a_name_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
