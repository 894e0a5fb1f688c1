/* The HTTP server on real sockets: how much one client address may hold, and for how long a slow
 * client may hold a worker. The addresses are 127.0.0.1, 127.0.0.2 and so on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/clock.h"
#include "base/metric.h"
#include "serving.h"

#define GREEDY "127.0.0.2"
#define OTHER  "127.0.0.3"

enum { PLACES = 8, HALF = PLACES / 2 };

static int64_t refused(const char *labels) {
    return metric_value(metric_get(METRIC_COUNTER, METRIC_REFUSED, METRIC_REFUSED_HELP, labels));
}

/* The status of a response on this connection. */
static int status_on(int fd, const char *request) {
    char head[1024], body[256];
    send_text(fd, request);
    receive_response(fd, head, sizeof head, body, sizeof body, false);
    int status = atoi(head + strlen("HTTP/1.1 "));
    bool is_refused = status == 429 || status == 503;
    assert_true(is_refused == (strstr(head, "\r\nRetry-After: 1\r\n") != NULL));
    if (is_refused) {
        assert_non_null(strstr(head, "\r\nConnection: close\r\n"));
        assert_non_null(strstr(body, "{\"status\":"));
    }
    return status;
}

static int status_from(const char *address, const char *request) {
    int fd = dial_from(address), status = status_on(fd, request);
    close(fd);
    return status;
}

/* The connection gets a worker. Afterwards it counts as idle again: it does so a moment after its
 * response, and its loop answers the second request only then. */
static void is_served_on(int fd) {
    assert_int_equal(status_on(fd, GET("/hello")), 200);
    assert_int_equal(status_on(fd, GET("/now")), 200);
}

static void is_served(const char *address) {
    int fd = dial_from(address);
    is_served_on(fd);
    close(fd);
}

static void close_all(const int fds[], int count) {
    for (int i = 0; i < count; i++)
        close(fds[i]);
}

/* Each of these requests keeps its worker until `held` is false. */
static void hold_workers(const char *address, int fds[], int count) {
    int before = atomic_load(&holding);
    atomic_store(&held, true);
    for (int i = 0; i < count; i++) {
        fds[i] = dial_from(address);
        send_text(fds[i], GET("/hold"));
        assert_true(becomes(&holding, before + i + 1));
    }
}

static int idle_from(const char *address) {
    int fd = dial_from(address);
    assert_int_equal(status_on(fd, GET("/now")), 200);
    return fd;
}

/* ---- requests ---- */

static void test_one_address_gets_all_workers_that_nobody_else_wants(void **state) {
    (void)state;
    int fds[HALF + 1], others[2];
    settings.max_workers = PLACES;
    settings.per_client.requests = 25;
    start();
    hold_workers(GREEDY, fds, HALF + 1); /* more than its share */
    int64_t before = refused("reason=\"client_requests\"");
    assert_int_equal(status_from(GREEDY, GET("/hello")), 429);
    assert_int_equal(refused("reason=\"client_requests\""), before + 1);
    assert_int_equal(status_from(GREEDY, GET("/now")), 200); /* it needs no worker */
    is_served(OTHER);
    hold_workers(OTHER, others, 2); /* its share */
    assert_int_equal(status_from(OTHER, GET("/hello")), 429);
    is_served("127.0.0.4");
    atomic_store(&held, false);
    workers_become_idle();
    is_served(GREEDY);
    close_all(fds, HALF + 1);
    close_all(others, 2);
    stop();
}

static void test_with_a_hundred_percent_an_address_waits_in_line(void **state) {
    (void)state;
    int fds[PLACES];
    settings.max_workers = PLACES;
    start();
    hold_workers(GREEDY, fds, PLACES);
    int fd = dial_from(GREEDY);
    send_text(fd, GET("/hello"));
    assert_false(is_closed_within(fd, 50));
    atomic_store(&held, false);
    char head[1024], body[64];
    receive_response(fd, head, sizeof head, body, sizeof body, false);
    assert_string_equal(body, "hello");
    close(fd);
    close_all(fds, PLACES);
    stop();
}

static void test_parked_downloads_hold_nothing_of_a_share(void **state) {
    (void)state;
    enum { SLOW = 3 * PLACES };
    int slow[SLOW];
    settings.max_workers = PLACES;
    settings.per_client.requests = 12;
    start();
    for (int i = 0; i < SLOW; i++) {
        slow[i] = dial_with(4096);
        send_text(slow[i], GET("/file"));
        for (int tries = 0; tries < 2500 && atomic_load(&parked) < i + 1; tries++)
            clock_sleep_ms(2);
    }
    is_served("127.0.0.1");
    close_all(slow, SLOW);
    stop();
}

/* ---- connections ---- */

static void test_an_address_with_its_share_of_busy_connections_gets_one_answer(void **state) {
    (void)state;
    int fds[HALF + 1];
    settings.max_connections = PLACES;
    settings.per_client.connections = 25;
    start();
    hold_workers(GREEDY, fds, HALF); /* more than its share */
    int begun = dial_from(GREEDY);   /* it is not idle, because its head has just begun */
    send_text(begun, "GET /");
    connections_become(HALF + 1);
    int64_t before = refused("reason=\"client_connections\"");
    assert_int_equal(status_from(GREEDY, GET("/hello")), 429);
    assert_int_equal(refused("reason=\"client_connections\""), before + 1);
    int fd = dial_from(GREEDY);
    send_text(fd, GET("/now"));
    char *response = receive_all(fd, NULL, NULL); /* until it is closed */
    assert_ptr_equal(strstr(response, "HTTP/1.1 200 "), response);
    free(response);
    close(fd);
    close(begun);
    connections_become(HALF);
    hold_workers(GREEDY, &fds[HALF], 1); /* half of the connections were free */
    assert_int_equal(status_from(GREEDY, GET("/hello")), 429);
    is_served(OTHER);
    atomic_store(&held, false);
    close_all(fds, HALF + 1);
    connections_become(0);
    is_served(GREEDY);
    stop();
}

static void test_idle_connections_of_one_address_take_only_what_is_left(void **state) {
    (void)state;
    int fds[3 * PLACES];
    settings.max_connections = PLACES;
    settings.per_client.connections = 25;
    start();
    int other = idle_from(OTHER); /* it has been idle for longest */
    for (int i = 0; i < 3 * PLACES; i++) {
        fds[i] = idle_from(GREEDY);
        is_served_on(fds[i]);
    }
    assert_int_equal(http_server_figures(server).connections, PLACES);
    /* Which of its own was closed depends on the loops that hold them. */
    is_served_on(fds[3 * PLACES - 1]);
    is_served_on(other);
    close(other);
    close_all(fds, 3 * PLACES);
    stop();
}

enum { DIALS = 400 };

static void *dial_many(void *fds) {
    for (int i = 0; i < DIALS; i++)
        ((int *)fds)[i] = dial_from(GREEDY);
    return NULL;
}

/* Its connections come to all loops at once, which take the same places. */
static void test_a_flood_of_one_address_takes_no_place_of_another(void **state) {
    (void)state;
    enum { KEPT = 5, THREADS = 2 };
    static int fds[THREADS][DIALS];
    int kept[KEPT];
    pthread_t threads[THREADS];
    settings.loops = 4;
    settings.max_connections = 40;
    settings.per_client.connections = 50;
    start();
    for (int i = 0; i < KEPT; i++) { /* they have been idle for longest */
        kept[i] = idle_from(OTHER);
        is_served_on(kept[i]);
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, dial_many, fds[i]), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    while (status_from(GREEDY, GET("/hello")) != 200) /* until none of the flood is on its way */
        clock_sleep_ms(1);
    for (int i = 0; i < KEPT; i++)
        is_served_on(kept[i]);
    close_all(kept, KEPT);
    for (int i = 0; i < THREADS; i++)
        close_all(fds[i], DIALS);
    stop();
}

static void test_several_addresses_with_many_connections_take_no_place_of_another(void **state) {
    (void)state;
    enum { ALL = 120, ADDRESSES = 3 }; /* none of these gets its share */
    int fds[ALL];
    char address[16];
    settings.loops = 1;
    settings.max_connections = 40;
    settings.per_client.connections = 50;
    start();
    int other = dial_from(OTHER); /* it has been idle for longest, and has not asked yet */
    connections_become(1);
    for (int i = 0; i < ALL; i++) {
        snprintf(address, sizeof address, "127.0.1.%d", i % ADDRESSES + 1);
        fds[i] = dial_from(address);
    }
    is_served("127.0.0.9"); /* all who came before have got their places */
    is_served_on(other);
    close_all(fds, ALL);
    close(other);
    stop();
}

static void test_idle_connections_cannot_all_become_busy(void **state) {
    (void)state;
    int fds[PLACES];
    settings.max_connections = PLACES;
    settings.per_client.connections = 25;
    start();
    for (int i = 0; i < PLACES; i++)
        fds[i] = idle_from(GREEDY);
    atomic_store(&held, true);
    for (int i = 0; i < 2; i++) { /* its share */
        send_text(fds[i], GET("/hold"));
        assert_true(becomes(&holding, i + 1));
    }
    assert_int_equal(status_on(fds[2], GET("/now")), 200);
    assert_int_equal(status_on(fds[2], GET("/hello")), 429);
    is_served(OTHER);
    atomic_store(&held, false);
    for (int i = 0; i < 2; i++) {
        char head[1024], body[256];
        receive_response(fds[i], head, sizeof head, body, sizeof body, false);
        assert_int_equal(status_on(fds[i], GET("/now")), 200); /* it is idle again */
    }
    is_served(GREEDY);
    close_all(fds, PLACES);
    stop();
}

static void test_idle_connections_of_an_address_with_its_share_give_way_first(void **state) {
    (void)state;
    int fds[HALF], others[HALF];
    settings.max_connections = PLACES;
    settings.per_client.connections = HALF * 100 / PLACES;
    start();
    for (int i = 0; i < HALF; i++) { /* all of them have been idle for longer */
        char address[16];
        snprintf(address, sizeof address, "127.0.1.%d", i + 1);
        others[i] = idle_from(address);
    }
    for (int i = 0; i < HALF; i++)
        fds[i] = idle_from(GREEDY);
    int newcomer = idle_from(OTHER);
    unsigned closed = 0;
    for (int tries = 0; tries < 1000 && closed == 0; tries++)
        for (int i = 0; i < HALF; i++)
            closed += is_closed_within(fds[i], 2);
    assert_int_equal(closed, 1);
    for (int i = 0; i < HALF; i++)
        is_served_on(others[i]);
    close(newcomer);
    close_all(fds, HALF);
    close_all(others, HALF);
    stop();
}

static void test_connections_over_a_share_keep_no_others_out(void **state) {
    (void)state;
    enum { CROWD = 200 };
    int crowd[CROWD], fds[HALF + 1], others[HALF - 1];
    settings.max_connections = PLACES;
    settings.max_workers = PLACES;
    settings.per_client.connections = 25;
    start();
    hold_workers(GREEDY, fds, HALF + 1);
    for (int i = 0; i < HALF - 1; i++) {
        char address[16];
        snprintf(address, sizeof address, "127.0.1.%d", i + 1);
        hold_workers(address, &others[i], 1);
    }
    for (int i = 0; i < CROWD; i++)
        crowd[i] = dial_from(GREEDY);
    for (int i = 0; i < 10; i++) { /* over the limit, and not over a share */
        assert_int_equal(status_from(OTHER, GET("/now")), 200);
        assert_int_equal(status_from(OTHER, GET("/hello")), 503);
    }
    close_all(crowd, CROWD);
    close_all(fds, HALF + 1);
    close_all(others, HALF - 1);
    stop();
}

static void test_so_few_connections_that_nobody_can_share_them_have_no_shares(void **state) {
    (void)state;
    int fds[2];
    settings.max_connections = 2;
    settings.per_client.connections = 50;
    start();
    hold_workers(GREEDY, fds, 2);
    assert_int_equal(status_from(GREEDY, GET("/hello")), 503);
    assert_int_equal(status_from(GREEDY, GET("/now")), 200);
    close_all(fds, 2);
    stop();
}

/* ---- slow clients ---- */

static void test_a_slow_client_of_a_long_body_from_memory_holds_no_worker(void **state) {
    (void)state;
    enum { SLOW = 3 };
    int slow[SLOW];
    settings.max_workers = 1;
    start();
    for (int i = 0; i < SLOW; i++) { /* one by one: a request that waits for long gets 503 */
        slow[i] = dial_with(4096);
        send_text(slow[i], GET("/copied"));
        assert_true(becomes(&copied_done, i + 1));
    }
    is_served(OTHER);
    for (int i = 0; i < SLOW; i++) { /* each still gets the whole body */
        size_t length;
        send_text(slow[i], "GET /now HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        char *all = receive_all(slow[i], &length, NULL);
        char *body = strstr(all, "\r\n\r\n") + 4;
        assert_true(length - (size_t)(body - all) > CONTENT_SIZE);
        assert_int_equal(strncmp(body + CONTENT_SIZE, "HTTP/1.1 200 ", 13), 0);
        free(all);
        close(slow[i]);
    }
    stop();
}

static void test_a_client_that_holds_the_last_worker_and_takes_nothing_is_cut(void **state) {
    (void)state;
    enum { SLOW = 8 }; /* there is no memory for all of their bodies */
    int slow[SLOW];
    settings.max_workers = 1;
    settings.per_client.least_rate = 16 << 10;
    start();
    int64_t before = refused("reason=\"client_rate\"");
    int count = 0;
    while (count < SLOW && refused("reason=\"client_rate\"") == before) {
        slow[count] = dial_with(4096);
        send_text(slow[count], GET("/copied"));
        /* One by one, because a request that waits for a worker for long gets 503. */
        count++;
        for (int tries = 0; tries < 15000 && atomic_load(&copied_done) < count &&
                            refused("reason=\"client_rate\"") == before;
             tries++)
            clock_sleep_ms(2);
    }
    assert_true(refused("reason=\"client_rate\"") > before);
    close_all(slow, count);
    stop();
}

static void test_a_body_that_does_not_arrive_frees_the_last_worker(void **state) {
    (void)state;
    settings.max_workers = 1;
    settings.head_timeout_ms = 60000;
    settings.per_client.least_rate = 16 << 10;
    start();
    int slow = dial_from(GREEDY);
    int64_t began = clock_ms(), before = refused("reason=\"client_rate\"");
    assert_int_equal(
        status_on(slow, "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\nx"), 408);
    assert_in_range(clock_ms() - began, 1000, 30000);
    assert_int_equal(refused("reason=\"client_rate\""), before + 1);
    close(slow);
    stop();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        SERVING_TEST(test_one_address_gets_all_workers_that_nobody_else_wants),
        SERVING_TEST(test_with_a_hundred_percent_an_address_waits_in_line),
        SERVING_TEST(test_parked_downloads_hold_nothing_of_a_share),
        SERVING_TEST(test_an_address_with_its_share_of_busy_connections_gets_one_answer),
        SERVING_TEST(test_idle_connections_of_one_address_take_only_what_is_left),
        SERVING_TEST(test_a_flood_of_one_address_takes_no_place_of_another),
        SERVING_TEST(test_several_addresses_with_many_connections_take_no_place_of_another),
        SERVING_TEST(test_idle_connections_cannot_all_become_busy),
        SERVING_TEST(test_idle_connections_of_an_address_with_its_share_give_way_first),
        SERVING_TEST(test_connections_over_a_share_keep_no_others_out),
        SERVING_TEST(test_so_few_connections_that_nobody_can_share_them_have_no_shares),
        SERVING_TEST(test_a_slow_client_of_a_long_body_from_memory_holds_no_worker),
        SERVING_TEST(test_a_client_that_holds_the_last_worker_and_takes_nothing_is_cut),
        SERVING_TEST(test_a_body_that_does_not_arrive_frees_the_last_worker),
    };
    return cmocka_run_group_tests(tests, serving_begin, NULL);
}
