/* The HTTP server on real sockets: what a client sees of it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "http/http.h"

/* ---- the server under test ---- */

enum { FILE_SIZE = 9 << 20 };

static int file; /* byte i is pattern(i) */

static unsigned char pattern(uint64_t offset) {
    return (unsigned char)(offset * 31 + (offset >> 12));
}

static struct http_server *server;
static pthread_t runner;
static const char *const listen_on_any_port[] = {"127.0.0.1:0"};
static atomic_int handled;
static atomic_bool held; /* /hold waits until it is false */
static atomic_int holding;
static atomic_int gone_seen, sending_failed_as;

static char large[2 << 20]; /* more than a socket takes at once */

static void hold(void) {
    atomic_fetch_add(&holding, 1);
    while (atomic_load(&held))
        clock_sleep_ms(2);
    atomic_fetch_sub(&holding, 1);
}

static void handle(void *context, struct http_exchange *exchange) {
    (void)context;
    const struct http_request *request = http_exchange_request(exchange);
    struct text path = request->path;
    struct error error = {0};
    atomic_fetch_add(&handled, 1);
    if (text_is(path, "/hello")) {
        http_add_field(exchange, "X-One", "%d", 1);
        http_add_field(exchange, "X-Bad", "%s", "a\r\nX-Injected: b");
        http_respond(exchange, 200, "text/plain", "hello", 5);
    } else if (text_starts(path, "/echo/")) {
        http_respond(exchange, 200, "text/plain", path.at + 6, path.length - 6);
    } else if (text_is(path, "/client")) {
        http_respond(exchange, 200, NULL, http_exchange_client(exchange),
                     strlen(http_exchange_client(exchange)));
    } else if (text_is(path, "/file")) {
        if (http_begin(exchange, 200, "application/octet-stream", FILE_SIZE, &error) &&
            http_send_file(exchange, file, 0, FILE_SIZE - 1, &error)) {
            unsigned char last = pattern(FILE_SIZE - 1);
            http_send(exchange, &last, 1, &error);
        }
        atomic_store(&sending_failed_as, error.kind);
    } else if (text_is(path, "/file/short")) {
        if (http_begin(exchange, 200, NULL, FILE_SIZE + 5, &error))
            http_send_file(exchange, file, 0, FILE_SIZE + 5, &error);
        atomic_store(&sending_failed_as, error.kind);
    } else if (text_is(path, "/chunked")) {
        if (!http_begin(exchange, 200, NULL, HTTP_UNKNOWN_LENGTH, &error)) {
            http_respond(exchange, error.kind == ERROR_UNSUPPORTED ? 505 : 500, NULL, "", 0);
            return;
        }
        http_send(exchange, "0123456789abcdefXYZ", 19, &error);
        http_send(exchange, "", 0, &error);
        http_send_file(exchange, file, 0, 3, &error);
    } else if (text_is(path, "/probe")) {
        http_respond(exchange, 200, "text/plain", "well", 4);
    } else if (text_is(path, "/probe/large")) {
        http_respond(exchange, 200, NULL, large, sizeof large);
    } else if (text_is(path, "/nothing")) {
        http_respond(exchange, 304, NULL, NULL, 0);
    } else if (text_is(path, "/abort")) {
        if (http_begin(exchange, 200, NULL, 100, &error))
            http_send(exchange, "half", 4, &error);
        http_abort(exchange);
    } else if (text_is(path, "/incomplete")) {
        if (http_begin(exchange, 200, NULL, 100, &error))
            http_send(exchange, "half", 4, &error);
    } else if (text_is(path, "/toolong")) {
        if (http_begin(exchange, 200, NULL, 4, &error))
            http_send(exchange, "12345", 5, &error);
    } else if (text_is(path, "/hold")) {
        hold();
        http_respond(exchange, 200, NULL, "held", 4);
    } else if (text_is(path, "/body")) {
        struct buffer body cleanup_buffer = {0};
        if (http_read_body(exchange, 100, &body, &error))
            http_respond(exchange, 200, NULL, body.length ? body.bytes : "", body.length);
        else
            http_respond(exchange, error.kind == ERROR_TIMEOUT ? 408 : 413, NULL, "", 0);
    } else if (text_is(path, "/watch")) {
        for (int i = 0; i < 1000 && http_client_is_there(exchange); i++)
            clock_sleep_ms(2);
        atomic_store(&gone_seen, !http_client_is_there(exchange));
        http_respond(exchange, 200, NULL, "", 0);
    }
    /* all else is left unanswered */
}

static bool is_probe(void *context, const struct http_request *request) {
    (void)context;
    return text_starts(request->path, "/probe");
}

static void error_body(int status, const char *why, char *out, size_t size) {
    snprintf(out, size, "{\"status\":%d,\"why\":\"%s\"}", status, why);
}

static void *run(void *argument) {
    struct error error = {0};
    http_server_run(argument, &error);
    return NULL;
}

/* What the next start() starts; every test finds the defaults. */
static struct http_server_settings settings;

static int reset(void **state) {
    (void)state;
    settings = http_server_settings_default();
    settings.listen = listen_on_any_port;
    settings.listen_count = 1;
    settings.handle = handle;
    settings.error_body = error_body;
    atomic_store(&held, false);
    atomic_store(&handled, 0);
    atomic_store(&gone_seen, 0);
    atomic_store(&sending_failed_as, -1);
    return 0;
}

static void start(void) {
    struct error error = {0};
    server = http_server_new(&settings, &error);
    if (!server)
        fail_msg("%s", error.text);
    assert_int_equal(pthread_create(&runner, NULL, run, server), 0);
}

static void stop(void) {
    atomic_store(&held, false);
    http_server_stop(server);
    pthread_join(runner, NULL);
    http_server_free(server);
    server = NULL;
}

/* Ends the server of a test that failed before its stop(). */
static int end(void **state) {
    (void)state;
    if (server)
        stop();
    return 0;
}

static bool becomes(atomic_int *value, int wanted) {
    for (int i = 0; i < 2500 && atomic_load(value) != wanted; i++)
        clock_sleep_ms(2);
    return atomic_load(value) == wanted;
}

/* ---- a client ---- */

static int dial_with(int receive_buffer) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)http_server_port(server)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    struct timeval patience = {.tv_sec = 10};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (receive_buffer)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static int dial(void) {
    return dial_with(0);
}

static void say(int fd, const char *string) {
    send(fd, string, strlen(string), MSG_NOSIGNAL);
}

/* Reads until the server closes; *reset tells an RST from an orderly end. The caller's to free. */
static char *hear_all(int fd, size_t *length, bool *reset) {
    size_t capacity = 4096, have = 0;
    char *bytes = malloc(capacity + 1);
    ssize_t n;
    while ((n = recv(fd, bytes + have, capacity - have, 0)) > 0) {
        have += (size_t)n;
        if (have == capacity)
            bytes = realloc(bytes, (capacity *= 2) + 1);
    }
    int failure = n < 0 ? errno : 0;
    if (failure == EAGAIN)
        fail_msg("the server neither went on nor closed");
    bytes[have] = '\0';
    if (length)
        *length = have;
    if (reset)
        *reset = failure == ECONNRESET;
    return bytes;
}

/* Sends a request and expects an answer that begins so, then a close. */
static void ends_with_answer(const char *request, const char *begin) {
    int fd = dial();
    say(fd, request);
    char *answer = hear_all(fd, NULL, NULL);
    if (strncmp(answer, begin, strlen(begin)) != 0)
        fail_msg("not \"%s\" but: %s", begin, answer);
    free(answer);
    close(fd);
}

/* Reads exactly one answer with a Content-Length (its head into `head`). Its body's length. */
static size_t hear_one(int fd, char *head, size_t size, char *body, size_t body_size,
                       bool is_head) {
    size_t length = 0;
    char *end = NULL;
    while (!end) {
        assert_true(length + 1 < size);
        if (recv(fd, head + length, 1, 0) != 1)
            fail_msg("closed in a head: %.*s", (int)length, head);
        head[++length] = '\0';
        end = length >= 4 ? strstr(head + length - 4, "\r\n\r\n") : NULL;
    }
    char *field = strstr(head, "Content-Length: ");
    size_t wanted = field && !is_head ? strtoul(field + 16, NULL, 10) : 0;
    assert_true(wanted < body_size);
    for (size_t have = 0; have < wanted;) {
        ssize_t n = recv(fd, body + have, wanted - have, 0);
        assert_true(n > 0);
        have += (size_t)n;
    }
    body[wanted] = '\0';
    return wanted;
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"

static bool is_closed_within(int fd, int ms) {
    struct pollfd waited = {.fd = fd, .events = POLLIN};
    char byte;
    return poll(&waited, 1, ms) == 1 && recv(fd, &byte, 1, 0) <= 0;
}

static void connections_become(unsigned wanted) {
    for (int i = 0; i < 2500 && http_server_figures(server).connections != wanted; i++)
        clock_sleep_ms(2);
    assert_int_equal(http_server_figures(server).connections, wanted);
}

/* ---- tests ---- */

static void test_many_requests_share_a_connection(void **state) {
    (void)state;
    char head[1024], body[256];
    start();
    int fd = dial();
    for (int i = 0; i < 20; i++) {
        say(fd, GET("/hello"));
        hear_one(fd, head, sizeof head, body, sizeof body, false);
        assert_string_equal(body, "hello");
        assert_ptr_equal(strstr(head, "HTTP/1.1 200 OK\r\n"), head);
        assert_non_null(strstr(head, "\r\nDate: "));
        assert_non_null(strstr(head, "\r\nX-One: 1\r\n"));
        assert_non_null(strstr(head, "\r\nContent-Type: text/plain\r\n"));
        assert_null(strstr(head, "Injected"));
        assert_null(strstr(head, "Connection:"));
    }
    /* and after it was parked, for which the worker waits a second */
    clock_sleep_ms(1200);
    assert_int_equal(http_server_figures(server).workers_busy, 0);
    assert_int_equal(http_server_figures(server).connections, 1);
    say(fd, GET("/client"));
    hear_one(fd, head, sizeof head, body, sizeof body, false);
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
    say(fd, requests);
    size_t length;
    char *answer = hear_all(fd, &length, NULL), *at = answer;
    for (int i = 0; i < 300; i++) {
        char expected[32];
        int size = snprintf(expected, sizeof expected, "\r\n\r\n%d", i);
        at = strstr(at, "\r\n\r\n");
        assert_non_null(at);
        assert_memory_equal(at, expected, (size_t)size);
        at += size;
    }
    assert_non_null(strstr(at, "\r\n\r\nlast"));
    free(answer);
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
    hear_one(fd, head, sizeof head, body, sizeof body, false);
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
    say(fd, request);
    hear_one(fd, head, sizeof head, body, sizeof body, false);
    assert_string_equal(body, "hello");
    close(fd);
    memset(request + 50, 'x', 30000);
    ends_with_answer(request, "HTTP/1.1 431 ");
    free(request);
    stop();
}

static void test_head_tells_the_length_and_sends_no_body(void **state) {
    (void)state;
    char head[1024], body[64];
    start();
    int fd = dial();
    say(fd, "HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n");
    hear_one(fd, head, sizeof head, body, sizeof body, true);
    assert_non_null(strstr(head, "Content-Length: 5\r\n"));
    say(fd, "HEAD /file HTTP/1.1\r\nHost: a\r\n\r\n");
    hear_one(fd, head, sizeof head, body, sizeof body, true);
    assert_non_null(strstr(head, "Content-Length: 9437184\r\n"));
    say(fd, "HEAD /chunked HTTP/1.1\r\nHost: a\r\n\r\n");
    hear_one(fd, head, sizeof head, body, sizeof body, true);
    assert_non_null(strstr(head, "Transfer-Encoding: chunked\r\n"));
    say(fd, GET("/nothing"));
    hear_one(fd, head, sizeof head, body, sizeof body, true);
    assert_null(strstr(head, "Content-Length"));
    say(fd, GET("/hello"));
    hear_one(fd, head, sizeof head, body, sizeof body, false);
    assert_string_equal(body, "hello");
    close(fd);
    stop();
}

static void test_a_body_of_unknown_length_comes_in_chunks(void **state) {
    (void)state;
    start();
    int fd = dial();
    say(fd, "GET /chunked HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    size_t length;
    bool reset;
    char *answer = hear_all(fd, &length, &reset);
    assert_false(reset);
    char expected[] = "\r\n\r\n13\r\n0123456789abcdefXYZ\r\n3\r\n---\r\n0\r\n\r\n";
    char *from_file = strstr(expected, "---");
    for (size_t i = 0; i < 3; i++)
        from_file[i] = (char)pattern(i);
    char *body = memmem(answer, length, "\r\n\r\n", 4);
    assert_non_null(body);
    assert_int_equal(length - (size_t)(body - answer), sizeof expected - 1);
    assert_memory_equal(body, expected, sizeof expected - 1);
    free(answer);
    close(fd);
    ends_with_answer("GET /chunked HTTP/1.0\r\n\r\n", "HTTP/1.1 505 ");
    stop();
}

static void test_http_1_0_closes_unless_asked_not_to(void **state) {
    (void)state;
    char head[1024], body[64];
    start();
    ends_with_answer("GET /hello HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\n");
    ends_with_answer("GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                     "HTTP/1.1 200 OK\r\n");
    int fd = dial();
    say(fd, "GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    hear_one(fd, head, sizeof head, body, sizeof body, false);
    assert_non_null(strstr(head, "Connection: keep-alive\r\n"));
    say(fd, "GET /hello HTTP/1.0\r\n\r\n");
    hear_one(fd, head, sizeof head, body, sizeof body, false);
    assert_non_null(strstr(head, "Connection: close\r\n"));
    assert_true(is_closed_within(fd, 5000));
    close(fd);
    stop();
}

static void check_file(const char *bytes, size_t length) {
    assert_int_equal(length, FILE_SIZE);
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)bytes[i] != pattern(i))
            fail_msg("byte %zu is wrong", i);
}

static void test_a_file_arrives_as_it_is(void **state) {
    (void)state;
    start();
    int fd = dial();
    say(fd, "GET /file HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    size_t length;
    char *answer = hear_all(fd, &length, NULL);
    char *body = strstr(answer, "\r\n\r\n") + 4;
    check_file(body, length - (size_t)(body - answer));
    free(answer);
    close(fd);
    stop();
}

static void is_cut(const char *request) {
    int fd = dial();
    bool reset;
    say(fd, request);
    free(hear_all(fd, NULL, &reset));
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
    say(fd, GET("/unanswered"));
    hear_one(fd, head, sizeof head, body, sizeof body, false);
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
        "PUT /hello HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        "GET /hello HTTP/1.1\nHost: a\n\n",
        "GET /hello HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET /hello HTTP/1.1\r\n\r\n",
        "GET /hello\r\n",
        "G(T /hello HTTP/1.1\r\nHost: a\r\n\r\n",
        /* a body where none belongs; what it holds is no second request */
        "GET /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 44\r\n\r\n" GET("/echo/smuggled"),
        "HEAD /hello HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    };
    start();
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        char request[1024];
        snprintf(request, sizeof request, "%s" GET("/echo/smuggled"), requests[i]);
        int fd = dial();
        say(fd, request);
        char *answer = hear_all(fd, NULL, NULL);
        assert_ptr_equal(strstr(answer, "HTTP/1.1 400 Bad Request\r\n"), answer);
        assert_non_null(strstr(answer, "Connection: close\r\n"));
        assert_non_null(strstr(answer, "application/json"));
        assert_null(strstr(answer + 1, "HTTP/1.1"));
        free(answer);
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
    say(fd, "PUT /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234");
    hear_one(fd, head, sizeof head, body, sizeof body, false);
    assert_string_equal(body, "hello");
    clock_sleep_ms(20);
    say(fd, "56789" GET("/echo/next"));
    hear_one(fd, head, sizeof head, body, sizeof body, false);
    assert_string_equal(body, "next");
    close(fd);
    ends_with_answer("PUT /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n01234",
                     "HTTP/1.1 200 ");
    ends_with_answer("PUT /hello HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                     "5\r\n01234\r\n0\r\n\r\n",
                     "HTTP/1.1 200 ");
    stop();
}

static void test_an_expectation_never_hangs(void **state) {
    (void)state;
    start();
    ends_with_answer("PUT /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
                     "Expect: 100-continue\r\n\r\n",
                     "HTTP/1.1 200 ");
    ends_with_answer("PUT /hello HTTP/1.1\r\nHost: a\r\nExpect: rain\r\n\r\n", "HTTP/1.1 417 ");
    stop();
}

static void test_a_handler_that_asks_gets_the_body(void **state) {
    (void)state;
    char head[1024], body[256];
    settings.head_timeout_ms = 2000;
    start();
    int fd = dial();
    /* in one piece with the next request, in pieces, after 100, and absent */
    say(fd, "PUT /body HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n01234" GET("/echo/next"));
    hear_one(fd, head, sizeof head, body, sizeof body, false);
    assert_string_equal(body, "01234");
    hear_one(fd, head, sizeof head, body, sizeof body, false);
    assert_string_equal(body, "next");
    say(fd, "PUT /body HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n01");
    clock_sleep_ms(50);
    say(fd, "234");
    hear_one(fd, head, sizeof head, body, sizeof body, false);
    assert_string_equal(body, "01234");
    say(fd, "PUT /body HTTP/1.1\r\nHost: a\r\n\r\n");
    hear_one(fd, head, sizeof head, body, sizeof body, false);
    assert_string_equal(body, "");
    say(fd, "PUT /body HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
            "Expect: 100-continue\r\n\r\n");
    hear_one(fd, head, sizeof head, body, sizeof body, false);
    assert_string_equal(head, "HTTP/1.1 100 Continue\r\n\r\n");
    say(fd, "abcde");
    hear_one(fd, head, sizeof head, body, sizeof body, false);
    assert_string_equal(body, "abcde");
    close(fd);
    ends_with_answer("PUT /body HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n"
                     "Connection: close\r\n\r\n",
                     "HTTP/1.1 413 ");
    ends_with_answer("PUT /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                     "0\r\n\r\n",
                     "HTTP/1.1 413 ");
    ends_with_answer("PUT /body HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n0123",
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
    say(fd, "PUT /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    assert_true(becomes(&handled, 1));
    say(fd, much);
    bool reset;
    char *answer = hear_all(fd, NULL, &reset);
    assert_false(reset);
    assert_ptr_equal(strstr(answer, "HTTP/1.1 200 OK\r\n"), answer);
    free(answer);
    free(much);
    close(fd);
    stop();
}

static void test_a_slow_head_is_cut_even_when_it_drips(void **state) {
    (void)state;
    settings.head_timeout_ms = 300;
    settings.idle_timeout_ms = 60000;
    start();
    int silent = dial(), drip = dial(), idle = dial();
    say(silent, "GET /hello");
    int64_t began = clock_ms();
    bool closed = false;
    say(drip, "GET /");
    for (int i = 0; i < 300 && !closed; i++) {
        say(drip, "a");
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
    say(fd, GET("/file"));
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
    say(fd, GET("/file"));
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

static void test_beyond_the_connection_limit_is_503(void **state) {
    (void)state;
    settings.max_connections = 2;
    start();
    char head[1024], body[64];
    int first = dial(), second = dial();
    say(first, GET("/hello"));
    hear_one(first, head, sizeof head, body, sizeof body, false);
    say(second, GET("/hello"));
    hear_one(second, head, sizeof head, body, sizeof body, false);
    int third = dial();
    say(third, GET("/hello"));
    char *answer = hear_all(third, NULL, NULL);
    assert_ptr_equal(strstr(answer, "HTTP/1.1 503 Service Unavailable\r\n"), answer);
    assert_non_null(strstr(answer, "\r\nRetry-After: 1\r\n"));
    assert_non_null(strstr(answer, "{\"status\":503,"));
    free(answer);
    close(third);
    /* one leaves, another may come */
    close(first);
    connections_become(1);
    int fourth = dial();
    say(fourth, GET("/hello"));
    hear_one(fourth, head, sizeof head, body, sizeof body, false);
    assert_ptr_equal(strstr(head, "HTTP/1.1 200 "), head);
    close(second);
    close(fourth);
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
    int fd = dial(); /* takes the last one */
    say(fd, GET("/hello"));
    clock_sleep_ms(250);
    assert_int_equal(atomic_load(&handled), 0);
    setrlimit(RLIMIT_NOFILE, &before);
    hear_one(fd, head, sizeof head, body, sizeof body, false);
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
    say(busy, GET("/hold"));
    assert_true(becomes(&holding, 1));
    int64_t began = clock_ms();
    say(waiting, GET("/hello"));
    char *answer = hear_all(waiting, NULL, NULL);
    assert_ptr_equal(strstr(answer, "HTTP/1.1 503 "), answer);
    assert_in_range(clock_ms() - began, 1000, 30000);
    free(answer);
    close(waiting);
    close(busy);
    stop();
}

/* ---- probes ---- */

/* Asks on a new connection; the status. */
static int status_of(const char *request) {
    int fd = dial();
    say(fd, request);
    char *response = hear_all(fd, NULL, NULL);
    int status = strncmp(response, "HTTP/1.1 ", 9) == 0 ? atoi(response + 9) : 0;
    if (status == 503)
        assert_non_null(strstr(response, "\r\nRetry-After: 1\r\n"));
    free(response);
    close(fd);
    return status;
}

static void occupy_workers(int fds[], int count) {
    atomic_store(&held, true);
    for (int i = 0; i < count; i++) {
        fds[i] = dial();
        say(fds[i], GET("/hold"));
    }
    assert_true(becomes(&holding, count));
}

static void close_all(const int fds[], int count) {
    for (int i = 0; i < count; i++)
        close(fds[i]);
}

static void test_probes_are_answered_while_every_worker_is_busy(void **state) {
    (void)state;
    int busy[3];
    settings.max_workers = 3;
    settings.is_probe = is_probe;
    start();
    occupy_workers(busy, 3);
    for (int i = 0; i < 5; i++)
        assert_int_equal(status_of(GET("/probe")), 200);
    assert_int_equal(status_of(GET("/hello")), 503);
    assert_int_equal(status_of("HEAD /probe HTTP/1.1\r\nHost: a\r\n\r\n"), 200);
    /* in pieces, while other requests wait in the line */
    int waiting = dial(), slow = dial();
    say(waiting, GET("/hello"));
    say(slow, "GET /pro");
    assert_int_equal(status_of(GET("/probe")), 200);
    say(slow, "be HTTP/1.1\r\nHost: a\r\n\r\n");
    char *response = hear_all(slow, NULL, NULL);
    assert_non_null(strstr(response, "\r\nConnection: close\r\n"));
    assert_non_null(strstr(response, "\r\n\r\nwell"));
    free(response);
    assert_int_equal(atomic_load(&holding), 3);
    /* the request that waited is answered, too */
    atomic_store(&held, false);
    char head[1024], body[64];
    hear_one(waiting, head, sizeof head, body, sizeof body, false);
    close_all(busy, 3);
    close(waiting);
    close(slow);
    stop();
}

static void test_probes_are_answered_beyond_the_connection_limit(void **state) {
    (void)state;
    int busy[2];
    settings.max_connections = 2;
    settings.max_workers = 2;
    settings.is_probe = is_probe;
    start();
    occupy_workers(busy, 2);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(status_of(GET("/probe")), 200);
        assert_int_equal(status_of(GET("/hello")), 503);
    }
    assert_int_equal(status_of("no request\r\n\r\n"), 400);
    assert_int_equal(http_server_figures(server).connections, 2);
    assert_int_equal(atomic_load(&handled), 2 + 5);
    close_all(busy, 2);
    stop();
}

static void test_silent_connections_do_not_shut_probes_out(void **state) {
    (void)state;
    enum { CROWD = 400 };
    int crowd[CROWD];
    settings.max_connections = 1;
    settings.is_probe = is_probe;
    start();
    for (int i = 0; i < CROWD; i++)
        crowd[i] = dial();
    assert_int_equal(status_of(GET("/probe")), 200);
    assert_int_equal(status_of(GET("/hello")), 503);
    close_all(crowd, CROWD);
    stop();
}

static void test_a_probe_that_nobody_reads_gives_way_to_the_next(void **state) {
    (void)state;
    settings.max_connections = 1;
    settings.is_probe = is_probe;
    start();
    int within = dial(), unread = dial_with(4096);
    say(unread, GET("/probe/large"));
    int64_t began = clock_ms();
    assert_int_equal(status_of(GET("/probe")), 200);
    assert_in_range(clock_ms() - began, 0, settings.send_timeout_ms / 2);
    close(within);
    close(unread);
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
            say(fds[i], GET("/hello"));
        for (size_t i = 0; i < 12; i++) {
            hear_one(fds[i], head, sizeof head, body, sizeof body, false);
            assert_string_equal(body, "hello");
        }
    }
    assert_in_range(http_server_figures(server).workers, 1, 2);
    for (size_t i = 0; i < 12; i++)
        close(fds[i]);
    stop();
}

static void test_a_handler_sees_its_client_leave(void **state) {
    (void)state;
    start();
    int fd = dial();
    say(fd, GET("/watch") GET("/hello"));
    assert_true(becomes(&handled, 1));
    assert_int_equal(atomic_load(&gone_seen), 0);
    close(fd);
    assert_true(becomes(&gone_seen, 1));
    stop();
}

static void test_a_tls_hello_on_the_plain_port_is_closed_at_once(void **state) {
    (void)state;
    start();
    int fd = dial();
    send(fd, "\x16\x03\x01\x02\x00\x01", 6, MSG_NOSIGNAL);
    size_t length;
    free(hear_all(fd, &length, NULL));
    assert_int_equal(length, 0);
    close(fd);
    stop();
}

static void test_a_stop_lets_requests_finish(void **state) {
    (void)state;
    char head[1024], body[64];
    settings.head_timeout_ms = 60000;
    start();
    atomic_store(&held, true);
    int busy = dial(), idle = dial(), lingering = dial(), partial = dial();
    say(lingering, GET("/hello"));
    hear_one(lingering, head, sizeof head, body, sizeof body, false);
    say(partial, "GET /he");
    say(busy, GET("/hold"));
    assert_true(becomes(&holding, 1));
    http_server_stop(server);
    assert_true(is_closed_within(idle, 10000));
    assert_true(is_closed_within(lingering, 10000));
    assert_true(is_closed_within(partial, 10000));
    assert_int_equal(atomic_load(&holding), 1);
    atomic_store(&held, false);
    hear_one(busy, head, sizeof head, body, sizeof body, false);
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
    say(fd, GET("/file"));
    assert_true(becomes(&handled, 1));
    int64_t began = clock_ms();
    stop();
    assert_in_range(clock_ms() - began, 150, http_server_settings_default().grace_ms / 3);
    assert_int_equal(atomic_load(&sending_failed_as), ERROR_CLOSED);
    bool reset;
    free(hear_all(fd, NULL, &reset));
    assert_true(reset);
    close(fd);
}

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
    say(fd, GET("/client"));
    hear_one(fd, head, sizeof head, body, sizeof body, false);
    assert_memory_equal(body, "127.0.0.1:", 10);
    close(fd);
    fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 loopback = {.sin6_family = AF_INET6,
                                    .sin6_addr = IN6ADDR_LOOPBACK_INIT,
                                    .sin6_port = htons((uint16_t)http_server_port(server))};
    if (fd >= 0 && connect(fd, (struct sockaddr *)&loopback, sizeof loopback) == 0) {
        say(fd, GET("/client"));
        hear_one(fd, head, sizeof head, body, sizeof body, false);
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
    say(fd, GET("/client"));
    hear_one(fd, head, sizeof head, body, sizeof body, false);
    assert_string_equal(body, "unix");
    say(fd, GET("/watch"));
    assert_true(becomes(&handled, 2));
    assert_int_equal(atomic_load(&gone_seen), 0);
    close(fd);
    assert_true(becomes(&gone_seen, 1));
    /* a second server is told, and does not take the file away */
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
            say(fd, GET("/hello"));
            hear_one(fd, head, sizeof head, body, sizeof body, false);
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

/* ---- TLS ---- */

static char certificate_path[64], key_path[64];

static void make_certificate(const char *name) {
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    assert_non_null(key);
    X509_set_version(certificate, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    X509_NAME *subject = X509_get_subject_name(certificate);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(certificate, subject);
    assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
    FILE *out = fopen(certificate_path, "w");
    PEM_write_X509(out, certificate);
    fclose(out);
    out = fopen(key_path, "w");
    PEM_write_PrivateKey(out, key, NULL, NULL, 0, NULL, NULL);
    fclose(out);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

static void start_tls(void) {
    snprintf(certificate_path, sizeof certificate_path, "/tmp/test-http-%d.crt", (int)getpid());
    snprintf(key_path, sizeof key_path, "/tmp/test-http-%d.key", (int)getpid());
    make_certificate("first");
    settings.tls_certificate = certificate_path;
    settings.tls_key = key_path;
    start();
}

static void stop_tls(void) {
    stop();
    unlink(certificate_path);
    unlink(key_path);
}

static SSL *secure(SSL_CTX *context, int fd) {
    SSL *session = SSL_new(context);
    SSL_set_fd(session, fd);
    if (SSL_connect(session) != 1)
        fail_msg("handshake: %s", ERR_error_string(ERR_get_error(), NULL));
    return session;
}

static void read_name(SSL *session, char name[32]) {
    X509 *certificate = SSL_get1_peer_certificate(session);
    X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name, 32);
    X509_free(certificate);
}

static void name_is(SSL *session, const char *expected) {
    char name[32];
    read_name(session, name);
    assert_string_equal(name, expected);
}

static bool new_sessions_name(SSL_CTX *context, const char *expected) {
    char name[32];
    int fd = dial();
    SSL *session = secure(context, fd);
    read_name(session, name);
    SSL_free(session);
    close(fd);
    return strcmp(name, expected) == 0;
}

static void ask_securely(SSL *session) {
    char answer[1024];
    assert_true(SSL_write(session, GET("/hello"), (int)strlen(GET("/hello"))) > 0);
    int n = SSL_read(session, answer, sizeof answer - 1);
    assert_true(n > 5);
    answer[n] = '\0';
    assert_ptr_equal(strstr(answer, "HTTP/1.1 200 OK\r\n"), answer);
    assert_string_equal(answer + n - 5, "hello");
}

static void test_tls_serves_replies_and_files(void **state) {
    (void)state;
    start_tls();
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    int fd = dial();
    SSL *session = secure(context, fd);
    ask_securely(session);
    clock_sleep_ms(1200); /* parked */
    ask_securely(session);
    const char *request = "GET /file HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    SSL_write(session, request, (int)strlen(request));
    char *answer = malloc(FILE_SIZE + 1024);
    size_t length = 0;
    int n;
    while ((n = SSL_read(session, answer + length, (int)(FILE_SIZE + 1024 - length))) > 0)
        length += (size_t)n;
    /* closed in order: nothing was cut off */
    assert_int_equal(SSL_get_error(session, n), SSL_ERROR_ZERO_RETURN);
    char *body = (char *)memmem(answer, length, "\r\n\r\n", 4) + 4;
    check_file(body, length - (size_t)(body - answer));
    free(answer);
    SSL_free(session);
    close(fd);
    SSL_CTX_free(context);
    stop_tls();
}

static void test_tls_refuses_old_versions_and_plain_http(void **state) {
    (void)state;
    start_tls();
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_max_proto_version(context, TLS1_1_VERSION);
    SSL_CTX_set_security_level(context, 0);
    int fd = dial();
    SSL *session = SSL_new(context);
    SSL_set_fd(session, fd);
    assert_int_not_equal(SSL_connect(session), 1);
    SSL_free(session);
    close(fd);
    SSL_CTX_free(context);
    fd = dial();
    say(fd, GET("/hello"));
    char *answer = hear_all(fd, NULL, NULL);
    assert_null(strstr(answer, "HTTP"));
    free(answer);
    close(fd);
    assert_int_equal(atomic_load(&handled), 0);
    stop_tls();
}

static void test_a_changed_certificate_is_taken_without_dropping_connections(void **state) {
    (void)state;
    start_tls();
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    int old_fd = dial();
    SSL *old = secure(context, old_fd);
    name_is(old, "first");
    make_certificate("second");
    while (!new_sessions_name(context, "second"))
        clock_sleep_ms(50);
    int new_fd = dial();
    SSL *new = secure(context, new_fd);
    name_is(new, "second");
    ask_securely(old);
    ask_securely(new);
    SSL_free(new);
    close(new_fd);
    /* one that is broken changes nothing */
    FILE *out = fopen(certificate_path, "w");
    fputs("broken", out);
    fclose(out);
    clock_sleep_ms(1100); /* the server looks at the files once a second */
    new_fd = dial();
    new = secure(context, new_fd);
    name_is(new, "second");
    SSL_free(new);
    close(new_fd);
    SSL_free(old);
    close(old_fd);
    SSL_CTX_free(context);
    stop_tls();
}

static void test_a_slow_handshake_is_cut(void **state) {
    (void)state;
    snprintf(certificate_path, sizeof certificate_path, "/tmp/test-http-%d.crt", (int)getpid());
    snprintf(key_path, sizeof key_path, "/tmp/test-http-%d.key", (int)getpid());
    make_certificate("first");
    settings.tls_certificate = certificate_path;
    settings.tls_key = key_path;
    settings.head_timeout_ms = 200;
    start();
    int fd = dial();
    send(fd, "\x16\x03\x01\x02\x00\x01\x00", 7, MSG_NOSIGNAL);
    assert_true(is_closed_within(fd, 10000));
    close(fd);
    stop_tls();
}

static void test_a_missing_certificate_stops_the_start(void **state) {
    (void)state;
    struct error error = {0};
    settings.tls_certificate = "/nonexistent.crt";
    settings.tls_key = "/nonexistent.key";
    assert_null(http_server_new(&settings, &error));
    assert_non_null(strstr(error.text, "/nonexistent.crt"));
    settings.tls_key = NULL;
    assert_null(http_server_new(&settings, &error));
}

/* ---- all ---- */

static int make_file(void **state) {
    (void)state;
    char path[] = "/tmp/test-http-XXXXXX";
    file = mkostemp(path, O_CLOEXEC);
    unlink(path);
    unsigned char *bytes = malloc(FILE_SIZE);
    for (size_t i = 0; i < FILE_SIZE; i++)
        bytes[i] = pattern(i);
    bool written = write(file, bytes, FILE_SIZE) == FILE_SIZE;
    free(bytes);
    log_configure(LOG_ERROR, LOG_TEXT);
    return written ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_many_requests_share_a_connection, reset, end),
        cmocka_unit_test_setup_teardown(test_pipelined_requests_are_answered_in_order, reset, end),
        cmocka_unit_test_setup_teardown(test_a_head_in_pieces_is_put_together, reset, end),
        cmocka_unit_test_setup_teardown(test_a_head_of_16_kib_is_served_and_a_larger_one_refused,
                                        reset, end),
        cmocka_unit_test_setup_teardown(test_head_tells_the_length_and_sends_no_body, reset, end),
        cmocka_unit_test_setup_teardown(test_a_body_of_unknown_length_comes_in_chunks, reset, end),
        cmocka_unit_test_setup_teardown(test_http_1_0_closes_unless_asked_not_to, reset, end),
        cmocka_unit_test_setup_teardown(test_a_file_arrives_as_it_is, reset, end),
        cmocka_unit_test_setup_teardown(test_an_answer_that_is_not_whole_ends_in_a_reset, reset,
                                        end),
        cmocka_unit_test_setup_teardown(test_an_unanswered_request_becomes_500, reset, end),
        cmocka_unit_test_setup_teardown(test_smuggling_shapes_close_the_connection_unserved, reset,
                                        end),
        cmocka_unit_test_setup_teardown(test_a_body_nobody_reads_is_skipped_or_ends_the_connection,
                                        reset, end),
        cmocka_unit_test_setup_teardown(test_an_expectation_never_hangs, reset, end),
        cmocka_unit_test_setup_teardown(test_a_handler_that_asks_gets_the_body, reset, end),
        cmocka_unit_test_setup_teardown(test_an_answer_survives_a_client_that_is_still_sending,
                                        reset, end),
        cmocka_unit_test_setup_teardown(test_a_slow_head_is_cut_even_when_it_drips, reset, end),
        cmocka_unit_test_setup_teardown(test_an_idle_connection_is_closed, reset, end),
        cmocka_unit_test_setup_teardown(test_a_client_that_takes_nothing_is_cut, reset, end),
        cmocka_unit_test_setup_teardown(test_a_slow_client_that_goes_on_taking_is_served, reset,
                                        end),
        cmocka_unit_test_setup_teardown(test_beyond_the_connection_limit_is_503, reset, end),
        cmocka_unit_test_setup_teardown(
            test_running_out_of_descriptors_delays_and_does_not_end_accepting, reset, end),
        cmocka_unit_test_setup_teardown(test_without_a_free_worker_is_503_after_a_while, reset,
                                        end),
        cmocka_unit_test_setup_teardown(test_probes_are_answered_while_every_worker_is_busy, reset,
                                        end),
        cmocka_unit_test_setup_teardown(test_probes_are_answered_beyond_the_connection_limit, reset,
                                        end),
        cmocka_unit_test_setup_teardown(test_silent_connections_do_not_shut_probes_out, reset, end),
        cmocka_unit_test_setup_teardown(test_a_probe_that_nobody_reads_gives_way_to_the_next, reset,
                                        end),
        cmocka_unit_test_setup_teardown(test_few_workers_serve_many_connections, reset, end),
        cmocka_unit_test_setup_teardown(test_a_handler_sees_its_client_leave, reset, end),
        cmocka_unit_test_setup_teardown(test_a_tls_hello_on_the_plain_port_is_closed_at_once, reset,
                                        end),
        cmocka_unit_test_setup_teardown(test_a_stop_lets_requests_finish, reset, end),
        cmocka_unit_test_setup_teardown(test_a_stop_cuts_what_outlasts_the_grace, reset, end),
        cmocka_unit_test_setup_teardown(test_a_server_that_never_ran_is_freed, reset, end),
        cmocka_unit_test_setup_teardown(test_a_wrong_address_is_named, reset, end),
        cmocka_unit_test_setup_teardown(test_all_addresses_take_both_families, reset, end),
        cmocka_unit_test_setup_teardown(test_a_socket_file_is_its_owners_and_goes_with_the_server,
                                        reset, end),
        cmocka_unit_test_setup_teardown(test_many_clients_at_once_are_served, reset, end),
        cmocka_unit_test_setup_teardown(test_tls_serves_replies_and_files, reset, end),
        cmocka_unit_test_setup_teardown(test_tls_refuses_old_versions_and_plain_http, reset, end),
        cmocka_unit_test_setup_teardown(
            test_a_changed_certificate_is_taken_without_dropping_connections, reset, end),
        cmocka_unit_test_setup_teardown(test_a_slow_handshake_is_cut, reset, end),
        cmocka_unit_test_setup_teardown(test_a_missing_certificate_stops_the_start, reset, end),
    };
    return cmocka_run_group_tests_name("http_server", tests, make_file, NULL);
}
