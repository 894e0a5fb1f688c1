/* Requests of all kinds against a server on loopback. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/thread.h"
#include "client/request.h"
#include "scripted_server.h"

/* ---- a client and a server ---- */

struct bench {
    struct client *client;
    struct server *server;
    server_answer *answer; /* as a test says; NULL: respond() */
    sem_t seen;            /* posted when the client has got so far */
};

static bool respond(int fd, const char *head) {
    if (server_asks(head, "GET /flavor"))
        return server_reply(fd, 200, "Metadata-Flavor: Google\r\nContent-Type: text/plain\r\n",
                            "project");
    if (server_asks(head, "GET /moved"))
        return server_reply(fd, 302, "Location: /flavor\r\n", "");
    if (server_asks(head, "GET /large")) {
        server_printf(fd, "HTTP/1.1 200 OK\r\n\r\n");
        for (int i = 0; i < 1000; i++) {
            if (!server_printf(fd, "%01024d", i))
                return false;
        }
        return false;
    }
    if (strstr(head, " /echo "))
        return server_reply(fd, 429, "Retry-After: 3\r\n", strstr(head, "\r\n\r\n") + 4);
    return server_reply(fd, 404, "", "");
}

static bool answer(struct server *server, int fd, const char *head) {
    struct bench *bench = server->context;
    return bench->answer ? bench->answer(server, fd, head) : respond(fd, head);
}

static int bench_open(void **state) {
    struct bench *bench = calloc(1, sizeof *bench);
    assert_non_null(bench);
    bench->client = client_new();
    assert_non_null(bench->client);
    sem_init(&bench->seen, 0, 0);
    bench->server = server_start(answer, bench);
    *state = bench;
    return 0;
}

static int bench_close(void **state) {
    struct bench *bench = *state;
    sem_post(&bench->seen);
    client_free(bench->client);
    server_stop(bench->server);
    sem_destroy(&bench->seen);
    free(bench);
    return 0;
}

/* Silent until the test ends: the client has to give up. */
static bool stay_silent(struct server *server, int fd, const char *head) {
    (void)fd, (void)head;
    struct bench *bench = server->context;
    sem_wait(&bench->seen);
    return false;
}

static const char *url_of(const struct bench *bench, const char *path, char out[static 256]) {
    snprintf(out, 256, "http://127.0.0.1:%u%s", bench->server->port, path);
    return out;
}

static bool ask(struct bench *bench, const char *path, struct client_request request,
                struct client_response *response, struct error *error) {
    char url[256];
    request.url = url_of(bench, path, url);
    if (!request.method)
        request.method = "GET";
    return client_request(bench->client, &request, response, error);
}

/* ---- whole responses ---- */

static void test_a_request_brings_any_response_whole(void **state) {
    struct bench *bench = *state;
    struct client_response response;
    struct error error;
    char flavor[16];
    const struct client_field fields[] = {{"metadata-flavor", flavor, sizeof flavor}};
    assert_true(ask(bench, "/flavor",
                    (struct client_request){.wanted = {.fields = fields, .count = 1}}, &response,
                    &error));
    assert_int_equal(response.status, 200);
    assert_string_equal(flavor, "Google");
    assert_string_equal(response.content_type, "text/plain");
    assert_true(response.has_length);
    assert_int_equal(response.length, 7);
    assert_string_equal(response.body.bytes, "project");
    client_response_wipe(&response);

    assert_true(ask(bench, "/moved", (struct client_request){0}, &response, &error));
    assert_int_equal(response.status, 302); /* and no further */
    client_response_wipe(&response);

    const char *const headers[] = {"X-Test: yes", NULL};
    const struct client_request post = {
        .method = "POST", .headers = headers, .body = {.bytes = "a=b&c", .length = 5}};
    assert_true(ask(bench, "/echo", post, &response, &error));
    assert_int_equal(response.status, 429);
    assert_int_equal(response.retry_after_s, 3);
    assert_string_equal(response.body.bytes, "a=b&c");
    assert_true(server_has(server_request(bench->server, "POST", 0), "X-Test: yes"));
    client_response_wipe(&response);
    assert_int_equal(bench->server->connections, 1);
}

static void test_a_response_is_bounded(void **state) {
    struct bench *bench = *state;
    struct client_response response;
    struct error error;
    assert_false(ask(bench, "/large?secret=hunter2", (struct client_request){.body_limit = 1000},
                     &response, &error));
    assert_int_equal(error.kind, ERROR_UNAVAILABLE);
    assert_non_null(strstr(error.text, "/large: the response is longer than 1000 bytes"));
    assert_null(strstr(error.text, "hunter2"));
}

static void test_a_silent_server_is_given_up(void **state) {
    struct bench *bench = *state;
    struct client_response response;
    struct error error;
    bench->answer = stay_silent;
    int64_t start = clock_ms();
    assert_false(
        ask(bench, "/", (struct client_request){.total_timeout_ms = 200}, &response, &error));
    assert_int_equal(error.kind, ERROR_TIMEOUT);
    assert_non_null(strstr(error.text, "no response within 0."));
    assert_true(clock_ms() - start >= 200);
}

static bool break_off(struct server *server, int fd, const char *head) {
    server_printf(fd, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf ");
    return stay_silent(server, fd, head);
}

static void test_a_body_that_stops_is_given_up(void **state) {
    struct bench *bench = *state;
    struct client_response response;
    struct error error;
    bench->answer = break_off;
    assert_false(
        ask(bench, "/", (struct client_request){.stall_timeout_ms = 200}, &response, &error));
    assert_int_equal(error.kind, ERROR_TIMEOUT);
    assert_non_null(strstr(error.text, "in mid-body"));
}

/* The connection of the first request is dead from the second request on. */
static bool answer_once_a_connection(struct server *server, int fd, const char *head) {
    static int first_fd;
    if (server_count(server, "") == 1) {
        first_fd = fd;
        return server_reply(fd, 200, "", "alive");
    }
    return fd == first_fd ? stay_silent(server, fd, head) : server_reply(fd, 200, "", "again");
}

static void test_a_kept_connection_that_died_is_replaced(void **state) {
    struct bench *bench = *state;
    cleanup_client_response struct client_response response = {0};
    struct error error = {0};
    bench->answer = answer_once_a_connection;
    const struct client_request request = {.stall_timeout_ms = 200, .total_timeout_ms = 20000};
    assert_true(ask(bench, "/", request, &response, &error));
    client_response_wipe(&response);
    int64_t start = clock_ms();
    if (!ask(bench, "/", request, &response, &error))
        fail_msg("%s", error.text);
    assert_memory_equal(response.body.bytes, "again", 5);
    assert_in_range(clock_ms() - start, 200, 10000);
    assert_int_equal(server_count(bench->server, ""), 3);
}

static void test_what_changes_something_is_not_asked_twice(void **state) {
    struct bench *bench = *state;
    cleanup_client_response struct client_response response = {0};
    struct error error = {0};
    bench->answer = answer_once_a_connection;
    struct client_request request = {.stall_timeout_ms = 100, .total_timeout_ms = 500};
    assert_true(ask(bench, "/", request, &response, &error));
    client_response_wipe(&response);
    request.method = "POST";
    assert_false(ask(bench, "/", request, &response, &error));
    assert_int_equal(error.kind, ERROR_TIMEOUT);
    assert_int_equal(server_count(bench->server, ""), 2);
}

/* The second request is cut off without a response. */
static bool cut_the_second(struct server *server, int fd, const char *head) {
    (void)head;
    return server_count(server, "") != 2 && server_reply(fd, 200, "", "alive");
}

static void send_twice(struct bench *bench, bool once) {
    cleanup_client_response struct client_response response = {0};
    struct error error = {0};
    const struct client_request request = {
        .method = "POST", .body = {.bytes = "{}", .length = 2}, .once = once};
    bench->answer = cut_the_second;
    assert_true(ask(bench, "/", request, &response, &error));
    client_response_wipe(&response);
    assert_int_equal(ask(bench, "/", request, &response, &error), !once);
    assert_int_equal(server_count(bench->server, ""), once ? 2 : 3);
    assert_int_equal(error.kind, once ? ERROR_UNAVAILABLE : ERROR_NONE);
    assert_int_equal(error.reached, once);
}

static void test_a_request_on_a_connection_that_is_cut_is_sent_again(void **state) {
    send_twice(*state, false);
}

static void test_a_request_that_would_count_twice_is_not_sent_again(void **state) {
    send_twice(*state, true);
}

static bool refuse_and_break_off(struct server *server, int fd, const char *head) {
    (void)server, (void)head;
    server_printf(fd, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 100\r\n\r\nwho");
    return false;
}

static void test_a_refusal_counts_although_its_body_is_cut(void **state) {
    struct bench *bench = *state;
    cleanup_client_response struct client_response response = {0};
    struct error error = {0};
    bench->answer = refuse_and_break_off;
    const struct client_request request = {.method = "POST", .body = {.bytes = "{}", .length = 2}};
    if (!ask(bench, "/", request, &response, &error))
        fail_msg("%s", error.text);
    assert_int_equal(response.status, 401);
    assert_int_equal(response.body.length, 3);
    client_response_wipe(&response);
    assert_false(ask(bench, "/", (struct client_request){0}, &response, &error));
    assert_true(error.kind == ERROR_UNAVAILABLE && error.reached);
}

/* Silence on a connection of its own is the server's. */
static void test_a_new_connection_that_is_silent_is_not_replaced(void **state) {
    struct bench *bench = *state;
    cleanup_client_response struct client_response response = {0};
    struct error error = {0};
    bench->answer = stay_silent;
    const struct client_request request = {.stall_timeout_ms = 50, .total_timeout_ms = 400};
    assert_false(ask(bench, "/", request, &response, &error));
    assert_int_equal(error.kind, ERROR_TIMEOUT);
    assert_int_equal(server_count(bench->server, ""), 1);
}

static void test_a_whole_response_has_one_deadline(void **state) {
    struct bench *bench = *state;
    struct client_response response;
    struct error error;
    bench->answer = break_off;
    assert_false(
        ask(bench, "/", (struct client_request){.total_timeout_ms = 200}, &response, &error));
    assert_int_equal(error.kind, ERROR_TIMEOUT);
    assert_non_null(strstr(error.text, "no whole response within"));
}

static void test_what_must_not_be_asked(void **state) {
    struct bench *bench = *state;
    struct client_response response;
    struct error error;
    const struct address_rule nothing_here = {0};
    assert_false(ask(bench, "/flavor", (struct client_request){.addresses = &nothing_here},
                     &response, &error));
    assert_int_equal(error.kind, ERROR_DENIED);
    const struct client_request no_http = {.method = "GET", .url = "file:///etc/passwd"};
    assert_false(client_request(bench->client, &no_http, &response, &error));
    assert_int_equal(error.kind, ERROR_INVALID);
    static const char *const no_methods[] = {
        "", "GET /x HTTP/1.1\r\nX:", "G T", "A,B", "\xc3\xa4", "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG"};
    for (size_t i = 0; i < sizeof no_methods / sizeof *no_methods; i++) {
        assert_false(ask(bench, "/flavor", (struct client_request){.method = no_methods[i]},
                         &response, &error));
        assert_int_equal(error.kind, ERROR_INVALID);
    }
    assert_int_equal(bench->server->count, 0);
}

/* ---- fields ---- */

static bool respond_with_fields(struct server *server, int fd, const char *head) {
    (void)server, (void)head;
    server_printf(fd, "HTTP/1.1 103 Early Hints\r\nETag: \"early\"\r\nX-Early: yes\r\n\r\n");
    return server_reply(fd, 401,
                        "etag: \"one\"\r\nETag:   \"two\" \r\nX-Long: 123456789\r\n"
                        "WWW-Authenticate: Basic realm=\"a\"\r\n"
                        "WWW-Authenticate: Bearer realm=\"https://t.example\",service=\"s\"\r\n",
                        "");
}

static void test_the_caller_chooses_the_fields(void **state) {
    struct bench *bench = *state;
    struct client_response response;
    struct error error;
    char etag[16] = "before", early[8] = "before", longer[9] = "before", absent[8] = "before";
    char list[16] = "before", cut[8] = "before";
    const struct client_field fields[] = {
        {"ETag", etag, sizeof etag},
        {"X-Early", early, sizeof early},
        {"X-Long", longer, sizeof longer},
        {"X-Absent", absent, sizeof absent},
        {"ETag", list, sizeof list, .is_list = true},
        {"ETag", cut, sizeof cut, .is_list = true},
    };
    struct challenge challenge = {.scheme = CHALLENGE_BASIC};
    bench->answer = respond_with_fields;
    const struct client_request request = {
        .wanted = {.fields = fields, .count = 6, .challenge = &challenge}};
    assert_true(ask(bench, "/", request, &response, &error));
    assert_int_equal(response.status, 401);
    assert_string_equal(etag, "\"two\"");
    assert_string_equal(early, ""); /* an interim response's */
    assert_string_equal(longer, "");
    assert_string_equal(absent, "");
    assert_string_equal(list, "\"one\", \"two\"");
    assert_string_equal(cut, "\"one\", ");
    assert_int_equal(challenge.scheme, CHALLENGE_BEARER);
    assert_string_equal(challenge.realm, "https://t.example");
    client_response_wipe(&response);
}

/* ---- methods and bodies ---- */

static void test_any_method_with_a_body_from_memory(void **state) {
    struct bench *bench = *state;
    static const char *const methods[] = {"PUT", "PATCH", "DELETE", "POST"};
    struct client_response response;
    struct error error;
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        const struct client_request request = {.method = methods[i],
                                               .body = {.bytes = "{\"a\":1}", .length = 7}};
        assert_true(ask(bench, "/echo", request, &response, &error));
        assert_string_equal(response.body.bytes, "{\"a\":1}");
        client_response_wipe(&response);
        const char *head = server_request(bench->server, methods[i], 0);
        assert_non_null(head);
        assert_true(server_has(head, "Content-Length: 7\r\n"));
        assert_false(server_has(head, "Expect:"));
        assert_false(server_has(head, "Content-Type:")); /* the caller's to say */
    }
}

static void test_an_empty_body_is_announced_where_one_belongs(void **state) {
    struct bench *bench = *state;
    struct client_response response;
    struct error error;
    static const struct {
        const char *method;
        bool announced;
    } cases[] = {{"POST", true}, {"PUT", true}, {"PATCH", true}, {"GET", false}, {"DELETE", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_true(ask(bench, "/nothing", (struct client_request){.method = cases[i].method},
                        &response, &error));
        assert_int_equal(response.status, 404);
        client_response_wipe(&response);
        const char *head = server_request(bench->server, cases[i].method, 0);
        assert_int_equal(server_has(head, "Content-Length: 0\r\n"), cases[i].announced);
        assert_false(server_has(head, "Transfer-Encoding"));
    }
}

static bool respond_to_head(struct server *server, int fd, const char *head) {
    (void)server, (void)head;
    return server_printf(fd, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
}

static void test_head_has_a_length_and_no_body(void **state) {
    struct bench *bench = *state;
    struct client_response response;
    struct error error;
    bench->answer = respond_to_head;
    assert_true(ask(bench, "/", (struct client_request){.method = "HEAD"}, &response, &error));
    assert_int_equal(response.length, 1000);
    assert_int_equal(response.body.length, 0);
    client_response_wipe(&response);
    assert_int_equal(server_count(bench->server, "HEAD / "), 1);
}

/* An open file that has no name any more: "0000 0001 0002 ...". */
static int numbers_file(void) {
    int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    for (int i = 0; i < 2000; i++)
        assert_true(dprintf(fd, "%04d ", i) == 5);
    return fd;
}

static void test_a_body_from_a_files_range(void **state) {
    struct bench *bench = *state;
    struct client_response response;
    struct error error;
    int fd = numbers_file();
    const struct client_request request = {.method = "PUT",
                                           .body = {.fd = fd, .offset = 500, .length = 5000}};
    for (int tries = 0; tries < 2; tries++) { /* the file's own position does not matter */
        assert_true(ask(bench, "/echo", request, &response, &error));
        assert_int_equal(response.body.length, 5000);
        assert_memory_equal(response.body.bytes, "0100 0101 ", 10);
        assert_memory_equal(response.body.bytes + 4990, "1098 1099 ", 10);
        client_response_wipe(&response);
    }
    close(fd);
}

static void test_a_file_that_is_too_short_is_our_fault(void **state) {
    struct bench *bench = *state;
    struct client_response response;
    struct error error;
    int fd = numbers_file();
    const struct client_request request = {.method = "PUT",
                                           .body = {.fd = fd, .offset = 9000, .length = 5000}};
    assert_false(ask(bench, "/echo", request, &response, &error));
    assert_int_equal(error.kind, ERROR_IO);
    assert_non_null(strstr(error.text, "the file to send ends 4000 bytes too early"));
    close(fd);
}

static bool respond_late(struct server *server, int fd, const char *head) {
    (void)server, (void)head;
    clock_sleep_ms(30);
    return server_reply(fd, 201, "", "");
}

static void test_an_upload_has_time_as_long_as_it_moves(void **state) {
    struct bench *bench = *state;
    struct client_response response;
    struct error error;
    bench->answer = respond_late;
    struct client_request request = {
        .method = "PUT", .body = {.bytes = "x", .length = 1}, .total_timeout_ms = 10};
    assert_false(ask(bench, "/", request, &response, &error));
    assert_int_equal(error.kind, ERROR_TIMEOUT);
    request.stall_timeout_ms = 20000; /* after the last byte */
    assert_true(ask(bench, "/", request, &response, &error));
    assert_int_equal(response.status, 201);
    client_response_wipe(&response);
}

static void test_a_body_is_sent_again_from_any_place(void **state) {
    (void)state;
    char out[16] = "";
    const struct client_body body = {.bytes = "0123456789", .length = 10};
    struct error error;
    struct body_reader reader = {.body = &body, .error = &error};
    assert_int_equal(body_read(out, 1, 4, &reader), 4);
    assert_int_equal(body_read(out, 1, sizeof out, &reader), 6);
    assert_memory_equal(out, "456789", 6);
    assert_int_equal(body_read(out, 1, sizeof out, &reader), 0);
    assert_int_equal(body_seek(&reader, 8, SEEK_SET), CURL_SEEKFUNC_OK);
    assert_int_equal(body_read(out, 1, sizeof out, &reader), 2);
    assert_memory_equal(out, "89", 2);
    assert_int_equal(body_seek(&reader, 11, SEEK_SET), CURL_SEEKFUNC_FAIL);
    assert_int_equal(body_seek(&reader, 0, SEEK_END), CURL_SEEKFUNC_FAIL);
}

/* ---- streams ---- */

/* Takes a stream; posts `seen` for each piece, so that the server goes on. */
struct taker {
    struct bench *bench;
    char text[256];
    size_t length;
    unsigned pieces;
    bool refuse_head, refuse_bytes;
    atomic_bool stop;
};

static enum client_verdict on_head(void *context, const struct client_response *response,
                                   struct error *error) {
    const struct taker *taker = context;
    if (taker->refuse_head) {
        error_set(error, ERROR_DENIED, "no thanks");
        return CLIENT_STOP;
    }
    return response->status == 200 ? CLIENT_STREAM : CLIENT_COLLECT;
}

static bool on_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    struct taker *taker = context;
    if (taker->refuse_bytes)
        return error_set(error, ERROR_IO, "the disk is gone");
    assert_true(taker->length + length < sizeof taker->text);
    memcpy(taker->text + taker->length, bytes, length);
    taker->length += length;
    taker->pieces++;
    sem_post(&taker->bench->seen);
    return true;
}

static bool take(struct taker *taker, const char *path, struct client_request request,
                 struct client_response *response, struct error *error) {
    char url[256];
    const struct client_sink sink = {.context = taker, .on_head = on_head, .on_bytes = on_bytes};
    request.method = "GET";
    request.url = url_of(taker->bench, path, url);
    return client_stream(taker->bench->client, &request, &sink, response, error);
}

/* Each line leaves when the one before was taken, as a watch's events do. */
static bool send_events(struct server *server, int fd, const char *head) {
    (void)head;
    struct bench *bench = server->context;
    server_printf(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 3; i++) {
        server_printf(fd, "8\r\nevent %d\n\r\n", i);
        sem_wait(&bench->seen);
    }
    return server_printf(fd, "0\r\n\r\n");
}

static void test_a_stream_is_taken_as_it_comes(void **state) {
    struct bench *bench = *state;
    struct taker taker = {.bench = bench};
    struct client_response response;
    struct error error;
    bench->answer = send_events;
    assert_true(take(&taker, "/watch", (struct client_request){0}, &response, &error));
    assert_int_equal(taker.pieces, 3);
    assert_string_equal(taker.text, "event 0\nevent 1\nevent 2\n");
    assert_int_equal(response.body.length, 0);
    client_response_wipe(&response);
}

static void test_a_refusal_comes_whole_where_a_stream_was_wanted(void **state) {
    struct bench *bench = *state;
    struct taker taker = {.bench = bench};
    struct client_response response;
    struct error error;
    assert_true(take(&taker, "/echo", (struct client_request){0}, &response, &error));
    assert_int_equal(response.status, 429);
    assert_int_equal(taker.pieces, 0);
    client_response_wipe(&response);
}

static void test_whoever_takes_a_stream_can_end_it(void **state) {
    struct bench *bench = *state;
    struct client_response response;
    struct error error;
    struct taker taker = {.bench = bench, .refuse_head = true};
    assert_false(take(&taker, "/flavor", (struct client_request){0}, &response, &error));
    assert_int_equal(error.kind, ERROR_DENIED);
    assert_int_equal(response.status, 200);
    client_response_wipe(&response);
    taker = (struct taker){.bench = bench, .refuse_bytes = true};
    assert_false(take(&taker, "/flavor", (struct client_request){0}, &response, &error));
    assert_int_equal(error.kind, ERROR_IO);
    assert_non_null(strstr(error.text, "/flavor: the disk is gone"));
    client_response_wipe(&response);
}

static void test_a_stream_ends_when_nobody_wants_it(void **state) {
    struct bench *bench = *state;
    struct taker taker = {.bench = bench};
    struct client_response response;
    struct error error;
    bench->answer = stay_silent;
    atomic_store(&taker.stop, true);
    const struct cancel cancel = {.stop = &taker.stop};
    assert_false(
        take(&taker, "/watch", (struct client_request){.cancel = &cancel}, &response, &error));
    assert_int_equal(error.kind, ERROR_CLOSED);
    client_response_wipe(&response);
}

/* ---- many threads, one client ---- */

enum { THREADS = 12, REQUESTS = 20 };

struct crowd {
    struct bench *bench;
    atomic_uint ok, refused;
};

static void ask_often(void *context) {
    struct crowd *crowd = context;
    for (int i = 0; i < REQUESTS; i++) {
        struct client_response response;
        if (ask(crowd->bench, "/flavor", (struct client_request){0}, &response, NULL) &&
            response.body.length == 7)
            atomic_fetch_add(&crowd->ok, 1);
        client_response_wipe(&response);
        /* Nobody listens there; the trusted certificates are looked up all the same. */
        const struct client_request refused = {.method = "GET", .url = "https://127.0.0.1:1/"};
        struct error error;
        if (!client_request(crowd->bench->client, &refused, &response, &error) &&
            error.kind == ERROR_UNAVAILABLE)
            atomic_fetch_add(&crowd->refused, 1);
    }
}

static void test_many_threads_share_one_client(void **state) {
    struct crowd crowd = {.bench = *state};
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_true(
            thread_start("asker", THREAD_STACK_SYSTEM, ask_often, &crowd, &threads[i], NULL));
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&crowd.ok), THREADS * REQUESTS);
    assert_int_equal(atomic_load(&crowd.refused), THREADS * REQUESTS);
    /* As many connections as were in use at once, at most: they were kept. */
    assert_true(crowd.bench->server->connections <= THREADS);
}

static void test_a_client_that_could_not_be_made_is_an_error_of_the_request(void **state) {
    (void)state;
    struct client_response response;
    struct error error;
    const struct client_request request = {.method = "GET", .url = "http://127.0.0.1:1/"};
    assert_false(client_request(NULL, &request, &response, &error));
    assert_int_equal(error.kind, ERROR_MEMORY);
}

int main(void) {
    static const char *const proxies[] = {"http_proxy",  "HTTP_PROXY", "https_proxy",
                                          "HTTPS_PROXY", "all_proxy",  "ALL_PROXY"};
    for (size_t i = 0; i < sizeof proxies / sizeof *proxies; i++)
        unsetenv(proxies[i]);
#define WITH_BENCH(test) cmocka_unit_test_setup_teardown(test, bench_open, bench_close)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_client_that_could_not_be_made_is_an_error_of_the_request),
        WITH_BENCH(test_a_request_brings_any_response_whole),
        WITH_BENCH(test_a_response_is_bounded),
        WITH_BENCH(test_a_silent_server_is_given_up),
        WITH_BENCH(test_a_kept_connection_that_died_is_replaced),
        WITH_BENCH(test_a_request_on_a_connection_that_is_cut_is_sent_again),
        WITH_BENCH(test_a_refusal_counts_although_its_body_is_cut),
        WITH_BENCH(test_a_request_that_would_count_twice_is_not_sent_again),
        WITH_BENCH(test_what_changes_something_is_not_asked_twice),
        WITH_BENCH(test_a_new_connection_that_is_silent_is_not_replaced),
        WITH_BENCH(test_a_body_that_stops_is_given_up),
        WITH_BENCH(test_a_whole_response_has_one_deadline),
        WITH_BENCH(test_what_must_not_be_asked),
        WITH_BENCH(test_the_caller_chooses_the_fields),
        WITH_BENCH(test_any_method_with_a_body_from_memory),
        WITH_BENCH(test_an_empty_body_is_announced_where_one_belongs),
        WITH_BENCH(test_head_has_a_length_and_no_body),
        WITH_BENCH(test_a_body_from_a_files_range),
        WITH_BENCH(test_a_file_that_is_too_short_is_our_fault),
        WITH_BENCH(test_an_upload_has_time_as_long_as_it_moves),
        cmocka_unit_test(test_a_body_is_sent_again_from_any_place),
        WITH_BENCH(test_a_stream_is_taken_as_it_comes),
        WITH_BENCH(test_a_refusal_comes_whole_where_a_stream_was_wanted),
        WITH_BENCH(test_whoever_takes_a_stream_can_end_it),
        WITH_BENCH(test_a_stream_ends_when_nobody_wants_it),
        WITH_BENCH(test_many_threads_share_one_client),
    };
#undef WITH_BENCH
    return cmocka_run_group_tests(tests, NULL, NULL);
}
