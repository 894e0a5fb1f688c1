/* What a registry's responses become. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "oci/manifest.h"
#include "upstream/bench.h"

static void test_a_manifest_comes_with_its_head(void **state) {
    struct bench *bench = *state;
    bench_open(bench, answer_hello, NULL);
    assert_true(bench_ask(bench, &bench_manifest));
    assert_int_equal(bench->got.heads, 1);
    assert_true(bench->got.head_first);
    assert_int_equal(bench->got.head.status, 200);
    assert_true(bench->got.head.has_length && bench->got.head.has_total &&
                bench->got.head.length == 5);
    assert_string_equal(bench->got.head.content_type, "application/x-test");
    assert_string_equal(bench->got.head.etag, "\"abc\"");
    assert_true(bench->got.head.has_digest);
    assert_int_equal(bench->got.length, 5);
    assert_memory_equal(bench->got.body, "hello", 5);
    const char *asked = server_request(bench->server, "GET", 0);
    assert_true(server_has(asked, "Accept: " MEDIA_ACCEPT_MANIFESTS));
    assert_true(server_has(asked, "User-Agent: tarn/" TARN_VERSION));
    assert_false(server_has(asked, "Accept-Encoding"));
    assert_false(server_has(asked, "Authorization"));

    struct upstream_request head = bench_manifest;
    head.head_only = true;
    assert_true(bench_ask(bench, &head));
    assert_int_equal(bench->got.head.length, 5);
    assert_int_equal(bench->got.length, 0);
    assert_int_equal(bench->server->connections, 1); /* kept open */
}

static void test_upstreams_404_is_not_found_with_its_code(void **state) {
    struct bench *bench = *state;
    bench_open(bench, answer_hello, NULL);
    struct upstream_request missing = bench_manifest;
    missing.reference = "none";
    missing.attempts = 3;
    assert_false(bench_ask(bench, &missing));
    assert_int_equal(bench->error.kind, ERROR_NOT_FOUND);
    assert_string_equal(bench->error.code, "MANIFEST_UNKNOWN");
    assert_non_null(strstr(bench->error.text, "manifest org/app:none: 404 Not Found"));
    assert_non_null(strstr(bench->error.text, "no such thing"));
    assert_int_equal(bench->error.status, 404);
    assert_false(bench->error.doubtful);
    assert_int_equal(bench->got.heads, 0);
    assert_int_equal(bench->server->count, 1);
}

static bool answer_absent(struct server *server, int fd, const char *head) {
    (void)server;
    bool marked = server_has(head, "/manifests/marked");
    return server_reply(fd, 404, marked ? "Docker-Distribution-Api-Version: registry/2.0\r\n" : "",
                        "default backend - 404");
}

static void test_a_404_without_a_registrys_marks_is_doubtful(void **state) {
    struct bench *bench = *state;
    struct upstream_request missing = bench_manifest;
    bench_open(bench, answer_absent, NULL);
    assert_false(bench_ask(bench, &missing));
    assert_int_equal(bench->error.kind, ERROR_NOT_FOUND);
    assert_true(bench->error.doubtful);
    missing.reference = "marked";
    assert_false(bench_ask(bench, &missing));
    assert_int_equal(bench->error.kind, ERROR_NOT_FOUND);
    assert_false(bench->error.doubtful);
}

static bool answer_status(struct server *server, int fd, const char *head) {
    (void)head;
    return server_reply(fd, *(int *)server->context, "", "");
}

static void test_statuses_become_kinds(void **state) {
    struct bench *bench = *state;
    static const struct {
        int status;
        enum error_kind kind;
        unsigned asked; /* with three attempts */
    } cases[] = {
        {403, ERROR_DENIED, 1},      {401, ERROR_DENIED, 1},       {404, ERROR_NOT_FOUND, 1},
        {416, ERROR_UNAVAILABLE, 1}, {400, ERROR_UNAVAILABLE, 1},  {500, ERROR_UNAVAILABLE, 3},
        {503, ERROR_UNAVAILABLE, 3}, {408, ERROR_UNAVAILABLE, 3},  {204, ERROR_UNAVAILABLE, 3},
        {304, ERROR_UNAVAILABLE, 1}, {429, ERROR_RATE_LIMITED, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int status = cases[i].status;
        bench_open(bench, answer_status, &status);
        struct upstream_request request = bench_blob;
        request.attempts = 3;
        assert_false(bench_ask(bench, &request));
        assert_int_equal(bench->error.kind, cases[i].kind);
        assert_int_equal(bench->server->count, cases[i].asked);
        assert_int_equal(bench->got.heads, 0);
        bench_close(bench);
    }
}

static void test_a_416_is_about_the_range_that_was_asked_for(void **state) {
    struct bench *bench = *state;
    int status = 416;
    bench_open(bench, answer_status, &status);
    struct upstream_request request = bench_blob;
    request.attempts = 3;
    request.has_range = true;
    request.range_last = 4;
    assert_false(bench_ask(bench, &request));
    assert_int_equal(bench->error.kind, ERROR_RANGE);
    assert_int_equal(bench->server->count, 1);
    bench_close(bench);
}

static bool answer_429(struct server *server, int fd, const char *head) {
    (void)server;
    bool said = strstr(head, "/said/");
    return server_reply(fd, 429, said ? "Retry-After: 7\r\n" : "",
                        "{\"errors\":[{\"code\":\"TOOMANYREQUESTS\",\"message\":\"slow\"}]}");
}

static void test_after_a_429_only_the_same_request_is_not_sent(void **state) {
    struct bench *bench = *state;
    bench_open(bench, answer_429, NULL);
    struct upstream_request request = bench_manifest;
    request.repository = "said/so";
    for (int i = 0; i < 2; i++) {
        assert_false(bench_ask(bench, &request));
        assert_int_equal(bench->error.kind, ERROR_RATE_LIMITED);
        assert_in_range(bench->error.retry_after_s, 5, 7);
        assert_int_equal(bench->server->count, 1);
    }
    request.head_only = true;
    assert_false(bench_ask(bench, &request));
    assert_int_equal(bench->server->count, 2);
    assert_false(bench_ask(bench, &bench_manifest));
    assert_int_equal(bench->error.kind, ERROR_RATE_LIMITED);
    assert_int_equal(bench->error.retry_after_s, 1);
    assert_string_equal(bench->error.code, "TOOMANYREQUESTS");
    assert_int_equal(bench->server->count, 3);
}

static void test_the_caller_paces_a_transfer_that_has_begun(void **state) {
    struct bench *bench = *state;
    bench_open(bench, answer_429, NULL);
    struct upstream_request request = bench_manifest;
    request.repository = "said/so";
    request.insists = true;
    for (unsigned i = 1; i < 3; i++) {
        assert_false(bench_ask(bench, &request));
        assert_int_equal(bench->error.retry_after_s, 7);
        assert_int_equal(bench->server->count, i);
    }
}

static void test_a_refused_connection_says_so(void **state) {
    struct bench *bench = *state;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    bind(listener, (struct sockaddr *)&address, sizeof address); /* and nobody listens */
    getsockname(listener, (struct sockaddr *)&address, &length);
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%u", ntohs(address.sin_port));
    bench->settings.url = url;
    bench_open(bench, answer_hello, NULL);
    assert_false(bench_ask(bench, &bench_manifest));
    assert_int_equal(bench->error.kind, ERROR_UNAVAILABLE);
    assert_non_null(strstr(bench->error.text, "Connection refused"));
    close(listener);
}

static bool answer_as_proxy(struct server *server, int fd, const char *head) {
    (void)server;
    bool asked = server_asks(head, "GET http://registry.invalid/v2/org/app/manifests/1.2");
    return server_reply(fd, asked ? 200 : 400, "", "hello");
}

static void test_the_environments_proxy_is_used(void **state) {
    struct bench *bench = *state;
    bench->settings.url = "http://registry.invalid";
    bench_open(bench, answer_as_proxy, NULL);
    setenv("HTTP_PROXY", bench->url, 1);
    assert_true(bench_ask(bench, &bench_manifest));
    setenv("NO_PROXY", "invalid", 1);
    assert_false(bench_ask(bench, &bench_manifest));
    assert_int_equal(bench->error.kind, ERROR_UNAVAILABLE);
    assert_non_null(strstr(bench->error.text, "no such host registry.invalid"));
    unsetenv("HTTP_PROXY");
    unsetenv("NO_PROXY");
}

static void test_a_sink_that_refuses_ends_the_request_with_its_error(void **state) {
    struct bench *bench = *state;
    bench->got.stop_after = 1;
    bench_open(bench, answer_hello, NULL);
    struct upstream_request request = bench_manifest;
    request.attempts = 3;
    assert_false(bench_ask(bench, &request));
    assert_int_equal(bench->error.kind, ERROR_NO_SPACE);
    assert_int_equal(bench->server->count, 1);
}

static bool answer_endless_head(struct server *server, int fd, const char *head) {
    (void)server, (void)head;
    bool open = server_printf(fd, "HTTP/1.1 200 OK\r\n");
    for (int i = 0; open && i < 100000; i++)
        open = server_printf(fd, "X-Filler-%d: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n", i);
    return false;
}

static void test_an_endless_head_is_refused(void **state) {
    struct bench *bench = *state;
    bench_open(bench, answer_endless_head, NULL);
    assert_false(bench_ask(bench, &bench_blob));
    assert_int_equal(bench->error.kind, ERROR_UNAVAILABLE);
    assert_non_null(strstr(bench->error.text, "head is longer than"));
}

static bool answer_tags(struct server *server, int fd, const char *head) {
    (void)server;
    if (server_has(head, "last=b"))
        return server_reply(fd, 200, "", "{}");
    if (server_has(head, "/other/"))
        return server_reply(fd, 200, "Link: <http://elsewhere.example/v2/?a>; rel=\"next\"\r\n",
                            "{}");
    if (server_has(head, "/odd/"))
        return server_reply(fd, 200,
                            "Link: </v2/help>; rel=\"help\"\r\n"
                            "Link: <ftp://elsewhere.example/v2/>; rel=\"next\"\r\n",
                            "{}");
    return server_reply(fd, 200, "Link: </v2/org/app/tags/list?n=2&last=b>; rel=\"next\"\r\n",
                        "{}");
}

static void test_a_next_page_is_asked_for_where_the_list_came_from(void **state) {
    struct bench *bench = *state;
    char page[2048];
    bench_open(bench, answer_tags, NULL);
    struct upstream_request request = {
        .what = UPSTREAM_TAGS, .repository = "org/app", .attempts = 1};
    assert_true(bench_ask(bench, &request));
    assert_string_equal(bench->got.head.next, "/v2/org/app/tags/list?n=2&last=b");
    snprintf(page, sizeof page, "%s", bench->got.head.next);
    request.page = page;
    assert_true(bench_ask(bench, &request));
    assert_true(server_asks(server_request(bench->server, "GET", 1), "GET /v2/org/app/tags/list"));
    assert_string_equal(bench->got.head.next, "");
    request.page = NULL;
    request.repository = "org/other/app";
    assert_true(bench_ask(bench, &request));
    assert_string_equal(bench->got.head.next, "/v2/?a");
    request.repository = "org/odd/app";
    assert_false(bench_ask(bench, &request));
    assert_int_equal(bench->error.kind, ERROR_UNAVAILABLE);
    request.page = "http://elsewhere/";
    assert_false(bench_ask(bench, &request));
    assert_int_equal(bench->error.kind, ERROR_INVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_BENCH(test_a_manifest_comes_with_its_head),
        WITH_BENCH(test_upstreams_404_is_not_found_with_its_code),
        WITH_BENCH(test_a_404_without_a_registrys_marks_is_doubtful),
        WITH_BENCH(test_statuses_become_kinds),
        WITH_BENCH(test_a_416_is_about_the_range_that_was_asked_for),
        WITH_BENCH(test_after_a_429_only_the_same_request_is_not_sent),
        WITH_BENCH(test_the_caller_paces_a_transfer_that_has_begun),
        WITH_BENCH(test_a_refused_connection_says_so),
        WITH_BENCH(test_the_environments_proxy_is_used),
        WITH_BENCH(test_a_sink_that_refuses_ends_the_request_with_its_error),
        WITH_BENCH(test_an_endless_head_is_refused),
        WITH_BENCH(test_a_next_page_is_asked_for_where_the_list_came_from),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
