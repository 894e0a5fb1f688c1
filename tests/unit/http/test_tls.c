/* The HTTP server on real sockets: TLS. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <errno.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/clock.h"
#include "certificate.h"
#include "serving.h"

static char certificate_path[64], key_path[64];

static void start_tls(void) {
    snprintf(certificate_path, sizeof certificate_path, "/tmp/test-http-%d.crt", (int)getpid());
    snprintf(key_path, sizeof key_path, "/tmp/test-http-%d.key", (int)getpid());
    certificate_write(certificate_path, key_path, "first");
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
    char response[1024];
    assert_true(SSL_write(session, GET("/hello"), (int)strlen(GET("/hello"))) > 0);
    int n = SSL_read(session, response, sizeof response - 1);
    assert_true(n > 5);
    response[n] = '\0';
    assert_ptr_equal(strstr(response, "HTTP/1.1 200 OK\r\n"), response);
    assert_string_equal(response + n - 5, "hello");
}

static void test_tls_serves_replies_and_files(void **state) {
    (void)state;
    start_tls();
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    int fd = dial();
    SSL *session = secure(context, fd);
    ask_securely(session);
    workers_become_idle();
    ask_securely(session);
    const char *request = "GET /file HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    SSL_write(session, request, (int)strlen(request));
    char *response = malloc(FILE_SIZE + 1024);
    size_t length = 0;
    int n;
    while ((n = SSL_read(session, response + length, (int)(FILE_SIZE + 1024 - length))) > 0)
        length += (size_t)n;
    /* an orderly close: nothing was cut off */
    assert_int_equal(SSL_get_error(session, n), SSL_ERROR_ZERO_RETURN);
    char *body = (char *)memmem(response, length, "\r\n\r\n", 4) + 4;
    check_file(body, length - (size_t)(body - response));
    free(response);
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
    send_text(fd, GET("/hello"));
    bool reset;
    char *response = receive_all(fd, NULL, &reset);
    assert_false(reset);
    assert_ptr_equal(strstr(response, "HTTP/1.1 400 Bad Request\r\n"), response);
    assert_non_null(strstr(response, "this port speaks TLS"));
    free(response);
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
    certificate_write(certificate_path, key_path, "second");
    while (!new_sessions_name(context, "second"))
        clock_sleep_ms(50);
    int new_fd = dial();
    SSL *new = secure(context, new_fd);
    name_is(new, "second");
    ask_securely(old);
    ask_securely(new);
    SSL_free(new);
    close(new_fd);
    /* a broken pair of files changes nothing */
    FILE *out = fopen(certificate_path, "w");
    fputs("broken", out);
    fclose(out);
    clock_sleep_ms(1100); /* the server looks at the files once a second */
    new_fd = dial();
    new = secure(context, new_fd);
    name_is(new, "second");
    SSL_free(new);
    close(new_fd);
    /* nor does a pipe, whose writer never comes */
    unlink(certificate_path);
    assert_int_equal(mkfifo(certificate_path, 0600), 0);
    clock_sleep_ms(1100);
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

/* Sends a request on a new connection, and expects a response that begins so. */
static void expect_securely(SSL_CTX *context, const char *request, const char *begin) {
    char response[1024];
    int fd = dial();
    SSL *session = secure(context, fd);
    assert_true(SSL_write(session, request, (int)strlen(request)) > 0);
    int n = SSL_read(session, response, sizeof response - 1);
    assert_true(n > 0);
    response[n] = '\0';
    assert_ptr_equal(strstr(response, begin), response);
    assert_non_null(strstr(response, "\r\nConnection: close\r\n"));
    SSL_free(session);
    close(fd);
}

static void test_over_the_connection_limit_a_loop_answers_by_tls(void **state) {
    (void)state;
    settings.max_connections = 1;
    start_tls();
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    int within = dial();
    SSL *session = secure(context, within);
    atomic_store(&held, true);
    assert_true(SSL_write(session, GET("/hold"), (int)strlen(GET("/hold"))) > 0);
    assert_true(becomes(&holding, 1));
    expect_securely(context, GET("/now"), "HTTP/1.1 200 ");
    expect_securely(context, GET("/hello"), "HTTP/1.1 503 ");
    SSL_free(session);
    close(within);
    SSL_CTX_free(context);
    stop_tls();
}

static void test_a_slow_handshake_is_cut(void **state) {
    (void)state;
    snprintf(certificate_path, sizeof certificate_path, "/tmp/test-http-%d.crt", (int)getpid());
    snprintf(key_path, sizeof key_path, "/tmp/test-http-%d.key", (int)getpid());
    certificate_write(certificate_path, key_path, "first");
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

/* The server's socket, whose client is `fd`. */
static int other_end_of(int fd) {
    struct sockaddr_in own, peer;
    socklen_t size = sizeof own;
    assert_int_equal(getsockname(fd, (struct sockaddr *)&own, &size), 0);
    for (int other = 0; other < 1024; other++) {
        size = sizeof peer;
        if (getpeername(other, (struct sockaddr *)&peer, &size) == 0 &&
            peer.sin_port == own.sin_port)
            return other;
    }
    fail_msg("the server has no such connection");
    return -1;
}

/* Asks the server for new keys, reads none of its answers, and ends when the server has closed. */
static void ask_for_keys_until_closed(SSL *session) {
    int sent = 1;
    while (sent == 1)
        sent = SSL_key_update(session, SSL_KEY_UPDATE_REQUESTED) ? SSL_do_handshake(session) : 0;
    assert_int_equal(SSL_get_error(session, sent), SSL_ERROR_SYSCALL);
    assert_int_not_equal(errno, EAGAIN);
}

static void test_a_client_that_makes_the_server_send_keys_and_reads_none_is_cut(void **state) {
    (void)state;
    settings.send_timeout_ms = 300;
    start_tls();
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    int fd = dial_with(4096);
    SSL *session = secure(context, fd);
    int least = 1;
    struct timeval patience = {.tv_sec = 10};
    setsockopt(other_end_of(fd), SOL_SOCKET, SO_SNDBUF, &least, sizeof least);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    ask_for_keys_until_closed(session);
    connections_become(0);
    SSL_free(session);
    close(fd);
    SSL_CTX_free(context);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        SERVING_TEST(test_tls_serves_replies_and_files),
        SERVING_TEST(test_tls_refuses_old_versions_and_plain_http),
        SERVING_TEST(test_a_changed_certificate_is_taken_without_dropping_connections),
        SERVING_TEST(test_over_the_connection_limit_a_loop_answers_by_tls),
        SERVING_TEST(test_a_slow_handshake_is_cut),
        SERVING_TEST(test_a_client_that_makes_the_server_send_keys_and_reads_none_is_cut),
        SERVING_TEST(test_a_missing_certificate_stops_the_start),
    };
    return cmocka_run_group_tests_name("http_tls", tests, serving_begin, NULL);
}
