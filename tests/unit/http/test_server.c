/* The HTTP server on real sockets: requests and responses as a client sees them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/clock.h"
#include "serving.h"

static void test_many_requests_share_a_connection(void **state) {
    (void)state;
    char head[1024], body[256];
    start();
    int fd = dial();
    for (int i = 0; i < 20; i++) {
        send_text(fd, GET("/hello"));
        receive_response(fd, head, sizeof head, body, sizeof body, false);
        assert_string_equal(body, "hello");
        assert_ptr_equal(strstr(head, "HTTP/1.1 200 OK\r\n"), head);
        assert_non_null(strstr(head, "\r\nDate: "));
        assert_non_null(strstr(head, "\r\nX-Content-Type-Options: nosniff\r\n"));
        assert_non_null(strstr(head, "\r\nX-One: 1\r\n"));
        assert_non_null(strstr(head, "\r\nContent-Type: text/plain\r\n"));
        assert_null(strstr(head, "Injected"));
        assert_null(strstr(head, "Connection:"));
    }
    /* and after it was parked, which happens when the worker has waited a second */
    workers_become_idle();
    assert_int_equal(http_server_figures(server).connections, 1);
    send_text(fd, GET("/client"));
    receive_response(fd, head, sizeof head, body, sizeof body, false);
    assert_memory_equal(body, "127.0.0.1:", 10);
    close(fd);
    stop();
}

static void test_pipelined_requests_are_answered_in_order(void **state) {
    (void)state;
    start();
    int fd = dial();
    char *requests = calloc(1, 20000);
    for (int i = 0; i < 300; i++) {
        char one[64];
        snprintf(one, sizeof one, GET("/echo/%d"), i);
        strcat(requests, one);
    }
    strcat(requests, "GET /echo/last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    send_text(fd, requests);
    size_t length;
    char *response = receive_all(fd, &length, NULL), *at = response;
    for (int i = 0; i < 300; i++) {
        char expected[32];
        int size = snprintf(expected, sizeof expected, "\r\n\r\n%d", i);
        at = strstr(at, "\r\n\r\n");
        assert_non_null(at);
        assert_memory_equal(at, expected, (size_t)size);
        at += size;
    }
    assert_non_null(strstr(at, "\r\n\r\nlast"));
    free(response);
    free(requests);
    close(fd);
    stop();
}

static void test_a_head_in_pieces_is_put_together(void **state) {
    (void)state;
    char head[1024], body[64];
    start();
    int fd = dial();
    const char *request = "\r\n" GET("/hello");
    for (size_t i = 0; request[i]; i++) {
        send(fd, request + i, 1, MSG_NOSIGNAL);
        if (i % 8 == 0)
            clock_sleep_ms(2);
    }
    receive_response(fd, head, sizeof head, body, sizeof body, false);
    assert_string_equal(body, "hello");
    close(fd);
    stop();
}

static void test_a_head_of_16_kib_is_served_and_a_larger_one_refused(void **state) {
    (void)state;
    char *request = calloc(1, 40000), head[1024], body[256];
    start();
    int fd = dial();
    strcpy(request, "GET /hello HTTP/1.1\r\nHost: a\r\nX: ");
    memset(request + strlen(request), 'x', 16000);
    strcat(request, "\r\n\r\n");
    send_text(fd, request);
    receive_response(fd, head, sizeof head, body, sizeof body, false);
    assert_string_equal(body, "hello");
    close(fd);
    memset(request + 50, 'x', 30000);
    expect_response(request, "HTTP/1.1 431 ");
    free(request);
    stop();
}

static void test_head_tells_the_length_and_sends_no_body(void **state) {
    (void)state;
    char head[1024], body[64];
    start();
    int fd = dial();
    send_text(fd, "HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n");
    receive_response(fd, head, sizeof head, body, sizeof body, true);
    assert_non_null(strstr(head, "Content-Length: 5\r\n"));
    send_text(fd, "HEAD /file HTTP/1.1\r\nHost: a\r\n\r\n");
    receive_response(fd, head, sizeof head, body, sizeof body, true);
    assert_non_null(strstr(head, "Content-Length: 9437184\r\n"));
    send_text(fd, "HEAD /chunked HTTP/1.1\r\nHost: a\r\n\r\n");
    receive_response(fd, head, sizeof head, body, sizeof body, true);
    assert_non_null(strstr(head, "Transfer-Encoding: chunked\r\n"));
    send_text(fd, GET("/nothing"));
    receive_response(fd, head, sizeof head, body, sizeof body, true);
    assert_null(strstr(head, "Content-Length"));
    send_text(fd, GET("/hello"));
    receive_response(fd, head, sizeof head, body, sizeof body, false);
    assert_string_equal(body, "hello");
    close(fd);
    stop();
}

static void test_a_body_of_unknown_length_comes_in_chunks(void **state) {
    (void)state;
    start();
    int fd = dial();
    send_text(fd, "GET /chunked HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    size_t length;
    bool reset;
    char *response = receive_all(fd, &length, &reset);
    assert_false(reset);
    char expected[] = "\r\n\r\n13\r\n0123456789abcdefXYZ\r\n3\r\n---\r\n0\r\n\r\n";
    char *from_file = strstr(expected, "---");
    for (size_t i = 0; i < 3; i++)
        from_file[i] = (char)pattern(i);
    char *body = memmem(response, length, "\r\n\r\n", 4);
    assert_non_null(body);
    assert_int_equal(length - (size_t)(body - response), sizeof expected - 1);
    assert_memory_equal(body, expected, sizeof expected - 1);
    free(response);
    close(fd);
    expect_response("GET /chunked HTTP/1.0\r\n\r\n", "HTTP/1.1 505 ");
    stop();
}

static void test_http_1_0_closes_unless_asked_not_to(void **state) {
    (void)state;
    char head[1024], body[64];
    start();
    expect_response("GET /hello HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\n");
    expect_response("GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                    "HTTP/1.1 200 OK\r\n");
    int fd = dial();
    send_text(fd, "GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    receive_response(fd, head, sizeof head, body, sizeof body, false);
    assert_non_null(strstr(head, "Connection: keep-alive\r\n"));
    send_text(fd, "GET /hello HTTP/1.0\r\n\r\n");
    receive_response(fd, head, sizeof head, body, sizeof body, false);
    assert_non_null(strstr(head, "Connection: close\r\n"));
    assert_true(is_closed_within(fd, 5000));
    close(fd);
    stop();
}

static void test_a_file_arrives_as_it_is(void **state) {
    (void)state;
    start();
    int fd = dial();
    send_text(fd, "GET /file HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    size_t length;
    char *response = receive_all(fd, &length, NULL);
    char *body = strstr(response, "\r\n\r\n") + 4;
    check_file(body, length - (size_t)(body - response));
    free(response);
    close(fd);
    stop();
}

static void is_cut(const char *request) {
    int fd = dial();
    bool reset;
    send_text(fd, request);
    free(receive_all(fd, NULL, &reset));
    assert_true(reset);
    close(fd);
}

static void test_an_answer_that_is_not_whole_ends_in_a_reset(void **state) {
    (void)state;
    start();
    is_cut(GET("/abort"));
    is_cut(GET("/incomplete"));
    is_cut(GET("/toolong"));
    is_cut("GET /abort HTTP/1.0\r\n\r\n");
    is_cut(GET("/file/short"));
    assert_int_equal(atomic_load(&sending_failed_as), ERROR_IO);
    stop();
}

static void test_an_unanswered_request_becomes_500(void **state) {
    (void)state;
    char head[1024], body[256];
    start();
    int fd = dial();
    send_text(fd, GET("/unanswered"));
    receive_response(fd, head, sizeof head, body, sizeof body, false);
    assert_ptr_equal(strstr(head, "HTTP/1.1 500 "), head);
    assert_non_null(strstr(head, "Content-Type: application/json\r\n"));
    assert_ptr_equal(strstr(body, "{\"status\":500,"), body);
    close(fd);
    stop();
}

static void test_smuggling_shapes_close_the_connection_unserved(void **state) {
    (void)state;
    static const char *const requests[] = {
        "PUT /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nabcd",
        "PUT /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n"
        "\r\n0\r\n\r\n",
        "PUT /hello HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
        "GET /hello HTTP/1.1\nHost: a\n\n",
        "GET /hello HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET /hello HTTP/1.1\r\n\r\n",
        "GET /hello\r\n",
        "G(T /hello HTTP/1.1\r\nHost: a\r\n\r\n",
        /* a body where none is allowed; its bytes are no second request */
        "GET /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 44\r\n\r\n" GET("/echo/smuggled"),
        "HEAD /hello HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    };
    start();
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        char request[1024];
        snprintf(request, sizeof request, "%s" GET("/echo/smuggled"), requests[i]);
        int fd = dial();
        send_text(fd, request);
        char *response = receive_all(fd, NULL, NULL);
        assert_ptr_equal(strstr(response, "HTTP/1.1 400 Bad Request\r\n"), response);
        assert_non_null(strstr(response, "Connection: close\r\n"));
        assert_non_null(strstr(response, "application/json"));
        assert_null(strstr(response + 1, "HTTP/1.1"));
        free(response);
        close(fd);
    }
    assert_int_equal(atomic_load(&handled), 0);
    stop();
}

static void test_a_body_nobody_reads_is_skipped_or_ends_the_connection(void **state) {
    (void)state;
    char head[1024], body[256];
    start();
    int fd = dial();
    send_text(fd, "PUT /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234");
    receive_response(fd, head, sizeof head, body, sizeof body, false);
    assert_string_equal(body, "hello");
    clock_sleep_ms(20);
    send_text(fd, "56789" GET("/echo/next"));
    receive_response(fd, head, sizeof head, body, sizeof body, false);
    assert_string_equal(body, "next");
    close(fd);
    expect_response("PUT /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n01234",
                    "HTTP/1.1 200 ");
    expect_response("PUT /hello HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                    "5\r\n01234\r\n0\r\n\r\n",
                    "HTTP/1.1 200 ");
    stop();
}

static void test_an_expectation_never_hangs(void **state) {
    (void)state;
    start();
    expect_response("PUT /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
                    "Expect: 100-continue\r\n\r\n",
                    "HTTP/1.1 200 ");
    expect_response("PUT /hello HTTP/1.1\r\nHost: a\r\nExpect: rain\r\n\r\n", "HTTP/1.1 417 ");
    stop();
}

static void test_a_handler_that_asks_gets_the_body(void **state) {
    (void)state;
    char head[1024], body[256];
    settings.head_timeout_ms = 2000;
    start();
    int fd = dial();
    /* in one piece with the next request, in pieces, after 100, and absent */
    send_text(fd,
              "PUT /body HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n01234" GET("/echo/next"));
    receive_response(fd, head, sizeof head, body, sizeof body, false);
    assert_string_equal(body, "01234");
    receive_response(fd, head, sizeof head, body, sizeof body, false);
    assert_string_equal(body, "next");
    send_text(fd, "PUT /body HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n01");
    clock_sleep_ms(50);
    send_text(fd, "234");
    receive_response(fd, head, sizeof head, body, sizeof body, false);
    assert_string_equal(body, "01234");
    send_text(fd, "PUT /body HTTP/1.1\r\nHost: a\r\n\r\n");
    receive_response(fd, head, sizeof head, body, sizeof body, false);
    assert_string_equal(body, "");
    send_text(fd, "PUT /body HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
                  "Expect: 100-continue\r\n\r\n");
    receive_response(fd, head, sizeof head, body, sizeof body, false);
    assert_string_equal(head, "HTTP/1.1 100 Continue\r\n\r\n");
    send_text(fd, "abcde");
    receive_response(fd, head, sizeof head, body, sizeof body, false);
    assert_string_equal(body, "abcde");
    close(fd);
    expect_response("PUT /body HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n"
                    "Connection: close\r\n\r\n",
                    "HTTP/1.1 413 ");
    expect_response("PUT /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                    "0\r\n\r\n",
                    "HTTP/1.1 413 ");
    expect_response("PUT /body HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n0123",
                    "HTTP/1.1 408 ");
    stop();
}

static void test_an_answer_survives_a_client_that_is_still_sending(void **state) {
    (void)state;
    start();
    int fd = dial();
    char *much = malloc(100001);
    memset(much, 'x', 100000);
    much[100000] = '\0';
    send_text(fd, "PUT /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    assert_true(becomes(&handled, 1));
    send_text(fd, much);
    bool reset;
    char *response = receive_all(fd, NULL, &reset);
    assert_false(reset);
    assert_ptr_equal(strstr(response, "HTTP/1.1 200 OK\r\n"), response);
    free(response);
    free(much);
    close(fd);
    stop();
}

static void test_a_handler_sees_its_client_leave(void **state) {
    (void)state;
    start();
    int fd = dial();
    send_text(fd, GET("/watch") GET("/hello"));
    assert_true(becomes(&handled, 1));
    assert_int_equal(atomic_load(&gone_seen), 0);
    close(fd);
    assert_true(becomes(&gone_seen, 1));
    stop();
}

static void test_a_tls_hello_on_the_plain_port_is_refused_in_clear(void **state) {
    (void)state;
    start();
    int fd = dial();
    send(fd, "\x16\x03\x01\x02\x00\x01", 6, MSG_NOSIGNAL);
    bool reset;
    char *response = receive_all(fd, NULL, &reset);
    assert_false(reset);
    assert_ptr_equal(strstr(response, "HTTP/1.1 400 Bad Request\r\n"), response);
    assert_non_null(strstr(response, "\r\nConnection: close\r\n"));
    assert_non_null(strstr(response, "this port speaks plain HTTP"));
    free(response);
    close(fd);
    stop();
}

/* ---- addresses ---- */

static void test_a_server_that_never_ran_is_freed(void **state) {
    (void)state;
    struct error error = {0};
    struct http_server *idle = http_server_new(&settings, &error);
    assert_non_null(idle);
    assert_int_not_equal(http_server_port(idle), 0);
    http_server_free(idle);
    http_server_free(NULL);
}

static void test_a_wrong_address_is_named(void **state) {
    (void)state;
    static const char *const wrong[] = {"5000",     "localhost", "1.2.3.4:x",  "1.2.3.4:70000",
                                        "::1:5000", "[]:5000",   "[1.2.3.4]:1"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct error error = {0};
        settings.listen = &wrong[i];
        assert_null(http_server_new(&settings, &error));
        assert_int_equal(error.kind, ERROR_INVALID);
        assert_non_null(strstr(error.text, wrong[i]));
    }
}

static void test_all_addresses_take_both_families(void **state) {
    (void)state;
    static const char *const address[] = {":0"};
    char head[1024], body[64];
    settings.listen = address;
    settings.listen_count = 1;
    start();
    int fd = dial();
    send_text(fd, GET("/client"));
    receive_response(fd, head, sizeof head, body, sizeof body, false);
    assert_memory_equal(body, "127.0.0.1:", 10);
    close(fd);
    fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 loopback = {.sin6_family = AF_INET6,
                                    .sin6_addr = IN6ADDR_LOOPBACK_INIT,
                                    .sin6_port = htons((uint16_t)http_server_port(server))};
    if (fd >= 0 && connect(fd, (struct sockaddr *)&loopback, sizeof loopback) == 0) {
        send_text(fd, GET("/client"));
        receive_response(fd, head, sizeof head, body, sizeof body, false);
        assert_memory_equal(body, "[::1]:", 6);
    }
    if (fd >= 0)
        close(fd);
    stop();
}

static int dial_file(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void test_a_socket_file_is_its_owners_and_goes_with_the_server(void **state) {
    (void)state;
    char path[64], address[80], head[1024], body[64];
    snprintf(path, sizeof path, "/tmp/test-http-%d.sock", (int)getpid());
    snprintf(address, sizeof address, "unix:%s", path);
    const char *const both[] = {"127.0.0.1:0", address};
    settings.listen = both;
    settings.listen_count = 2;
    start();
    struct stat found;
    assert_int_equal(stat(path, &found), 0);
    assert_int_equal(found.st_mode & 0777, 0600);
    int fd = dial_file(path);
    send_text(fd, GET("/client"));
    receive_response(fd, head, sizeof head, body, sizeof body, false);
    assert_string_equal(body, "unix");
    send_text(fd, GET("/watch"));
    assert_true(becomes(&handled, 2));
    assert_int_equal(atomic_load(&gone_seen), 0);
    close(fd);
    assert_true(becomes(&gone_seen, 1));
    /* a second server gets an error, and does not remove the file */
    struct error error = {0};
    settings.listen = &both[1];
    settings.listen_count = 1;
    assert_null(http_server_new(&settings, &error));
    assert_int_equal(error.kind, ERROR_BUSY);
    fd = dial_file(path);
    close(fd);
    stop();
    assert_int_not_equal(stat(path, &found), 0);
}

static void *keep_asking(void *argument) {
    (void)argument;
    char head[1024], body[64];
    for (int i = 0; i < 15; i++) {
        int fd = dial();
        for (int j = 0; j < 5; j++) {
            send_text(fd, GET("/hello"));
            receive_response(fd, head, sizeof head, body, sizeof body, false);
        }
        close(fd);
    }
    return NULL;
}

static void test_many_clients_at_once_are_served(void **state) {
    (void)state;
    settings.max_workers = 4;
    start();
    pthread_t clients[16];
    for (size_t i = 0; i < 16; i++)
        pthread_create(&clients[i], NULL, keep_asking, NULL);
    for (size_t i = 0; i < 16; i++)
        pthread_join(clients[i], NULL);
    assert_int_equal(atomic_load(&handled), 16 * 15 * 5);
    stop();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        SERVING_TEST(test_many_requests_share_a_connection),
        SERVING_TEST(test_pipelined_requests_are_answered_in_order),
        SERVING_TEST(test_a_head_in_pieces_is_put_together),
        SERVING_TEST(test_a_head_of_16_kib_is_served_and_a_larger_one_refused),
        SERVING_TEST(test_head_tells_the_length_and_sends_no_body),
        SERVING_TEST(test_a_body_of_unknown_length_comes_in_chunks),
        SERVING_TEST(test_http_1_0_closes_unless_asked_not_to),
        SERVING_TEST(test_a_file_arrives_as_it_is),
        SERVING_TEST(test_an_answer_that_is_not_whole_ends_in_a_reset),
        SERVING_TEST(test_an_unanswered_request_becomes_500),
        SERVING_TEST(test_smuggling_shapes_close_the_connection_unserved),
        SERVING_TEST(test_a_body_nobody_reads_is_skipped_or_ends_the_connection),
        SERVING_TEST(test_an_expectation_never_hangs),
        SERVING_TEST(test_a_handler_that_asks_gets_the_body),
        SERVING_TEST(test_an_answer_survives_a_client_that_is_still_sending),
        SERVING_TEST(test_a_handler_sees_its_client_leave),
        SERVING_TEST(test_a_tls_hello_on_the_plain_port_is_refused_in_clear),
        SERVING_TEST(test_a_server_that_never_ran_is_freed),
        SERVING_TEST(test_a_wrong_address_is_named),
        SERVING_TEST(test_all_addresses_take_both_families),
        SERVING_TEST(test_a_socket_file_is_its_owners_and_goes_with_the_server),
        SERVING_TEST(test_many_clients_at_once_are_served),
    };
    return cmocka_run_group_tests_name("http_server", tests, serving_begin, NULL);
}
