/* Lists in Docker's daemon.json, edited as text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "node/daemon_json.h"

#define KEY "registry-mirrors"

static struct error error;

static void assert_added(const char *text, const char *expected) {
    cleanup_buffer struct buffer out = {0};
    assert_true(daemon_json_add(text_of(text), KEY, "http://a", &out, &error));
    assert_string_equal(out.bytes, expected);
}

static void assert_removed(const char *text, bool drop, const char *expected) {
    cleanup_buffer struct buffer out = {0};
    assert_true(daemon_json_remove(text_of(text), KEY, "http://a", drop, &out, &error));
    assert_string_equal(out.bytes, expected);
}

static void test_a_list_is_made_in_the_file_s_own_format(void **state) {
    (void)state;
    assert_added("{}", "{\n  \"registry-mirrors\": [\"http://a\"]\n}");
    assert_added(" { } \n", " {\n  \"registry-mirrors\": [\"http://a\"]\n} \n");
    assert_added("{\"debug\":true}", "{\"registry-mirrors\": [\"http://a\"], \"debug\":true}");
    assert_added("{\n\t\"debug\": true\n}\n",
                 "{\n\t\"registry-mirrors\": [\"http://a\"],\n\t\"debug\": true\n}\n");
}

static void test_a_value_becomes_the_first_of_a_list(void **state) {
    (void)state;
    assert_added("{\"registry-mirrors\":[]}", "{\"registry-mirrors\":[\"http://a\"]}");
    assert_added("{\"registry-mirrors\" : [ \"b\" ]}",
                 "{\"registry-mirrors\" : [ \"http://a\", \"b\" ]}");
    assert_added("{\"x\":[{\"registry-mirrors\":[1,2]},\"]\\\"}\"],\"registry-mirrors\":[\"b\"]}",
                 "{\"x\":[{\"registry-mirrors\":[1,2]},\"]\\\"}\"],"
                 "\"registry-mirrors\":[\"http://a\", \"b\"]}");
    assert_added("{\"registry-mirrors\": [\n  \"b\",\n  \"c\"\n]}",
                 "{\"registry-mirrors\": [\n  \"http://a\",\n  \"b\",\n  \"c\"\n]}");
}

static void test_a_value_that_is_there_is_not_added(void **state) {
    (void)state;
    assert_added("{\"registry-mirrors\":[\"b\",\"http://a/\"]}",
                 "{\"registry-mirrors\":[\"b\",\"http://a/\"]}");
}

static void test_a_value_is_taken_out_wherever_it_stands(void **state) {
    (void)state;
    assert_removed("{\"registry-mirrors\":[\"http://a\", \"b\", \"c\"]}", true,
                   "{\"registry-mirrors\":[\"b\", \"c\"]}");
    assert_removed("{\"registry-mirrors\":[\"b\", \"http://a/\", \"c\"]}", true,
                   "{\"registry-mirrors\":[\"b\", \"c\"]}");
    assert_removed("{\"registry-mirrors\":[\"b\",\n \"http://a\"]}", true,
                   "{\"registry-mirrors\":[\"b\"]}");
    assert_removed("{\"registry-mirrors\":[\"http://a\"]}", false, "{\"registry-mirrors\":[]}");
    assert_removed("{\"registry-mirrors\":[\"b\"]}", true, "{\"registry-mirrors\":[\"b\"]}");
    assert_removed("{\"debug\": true}", true, "{\"debug\": true}");
}

static void test_an_empty_list_goes_with_its_comma(void **state) {
    (void)state;
    assert_removed("{\"registry-mirrors\": [\"http://a\"]}", true, "{}");
    assert_removed("{\n \"registry-mirrors\": [\"http://a\"],\n \"debug\": true\n}\n", true,
                   "{\n \"debug\": true\n}\n");
    assert_removed("{\n \"debug\": true,\n \"registry-mirrors\": [\"http://a\"]\n}\n", true,
                   "{\n \"debug\": true\n}\n");
}

static void test_removing_undoes_adding(void **state) {
    (void)state;
    static const char *const texts[] = {
        "{\"debug\":true}",
        "{\n\t\"debug\" : true,\n\n\t\"data-root\":\"/x\"\n}\n\n",
        "{\"a\":{\"b\":[1,{}]},\"registry-mirrors\":[\"b\"]}",
        "{\r\n  \"registry-mirrors\" : [\r\n    \"b\"\r\n  ]\r\n}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        cleanup_buffer struct buffer added = {0}, removed = {0};
        cleanup_json json_t *before = daemon_json_load(text_of(texts[i]), &error);
        assert_true(daemon_json_add(text_of(texts[i]), KEY, "http://a", &added, &error));
        assert_true(daemon_json_remove((struct text){added.bytes, added.length}, KEY, "http://a",
                                       !json_object_get(before, KEY), &removed, &error));
        cleanup_json json_t *after = daemon_json_load(text_of(removed.bytes), &error);
        assert_true(json_equal(before, after));
    }
}

static void test_a_key_that_is_spelled_with_escapes_is_found(void **state) {
    (void)state;
    cleanup_buffer struct buffer out = {0};
    assert_true(daemon_json_add(text_of("{\"registry\\u002dmirrors\": [\"b\"], \"z\": 1}"), KEY,
                                "http://a", &out, &error));
    cleanup_json json_t *got = daemon_json_load(text_of(out.bytes), &error);
    assert_int_equal(json_object_size(got), 2);
    assert_true(daemon_json_has(got, KEY, "http://a"));
    assert_true(daemon_json_has(got, KEY, "b"));
}

static void test_what_is_no_list_of_strings_is_refused(void **state) {
    (void)state;
    static const char *const texts[] = {
        "",
        "[]",
        "{",
        "{\"registry-mirrors\": \"a\"}",
        "{\"registry-mirrors\": [1]}",
        "{\"registry-mirrors\": null}",
        "{\"registry-mirrors\": [], \"registry-mirrors\": []}",
        "\xef\xbb\xbf{}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        cleanup_buffer struct buffer out = {0};
        error_clear(&error);
        assert_false(daemon_json_add(text_of(texts[i]), KEY, "http://a", &out, &error));
        assert_int_equal(error.kind, ERROR_INVALID);
        error_clear(&error);
        assert_false(daemon_json_remove(text_of(texts[i]), KEY, "http://a", true, &out, &error));
        assert_int_equal(error.kind, ERROR_INVALID);
        assert_int_equal(out.length, 0);
    }
}

static void test_an_error_does_not_quote_the_file(void **state) {
    (void)state;
    error_clear(&error);
    assert_null(
        daemon_json_load(text_of("{\"proxies\": \"http://user:secret@proxy\" secret}"), &error));
    assert_non_null(strstr(error.text, "line 1, column"));
    assert_null(strstr(error.text, "secret"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_list_is_made_in_the_file_s_own_format),
        cmocka_unit_test(test_a_value_becomes_the_first_of_a_list),
        cmocka_unit_test(test_a_value_that_is_there_is_not_added),
        cmocka_unit_test(test_a_value_is_taken_out_wherever_it_stands),
        cmocka_unit_test(test_an_empty_list_goes_with_its_comma),
        cmocka_unit_test(test_removing_undoes_adding),
        cmocka_unit_test(test_a_key_that_is_spelled_with_escapes_is_found),
        cmocka_unit_test(test_what_is_no_list_of_strings_is_refused),
        cmocka_unit_test(test_an_error_does_not_quote_the_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
