/* Lists and watches that arrive in pieces of any size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/json.h"
#include "kubernetes/items.h"
#include "kubernetes/lines.h"

/* What was handed over, with a blank behind each. */
struct seen {
    char text[256];
};

static void add(struct seen *seen, struct text text) {
    size_t length = strlen(seen->text);
    snprintf(seen->text + length, sizeof seen->text - length, "%.*s ", TEXT_PRINT(text));
}

static bool on_item(void *context, const json_t *item, struct error *error) {
    cleanup_buffer struct buffer out = {0};
    bounded_json_dump(item, JSON_COMPACT, &out);
    add(context, text_of(out.bytes));
    return !json_object_get(item, "stop") || error_set(error, ERROR_CLOSED, "stop");
}

static bool on_line(void *context, struct text line, struct error *error) {
    (void)error;
    add(context, line);
    return true;
}

/* Takes a list in pieces of `piece` bytes. The rest as text is the caller's; NULL: it failed. */
static char *split(const char *list, size_t piece, struct seen *seen, struct error *error) {
    struct items items;
    cleanup_buffer struct buffer out = {0};
    size_t length = strlen(list);
    bool ok = true;
    *seen = (struct seen){0};
    items_init(&items, on_item, seen);
    for (size_t at = 0; ok && at < length; at += piece)
        ok = items_take(&items, list + at, length - at < piece ? length - at : piece, error);
    cleanup_json json_t *rest = ok ? items_end(&items, error) : NULL;
    items_finish(&items);
    if (rest)
        bounded_json_dump(rest, JSON_COMPACT, &out);
    char *text = out.bytes ? strdup(out.bytes) : NULL;
    return text;
}

static void test_a_list_comes_apart_however_it_arrives(void **state) {
    (void)state;
    static const struct {
        const char *list, *items, *rest;
    } cases[] = {
        {"{\"kind\":\"L\",\"items\":[],\"metadata\":{}}", "",
         "{\"kind\":\"L\",\"items\":[],\"metadata\":{}}"},
        {" {\"metadata\":{\"items\":[1,{}]},\n\"items\" : [ {\"a\":[{}]} , {\"b\":\"]}\\\"\"}\n] }",
         "{\"a\":[{}]} {\"b\":\"]}\\\"\"} ", "{\"metadata\":{\"items\":[1,{}]},\"items\":[]}"},
        {"{\"other\":[{\"c\":1}],\"items\":[{\"items\":[{}]}]}", "{\"items\":[{}]} ",
         "{\"other\":[{\"c\":1}],\"items\":[]}"},
        {"{\"items\":null}", "", "{\"items\":null}"},
        {"{\"items\":{\"d\":[]}}", "", "{\"items\":{\"d\":[]}}"},
        {"{\"a\":\"items\",\"b\":[1]}", "", "{\"a\":\"items\",\"b\":[1]}"},
        {"{\"items1\":[1],\"item\":[2]}", "", "{\"items1\":[1],\"item\":[2]}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (size_t piece = 1; piece <= strlen(cases[i].list); piece++) {
            struct seen seen;
            struct error error = {0};
            char *rest = split(cases[i].list, piece, &seen, &error);
            if (!rest)
                fail_msg("%s: %s", cases[i].list, error.text);
            assert_string_equal(seen.text, cases[i].items);
            assert_string_equal(rest, cases[i].rest);
            free(rest);
        }
    }
}

static void test_what_is_no_list_is_refused(void **state) {
    (void)state;
    static const char *const cases[] = {
        "",
        "{",
        "[",
        "}",
        "{}}",
        "7",
        "{\"items\":[",
        "{\"items\":[{}",
        "{\"items\":[7]}",
        "{\"items\":[[]]}",
        "{\"items\":[{} {}]}",
        "{\"items\":[,{}]}",
        "{\"items\":[{}]",
        "{\"items\":[{]]}",
        "{\"items\":[{\"a\"}]}",
        "{\"items\":[{}]}x",
        "{\"items\":[{\"stop\":1}]}",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (size_t piece = 1; piece <= 8; piece++) {
            struct seen seen;
            struct error error = {0};
            if (split(cases[i], piece, &seen, &error) || error.kind == ERROR_NONE)
                fail_msg("%s was taken in pieces of %zu", cases[i], piece);
        }
    }
}

static void test_an_item_has_a_limit(void **state) {
    (void)state;
    struct items items;
    struct seen seen = {0};
    struct error error = {0};
    static char bytes[1 << 20];
    memset(bytes, 'x', sizeof bytes);
    items_init(&items, on_item, &seen);
    assert_true(items_take(&items, "{\"items\":[{\"a\":\"", 15, NULL));
    for (int i = 0; i < 7; i++)
        assert_true(items_take(&items, bytes, sizeof bytes, NULL));
    assert_false(items_take(&items, bytes, sizeof bytes, &error));
    assert_int_equal(error.kind, ERROR_INVALID);
    items_finish(&items);
}

static void test_lines_come_apart_however_they_arrive(void **state) {
    (void)state;
    static const char text[] = "one\n\n two\r\nthree";
    for (size_t piece = 1; piece <= sizeof text; piece++) {
        struct lines lines;
        struct seen seen = {0};
        lines_init(&lines, on_line, &seen);
        for (size_t at = 0; at < strlen(text); at += piece) {
            size_t left = strlen(text) - at;
            assert_true(lines_take(&lines, text + at, left < piece ? left : piece, NULL));
        }
        assert_string_equal(seen.text, "one  two ");
        assert_true(lines_end(&lines, NULL));
        assert_string_equal(seen.text, "one  two three ");
        lines_finish(&lines);
    }
}

static void test_a_line_has_a_limit(void **state) {
    (void)state;
    struct lines lines;
    struct seen seen = {0};
    struct error error = {0};
    char *line = malloc(LINES_LIMIT + 2);
    assert_non_null(line);
    memset(line, 'x', LINES_LIMIT + 1);
    line[LINES_LIMIT + 1] = '\n';
    lines_init(&lines, on_line, &seen);
    assert_true(
        lines_take(&lines, line + 1, LINES_LIMIT + 1, NULL)); /* just as long as it may be */
    assert_false(lines_take(&lines, line, LINES_LIMIT + 2, &error));
    assert_int_equal(error.kind, ERROR_INVALID);
    assert_true(lines.begun.length <= LINES_LIMIT);
    lines_finish(&lines);
    lines_init(&lines, on_line, &seen);
    assert_true(lines_take(&lines, line, LINES_LIMIT, NULL));
    assert_false(lines_take(&lines, "x", 1, &error));
    lines_finish(&lines);
    free(line);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_list_comes_apart_however_it_arrives),
        cmocka_unit_test(test_what_is_no_list_is_refused),
        cmocka_unit_test(test_an_item_has_a_limit),
        cmocka_unit_test(test_lines_come_apart_however_they_arrive),
        cmocka_unit_test(test_a_line_has_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
