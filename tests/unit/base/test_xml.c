/* XML of untrusted services: what is read, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/buffer.h"
#include "base/xml.h"

/* Writes the walk down: "+path", "-path=text". */
static bool begin(void *context, const char *path, struct error *error) {
    (void)error;
    return buffer_printf(context, "+%s ", path);
}

static bool end(void *context, const char *path, struct text text, struct error *error) {
    if (text_is(text, "stop"))
        return error_set(error, ERROR_DENIED, "stopped at %s", path);
    return buffer_printf(context, "-%s=%.*s ", path, TEXT_PRINT(text));
}

static bool walk(const char *document, struct buffer *out, struct error *error) {
    const struct xml_sink sink = {out, begin, end};
    return xml_walk(document, strlen(document), &sink, error);
}

static void test_elements_come_with_their_path_and_their_own_text(void **state) {
    (void)state;
    cleanup_buffer struct buffer out = {0};
    assert_true(walk("<?xml version=\"1.0\"?>\n<R xmlns=\"http://s3/\"><K>a&amp;&#65;b</K>x"
                     "<p:K a='1'><![CDATA[<c>]]></p:K>y<E/></R>\n",
                     &out, NULL));
    assert_string_equal(out.bytes, "+R +R/K -R/K=a&Ab +R/K -R/K=<c> +R/E -R/E= -R=xy ");
}

static void assert_refused(const char *document, enum error_kind kind, const char *why) {
    cleanup_buffer struct buffer out = {0};
    struct error error = {0};
    assert_false(walk(document, &out, &error));
    assert_int_equal(error.kind, kind);
    if (!strstr(error.text, why))
        fail_msg("\"%s\" does not say \"%s\"", error.text, why);
}

static void test_what_is_no_document_is_refused_by_line_and_column(void **state) {
    (void)state;
    assert_refused("", ERROR_INVALID, "XML, line 1");
    assert_refused("<a>\n<b></a>", ERROR_INVALID, "XML, line 2, column ");
    assert_refused("<a>&unknown;</a>", ERROR_INVALID, "undefined entity");
    assert_refused("<a>\xff</a>", ERROR_INVALID, "XML, line 1");
    assert_refused("<a/><b/>", ERROR_INVALID, "XML, line 1");
    assert_refused("<a>", ERROR_INVALID, "XML, line 1");
}

static void test_no_entity_can_be_defined(void **state) {
    (void)state;
    assert_refused("<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", ERROR_INVALID, "type declaration");
    assert_refused("<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>", ERROR_INVALID,
                   "type declaration");
    assert_refused("<!DOCTYPE a><a/>", ERROR_INVALID, "type declaration");
}

static void test_depth_names_and_length_are_bounded(void **state) {
    (void)state;
    cleanup_buffer struct buffer out = {0}, names = {0}, length = {0};
    assert_true(walk("<a><a><a><a><a><a><a><a>x</a></a></a></a></a></a></a></a>", &out, NULL));
    assert_refused("<a><a><a><a><a><a><a><a><a/></a></a></a></a></a></a></a></a>", ERROR_INVALID,
                   "too deeply");
    buffer_append_string(&names, "<");
    for (int i = 0; i < XML_PATH_SIZE; i++)
        buffer_append_string(&names, "n");
    buffer_append_string(&names, "/>");
    assert_refused(names.bytes, ERROR_INVALID, "too long");
    buffer_append_string(&length, "<a>");
    while (length.length <= XML_LENGTH_LIMIT)
        buffer_append_string(&length, "some text, some text, some text ");
    buffer_append_string(&length, "</a>");
    assert_refused(length.bytes, ERROR_INVALID, "more than 1048576 bytes");
}

static void test_a_callback_ends_the_walk_with_its_own_error(void **state) {
    (void)state;
    cleanup_buffer struct buffer out = {0};
    struct error error = {0};
    assert_false(walk("<a><b>stop</b><c/></a>", &out, &error));
    assert_int_equal(error.kind, ERROR_DENIED);
    assert_string_equal(error.text, "stopped at a/b");
    assert_string_equal(out.bytes, "+a +a/b ");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elements_come_with_their_path_and_their_own_text),
        cmocka_unit_test(test_what_is_no_document_is_refused_by_line_and_column),
        cmocka_unit_test(test_no_entity_can_be_defined),
        cmocka_unit_test(test_depth_names_and_length_are_bounded),
        cmocka_unit_test(test_a_callback_ends_the_walk_with_its_own_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
