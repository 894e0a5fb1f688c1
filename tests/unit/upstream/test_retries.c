/* When a request is tried again, and when its time is over. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <sys/socket.h>
#include "base/clock.h"
#include "upstream/bench.h"

static bool answer_third_time(struct server *server, int fd, const char *head) {
    unsigned asked = server_count(server, "GET");
    if (asked == 1)
        return false; /* cut before a byte */
    if (asked == 2)
        return server_reply(fd, 502, "", "<html>bad gateway</html>");
    return answer_hello(server, fd, head);
}

static void test_what_may_pass_is_tried_again(void **state) {
    struct bench *bench = *state;
    bench_open(bench, answer_third_time, NULL);
    struct upstream_request request = bench_manifest;
    request.attempts = 0;
    assert_true(bench_ask(bench, &request));
    assert_int_equal(bench->server->count, 3);
    assert_int_equal(bench->got.length, 5);
}

static bool answer_half(struct server *server, int fd, const char *head) {
    (void)server, (void)head;
    server_printf(fd, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
    return false;
}

static void test_nothing_is_tried_again_after_the_head(void **state) {
    struct bench *bench = *state;
    bench_open(bench, answer_half, NULL);
    struct upstream_request request = bench_blob;
    request.attempts = 3;
    assert_false(bench_ask(bench, &request));
    assert_int_equal(bench->error.kind, ERROR_UNAVAILABLE);
    assert_non_null(strstr(bench->error.text, "short"));
    assert_int_equal(bench->got.heads, 1);
    assert_int_equal(bench->got.length, 5);
    assert_int_equal(bench->server->count, 1);
}

static bool answer_never(struct server *server, int fd, const char *head) {
    (void)server, (void)head;
    char byte;
    return recv(fd, &byte, 1, 0) > 0;
}

static void test_no_head_by_the_deadline_is_a_timeout(void **state) {
    struct bench *bench = *state;
    bench_open(bench, answer_never, NULL);
    struct upstream_request request = bench_blob;
    request.attempts = 3;
    int64_t start = clock_ms();
    request.deadline_ms = start + 300;
    assert_false(bench_ask(bench, &request));
    assert_int_equal(bench->error.kind, ERROR_TIMEOUT);
    assert_in_range(clock_ms() - start, 290, 2500);
    assert_int_equal(bench->got.heads, 0);
}

static bool answer_then_silence(struct server *server, int fd, const char *head) {
    server_printf(fd, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
    return answer_never(server, fd, head);
}

static void test_silence_in_mid_body_is_a_timeout(void **state) {
    struct bench *bench = *state;
    bench->settings.stall_timeout_ms = 300;
    bench_open(bench, answer_then_silence, NULL);
    int64_t start = clock_ms();
    assert_false(bench_ask(bench, &bench_blob));
    assert_int_equal(bench->error.kind, ERROR_TIMEOUT);
    assert_in_range(clock_ms() - start, 290, 2500);
    assert_int_equal(bench->got.heads, 1);
    assert_int_equal(bench->got.length, 5);
}

static bool answer_slowly(struct server *server, int fd, const char *head) {
    (void)server, (void)head;
    server_printf(fd, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    for (int i = 0; i < 5; i++) {
        clock_sleep_ms(300);
        server_send(fd, &"hello"[i], 1);
    }
    return true;
}

static void test_slow_is_not_silent(void **state) {
    struct bench *bench = *state;
    bench->settings.stall_timeout_ms = 1200;
    bench->settings.first_byte_timeout_ms = 1200;
    bench_open(bench, answer_slowly, NULL);
    assert_true(bench_ask(bench, &bench_blob));
    assert_int_equal(bench->got.length, 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_BENCH(test_what_may_pass_is_tried_again),
        WITH_BENCH(test_nothing_is_tried_again_after_the_head),
        WITH_BENCH(test_no_head_by_the_deadline_is_a_timeout),
        WITH_BENCH(test_silence_in_mid_body_is_a_timeout),
        WITH_BENCH(test_slow_is_not_silent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
