/* Error bodies: what is written, and what is read from any body. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "oci/error_body.h"

static char code[32], message[64];

static bool read_bytes(const void *bytes, size_t length) {
    memset(code, 'x', sizeof code);
    memset(message, 'x', sizeof message);
    return error_body_read(bytes, length, code, sizeof code, message, sizeof message);
}

static bool read_string(const char *body) {
    return read_bytes(body, strlen(body));
}

static void test_the_id_of_a_request_stands_behind_the_message_and_in_the_detail(void **state) {
    (void)state;
    cleanup_buffer struct buffer out = {0};
    char body[200];
    assert_true(error_body_write(&out, "DENIED", "no", "a-1"));
    assert_string_equal(out.bytes,
                        "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"no (request a-1)\","
                        "\"detail\":{\"request_id\":\"a-1\"}}]}\n");
    error_body_of_status(429, "too many", "b-2", body, sizeof body);
    assert_string_equal(
        body, "{\"errors\":[{\"code\":\"TOOMANYREQUESTS\",\"message\":\"too many (request "
              "b-2)\",\"detail\":{\"request_id\":\"b-2\"}}]}\n");
}

static void assert_reads(const char *body, const char *expected_code,
                         const char *expected_message) {
    assert_true(read_string(body));
    assert_string_equal(code, expected_code);
    assert_string_equal(message, expected_message);
}

static void test_the_body_has_the_specs_form(void **state) {
    (void)state;
    cleanup_buffer struct buffer out = {0};
    assert_true(error_body_write(&out, "MANIFEST_UNKNOWN", "ghcr.io: no \"1.0\"\\\n", NULL));
    assert_string_equal(out.bytes, "{\"errors\":[{\"code\":\"MANIFEST_UNKNOWN\",\"message\":"
                                   "\"ghcr.io: no \\\"1.0\\\"\\\\\\u000a\"}]}\n");
}

static void test_what_is_written_is_read_again(void **state) {
    (void)state;
    cleanup_buffer struct buffer out = {0};
    assert_true(error_body_write(&out, "DENIED", "who \"are\" \xe2\x82\xac you", NULL));
    assert_true(read_bytes(out.bytes, out.length));
    assert_string_equal(code, "DENIED");
    assert_string_equal(message, "who \"are\" \xe2\x82\xac you");
}

static void test_running_out_of_room_is_said(void **state) {
    (void)state;
    cleanup_buffer struct buffer out = {.limit = 10};
    assert_false(error_body_write(&out, "DENIED", "no", NULL));
}

static void test_the_first_error_is_read(void **state) {
    (void)state;
    assert_reads("{\"errors\":[{\"code\":\"NAME_UNKNOWN\",\"message\":\"no such\",\"detail\":{}},"
                 "{\"code\":\"OTHER\",\"message\":\"other\"}]}",
                 "NAME_UNKNOWN", "no such");
    assert_reads("{\"errors\":[{\"code\":\"DENIED\"}]}", "DENIED", "");
    assert_reads("{\"errors\":[{\"message\":\"only words\"}]}", "", "only words");
}

static void test_front_ends_and_token_services_are_understood(void **state) {
    (void)state;
    assert_reads("{\"error\":{\"code\":403,\"message\":\"no access\","
                 "\"status\":\"PERMISSION_DENIED\"}}",
                 "PERMISSION_DENIED", "no access");
    assert_reads("{\"error\":\"invalid_grant\",\"error_description\":\"expired\"}", "invalid_grant",
                 "expired");
    assert_reads("{\"details\":\"incorrect username or password\"}", "",
                 "incorrect username or password");
    assert_reads("{\"message\":\"slow down\"}", "", "slow down");
}

static void test_a_body_that_is_no_error_gives_nothing(void **state) {
    (void)state;
    static const char *const bodies[] = {
        "",
        "404 page not found",
        "<html><body>502 Bad Gateway</body></html>",
        "{\"errors\":[{\"code\":\"DENIED\",\"mess",
        "{\"errors\":[]}",
        "{\"errors\":{}}",
        "{\"errors\":[[]]}",
        "{\"errors\":[null]}",
        "{\"errors\":[{\"code\":7,\"message\":[]}]}",
        "{\"errors\":[{\"code\":\"\",\"message\":\"\"}]}",
        "[]",
        "{}",
        "\"text\"",
        "caf\xe9",
    };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        if (read_string(bodies[i]))
            fail_msg("found \"%s\" \"%s\" in %s", code, message, bodies[i]);
        assert_string_equal(code, "");
        assert_string_equal(message, "");
    }
    assert_false(read_bytes(NULL, 0));
}

static void test_control_characters_do_not_get_through(void **state) {
    (void)state;
    assert_reads("{\"message\":\"a\\r\\nSet-Cookie: b\\u001b[31m\\u009bc\\u007f\\u0000d\"}", "",
                 "a  Set-Cookie: b [31m c  d");
    assert_reads("{\"errors\":[{\"code\":\"A\\r\\nB\",\"message\":\"m\"}]}", "", "m");
}

static void test_bytes_that_are_no_utf8_are_replaced(void **state) {
    (void)state;
    assert_reads("{\"message\":\"caf\xe9 ferm\xe9\"}", "", "caf? ferm?");
}

static void test_long_texts_are_cut_between_characters(void **state) {
    (void)state;
    char body[200] = "{\"message\":\"";
    for (size_t i = 0; i < 30; i++)
        strcat(body, "\xe2\x82\xac");
    strcat(body, "\"}");
    assert_true(read_string(body));
    assert_int_equal(strlen(message), 63);
    assert_memory_equal(message + 60, "\xe2\x82\xac", 4);
    assert_reads("{\"errors\":[{\"code\":\"A_CODE_OF_MORE_THAN_THIRTY_ONE_BYTES\","
                 "\"message\":\"m\"}]}",
                 "", "m");
}

static void test_only_a_registrys_body_has_the_specs_form(void **state) {
    (void)state;
    static const char *const others[] = {
        "",
        "{}",
        "<html>",
        "[]",
        "{\"errors\":[]}",
        "{\"errors\":[{}]}",
        "{\"errors\":\"code\"}",
        "{\"errors\":[{\"code\":7}]}",
        "{\"message\":\"no Route matched\"}",
        "{\"error\":{\"status\":\"NOT_FOUND\"}}",
    };
    static const char own[] = "{\"errors\":[{\"code\":\"MANIFEST_UNKNOWN\"}]}";
    assert_true(error_body_is_registrys(own, sizeof own - 1));
    assert_false(error_body_is_registrys(NULL, 0));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (error_body_is_registrys(others[i], strlen(others[i])))
            fail_msg("%s", others[i]);
    }
}

static void test_hostile_bodies_are_bounded(void **state) {
    (void)state;
    cleanup_buffer struct buffer deep = {0}, longer = {0};
    for (size_t i = 0; i < 60000; i++)
        buffer_append_string(&deep, "[");
    assert_false(read_bytes(deep.bytes, deep.length));
    buffer_append_string(&longer, "{\"message\":\"");
    for (size_t i = 0; i < 70000; i++)
        buffer_append_string(&longer, "a");
    buffer_append_string(&longer, "\"}");
    assert_false(read_bytes(longer.bytes, longer.length));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_id_of_a_request_stands_behind_the_message_and_in_the_detail),
        cmocka_unit_test(test_the_body_has_the_specs_form),
        cmocka_unit_test(test_what_is_written_is_read_again),
        cmocka_unit_test(test_running_out_of_room_is_said),
        cmocka_unit_test(test_the_first_error_is_read),
        cmocka_unit_test(test_front_ends_and_token_services_are_understood),
        cmocka_unit_test(test_a_body_that_is_no_error_gives_nothing),
        cmocka_unit_test(test_control_characters_do_not_get_through),
        cmocka_unit_test(test_bytes_that_are_no_utf8_are_replaced),
        cmocka_unit_test(test_long_texts_are_cut_between_characters),
        cmocka_unit_test(test_only_a_registrys_body_has_the_specs_form),
        cmocka_unit_test(test_hostile_bodies_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
