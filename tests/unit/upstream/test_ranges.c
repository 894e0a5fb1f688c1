/* Ranges: what is asked, and which responses are believed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include "upstream/bench.h"

static bool answer_range(struct server *server, int fd, const char *head) {
    const char *headers = server->context;
    (void)head;
    return server_printf(fd, "HTTP/1.1 206 Partial Content\r\n%s\r\nhello", headers);
}

static bool ask_range(struct bench *bench, const char *headers, uint64_t first, uint64_t last,
                      uint64_t suffix) {
    char context[256];
    snprintf(context, sizeof context, "%s", headers);
    bench_open(bench, answer_range, context);
    struct upstream_request request = bench_blob;
    request.has_range = suffix == 0;
    request.range_first = first;
    request.range_last = last;
    request.range_suffix = suffix;
    bool ok = bench_ask(bench, &request);
    char expected[64];
    if (suffix)
        snprintf(expected, sizeof expected, "Range: bytes=-%llu\r\n", (unsigned long long)suffix);
    else if (last == UINT64_MAX)
        snprintf(expected, sizeof expected, "Range: bytes=%llu-\r\n", (unsigned long long)first);
    else
        snprintf(expected, sizeof expected, "Range: bytes=%llu-%llu\r\n", (unsigned long long)first,
                 (unsigned long long)last);
    assert_true(server_has(server_request(bench->server, "GET", 0), expected));
    bench_close(bench);
    return ok;
}

static void test_a_range_is_answered_with_that_range(void **state) {
    struct bench *bench = *state;
    const struct got *got = &bench->got;
    assert_true(
        ask_range(bench, "Content-Range: bytes 10-14/100\r\nContent-Length: 5\r\n", 10, 14, 0));
    assert_true(got->head.has_range && got->head.range_first == 10 && got->head.range_last == 14);
    assert_true(got->head.has_total && got->head.total == 100);
    assert_true(got->head.has_length && got->head.length == 5);
    assert_true(ask_range(bench, "Content-Range: bytes 95-99/100\r\nContent-Length: 5\r\n", 95,
                          UINT64_MAX, 0));
    assert_true(
        ask_range(bench, "Content-Range: bytes 95-99/100\r\nContent-Length: 5\r\n", 0, 0, 5));
    assert_int_equal(got->head.range_first, 95);
}

static void test_a_lie_about_the_range_is_noticed(void **state) {
    struct bench *bench = *state;
    static const char *const lies[] = {
        "Content-Range: bytes 11-15/100\r\nContent-Length: 5\r\n",
        "Content-Range: bytes 10-15/100\r\nContent-Length: 6\r\n",
        "Content-Range: bytes 10-14/100\r\nContent-Length: 6\r\n",
        "Content-Range: bytes 10-14/12\r\nContent-Length: 5\r\n",
        "Content-Range: rubbish\r\nContent-Length: 5\r\n",
        "Content-Range: bytes */100\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\n",
    };
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        assert_false(ask_range(bench, lies[i], 10, 14, 0));
        assert_int_equal(bench->error.kind, ERROR_UNAVAILABLE);
        assert_non_null(strstr(bench->error.text, "lied about the range"));
        assert_int_equal(bench->got.heads, 0);
    }
}

static bool answer_short_chunks(struct server *server, int fd, const char *head) {
    (void)server, (void)head;
    return server_printf(fd,
                         "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-%s/100\r\n"
                         "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                         (const char *)server->context);
}

static void test_a_chunked_body_is_as_long_as_its_range(void **state) {
    struct bench *bench = *state;
    static const struct {
        const char *last;
        const char *said;
    } cases[] = {{"9", "a body of 5 bytes"}, {"2", "longer than the 3"}, {"4", NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char last[4];
        snprintf(last, sizeof last, "%s", cases[i].last);
        bench_open(bench, answer_short_chunks, last);
        struct upstream_request request = bench_blob;
        request.has_range = true;
        request.range_last = UINT64_MAX;
        bool ok = bench_ask(bench, &request);
        assert_int_equal(ok, cases[i].said == NULL);
        if (!ok) {
            assert_int_equal(bench->error.kind, ERROR_UNAVAILABLE);
            assert_non_null(strstr(bench->error.text, cases[i].said));
        }
        bench_close(bench);
    }
}

static bool answer_whole(struct server *server, int fd, const char *head) {
    (void)server, (void)head;
    return server_reply(fd, 200, "", "hello");
}

static void test_a_whole_body_may_answer_a_range(void **state) {
    struct bench *bench = *state;
    bench_open(bench, answer_whole, NULL);
    struct upstream_request request = bench_blob;
    request.has_range = true;
    request.range_first = request.range_last = 3;
    assert_true(bench_ask(bench, &request));
    assert_int_equal(bench->got.head.status, 200);
    assert_false(bench->got.head.has_range);
    assert_int_equal(bench->got.length, 5);
}

static bool answer_416(struct server *server, int fd, const char *head) {
    (void)server, (void)head;
    return server_reply(fd, 416, "Content-Range: bytes */77\r\n", "");
}

static void test_a_416_tells_the_size(void **state) {
    struct bench *bench = *state;
    bench_open(bench, answer_416, NULL);
    struct upstream_request request = bench_blob;
    request.has_range = true;
    request.range_first = 100;
    request.range_last = UINT64_MAX;
    assert_false(bench_ask(bench, &request));
    assert_int_equal(bench->error.kind, ERROR_RANGE);
    assert_int_equal(bench->got.heads, 1);
    assert_int_equal(bench->got.head.status, 416);
    assert_true(bench->got.head.has_total && bench->got.head.total == 77);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_BENCH(test_a_range_is_answered_with_that_range),
        WITH_BENCH(test_a_lie_about_the_range_is_noticed),
        WITH_BENCH(test_a_chunked_body_is_as_long_as_its_range),
        WITH_BENCH(test_a_whole_body_may_answer_a_range),
        WITH_BENCH(test_a_416_tells_the_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
