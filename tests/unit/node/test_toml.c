/* The reader of TOML: keys, values of each kind, and what is no TOML. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "node/toml.h"

/* Writes `a|b=value` for each entry; a string has quotes around it. */
static void collect(void *context, const struct toml_entry *entry) {
    struct buffer *out = context;
    const char *quote = entry->is_string ? "\"" : "";
    for (size_t i = 0; i < entry->depth; i++)
        buffer_printf(out, "%s%.*s", i ? "|" : "", TEXT_PRINT(entry->path[i]));
    buffer_printf(out, "=%s%.*s%s\n", quote, TEXT_PRINT(entry->value), quote);
}

static void assert_reads(const char *document, const char *expected) {
    cleanup_buffer struct buffer out = {0};
    struct error error = {0};
    if (!toml_read(text_of(document), collect, &out, &error))
        fail_msg("%s: %s", document, error.text);
    assert_string_equal(out.bytes ? out.bytes : "", expected);
}

static void assert_refuses(const char *document, const char *said) {
    cleanup_buffer struct buffer out = {0};
    struct error error = {0};
    assert_false(toml_read(text_of(document), collect, &out, &error));
    assert_int_equal(error.kind, ERROR_INVALID);
    if (!strstr(error.text, said))
        fail_msg("%s: %s", document, error.text);
}

static void test_keys_have_the_names_of_their_tables(void **state) {
    (void)state;
    assert_reads("", "");
    assert_reads("\xef\xbb\xbf# only a comment", "");
    assert_reads("a = 1", "a=1\n");
    assert_reads("a.b.\"c d\" . 'e.f' = 1 # x\r\n\n", "a|b|c d|e.f=1\n");
    assert_reads("x=1\n[a]\ny=2\nz.q=3\n[ b . 'c' ] # x\ny=4\n[[d]]\ny=5\n[[d]]\ny=6\n",
                 "x=1\na|y=2\na|z|q=3\nb|c|y=4\nd|y=5\nd|y=6\n");
    assert_reads("[a]\nb = { c = 1, d.e = 'x', f = {} }\ng = 2\n",
                 "a|b|c=1\na|b|d|e=\"x\"\na|g=2\n");
    assert_reads("\"\" = 1\n\"\\u00e4\" = 2", "=1\n\xc3\xa4=2\n");
}

static void test_strings_are_read_in_all_four_forms(void **state) {
    (void)state;
    assert_reads("a = \"b # \\\"c\\\" \\\\ \\t\\u0041\\U0001F600\"",
                 "a=\"b # \"c\" \\ \tA\xf0\x9f\x98\x80\"\n");
    assert_reads("a = 'b \\n # \"'", "a=\"b \\n # \"\"\n");
    assert_reads("a = \"\"\"\nb\\\n   c\n\"d\" \"\"\"\"\nb=1", "a=\"bc\n\"d\" \"\"\nb=1\n");
    assert_reads("a = '''\r\nb\n'c' '''", "a=\"b\n'c' \"\n");
    assert_reads("a = \"\"\nb = ''\nc = \"\"\"\"\"\"", "a=\"\"\nb=\"\"\nc=\"\"\n");
}

static void test_other_values_are_taken_as_they_stand(void **state) {
    (void)state;
    assert_reads("a = -1.5e3 # x\nb = 1979-05-27 07:32:00\nc = true\nd=inf",
                 "a=-1.5e3\nb=1979-05-27 07:32:00\nc=true\nd=inf\n");
    assert_reads("a = [ 1, 'x' , # y\n [2, 3],\n\n]\nb = []", "a=1\na=\"x\"\na=2\na=3\n");
    assert_reads("a = [{b = 1}, {b = 2}]", "a|b=1\na|b=2\n");
}

static void test_what_is_no_toml_is_refused_with_its_line(void **state) {
    (void)state;
    static const struct {
        const char *document, *said;
    } cases[] = {
        {"a = 1\nb", "line 2: a key has no value"},
        {"a =", "line 1: a key has no value"},
        {"= 1", "line 1: there is no key"},
        {"a. = 1", "line 1: there is no key"},
        {"a = 1 'x'", "line 1: something follows"},
        {"a = \"x", "line 1: a string has no end"},
        {"a = \"x\nb\"", "a string has no end"},
        {"a = '''x\n\n''", "line 3: a string has no end"},
        {"a = \"\\q\"", "unknown escape"},
        {"a = \"\\u12\"", "hexadecimal"},
        {"a = \"\\ud800\"", "no character"},
        {"a = \"\\u0000\"", "no character"},
        {"a = \"x\\", "unknown escape"},
        {"[a", "the name of a table has no end"},
        {"[[a]", "the name of a table has no end"},
        {"[a] b", "something follows"},
        {"a = [1 'x'", "an array has no end"},
        {"a = [1", "an array has no end"},
        {"a = {b = 1", "an inline table has no end"},
        {"{{ template }}", "there is no key"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_refuses(cases[i].document, cases[i].said);
}

static void test_depths_are_limited(void **state) {
    (void)state;
    cleanup_buffer struct buffer out = {0};
    for (unsigned i = 0; i < TOML_DEPTH_LIMIT; i++)
        buffer_append_string(&out, "a.");
    buffer_append_string(&out, "a = 1");
    assert_refuses(out.bytes, "too long");
    buffer_clear(&out);
    buffer_append_string(&out, "a = ");
    for (unsigned i = 0; i <= TOML_NESTING_LIMIT; i++)
        buffer_append_string(&out, "[");
    assert_refuses(out.bytes, "too many");
    buffer_clear(&out);
    for (unsigned i = 0; i < TOML_NAME_SIZE; i++)
        buffer_append_string(&out, "a");
    buffer_append_string(&out, " = 1");
    assert_refuses(out.bytes, "too long");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys_have_the_names_of_their_tables),
        cmocka_unit_test(test_strings_are_read_in_all_four_forms),
        cmocka_unit_test(test_other_values_are_taken_as_they_stand),
        cmocka_unit_test(test_what_is_no_toml_is_refused_with_its_line),
        cmocka_unit_test(test_depths_are_limited),
    };
    return cmocka_run_group_tests_name("toml", tests, NULL, NULL);
}
