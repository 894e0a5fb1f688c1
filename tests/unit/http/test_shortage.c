/* The HTTP server on real sockets, when the system refuses memory or descriptors to a loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>
#include "serving.h"

/* How many of the next calls fail. */
static atomic_int failing_watches, failing_waits_for_space, failing_accepts;

static bool fails(atomic_int *left) {
    int before = atomic_load(left);
    while (before > 0 && !atomic_compare_exchange_weak(left, &before, before - 1))
        ;
    return before > 0;
}

int __real_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event) {
    bool for_space = operation == EPOLL_CTL_ADD && event->events == EPOLLOUT;
    if ((operation == EPOLL_CTL_ADD && fails(&failing_watches)) ||
        (for_space && fails(&failing_waits_for_space))) {
        errno = ENOMEM;
        return -1;
    }
    return __real_epoll_ctl(epoll, operation, fd, event);
}

int __real_accept4(int fd, struct sockaddr *peer, socklen_t *size, int flags);
int __wrap_accept4(int fd, struct sockaddr *peer, socklen_t *size, int flags);
int __wrap_accept4(int fd, struct sockaddr *peer, socklen_t *size, int flags) {
    if (fails(&failing_accepts)) {
        errno = EMFILE;
        return -1;
    }
    return __real_accept4(fd, peer, size, flags);
}

static atomic_bool without_memory; /* every realloc() of a loop fails */

void *__real_realloc(void *bytes, size_t size);
void *__wrap_realloc(void *bytes, size_t size);
void *__wrap_realloc(void *bytes, size_t size) {
    char name[16] = "";
    pthread_getname_np(pthread_self(), name, sizeof name);
    if (atomic_load(&without_memory) && strcmp(name, "http-loop") == 0)
        return NULL;
    return __real_realloc(bytes, size);
}

static void expect_well(int fd) {
    char head[1024], body[64];
    send_text(fd, GET("/now"));
    assert_int_equal(receive_response(fd, head, sizeof head, body, sizeof body, false), 4);
    assert_string_equal(body, "well");
}

static void test_accepting_goes_on_after_all_that_the_system_refuses(void **state) {
    (void)state;
    settings.loops = 1;
    start();
    int first = dial();
    expect_well(first);
    close(first);
    atomic_store(&failing_accepts, 1);
    atomic_store(&failing_watches, 2); /* of the listener, when the pause has ended */
    int second = dial();
    expect_well(second);
    assert_int_equal(atomic_load(&failing_accepts), 0);
    assert_int_equal(atomic_load(&failing_watches), 0);
    close(second);
    stop();
}

static void test_a_parked_response_that_cannot_be_watched_is_ended_by_its_handler(void **state) {
    (void)state;
    start();
    int fd = dial_with(4096);
    atomic_store(&failing_waits_for_space, 1);
    send_text(fd, GET("/file"));
    assert_true(becomes(&sending_failed_as, ERROR_TIMEOUT));
    connections_become(0);
    close(fd);
    stop();
}

/* Expects that the server closes without a single byte. */
static void expect_nothing(const char *request) {
    int fd = dial();
    size_t length;
    send_text(fd, request);
    char *response = receive_all(fd, &length, NULL);
    assert_int_equal(length, 0);
    free(response);
    close(fd);
}

static void test_a_loop_that_had_no_memory_for_an_answer_answers_the_next_client(void **state) {
    (void)state;
    settings.loops = 1;
    start();
    atomic_store(&without_memory, true);
    expect_nothing(GET("/now"));
    expect_nothing("no head\r\n\r\n");
    expect_nothing("GET /now HTTP/1.1\r\nHost: a\r\nExpect: much\r\n\r\n");
    atomic_store(&without_memory, false);
    int fd = dial();
    expect_well(fd);
    close(fd);
    stop();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        SERVING_TEST(test_accepting_goes_on_after_all_that_the_system_refuses),
        SERVING_TEST(test_a_parked_response_that_cannot_be_watched_is_ended_by_its_handler),
        SERVING_TEST(test_a_loop_that_had_no_memory_for_an_answer_answers_the_next_client),
    };
    return cmocka_run_group_tests_name("http_shortage", tests, serving_begin, NULL);
}
