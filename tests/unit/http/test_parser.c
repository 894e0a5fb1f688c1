/* The request head: which heads are accepted. A head that could be read in two ways is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "http/http.h"

static struct http_request request;
static size_t used;
static int status;
static const char *why;

/* Parses a copy of exactly these bytes, so that a sanitizer sees a read beyond them. */
static enum http_parse parse_bytes(const char *bytes, size_t length) {
    static char *copy;
    free(copy);
    copy = malloc(length ? length : 1);
    memcpy(copy, bytes, length);
    used = 0;
    status = 0;
    why = NULL;
    return http_parse_head(copy, length, &request, &used, &status, &why);
}

static enum http_parse parse(const char *head) {
    return parse_bytes(head, strlen(head));
}

static void is_refused_with(int expected, const char *bytes, size_t length) {
    enum http_parse outcome = parse_bytes(bytes, length);
    if (outcome != HTTP_PARSE_BAD || status != expected)
        print_error("not refused with %d but %d/%d: %.*s\n", expected, outcome, status, (int)length,
                    bytes);
    assert_int_equal(outcome, HTTP_PARSE_BAD);
    assert_int_equal(status, expected);
    assert_non_null(why);
}

static void is_refused(const char *head) {
    is_refused_with(400, head, strlen(head));
}

static void text_equals(struct text text, const char *expected) {
    assert_int_equal(text.length, strlen(expected));
    assert_memory_equal(text.at, expected, text.length);
}

#define LINE "GET /v2/ HTTP/1.1\r\n"
#define HOST "Host: a\r\n"
#define END  "\r\n"

static void test_a_plain_head_is_taken_apart(void **state) {
    (void)state;
    const char *head = "GET /v2/a%2Fb/manifests/1?ns=docker.io&x HTTP/1.1\r\nHost: a:5000\r\n"
                       "Accept:\t application/json \r\nEmpty:\r\n\r\nrest";
    assert_int_equal(parse(head), HTTP_PARSE_DONE);
    assert_int_equal(used, strlen(head) - 4);
    assert_int_equal(request.method, HTTP_GET);
    text_equals(request.method_name, "GET");
    text_equals(request.path, "/v2/a%2Fb/manifests/1");
    text_equals(request.query, "ns=docker.io&x");
    assert_int_equal(request.minor, 1);
    assert_true(request.keep_alive);
    assert_false(request.has_body);
    assert_int_equal(request.field_count, 3);
    text_equals(http_field(&request, "ACCEPT"), "application/json");
    text_equals(http_field(&request, "empty"), "");
    assert_null(http_field(&request, "absent").at);
}

static void test_every_method_has_its_name(void **state) {
    (void)state;
    static const struct {
        const char *name;
        enum http_method method;
    } methods[] = {{"GET", HTTP_GET},         {"HEAD", HTTP_HEAD},      {"POST", HTTP_POST},
                   {"PUT", HTTP_PUT},         {"PATCH", HTTP_PATCH},    {"DELETE", HTTP_DELETE},
                   {"OPTIONS", HTTP_OPTIONS}, {"PROPFIND", HTTP_OTHER}, {"get", HTTP_OTHER}};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        char head[100];
        snprintf(head, sizeof head, "%s / HTTP/1.1\r\n" HOST END, methods[i].name);
        assert_int_equal(parse(head), HTTP_PARSE_DONE);
        assert_int_equal(request.method, methods[i].method);
    }
}

static void test_every_prefix_of_a_head_asks_for_more(void **state) {
    (void)state;
    const char *head = "\r\nGET http://a/b?c HTTP/1.1\r\nHost: a\r\nX-Y: z\r\n\r\n";
    for (size_t length = 0; length < strlen(head); length++)
        assert_int_equal(parse_bytes(head, length), HTTP_PARSE_MORE);
    assert_int_equal(parse(head), HTTP_PARSE_DONE);
    assert_int_equal(used, strlen(head));
}

static void test_an_absolute_target_is_reduced_to_its_path(void **state) {
    (void)state;
    assert_int_equal(parse("GET http://reg:5000/v2/?n=1 HTTP/1.1\r\n" HOST END), HTTP_PARSE_DONE);
    text_equals(request.path, "/v2/");
    text_equals(request.query, "n=1");
    assert_int_equal(parse("GET HTTPS://[::1]:5000 HTTP/1.1\r\n" HOST END), HTTP_PARSE_DONE);
    text_equals(request.path, "/");
    assert_int_equal(request.query.length, 0);
    assert_int_equal(parse("GET http://reg?q HTTP/1.1\r\n" HOST END), HTTP_PARSE_DONE);
    text_equals(request.path, "/");
    text_equals(request.query, "q");
    is_refused("GET http:///v2/ HTTP/1.1\r\n" HOST END);
    is_refused("GET http://user@reg/v2/ HTTP/1.1\r\n" HOST END);
    is_refused("GET ftp://reg/v2/ HTTP/1.1\r\n" HOST END);
}

static void test_keep_alive_follows_version_and_connection(void **state) {
    (void)state;
    parse("GET / HTTP/1.0\r\n\r\n");
    assert_false(request.keep_alive);
    assert_int_equal(request.minor, 0);
    parse("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
    assert_true(request.keep_alive);
    parse(LINE HOST "Connection: x , CLOSE\r\n\r\n");
    assert_false(request.keep_alive);
    parse(LINE HOST "Connection: keep-alive\r\nConnection: close\r\n\r\n");
    assert_false(request.keep_alive);
    parse(LINE HOST "Connection: closed\r\n\r\n");
    assert_true(request.keep_alive);
}

static void test_a_body_is_announced_in_one_way(void **state) {
    (void)state;
    assert_int_equal(parse("PUT / HTTP/1.1\r\n" HOST "Content-Length: 12\r\n\r\n"),
                     HTTP_PARSE_DONE);
    assert_true(request.has_body);
    assert_int_equal(request.content_length, 12);
    assert_int_equal(parse("PUT / HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n"), HTTP_PARSE_DONE);
    assert_false(request.has_body);
    assert_int_equal(parse("PUT / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"),
                     HTTP_PARSE_DONE);
    assert_true(request.has_body);
    assert_int_equal(request.content_length, 0);
}

static void test_unknown_codings_are_501(void **state) {
    static const char *const codings[] = {"gzip",          "identity",         "gzip, chunked",
                                          "chunked, gzip", "deflate,compress", "br"};
    char head[128];
    (void)state;
    for (size_t i = 0; i < sizeof codings / sizeof *codings; i++) {
        snprintf(head, sizeof head, "PUT / HTTP/1.1\r\n" HOST "Transfer-Encoding: %s\r\n\r\n",
                 codings[i]);
        assert_int_equal(parse(head), HTTP_PARSE_BAD);
        assert_int_equal(status, 501);
    }
}

static void test_smuggling_shapes_are_refused(void **state) {
    (void)state;
#define CL "Content-Length: "
#define TE "Transfer-Encoding: "
    static const char *const heads[] = {
        /* the length of the body */
        LINE HOST CL "5\r\n" CL "5\r\n" END,
        LINE HOST CL "5\r\n" CL "6\r\n" END,
        LINE HOST CL "5, 5\r\n" END,
        LINE HOST CL "+5\r\n" END,
        LINE HOST CL "-5\r\n" END,
        LINE HOST CL "0x5\r\n" END,
        LINE HOST CL "5 5\r\n" END,
        LINE HOST CL "\r\n" END,
        LINE HOST CL "18446744073709551616\r\n" END,
        LINE HOST CL "5\r\n" TE "chunked\r\n" END,
        LINE HOST TE "chunked\r\n" CL "0\r\n" END,
        LINE HOST TE "chunked\r\n" TE "chunked\r\n" END,
        LINE HOST TE "Chunked\r\n" END,
        LINE HOST TE "xchunked\r\n" END,
        LINE HOST TE "chunked;a=b\r\n" END,
        LINE HOST TE "chunked, chunked\r\n" END,
        LINE HOST TE "gzip, Chunked\r\n" END,
        LINE HOST TE "chunked,\r\n" END,
        LINE HOST TE "gzip;q=1\r\n" END,
        LINE HOST TE "gzip\r\n" TE "gzip\r\n" END,
        LINE HOST TE "gzip\r\n" CL "5\r\n" END,
        "GET / HTTP/1.0\r\n" TE "gzip\r\n" END,
        LINE HOST TE "\r\n" END,
        LINE HOST TE "\"chunked\"\r\n" END,
        "GET / HTTP/1.0\r\n" TE "chunked\r\n" END,
        /* the ends of lines */
        "GET / HTTP/1.1\n" HOST END,
        LINE "Host: a\n" END,
        LINE HOST "\n",
        LINE HOST "A: b\rC: d\r\n" END,
        LINE HOST "A: b\r\r\n" END,
        LINE HOST "\rA: b\r\n" END,
        "\n" LINE HOST END,
        "\r\n\r\n" LINE HOST END,
        LINE HOST "A: b\r\n c\r\n" END,
        LINE HOST "A: b\r\n\tc\r\n" END,
        LINE " Host: a\r\n" END,
        /* names */
        LINE HOST "A : b\r\n" END,
        LINE HOST "Content-Length : 5\r\n" END,
        LINE HOST "A\t: b\r\n" END,
        LINE HOST ": b\r\n" END,
        LINE HOST "A\r\n" END,
        LINE HOST "A(b): c\r\n" END,
        LINE HOST "A\x80: c\r\n" END,
        /* the host */
        LINE END,
        LINE HOST HOST END,
        LINE HOST "Host: b\r\n" END,
        LINE "Host: a b\r\n" END,
        LINE "Host: a@b\r\n" END,
        LINE "Host: a/b\r\n" END,
        "GET / HTTP/1.0\r\n" HOST HOST END,
        /* the request line */
        "GET /\r\n",
        "GET\r\n",
        "GET  / HTTP/1.1\r\n" HOST END,
        "GET /  HTTP/1.1\r\n" HOST END,
        "GET / HTTP/1.1 \r\n" HOST END,
        " GET / HTTP/1.1\r\n" HOST END,
        "GET\t/ HTTP/1.1\r\n" HOST END,
        "G@T / HTTP/1.1\r\n" HOST END,
        "G\x80T / HTTP/1.1\r\n" HOST END,
        "GET / http/1.1\r\n" HOST END,
        "GET / HTTP/1.10\r\n" HOST END,
        "GET / HTTP/01.1\r\n" HOST END,
        "GET / HTTP/1,1\r\n" HOST END,
        "GET v2/ HTTP/1.1\r\n" HOST END,
        "GET /a#b HTTP/1.1\r\n" HOST END,
        "GET /a\"b HTTP/1.1\r\n" HOST END,
        "GET /a\\b HTTP/1.1\r\n" HOST END,
        "GET /a\x01 HTTP/1.1\r\n" HOST END,
        "GET /a\x7f HTTP/1.1\r\n" HOST END,
        "GET /\xc3\xa4 HTTP/1.1\r\n" HOST END,
        "GET /%zz HTTP/1.1\r\n" HOST END,
        "GET /%4 HTTP/1.1\r\n" HOST END,
        /* values */
        LINE HOST "A: b\x01\r\n" END,
        LINE HOST "A: b\x7f\r\n" END,
    };
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        is_refused(heads[i]);
    static const char with_nul[] = LINE HOST "A: b\0c\r\n" END;
    is_refused_with(400, with_nul, sizeof with_nul - 1);
}

static void test_garbage_is_refused_before_its_end(void **state) {
    (void)state;
    is_refused("\x16\x03\x01");
    is_refused("{\"");
    is_refused("GET /\n");
    is_refused(LINE "Host : ");
}

static void test_other_versions_and_forms_are_told_apart(void **state) {
    (void)state;
    static const struct {
        int status;
        const char *head;
    } cases[] = {
        {505, "PRI * HTTP/2.0\r\n\r\n"},
        {505, "GET / HTTP/1.2\r\n"},
        {505, "GET / HTTP/0.9\r\n"},
        {501, "OPTIONS * HTTP/1.1\r\n"},
        {501, "CONNECT a:443 HTTP/1.1\r\n"},
        {501, "AVERYLONGMETHODNAMETHATNOBODYEVERHEARDOF / HTTP/1.1\r\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        is_refused_with(cases[i].status, cases[i].head, strlen(cases[i].head));
}

static void test_limits_hold(void **state) {
    (void)state;
    static char head[40000];
    /* the target */
    memcpy(head, "GET /", 5);
    memset(head + 5, 'a', sizeof head - 5);
    assert_int_equal(parse_bytes(head, 4 + HTTP_TARGET_LIMIT), HTTP_PARSE_MORE);
    is_refused_with(414, head, 4 + HTTP_TARGET_LIMIT + 1);
    /* all together */
    size_t start = strlen(LINE HOST "A: ");
    memcpy(head, LINE HOST "A: ", start);
    memset(head + start, 'b', sizeof head - start);
    assert_int_equal(parse_bytes(head, HTTP_HEAD_LIMIT - 1), HTTP_PARSE_MORE);
    is_refused_with(431, head, HTTP_HEAD_LIMIT);
    memcpy(head + HTTP_HEAD_LIMIT - 4, "\r\n\r\n", 4);
    assert_int_equal(parse_bytes(head, HTTP_HEAD_LIMIT), HTTP_PARSE_DONE);
    /* the number of fields */
    for (int extra = 0; extra < 2; extra++) {
        size_t length = (size_t)sprintf(head, LINE HOST);
        for (int i = 1; i < HTTP_FIELD_LIMIT + extra; i++)
            length += (size_t)sprintf(head + length, "X: %d\r\n", i);
        length += (size_t)sprintf(head + length, END);
        if (extra)
            is_refused_with(431, head, length);
        else
            assert_int_equal(parse_bytes(head, length), HTTP_PARSE_DONE);
    }
}

static bool query(const char *target, const char *name, char *out, size_t size, bool *found) {
    char head[300];
    snprintf(head, sizeof head, "GET %s HTTP/1.1\r\n" HOST END, target);
    assert_int_equal(parse(head), HTTP_PARSE_DONE);
    return http_query(&request, name, out, size, found);
}

static void test_a_query_parameter_is_found_once_or_not_at_all(void **state) {
    (void)state;
    char value[32];
    bool found;
    assert_true(query("/?n=5&ns=docker.io%2Fa", "ns", value, sizeof value, &found));
    assert_string_equal(value, "docker.io/a");
    assert_true(query("/?ns=", "ns", value, sizeof value, &found));
    assert_string_equal(value, "");
    assert_true(query("/?a&ns", "ns", value, sizeof value, &found));
    assert_true(found);
    assert_true(query("/?%6es=b", "ns", value, sizeof value, &found));
    assert_string_equal(value, "b");
    assert_false(query("/", "ns", value, sizeof value, &found));
    assert_false(found);
    assert_false(query("/?nsx=1&xns=2", "ns", value, sizeof value, &found));
    assert_false(found);
    assert_false(query("/?ns=a&ns=b", "ns", value, sizeof value, &found));
    assert_true(found);
    assert_false(query("/?ns=a&n%73=a", "ns", value, sizeof value, &found));
    assert_true(found);
    assert_false(query("/?ns=a%00b", "ns", value, sizeof value, &found));
    assert_true(found);
    assert_false(query("/?ns=abc", "ns", value, 3, &found));
    assert_true(found);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_plain_head_is_taken_apart),
        cmocka_unit_test(test_every_method_has_its_name),
        cmocka_unit_test(test_every_prefix_of_a_head_asks_for_more),
        cmocka_unit_test(test_an_absolute_target_is_reduced_to_its_path),
        cmocka_unit_test(test_keep_alive_follows_version_and_connection),
        cmocka_unit_test(test_a_body_is_announced_in_one_way),
        cmocka_unit_test(test_unknown_codings_are_501),
        cmocka_unit_test(test_smuggling_shapes_are_refused),
        cmocka_unit_test(test_garbage_is_refused_before_its_end),
        cmocka_unit_test(test_other_versions_and_forms_are_told_apart),
        cmocka_unit_test(test_limits_hold),
        cmocka_unit_test(test_a_query_parameter_is_found_once_or_not_at_all),
    };
    return cmocka_run_group_tests_name("http_parser", tests, NULL, NULL);
}
