/* JSON from untrusted peers: its bounds, and how it is written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/json.h"

/* Whether `before`, `count` times `piece`, and `after` together are accepted. */
static bool loads(const char *before, const char *piece, size_t count, const char *after,
                  struct error *error) {
    cleanup_buffer struct buffer text = {0};
    buffer_append_string(&text, before);
    for (size_t i = 0; i < count; i++)
        buffer_append_string(&text, piece);
    buffer_append_string(&text, after);
    cleanup_json json_t *json = bounded_json_load(text.bytes, text.length, error);
    return json != NULL;
}

static void test_depth_and_number_of_values_are_bounded(void **state) {
    (void)state;
    struct error error = {0};
    assert_true(loads("[", "1,", JSON_VALUE_LIMIT - 2, "1]", &error));
    assert_false(loads("[", "1,", JSON_VALUE_LIMIT, "1]", &error));
    assert_int_equal(error.kind, ERROR_INVALID);
    assert_non_null(strstr(error.text, "more than 200000 values"));
    assert_false(loads("", "[", JSON_DEPTH_LIMIT + 1, "", &error));
    assert_non_null(strstr(error.text, "more than 64 levels"));
    /* Brackets inside a string are text. */
    assert_true(loads("[\"\\\"", "[", 1000, "\"]", &error));
}

static void test_a_fault_is_named_by_line_and_column(void **state) {
    (void)state;
    struct error error = {0};
    assert_null(bounded_json_load("{\n  x", 5, &error));
    assert_int_equal(error.kind, ERROR_INVALID);
    assert_non_null(strstr(error.text, "line 2, column"));
    assert_null(bounded_json_load(NULL, 0, &error));
    assert_int_equal(error.kind, ERROR_INVALID);
    assert_null(bounded_json_load("[\"\xff\"]", 5, &error));
    assert_int_equal(error.kind, ERROR_INVALID);
}

static void test_strings_may_hold_nul_bytes_where_that_is_allowed(void **state) {
    (void)state;
    static const char text[] = "[\"a\\u0000b\"]";
    cleanup_json json_t *json = bounded_json_load(text, strlen(text), NULL);
    assert_int_equal(json_string_length(json_array_get(json, 0)), 3);
    assert_null(bounded_json_load_by(0, text, strlen(text), NULL));
}

static void test_json_is_written_as_text(void **state) {
    (void)state;
    cleanup_buffer struct buffer out = {0};
    cleanup_json json_t *json = json_pack("{s:i}", "a", 1);
    assert_true(bounded_json_dump(json, JSON_COMPACT, &out));
    assert_string_equal(out.bytes, "{\"a\":1}");
    assert_false(bounded_json_dump(NULL, JSON_COMPACT, &out));
    struct buffer small = {.limit = 3};
    assert_false(bounded_json_dump(json, JSON_COMPACT, &small));
    buffer_finish(&small);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_depth_and_number_of_values_are_bounded),
        cmocka_unit_test(test_a_fault_is_named_by_line_and_column),
        cmocka_unit_test(test_strings_may_hold_nul_bytes_where_that_is_allowed),
        cmocka_unit_test(test_json_is_written_as_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
