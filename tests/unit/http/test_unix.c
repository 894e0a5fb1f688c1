/* Socket files that were there before, and request bodies that a handler asks for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <fcntl.h>
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
#include "base/log.h"
#include "http/http.h"

enum { BODY_LIMIT = 100 };

static char folder[] = "/tmp/test-http-unix-XXXXXX";
static char path[64], address[80];
static const char *listened[] = {address};
static int head_timeout_ms;
static struct http_server *server;
static pthread_t runner;

/* Responds with "CLIENT BODY", or with the kind of error of reading the body. */
static void handle(void *context, struct http_exchange *exchange) {
    (void)context;
    cleanup_buffer struct buffer body = {0}, response = {0};
    struct error error = {0};
    if (text_is(http_exchange_request(exchange)->path, "/unread")) {
        http_respond(exchange, 200, NULL, "unread", 6);
        return;
    }
    if (!http_read_body(exchange, BODY_LIMIT, &body, &error)) {
        const char *name = error_kind_name(error.kind);
        http_respond(exchange, 400, NULL, name, strlen(name));
        return;
    }
    bool there = http_client_is_there(exchange);
    buffer_printf(&response, "%s%s %s", http_exchange_client(exchange), there ? "" : " left",
                  body.length ? body.bytes : "");
    http_respond(exchange, 200, NULL, response.bytes, response.length);
}

static void *run(void *argument) {
    http_server_run(argument, NULL);
    return NULL;
}

static void start(void) {
    struct http_server_settings settings = http_server_settings_default();
    settings.listen = listened;
    settings.listen_count = 1;
    if (head_timeout_ms)
        settings.head_timeout_ms = head_timeout_ms;
    settings.handle = handle;
    struct error error = {0};
    server = http_server_new(&settings, &error);
    if (!server)
        fail_msg("%s", error.text);
    assert_int_equal(pthread_create(&runner, NULL, run, server), 0);
}

static int stop(void **state) {
    (void)state;
    if (server) {
        http_server_stop(server);
        pthread_join(runner, NULL);
        http_server_free(server);
        server = NULL;
    }
    head_timeout_ms = 0;
    return 0;
}

static int join(void) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    struct timeval patience = {.tv_sec = 5};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(to.sun_path, sizeof to.sun_path, "%s", path);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return fd;
}

static void send_text(int fd, const char *words) {
    assert_int_equal(send(fd, words, strlen(words), MSG_NOSIGNAL), (ssize_t)strlen(words));
}

/* Reads until `words` have come; the test fails if they do not come. */
static void receive_text(int fd, const char *words) {
    char received[4096] = "";
    size_t length = 0;
    while (!strstr(received, words)) {
        ssize_t n = recv(fd, received + length, sizeof received - 1 - length, 0);
        if (n <= 0)
            fail_msg("\"%s\" is not in \"%s\"", words, received);
        length += (size_t)n;
        received[length] = '\0';
    }
}

/* ---- the socket file ---- */

static void test_a_file_that_nobody_answers_on_is_replaced(void **state) {
    (void)state;
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int stale = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
    assert_int_equal(bind(stale, (struct sockaddr *)&at, sizeof at), 0);
    close(stale);
    start();
    close(join());
}

static void test_a_file_of_another_kind_is_not_touched(void **state) {
    (void)state;
    struct http_server_settings settings = http_server_settings_default();
    settings.listen = listened;
    settings.listen_count = 1;
    settings.handle = handle;
    struct error error = {0};
    struct stat found;
    close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    assert_null(http_server_new(&settings, &error));
    assert_int_equal(error.kind, ERROR_INVALID);
    assert_int_equal(lstat(path, &found), 0);
    unlink(path);
}

/* ---- bodies ---- */

static void test_a_body_arrives_with_its_head_and_the_next_request_behind_it(void **state) {
    (void)state;
    start();
    int fd = join();
    send_text(fd, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nfirst"
                  "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nsecond");
    receive_text(fd, "unix second");
    close(fd);
}

static void test_a_body_arrives_in_pieces(void **state) {
    (void)state;
    start();
    int fd = join();
    send_text(fd, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nin");
    clock_sleep_ms(50);
    send_text(fd, " pi");
    clock_sleep_ms(50);
    send_text(fd, "e");
    receive_text(fd, "unix in pie");
    close(fd);
}

static void test_a_client_that_waits_for_100_gets_it(void **state) {
    (void)state;
    start();
    int fd = join();
    send_text(fd,
              "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    receive_text(fd, "HTTP/1.1 100 Continue\r\n\r\n");
    send_text(fd, "body");
    receive_text(fd, "unix body");
    close(fd);
}

static void test_an_unread_body_is_skipped(void **state) {
    (void)state;
    start();
    int fd = join();
    send_text(fd, "POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nfirst"
                  "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nsecond");
    receive_text(fd, "unix second");
    close(fd);
}

static void refused(const char *request, const char *as) {
    int fd = join();
    char byte;
    send_text(fd, request);
    receive_text(fd, as);
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
    close(fd);
}

static void test_what_is_no_body_is_refused_and_ends_the_connection(void **state) {
    (void)state;
    head_timeout_ms = 300;
    start();
    refused("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999\r\n\r\n", "invalid");
    refused("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "unsupported");
    refused("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nshort", "timeout");
}

/* ---- all ---- */

static int make_folder(void **state) {
    (void)state;
    log_configure(LOG_ERROR, LOG_TEXT);
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/sock", folder);
    snprintf(address, sizeof address, "unix:%s", path);
    return 0;
}

static int remove_folder(void **state) {
    (void)state;
    return rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_a_file_that_nobody_answers_on_is_replaced, stop),
        cmocka_unit_test_teardown(test_a_file_of_another_kind_is_not_touched, stop),
        cmocka_unit_test_teardown(test_a_body_arrives_with_its_head_and_the_next_request_behind_it,
                                  stop),
        cmocka_unit_test_teardown(test_a_body_arrives_in_pieces, stop),
        cmocka_unit_test_teardown(test_a_client_that_waits_for_100_gets_it, stop),
        cmocka_unit_test_teardown(test_an_unread_body_is_skipped, stop),
        cmocka_unit_test_teardown(test_what_is_no_body_is_refused_and_ends_the_connection, stop),
    };
    return cmocka_run_group_tests_name("http_unix", tests, make_folder, remove_folder);
}
