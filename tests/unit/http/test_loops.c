/* The HTTP server on real sockets: what the event loops answer in place, and what they hand over.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/buffer.h"
#include "base/clock.h"
#include "serving.h"

static atomic_int yields;
static atomic_int yield_ms; /* how long each takes */

/* In place of the C library's: as if other threads waited for the processor. */
int sched_yield(void) {
    atomic_fetch_add(&yields, 1);
    usleep((useconds_t)atomic_load(&yield_ms) * 1000);
    return 0;
}

static void expect_body(int fd, const char *expected) {
    char head[1024], body[256] = "";
    size_t length = receive_response(fd, head, sizeof head, body, sizeof body, false);
    assert_int_equal(length, strlen(expected));
    assert_memory_equal(body, expected, length);
}

static void test_answers_of_loops_and_workers_come_in_the_order_of_the_requests(void **state) {
    (void)state;
    start();
    int fd = dial();
    for (int round = 0; round < 20; round++) {
        send_text(fd, GET("/now") GET("/echo/a") GET("/now") GET("/now") GET("/echo/b")
                          GET("/echo/c") GET("/now"));
        static const char *const bodies[] = {"well", "a", "well", "well", "b", "c", "well"};
        for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
            expect_body(fd, bodies[i]);
    }
    close(fd);
    stop();
}

static void test_a_stream_of_requests_in_pieces_of_any_length_is_answered_whole(void **state) {
    (void)state;
    enum { REQUESTS = 400 };
    cleanup_buffer struct buffer stream = {0};
    start();
    for (int i = 0; i < REQUESTS; i++)
        buffer_append_string(&stream, i % 7 == 3 ? GET("/echo/x") : GET("/now"));
    for (size_t piece = 1; piece < 3000; piece = piece * 3 + 1) {
        int fd = dial();
        size_t sent = 0, answered = 0;
        while (answered < REQUESTS) {
            size_t step = stream.length - sent < piece ? stream.length - sent : piece;
            if (step > 0 && sent < (answered + 50) * strlen(GET("/now"))) {
                assert_true(send(fd, stream.bytes + sent, step, MSG_NOSIGNAL) == (ssize_t)step);
                sent += step;
                continue;
            }
            expect_body(fd, answered % 7 == 3 ? "x" : "well");
            answered++;
        }
        close(fd);
    }
    stop();
}

static void test_a_client_that_has_closed_its_side_gets_all_answers(void **state) {
    (void)state;
    start();
    int fd = dial();
    send_text(fd, GET("/now") GET("/echo/a") GET("/now"));
    shutdown(fd, SHUT_WR);
    expect_body(fd, "well");
    expect_body(fd, "a");
    expect_body(fd, "well");
    assert_true(is_closed_within(fd, 10000));
    close(fd);
    stop();
}

static void test_a_composed_response_is_like_any_other(void **state) {
    (void)state;
    start();
    char head[1024], *body = malloc(CONTENT_SIZE + 1);
    int fd = dial();
    send_text(fd, GET("/now/large"));
    size_t length = receive_response(fd, head, sizeof head, body, CONTENT_SIZE + 1, false);
    assert_int_equal(length, CONTENT_SIZE);
    for (size_t i = 0; i < length; i += 4093)
        assert_int_equal((unsigned char)body[i], pattern(i));
    assert_ptr_equal(strstr(head, "HTTP/1.1 200 OK\r\n"), head);
    assert_non_null(strstr(head, "\r\nX-Composed: yes\r\n"));
    assert_non_null(strstr(head, "\r\nX-Own: of this request\r\n"));
    assert_non_null(strstr(head, "\r\nDate: "));
    assert_non_null(strstr(head, "\r\nX-Content-Type-Options: nosniff\r\n"));
    assert_null(strstr(head, "\r\nConnection: "));
    send_text(fd, "HEAD /now/large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    receive_response(fd, head, sizeof head, body, CONTENT_SIZE + 1, true);
    assert_non_null(strstr(head, "\r\nContent-Length: "));
    assert_non_null(strstr(head, "\r\nConnection: close\r\n"));
    assert_true(is_closed_within(fd, 10000));
    assert_true(becomes(&large_kept, 0));
    free(body);
    close(fd);
    stop();
}

static void test_a_worker_waits_for_no_client_of_shared_content(void **state) {
    (void)state;
    start();
    char head[1024], *body = malloc(CONTENT_SIZE + 1);
    int fd = dial_with(4096);
    send_text(fd, GET("/large"));
    assert_true(becomes(&large_kept, 1));
    workers_become_idle();
    size_t length = receive_response(fd, head, sizeof head, body, CONTENT_SIZE + 1, false);
    assert_int_equal(length, CONTENT_SIZE);
    for (size_t i = 0; i < length; i += 4093)
        assert_int_equal((unsigned char)body[i], pattern(i));
    assert_true(becomes(&large_kept, 0));
    send_text(fd, "HEAD /large HTTP/1.1\r\nHost: a\r\n\r\n");
    receive_response(fd, head, sizeof head, body, CONTENT_SIZE + 1, true);
    assert_non_null(strstr(head, "\r\nContent-Type: text/plain\r\n"));
    free(body);
    close(fd);
    stop();
}

static void test_a_request_with_a_body_never_stays_on_a_loop(void **state) {
    (void)state;
    start();
    int fd = dial();
    send_text(fd, "POST /now HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" GET("/now"));
    char head[1024], body[256];
    receive_response(fd, head, sizeof head, body, sizeof body, false);
    assert_ptr_equal(strstr(head, "HTTP/1.1 500 "), head); /* `handle` does not know the path */
    expect_body(fd, "well");
    close(fd);
    stop();
}

static void test_a_server_without_answers_in_place_gives_all_to_workers(void **state) {
    (void)state;
    settings.handle_now = NULL;
    start();
    int fd = dial();
    send_text(fd, GET("/echo/a") GET("/echo/b"));
    expect_body(fd, "a");
    expect_body(fd, "b");
    close(fd);
    stop();
}

static void test_new_connections_go_to_the_loop_with_the_fewest(void **state) {
    (void)state;
    enum { CROWD = 40 };
    int fds[CROWD];
    settings.loops = 4;
    start();
    for (int i = 0; i < CROWD; i++) {
        fds[i] = dial();
        send_text(fds[i], GET("/now"));
        expect_body(fds[i], "well");
    }
    assert_int_equal(atomic_load(&now_threads), 4);
    for (int i = 0; i < CROWD; i++)
        close(fds[i]);
    stop();
}

static void test_a_loop_seldom_yields_a_processor_that_others_want(void **state) {
    (void)state;
    settings.loops = 1;
    start();
    int idle = dial(), fd = dial();
    atomic_store(&yield_ms, 10);
    atomic_store(&yields, 0);
    int64_t began = clock_ms();
    for (int i = 0; i < 300; i++) {
        send_text(fd, GET("/now"));
        expect_body(fd, "well");
    }
    assert_in_range(atomic_load(&yields), 1, 2 + (clock_ms() - began) / 1000);
    atomic_store(&yield_ms, 0);
    close(idle);
    close(fd);
    stop();
}

static void test_a_stop_sends_what_is_left_to_a_slow_client(void **state) {
    (void)state;
    start();
    int fd = dial_with(4096);
    send_text(fd, "GET /now/large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_true(becomes(&large_kept, 1));
    http_server_stop(server);
    size_t length;
    bool reset;
    char *all = receive_all(fd, &length, &reset);
    assert_false(reset);
    const char *body = strstr(all, "\r\n\r\n") + 4;
    assert_int_equal(length - (size_t)(body - all), CONTENT_SIZE);
    free(all);
    close(fd);
    stop();
}

static void
test_a_stop_answers_requests_on_connections_that_no_loop_has_admitted_yet(void **state) {
    (void)state;
    int busy, fds[4];
    start();
    atomic_store(&held, true);
    busy = dial();
    send_text(busy, GET("/now/hold"));
    assert_true(becomes(&holding, 1)); /* one of the two loops admits nobody now */
    for (int i = 0; i < 4; i++) {
        fds[i] = dial();
        send_text(fds[i], GET("/now"));
    }
    expect_body(fds[3], "well"); /* the other loop has accepted all of them */
    http_server_stop(server);
    atomic_store(&held, false);
    for (int i = 0; i < 3; i++)
        expect_body(fds[i], "well");
    expect_body(busy, "held");
    for (int i = 0; i < 4; i++)
        close(fds[i]);
    close(busy);
    stop();
}

static void test_a_client_with_many_requests_at_once_does_not_keep_others_waiting(void **state) {
    (void)state;
    enum { REQUESTS = 500 };
    cleanup_buffer struct buffer requests = {0};
    char head[1024], body[16];
    settings.loops = 1;
    start();
    int other = dial(), many = dial();
    send_text(other, GET("/now"));
    expect_body(other, "well");
    atomic_store(&held, true);
    buffer_append_string(&requests, GET("/now/hold"));
    for (int i = 1; i < REQUESTS; i++)
        buffer_append_string(&requests, GET("/now"));
    assert_int_equal(send(many, requests.bytes, requests.length, MSG_NOSIGNAL), requests.length);
    assert_true(becomes(&holding, 1));
    send_text(other, GET("/now/count"));
    atomic_store(&held, false);
    receive_response(other, head, sizeof head, body, sizeof body, false);
    assert_true(atoi(body) < REQUESTS / 2);
    expect_body(many, "held");
    for (int i = 1; i < REQUESTS; i++)
        expect_body(many, "well");
    close(other);
    close(many);
    stop();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        SERVING_TEST(test_answers_of_loops_and_workers_come_in_the_order_of_the_requests),
        SERVING_TEST(test_a_stream_of_requests_in_pieces_of_any_length_is_answered_whole),
        SERVING_TEST(test_a_client_that_has_closed_its_side_gets_all_answers),
        SERVING_TEST(test_a_composed_response_is_like_any_other),
        SERVING_TEST(test_a_worker_waits_for_no_client_of_shared_content),
        SERVING_TEST(test_a_request_with_a_body_never_stays_on_a_loop),
        SERVING_TEST(test_a_server_without_answers_in_place_gives_all_to_workers),
        SERVING_TEST(test_new_connections_go_to_the_loop_with_the_fewest),
        SERVING_TEST(test_a_loop_seldom_yields_a_processor_that_others_want),
        SERVING_TEST(test_a_stop_sends_what_is_left_to_a_slow_client),
        SERVING_TEST(test_a_stop_answers_requests_on_connections_that_no_loop_has_admitted_yet),
        SERVING_TEST(test_a_client_with_many_requests_at_once_does_not_keep_others_waiting),
    };
    return cmocka_run_group_tests_name("http_loops", tests, serving_begin, NULL);
}
