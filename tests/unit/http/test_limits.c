/* The HTTP server on real sockets: deadlines, limits, probes, and the stop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/clock.h"
#include "serving.h"

static void test_a_slow_head_is_cut_even_when_it_drips(void **state) {
    (void)state;
    settings.head_timeout_ms = 300;
    settings.idle_timeout_ms = 60000;
    start();
    int silent = dial(), drip = dial(), idle = dial();
    send_text(silent, "GET /hello");
    int64_t began = clock_ms();
    bool closed = false;
    send_text(drip, "GET /");
    for (int i = 0; i < 300 && !closed; i++) {
        send_text(drip, "a");
        closed = is_closed_within(drip, 20);
    }
    assert_true(closed);
    assert_in_range(clock_ms() - began, 200, 30000);
    assert_true(is_closed_within(silent, 10000));
    assert_false(is_closed_within(idle, 50));
    assert_int_equal(http_server_figures(server).connections, 1);
    close(silent);
    close(drip);
    close(idle);
    stop();
}

static void test_an_idle_connection_is_closed(void **state) {
    (void)state;
    settings.idle_timeout_ms = 1000;
    start();
    int fd = dial();
    assert_false(is_closed_within(fd, 100));
    assert_true(is_closed_within(fd, 10000));
    close(fd);
    stop();
}

static void test_a_client_that_takes_nothing_is_cut(void **state) {
    (void)state;
    settings.send_timeout_ms = 400;
    start();
    int fd = dial_with(4096);
    int64_t began = clock_ms();
    send_text(fd, GET("/file"));
    assert_true(becomes(&sending_failed_as, ERROR_TIMEOUT));
    assert_in_range(clock_ms() - began, 350, 30000);
    close(fd);
    stop();
}

static void test_a_slow_client_that_goes_on_taking_is_served(void **state) {
    (void)state;
    settings.send_timeout_ms = 400;
    start();
    int fd = dial_with(4096);
    send_text(fd, GET("/file"));
    char bytes[8192];
    for (int i = 0; i < 100; i++) {
        assert_true(recv(fd, bytes, sizeof bytes, 0) > 0);
        clock_sleep_ms(15);
    }
    assert_int_equal(atomic_load(&sending_failed_as), -1);
    close(fd);
    assert_true(becomes(&sending_failed_as, ERROR_CLOSED));
    stop();
}

/* Sends a request on a new connection. Returns the status of the response; 0: there was none. */
static int status_of(const char *request) {
    int fd = dial();
    send_text(fd, request);
    char *response = receive_all(fd, NULL, NULL);
    int status = strncmp(response, "HTTP/1.1 ", 9) == 0 ? atoi(response + 9) : 0;
    if (status == 503)
        assert_non_null(strstr(response, "\r\nRetry-After: 1\r\n"));
    free(response);
    close(fd);
    return status;
}

static void close_all(const int fds[], int count) {
    for (int i = 0; i < count; i++)
        close(fds[i]);
}

static void occupy_workers(int fds[], int count) {
    atomic_store(&held, true);
    for (int i = 0; i < count; i++) {
        fds[i] = dial();
        send_text(fds[i], GET("/hold"));
    }
    assert_true(becomes(&holding, count));
}

static void test_at_the_limit_the_longest_idle_connection_gives_way(void **state) {
    (void)state;
    enum { LIMIT = 6 };
    int fds[LIMIT];
    char head[1024], body[64];
    settings.max_connections = LIMIT;
    start();
    for (int i = 0; i < LIMIT; i++) { /* the first one has been idle for longest */
        fds[i] = dial();
        send_text(fds[i], GET("/hello"));
        receive_response(fds[i], head, sizeof head, body, sizeof body, false);
        clock_sleep_ms(5);
    }
    int newcomer = dial();
    send_text(newcomer, GET("/hello"));
    receive_response(newcomer, head, sizeof head, body, sizeof body, false);
    assert_string_equal(body, "hello");
    assert_true(is_closed_within(fds[0], 10000));
    for (int i = 1; i < LIMIT; i++) {
        send_text(fds[i], GET("/hello"));
        receive_response(fds[i], head, sizeof head, body, sizeof body, false);
    }
    assert_int_equal(http_server_figures(server).connections, LIMIT);
    close_all(fds, LIMIT);
    close(newcomer);
    stop();
}

static void test_a_place_that_becomes_free_is_taken(void **state) {
    (void)state;
    int busy[2];
    char head[1024], body[64];
    settings.max_connections = 2;
    start();
    occupy_workers(busy, 2);
    assert_int_equal(status_of(GET("/hello")), 503);
    close(busy[0]);
    atomic_store(&held, false);
    connections_become(1);
    int next = dial();
    send_text(next, GET("/hello"));
    receive_response(next, head, sizeof head, body, sizeof body, false);
    assert_string_equal(body, "hello");
    close(busy[1]);
    close(next);
    stop();
}

static void test_running_out_of_descriptors_delays_and_does_not_end_accepting(void **state) {
    (void)state;
    char head[1024], body[64];
    start();
    struct rlimit before, tight;
    getrlimit(RLIMIT_NOFILE, &before);
    int lowest = dup(file);
    close(lowest);
    tight = (struct rlimit){.rlim_cur = (rlim_t)lowest + 1, .rlim_max = before.rlim_max};
    setrlimit(RLIMIT_NOFILE, &tight);
    int fd = dial(); /* takes the last place */
    send_text(fd, GET("/hello"));
    clock_sleep_ms(250);
    assert_int_equal(atomic_load(&handled), 0);
    setrlimit(RLIMIT_NOFILE, &before);
    receive_response(fd, head, sizeof head, body, sizeof body, false);
    assert_string_equal(body, "hello");
    close(fd);
    stop();
}

static void test_without_a_free_worker_is_503_after_a_while(void **state) {
    (void)state;
    settings.max_workers = 1;
    start();
    atomic_store(&held, true);
    int busy = dial(), waiting = dial();
    send_text(busy, GET("/hold"));
    assert_true(becomes(&holding, 1));
    int64_t began = clock_ms();
    send_text(waiting, GET("/hello"));
    char *response = receive_all(waiting, NULL, NULL);
    assert_ptr_equal(strstr(response, "HTTP/1.1 503 "), response);
    assert_in_range(clock_ms() - began, 1000, 30000);
    free(response);
    close(waiting);
    close(busy);
    stop();
}

/* ---- answers in place ---- */

static void test_loops_answer_while_every_worker_is_busy(void **state) {
    (void)state;
    int busy[3];
    char head[1024], body[64];
    settings.max_workers = 3;
    start();
    occupy_workers(busy, 3);
    int waiting = dial(), other = dial();
    send_text(waiting, GET("/hello"));
    for (int i = 0; i < 5; i++) {
        send_text(other, GET("/now"));
        receive_response(other, head, sizeof head, body, sizeof body, false);
        assert_string_equal(body, "well");
    }
    send_text(other, "HEAD /now HTTP/1.1\r\nHost: a\r\n\r\n");
    receive_response(other, head, sizeof head, body, sizeof body, true);
    send_text(other, "GET /no"); /* in pieces */
    send_text(other, "w HTTP/1.1\r\nHost: a\r\n\r\n");
    receive_response(other, head, sizeof head, body, sizeof body, false);
    assert_string_equal(body, "well");
    assert_int_equal(atomic_load(&holding), 3);
    /* the request that waited is answered, too */
    atomic_store(&held, false);
    receive_response(waiting, head, sizeof head, body, sizeof body, false);
    assert_string_equal(body, "hello");
    close_all(busy, 3);
    close(waiting);
    close(other);
    stop();
}

static void test_loops_answer_beyond_the_connection_limit(void **state) {
    (void)state;
    int busy[2];
    settings.max_connections = 2;
    settings.max_workers = 2;
    start();
    occupy_workers(busy, 2);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(status_of(GET("/now")), 200);
        assert_int_equal(status_of(GET("/hello")), 503);
    }
    assert_int_equal(status_of("no request\r\n\r\n"), 400);
    assert_int_equal(http_server_figures(server).connections, 2);
    assert_int_equal(atomic_load(&handled), 2 + 5);
    close_all(busy, 2);
    stop();
}

static void test_silent_connections_shut_nobody_out(void **state) {
    (void)state;
    enum { CROWD = 400 };
    int crowd[CROWD], busy[1];
    settings.max_connections = 1;
    settings.max_workers = 1;
    start();
    occupy_workers(busy, 1);
    for (int i = 0; i < CROWD; i++)
        crowd[i] = dial();
    for (int i = 0; i < 20; i++) { /* by any loop */
        assert_int_equal(status_of(GET("/now")), 200);
        assert_int_equal(status_of(GET("/hello")), 503);
    }
    close_all(crowd, CROWD);
    close_all(busy, 1);
    stop();
}

static void test_a_client_that_does_not_read_delays_no_other(void **state) {
    (void)state;
    enum { DEAF = 20 };
    int deaf[DEAF];
    char head[1024], body[64];
    settings.loops = 1;
    start();
    for (int i = 0; i < DEAF; i++) {
        deaf[i] = dial_with(4096);
        send_text(deaf[i], GET("/now/large") GET("/now"));
    }
    assert_true(becomes(&large_kept, DEAF));
    int other = dial();
    int64_t began = clock_ms();
    for (int i = 0; i < 100; i++) {
        send_text(other, GET("/now"));
        receive_response(other, head, sizeof head, body, sizeof body, false);
    }
    assert_in_range(clock_ms() - began, 0, settings.send_timeout_ms / 2);
    assert_int_equal(http_server_figures(server).workers, 0);
    close_all(deaf, DEAF);
    assert_true(becomes(&large_kept, 0));
    close(other);
    stop();
}

static void test_a_client_that_takes_nothing_from_a_loop_is_cut(void **state) {
    (void)state;
    settings.send_timeout_ms = 300;
    start();
    int fd = dial_with(4096);
    send_text(fd, GET("/now/large"));
    assert_true(becomes(&large_kept, 1));
    assert_true(becomes(&large_kept, 0));
    bool reset;
    free(receive_all(fd, NULL, &reset));
    assert_true(reset);
    close(fd);
    stop();
}

static void test_slow_downloads_hold_no_worker(void **state) {
    (void)state;
    enum { SLOW = 12 };
    int slow[SLOW];
    char head[1024], body[64];
    settings.max_workers = 2;
    start();
    for (int i = 0; i < SLOW; i++) {
        slow[i] = dial_with(4096);
        send_text(slow[i], GET("/file"));
    }
    for (int i = 0; i < 2500 && atomic_load(&parked) < SLOW; i++)
        clock_sleep_ms(2);
    assert_true(atomic_load(&parked) >= SLOW);
    int other = dial();
    send_text(other, GET("/hello"));
    receive_response(other, head, sizeof head, body, sizeof body, false);
    assert_string_equal(body, "hello");
    size_t length;
    send_text(slow[0], "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    char *all = receive_all(slow[0], &length, NULL);
    check_file(strstr(all, "\r\n\r\n") + 4, FILE_SIZE);
    free(all);
    close_all(slow, SLOW);
    close(other);
    stop();
}

static void test_few_workers_serve_many_connections(void **state) {
    (void)state;
    settings.max_workers = 2;
    start();
    int fds[12];
    char head[1024], body[64];
    for (size_t i = 0; i < 12; i++)
        fds[i] = dial();
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < 12; i++)
            send_text(fds[i], GET("/hello"));
        for (size_t i = 0; i < 12; i++) {
            receive_response(fds[i], head, sizeof head, body, sizeof body, false);
            assert_string_equal(body, "hello");
        }
    }
    assert_in_range(http_server_figures(server).workers, 1, 2);
    for (size_t i = 0; i < 12; i++)
        close(fds[i]);
    stop();
}

/* ---- stopping ---- */

static void test_a_stop_lets_requests_finish(void **state) {
    (void)state;
    char head[1024], body[64];
    settings.head_timeout_ms = 60000;
    start();
    atomic_store(&held, true);
    int busy = dial(), idle = dial(), lingering = dial(), partial = dial();
    send_text(lingering, GET("/hello"));
    receive_response(lingering, head, sizeof head, body, sizeof body, false);
    send_text(partial, "GET /he");
    send_text(busy, GET("/hold"));
    assert_true(becomes(&holding, 1));
    http_server_stop(server);
    assert_true(is_closed_within(idle, 10000));
    assert_true(is_closed_within(lingering, 10000));
    assert_true(is_closed_within(partial, 10000));
    assert_int_equal(atomic_load(&holding), 1);
    atomic_store(&held, false);
    receive_response(busy, head, sizeof head, body, sizeof body, false);
    assert_string_equal(body, "held");
    assert_non_null(strstr(head, "Connection: close\r\n"));
    assert_true(is_closed_within(busy, 10000));
    int64_t began = clock_ms();
    stop();
    assert_in_range(clock_ms() - began, 0, settings.grace_ms / 3);
    close(busy);
    close(idle);
    close(lingering);
    close(partial);
}

static void test_a_stop_cuts_what_outlasts_the_grace(void **state) {
    (void)state;
    settings.grace_ms = 200;
    start();
    int fd = dial_with(4096);
    send_text(fd, GET("/file"));
    assert_true(becomes(&handled, 1));
    int64_t began = clock_ms();
    stop();
    assert_in_range(clock_ms() - began, 150, http_server_settings_default().grace_ms / 3);
    assert_int_equal(atomic_load(&sending_failed_as), ERROR_CLOSED);
    bool reset;
    free(receive_all(fd, NULL, &reset));
    assert_true(reset);
    close(fd);
}

static void test_many_new_clients_at_once_get_the_places_of_idle_ones(void **state) {
    (void)state;
    enum { CROWD = 16, ROUNDS = 10 };
    int idle[CROWD], new[CROWD];
    char head[1024], body[64];
    settings.max_connections = CROWD;
    start();
    for (int i = 0; i < CROWD; i++)
        idle[i] = dial();
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < CROWD; i++) {
            send_text(idle[i], GET("/now"));
            receive_response(idle[i], head, sizeof head, body, sizeof body, false);
        }
        clock_sleep_ms(5); /* until they are idle for a measurable time */
        for (int i = 0; i < CROWD; i++)
            new[i] = dial();
        for (int i = 0; i < CROWD; i++)
            send_text(new[i], GET("/hello"));
        for (int i = 0; i < CROWD; i++) {
            receive_response(new[i], head, sizeof head, body, sizeof body, false);
            assert_string_equal(body, "hello");
            close(idle[i]);
            idle[i] = new[i];
        }
    }
    for (int i = 0; i < CROWD; i++)
        close(idle[i]);
    stop();
}

/* ---- requests that have arrived, and that a busy loop has not looked at yet ---- */

/* A loop looks at 64 connections a turn. */
enum { MORE_THAN_A_TURN = 100 };

/* Keeps the only loop busy, until `held` is set to false. */
static int occupy_loop(void) {
    atomic_store(&held, true);
    int fd = dial();
    send_text(fd, GET("/now/hold"));
    assert_true(becomes(&holding, 1));
    return fd;
}

/* Every client that has sent a request gets the answer, and none is cut. */
static void expect_answers(const int fds[], int count, const char *wanted) {
    for (int i = 0; i < count; i++) {
        char head[1024], body[64];
        receive_response(fds[i], head, sizeof head, body, sizeof body, false);
        assert_string_equal(body, wanted);
    }
}

static void test_a_request_that_has_arrived_outlives_the_time_of_its_connection(void **state) {
    (void)state;
    int crowd[MORE_THAN_A_TURN];
    settings.loops = 1;
    settings.idle_timeout_ms = settings.head_timeout_ms = 300;
    start();
    for (int i = 0; i < MORE_THAN_A_TURN; i++)
        crowd[i] = dial();
    connections_become(MORE_THAN_A_TURN);
    for (int i = 0; i < MORE_THAN_A_TURN; i += 2) /* half of the heads have begun */
        send_text(crowd[i], "GET /now HTT");
    int busy = occupy_loop();
    for (int i = 0; i < MORE_THAN_A_TURN; i++)
        send_text(crowd[i], i % 2 ? GET("/now") : "P/1.1\r\nHost: a\r\n\r\n");
    clock_sleep_ms(400);
    atomic_store(&held, false);
    expect_answers(crowd, MORE_THAN_A_TURN, "well");
    close_all(crowd, MORE_THAN_A_TURN);
    close(busy);
    stop();
}

static void test_a_request_that_has_arrived_keeps_its_connection_from_giving_way(void **state) {
    (void)state;
    enum { LIMIT = 4, CROWD = 3 * LIMIT };
    int crowd[CROWD];
    settings.loops = 1;
    settings.max_connections = LIMIT;
    start();
    int busy = occupy_loop();
    for (int i = 0; i < CROWD; i++) {
        crowd[i] = dial();
        send_text(crowd[i], GET("/now"));
    }
    atomic_store(&held, false);
    expect_answers(crowd, CROWD, "well");
    close_all(crowd, CROWD);
    close(busy);
    stop();
}

static void test_requests_that_have_arrived_without_a_place_are_answered(void **state) {
    (void)state;
    enum { CROWD = 30 }; /* twice as many as there may be without a place */
    int crowd[CROWD], workers[1];
    settings.loops = 1;
    settings.max_connections = 2;
    settings.max_workers = 1;
    start();
    occupy_workers(workers, 1);
    atomic_store(&holding, 0);
    int busy = occupy_loop();
    for (int i = 0; i < CROWD; i++) {
        crowd[i] = dial();
        send_text(crowd[i], GET("/now"));
    }
    atomic_store(&held, false);
    expect_answers(crowd, CROWD, "well");
    close_all(crowd, CROWD);
    close_all(workers, 1);
    close(busy);
    stop();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        SERVING_TEST(test_a_slow_head_is_cut_even_when_it_drips),
        SERVING_TEST(test_an_idle_connection_is_closed),
        SERVING_TEST(test_a_client_that_takes_nothing_is_cut),
        SERVING_TEST(test_a_slow_client_that_goes_on_taking_is_served),
        SERVING_TEST(test_at_the_limit_the_longest_idle_connection_gives_way),
        SERVING_TEST(test_a_place_that_becomes_free_is_taken),
        SERVING_TEST(test_running_out_of_descriptors_delays_and_does_not_end_accepting),
        SERVING_TEST(test_without_a_free_worker_is_503_after_a_while),
        SERVING_TEST(test_loops_answer_while_every_worker_is_busy),
        SERVING_TEST(test_loops_answer_beyond_the_connection_limit),
        SERVING_TEST(test_silent_connections_shut_nobody_out),
        SERVING_TEST(test_a_client_that_does_not_read_delays_no_other),
        SERVING_TEST(test_a_client_that_takes_nothing_from_a_loop_is_cut),
        SERVING_TEST(test_slow_downloads_hold_no_worker),
        SERVING_TEST(test_few_workers_serve_many_connections),
        SERVING_TEST(test_a_stop_lets_requests_finish),
        SERVING_TEST(test_a_stop_cuts_what_outlasts_the_grace),
        SERVING_TEST(test_many_new_clients_at_once_get_the_places_of_idle_ones),
        SERVING_TEST(test_a_request_that_has_arrived_outlives_the_time_of_its_connection),
        SERVING_TEST(test_a_request_that_has_arrived_keeps_its_connection_from_giving_way),
        SERVING_TEST(test_requests_that_have_arrived_without_a_place_are_answered),
    };
    return cmocka_run_group_tests_name("http_limits", tests, serving_begin, NULL);
}
