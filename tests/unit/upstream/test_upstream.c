#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "oci/manifest.h"
#include "scripted_server.h"
#include "upstream/upstream.h"
#include "upstream/upstream_private.h"

#define DIGEST "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define BLOB   "/v2/org/app/blobs/" DIGEST

/* ---- what a test asks, and what it got ---- */

static struct client *client; /* one for all tests */

struct bench {
    struct server *server;
    char url[64];
    struct upstream_settings settings;
    struct upstreams *upstreams;
    struct upstream *upstream;
};

/* An upstream "origin.example" that really is the scripted server. */
static void bench_open(struct bench *bench, server_answer *answer, void *context) {
    bench->server = server_start(answer, context);
    snprintf(bench->url, sizeof bench->url, "http://127.0.0.1:%u", bench->server->port);
    bench->settings.host = "origin.example";
    if (!bench->settings.url)
        bench->settings.url = bench->url;
    struct error error = {0};
    bench->upstreams = upstreams_new(client, &bench->settings, 1, &error);
    if (!bench->upstreams)
        fail_msg("%s", error.text);
    bench->upstream = upstreams_find(bench->upstreams, text_of("origin.example"));
    assert_non_null(bench->upstream);
}

static void bench_close(struct bench *bench) {
    upstreams_free(bench->upstreams);
    server_stop(bench->server);
    credential_source_free(bench->settings.credentials);
}

struct got {
    struct upstream_head head;
    unsigned heads;
    char body[1 << 16];
    size_t length;
    size_t stop_after; /* bytes after which on_bytes refuses; 0: never */
    bool head_first;   /* no byte came before the head */
};

static bool on_head(void *context, const struct upstream_head *head, struct error *error) {
    struct got *got = context;
    (void)error;
    got->head = *head;
    got->heads++;
    got->head_first = got->length == 0;
    return true;
}

static bool on_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    struct got *got = context;
    assert_true(got->length + length <= sizeof got->body);
    memcpy(got->body + got->length, bytes, length);
    got->length += length;
    if (got->stop_after && got->length >= got->stop_after)
        return error_set(error, ERROR_NO_SPACE, "disk full");
    return true;
}

static bool perform(struct bench *bench, const struct upstream_request *request, struct got *got,
                    struct error *error) {
    *got = (struct got){.stop_after = got->stop_after};
    *error = (struct error){0};
    const struct upstream_sink sink = {got, on_head, on_bytes};
    bool ok = upstream_perform(bench->upstream, request, &sink, error);
    if (!ok) {
        assert_int_not_equal(error->kind, ERROR_NONE);
        assert_true(strncmp(error->text, "upstream origin.example: ", 25) == 0);
    }
    return ok;
}

static const struct upstream_request blob = {
    .what = UPSTREAM_BLOB, .repository = "org/app", .reference = DIGEST, .attempts = 1};
static const struct upstream_request manifest = {
    .what = UPSTREAM_MANIFEST, .repository = "org/app", .reference = "1.2", .attempts = 1};

/* ---- plain requests ---- */

static bool answer_hello(struct server *server, int fd, const char *head) {
    (void)server;
    if (server_asks(head, "HEAD /v2/org/app/manifests/1.2"))
        return server_printf(fd, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"
                                 "Docker-Content-Digest: " DIGEST "\r\n\r\n");
    if (server_asks(head, "GET /v2/org/app/manifests/1.2"))
        return server_reply(fd, 200,
                            "Content-Type: application/x-test\r\nETag: \"abc\"\r\n"
                            "Docker-Content-Digest: " DIGEST "\r\n",
                            "hello");
    return server_reply(fd, 404, "",
                        "{\"errors\":[{\"code\":\"MANIFEST_UNKNOWN\","
                        "\"message\":\"no such thing\"}]}");
}

static void test_a_manifest_comes_with_its_head(void **state) {
    (void)state;
    struct bench bench = {0};
    struct got got = {0};
    struct error error;
    bench_open(&bench, answer_hello, NULL);
    assert_true(perform(&bench, &manifest, &got, &error));
    assert_int_equal(got.heads, 1);
    assert_true(got.head_first);
    assert_int_equal(got.head.status, 200);
    assert_true(got.head.has_length && got.head.has_total && got.head.length == 5);
    assert_string_equal(got.head.content_type, "application/x-test");
    assert_string_equal(got.head.etag, "\"abc\"");
    assert_true(got.head.has_digest);
    assert_int_equal(got.length, 5);
    assert_memory_equal(got.body, "hello", 5);
    const char *asked = server_request(bench.server, "GET", 0);
    assert_true(server_has(asked, "Accept: " MEDIA_ACCEPT_MANIFESTS));
    assert_true(server_has(asked, "User-Agent: tarn/" TARN_VERSION));
    assert_false(server_has(asked, "Accept-Encoding"));
    assert_false(server_has(asked, "Authorization"));

    struct upstream_request head = manifest;
    head.head_only = true;
    assert_true(perform(&bench, &head, &got, &error));
    assert_int_equal(got.head.length, 5);
    assert_int_equal(got.length, 0);
    assert_int_equal(bench.server->connections, 1); /* kept open */
    bench_close(&bench);
}

static void test_upstreams_404_is_not_found_with_its_code(void **state) {
    (void)state;
    struct bench bench = {0};
    struct got got = {0};
    struct error error;
    bench_open(&bench, answer_hello, NULL);
    struct upstream_request missing = manifest;
    missing.reference = "none";
    missing.attempts = 3;
    assert_false(perform(&bench, &missing, &got, &error));
    assert_int_equal(error.kind, ERROR_NOT_FOUND);
    assert_string_equal(error.code, "MANIFEST_UNKNOWN");
    assert_non_null(strstr(error.text, "manifest org/app:none: 404 Not Found"));
    assert_non_null(strstr(error.text, "no such thing"));
    assert_int_equal(got.heads, 0);
    assert_int_equal(bench.server->count, 1);
    bench_close(&bench);
}

static bool answer_status(struct server *server, int fd, const char *head) {
    (void)head;
    return server_reply(fd, *(int *)server->context, "", "");
}

static void test_statuses_become_kinds(void **state) {
    (void)state;
    static const struct {
        int status;
        enum error_kind kind;
        unsigned asked; /* with three attempts */
    } cases[] = {
        {403, ERROR_DENIED, 1},      {401, ERROR_DENIED, 1},       {404, ERROR_NOT_FOUND, 1},
        {416, ERROR_RANGE, 1},       {400, ERROR_UNAVAILABLE, 1},  {500, ERROR_UNAVAILABLE, 3},
        {503, ERROR_UNAVAILABLE, 3}, {408, ERROR_UNAVAILABLE, 3},  {204, ERROR_UNAVAILABLE, 3},
        {304, ERROR_UNAVAILABLE, 1}, {429, ERROR_RATE_LIMITED, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench bench = {0};
        struct got got = {0};
        struct error error;
        int status = cases[i].status;
        bench_open(&bench, answer_status, &status);
        struct upstream_request request = blob;
        request.attempts = 3;
        assert_false(perform(&bench, &request, &got, &error));
        assert_int_equal(error.kind, cases[i].kind);
        assert_int_equal(bench.server->count, cases[i].asked);
        assert_int_equal(got.heads, 0);
        bench_close(&bench);
    }
}

static bool answer_429(struct server *server, int fd, const char *head) {
    (void)server;
    bool said = strstr(head, "/said/");
    return server_reply(fd, 429, said ? "Retry-After: 7\r\n" : "",
                        "{\"errors\":[{\"code\":\"TOOMANYREQUESTS\",\"message\":\"slow\"}]}");
}

static void test_after_a_429_upstream_is_left_alone(void **state) {
    (void)state;
    struct bench bench = {0};
    struct got got = {0};
    struct error error;
    bench_open(&bench, answer_429, NULL);
    struct upstream_request request = manifest;
    request.repository = "said/so";
    assert_false(perform(&bench, &request, &got, &error));
    assert_int_equal(error.kind, ERROR_RATE_LIMITED);
    assert_int_equal(error.retry_after_s, 7);
    assert_string_equal(error.code, "TOOMANYREQUESTS");
    assert_false(perform(&bench, &manifest, &got, &error));
    assert_int_equal(error.kind, ERROR_RATE_LIMITED);
    assert_in_range(error.retry_after_s, 5, 7);
    assert_int_equal(bench.server->count, 1);
    bench_close(&bench);

    bench = (struct bench){0};
    bench_open(&bench, answer_429, NULL);
    assert_false(perform(&bench, &manifest, &got, &error));
    assert_int_equal(error.retry_after_s, 30);
    bench_close(&bench);
}

static void test_a_refused_connection_says_so(void **state) {
    (void)state;
    struct bench bench = {0};
    struct got got = {0};
    struct error error;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    bind(listener, (struct sockaddr *)&address, sizeof address); /* and nobody listens */
    getsockname(listener, (struct sockaddr *)&address, &length);
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%u", ntohs(address.sin_port));
    bench.settings.url = url;
    bench_open(&bench, answer_hello, NULL);
    assert_false(perform(&bench, &manifest, &got, &error));
    assert_int_equal(error.kind, ERROR_UNAVAILABLE);
    assert_non_null(strstr(error.text, "Connection refused"));
    bench_close(&bench);
    close(listener);
}

static bool answer_as_proxy(struct server *server, int fd, const char *head) {
    (void)server;
    bool asked = server_asks(head, "GET http://registry.invalid/v2/org/app/manifests/1.2");
    return server_reply(fd, asked ? 200 : 400, "", "hello");
}

static void test_the_environments_proxy_is_used(void **state) {
    (void)state;
    struct bench bench = {.settings = {.url = "http://registry.invalid"}};
    struct got got = {0};
    struct error error;
    bench_open(&bench, answer_as_proxy, NULL);
    setenv("HTTP_PROXY", bench.url, 1);
    assert_true(perform(&bench, &manifest, &got, &error));
    setenv("NO_PROXY", "invalid", 1);
    assert_false(perform(&bench, &manifest, &got, &error));
    assert_int_equal(error.kind, ERROR_UNAVAILABLE);
    assert_non_null(strstr(error.text, "no such host registry.invalid"));
    unsetenv("HTTP_PROXY");
    unsetenv("NO_PROXY");
    bench_close(&bench);
}

/* ---- retries and times ---- */

static bool answer_third_time(struct server *server, int fd, const char *head) {
    unsigned asked = server_count(server, "GET");
    if (asked == 1)
        return false; /* cut before a byte */
    if (asked == 2)
        return server_reply(fd, 502, "", "<html>bad gateway</html>");
    return answer_hello(server, fd, head);
}

static void test_what_may_pass_is_tried_again(void **state) {
    (void)state;
    struct bench bench = {0};
    struct got got = {0};
    struct error error;
    bench_open(&bench, answer_third_time, NULL);
    struct upstream_request request = manifest;
    request.attempts = 0;
    assert_true(perform(&bench, &request, &got, &error));
    assert_int_equal(bench.server->count, 3);
    assert_int_equal(got.length, 5);
    bench_close(&bench);
}

static bool answer_half(struct server *server, int fd, const char *head) {
    (void)server, (void)head;
    server_printf(fd, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
    return false;
}

static void test_nothing_is_tried_again_after_the_head(void **state) {
    (void)state;
    struct bench bench = {0};
    struct got got = {0};
    struct error error;
    bench_open(&bench, answer_half, NULL);
    struct upstream_request request = blob;
    request.attempts = 3;
    assert_false(perform(&bench, &request, &got, &error));
    assert_int_equal(error.kind, ERROR_UNAVAILABLE);
    assert_non_null(strstr(error.text, "short"));
    assert_int_equal(got.heads, 1);
    assert_int_equal(got.length, 5);
    assert_int_equal(bench.server->count, 1);
    bench_close(&bench);
}

static bool answer_never(struct server *server, int fd, const char *head) {
    (void)server, (void)head;
    char byte;
    return recv(fd, &byte, 1, 0) > 0;
}

static void test_no_head_by_the_deadline_is_a_timeout(void **state) {
    (void)state;
    struct bench bench = {0};
    struct got got = {0};
    struct error error;
    bench_open(&bench, answer_never, NULL);
    struct upstream_request request = blob;
    request.attempts = 3;
    int64_t start = clock_ms();
    request.deadline_ms = start + 300;
    assert_false(perform(&bench, &request, &got, &error));
    assert_int_equal(error.kind, ERROR_TIMEOUT);
    assert_in_range(clock_ms() - start, 290, 2500);
    assert_int_equal(got.heads, 0);
    bench_close(&bench);
}

static bool answer_then_silence(struct server *server, int fd, const char *head) {
    server_printf(fd, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
    return answer_never(server, fd, head);
}

static void test_silence_in_mid_body_is_a_timeout(void **state) {
    (void)state;
    struct bench bench = {.settings = {.stall_timeout_ms = 300}};
    struct got got = {0};
    struct error error;
    bench_open(&bench, answer_then_silence, NULL);
    int64_t start = clock_ms();
    assert_false(perform(&bench, &blob, &got, &error));
    assert_int_equal(error.kind, ERROR_TIMEOUT);
    assert_in_range(clock_ms() - start, 290, 2500);
    assert_int_equal(got.heads, 1);
    assert_int_equal(got.length, 5);
    bench_close(&bench);
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
    (void)state;
    struct bench bench = {.settings = {.stall_timeout_ms = 1200, .first_byte_timeout_ms = 1200}};
    struct got got = {0};
    struct error error;
    bench_open(&bench, answer_slowly, NULL);
    assert_true(perform(&bench, &blob, &got, &error));
    assert_int_equal(got.length, 5);
    bench_close(&bench);
}

static void test_a_sink_that_refuses_ends_the_request_with_its_error(void **state) {
    (void)state;
    struct bench bench = {0};
    struct got got = {.stop_after = 1};
    struct error error;
    bench_open(&bench, answer_hello, NULL);
    struct upstream_request request = manifest;
    request.attempts = 3;
    assert_false(perform(&bench, &request, &got, &error));
    assert_int_equal(error.kind, ERROR_NO_SPACE);
    assert_int_equal(bench.server->count, 1);
    bench_close(&bench);
}

static bool answer_endless_head(struct server *server, int fd, const char *head) {
    (void)server, (void)head;
    bool open = server_printf(fd, "HTTP/1.1 200 OK\r\n");
    for (int i = 0; open && i < 100000; i++)
        open = server_printf(fd, "X-Filler-%d: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n", i);
    return false;
}

static void test_an_endless_head_is_refused(void **state) {
    (void)state;
    struct bench bench = {0};
    struct got got = {0};
    struct error error;
    bench_open(&bench, answer_endless_head, NULL);
    assert_false(perform(&bench, &blob, &got, &error));
    assert_int_equal(error.kind, ERROR_UNAVAILABLE);
    assert_non_null(strstr(error.text, "head is longer than"));
    bench_close(&bench);
}

/* ---- ranges ---- */

static bool answer_range(struct server *server, int fd, const char *head) {
    const char *headers = server->context;
    (void)head;
    return server_printf(fd, "HTTP/1.1 206 Partial Content\r\n%s\r\nhello", headers);
}

static bool ask_range(const char *headers, uint64_t first, uint64_t last, uint64_t suffix,
                      struct got *got, struct error *error) {
    struct bench bench = {0};
    char context[256];
    snprintf(context, sizeof context, "%s", headers);
    bench_open(&bench, answer_range, context);
    struct upstream_request request = blob;
    request.has_range = suffix == 0;
    request.range_first = first;
    request.range_last = last;
    request.range_suffix = suffix;
    bool ok = perform(&bench, &request, got, error);
    char expected[64];
    if (suffix)
        snprintf(expected, sizeof expected, "Range: bytes=-%llu\r\n", (unsigned long long)suffix);
    else if (last == UINT64_MAX)
        snprintf(expected, sizeof expected, "Range: bytes=%llu-\r\n", (unsigned long long)first);
    else
        snprintf(expected, sizeof expected, "Range: bytes=%llu-%llu\r\n", (unsigned long long)first,
                 (unsigned long long)last);
    assert_true(server_has(server_request(bench.server, "GET", 0), expected));
    bench_close(&bench);
    return ok;
}

static void test_a_range_is_answered_with_that_range(void **state) {
    (void)state;
    struct got got = {0};
    struct error error;
    assert_true(ask_range("Content-Range: bytes 10-14/100\r\nContent-Length: 5\r\n", 10, 14, 0,
                          &got, &error));
    assert_true(got.head.has_range && got.head.range_first == 10 && got.head.range_last == 14);
    assert_true(got.head.has_total && got.head.total == 100);
    assert_true(got.head.has_length && got.head.length == 5);
    assert_true(ask_range("Content-Range: bytes 95-99/100\r\nContent-Length: 5\r\n", 95, UINT64_MAX,
                          0, &got, &error));
    assert_true(ask_range("Content-Range: bytes 95-99/100\r\nContent-Length: 5\r\n", 0, 0, 5, &got,
                          &error));
    assert_int_equal(got.head.range_first, 95);
}

static void test_a_lie_about_the_range_is_noticed(void **state) {
    (void)state;
    static const char *const lies[] = {
        "Content-Range: bytes 11-15/100\r\nContent-Length: 5\r\n",
        "Content-Range: bytes 10-15/100\r\nContent-Length: 6\r\n",
        "Content-Range: bytes 10-14/100\r\nContent-Length: 6\r\n",
        "Content-Range: bytes 10-14/12\r\nContent-Length: 5\r\n",
        "Content-Range: rubbish\r\nContent-Length: 5\r\n",
        "Content-Range: bytes */100\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\n",
    };
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        struct got got = {0};
        struct error error;
        assert_false(ask_range(lies[i], 10, 14, 0, &got, &error));
        assert_int_equal(error.kind, ERROR_UNAVAILABLE);
        assert_non_null(strstr(error.text, "lied about the range"));
        assert_int_equal(got.heads, 0);
    }
}

static bool answer_short_chunks(struct server *server, int fd, const char *head) {
    (void)server, (void)head;
    return server_printf(fd,
                         "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-%s/100\r\n"
                         "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                         (const char *)server->context);
}

static void test_a_chunked_body_is_as_long_as_its_range(void **state) {
    (void)state;
    static const struct {
        const char *last;
        const char *said;
    } cases[] = {{"9", "a body of 5 bytes"}, {"2", "longer than the 3"}, {"4", NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench bench = {0};
        struct got got = {0};
        struct error error;
        char last[4];
        snprintf(last, sizeof last, "%s", cases[i].last);
        bench_open(&bench, answer_short_chunks, last);
        struct upstream_request request = blob;
        request.has_range = true;
        request.range_last = UINT64_MAX;
        bool ok = perform(&bench, &request, &got, &error);
        assert_int_equal(ok, cases[i].said == NULL);
        if (!ok) {
            assert_int_equal(error.kind, ERROR_UNAVAILABLE);
            assert_non_null(strstr(error.text, cases[i].said));
        }
        bench_close(&bench);
    }
}

static bool answer_whole(struct server *server, int fd, const char *head) {
    (void)server, (void)head;
    return server_reply(fd, 200, "", "hello");
}

static void test_a_whole_body_may_answer_a_range(void **state) {
    (void)state;
    struct bench bench = {0};
    struct got got = {0};
    struct error error;
    bench_open(&bench, answer_whole, NULL);
    struct upstream_request request = blob;
    request.has_range = true;
    request.range_first = request.range_last = 3;
    assert_true(perform(&bench, &request, &got, &error));
    assert_int_equal(got.head.status, 200);
    assert_false(got.head.has_range);
    assert_int_equal(got.length, 5);
    bench_close(&bench);
}

static bool answer_416(struct server *server, int fd, const char *head) {
    (void)server, (void)head;
    return server_reply(fd, 416, "Content-Range: bytes */77\r\n", "");
}

static void test_a_416_tells_the_size(void **state) {
    (void)state;
    struct bench bench = {0};
    struct got got = {0};
    struct error error;
    bench_open(&bench, answer_416, NULL);
    struct upstream_request request = blob;
    request.has_range = true;
    request.range_first = 100;
    request.range_last = UINT64_MAX;
    assert_false(perform(&bench, &request, &got, &error));
    assert_int_equal(error.kind, ERROR_RANGE);
    assert_int_equal(got.heads, 1);
    assert_int_equal(got.head.status, 416);
    assert_true(got.head.has_total && got.head.total == 77);
    bench_close(&bench);
}

/* ---- tokens ---- */

struct tokens {
    unsigned issued;        /* the token is "token-N" */
    unsigned valid_from;    /* tokens before this one are refused */
    const char *scope;      /* in the challenge; NULL: none */
    const char *reply;      /* a format for the token service's reply; NULL: the usual */
    const char *needs;      /* a line the token request must have, else 401; NULL: none */
    const char *realm_path; /* where the realm is; NULL: /token at the same host */
    int token_status;       /* not 0: what the token service answers */
};

static bool answer_token(struct server *server, int fd, const char *head) {
    struct tokens *tokens = server->context;
    char body[256], line[64];
    if (tokens->token_status)
        return server_reply(fd, tokens->token_status, "",
                            "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"not for you\"}]}");
    if (tokens->needs && !server_has(head, tokens->needs))
        return server_reply(fd, 401, "", "");
    snprintf(line, sizeof line, "token-%u", ++tokens->issued);
    snprintf(body, sizeof body, "{\"token\":\"%s\"%s}", line,
             tokens->reply ? tokens->reply : ",\"expires_in\":300");
    return server_reply(fd, 200, "", body);
}

static bool answer_bearer(struct server *server, int fd, const char *head) {
    struct tokens *tokens = server->context;
    char challenge[512], scope[128] = "", realm[128];
    if (strncmp(head + strcspn(head, " "), " /token", 7) == 0)
        return answer_token(server, fd, head);
    const char *sent = strcasestr(head, "Authorization: Bearer token-");
    if (sent && strtoul(sent + 28, NULL, 10) >= tokens->valid_from)
        return server_reply(fd, 200, "", "hello");
    if (tokens->scope)
        snprintf(scope, sizeof scope, ",scope=\"%s\"", tokens->scope);
    if (tokens->realm_path)
        snprintf(realm, sizeof realm, "%s", tokens->realm_path);
    else
        snprintf(realm, sizeof realm, "http://127.0.0.1:%u/token", server->port);
    snprintf(challenge, sizeof challenge,
             "WWW-Authenticate: Bearer realm=\"%s\",service=\"svc 1\"%s\r\n", realm, scope);
    return server_reply(fd, 401, challenge, "{\"errors\":[{\"code\":\"UNAUTHORIZED\"}]}");
}

static void test_a_token_is_fetched_once_and_used_again(void **state) {
    (void)state;
    struct tokens tokens = {0};
    struct bench bench = {0};
    struct got got = {0};
    struct error error;
    bench_open(&bench, answer_bearer, &tokens);
    assert_true(perform(&bench, &manifest, &got, &error));
    assert_int_equal(bench.server->count, 3); /* challenge, token, manifest */
    const char *asked = server_request(bench.server, "GET /token", 0);
    assert_true(server_asks(asked, "GET /token"));
    assert_true(server_has(asked, "service=svc%201&scope=repository:org/app:pull "));
    assert_false(server_has(asked, "Authorization"));
    for (int i = 0; i < 3; i++)
        assert_true(perform(&bench, &blob, &got, &error));
    assert_int_equal(tokens.issued, 1);
    assert_int_equal(bench.server->count, 6);

    /* The challenge is remembered: another repository fetches its token without provoking a 401. */
    struct upstream_request other = manifest;
    other.repository = "org/other";
    assert_true(perform(&bench, &other, &got, &error));
    assert_int_equal(bench.server->count, 8);
    assert_true(server_has(server_request(bench.server, "GET /token", 1),
                           "scope=repository:org/other:pull "));
    bench_close(&bench);
}

static void test_a_refused_token_is_refreshed_once(void **state) {
    (void)state;
    struct tokens tokens = {0};
    struct bench bench = {0};
    struct got got = {0};
    struct error error;
    bench_open(&bench, answer_bearer, &tokens);
    assert_true(perform(&bench, &manifest, &got, &error));
    tokens.valid_from = 2; /* token-1 is revoked */
    assert_true(perform(&bench, &manifest, &got, &error));
    assert_int_equal(tokens.issued, 2);
    tokens.valid_from = 100; /* nothing helps */
    assert_false(perform(&bench, &manifest, &got, &error));
    assert_int_equal(error.kind, ERROR_DENIED);
    assert_int_equal(tokens.issued, 3);
    assert_string_equal(error.code, "UNAUTHORIZED");
    assert_non_null(strstr(error.text, "set credentials for origin.example"));
    bench_close(&bench);
}

static void test_a_token_is_given_up_before_it_ends(void **state) {
    (void)state;
    struct tokens tokens = {.reply = ",\"expires_in\":2"};
    struct bench bench = {0};
    struct got got = {0};
    struct error error;
    bench_open(&bench, answer_bearer, &tokens);
    assert_true(perform(&bench, &manifest, &got, &error));
    assert_true(perform(&bench, &manifest, &got, &error));
    assert_int_equal(tokens.issued, 1);
    clock_sleep_ms(1850);
    assert_true(perform(&bench, &manifest, &got, &error));
    assert_int_equal(tokens.issued, 2);
    assert_int_equal(server_count(bench.server, "GET /v2/"), 4); /* and no second 401 */
    bench_close(&bench);
}

static void test_the_challenges_scope_is_the_one_asked_for(void **state) {
    (void)state;
    struct tokens tokens = {.scope = "repository:remote/app:pull"};
    struct bench bench = {0};
    struct got got = {0};
    struct error error;
    bench_open(&bench, answer_bearer, &tokens);
    assert_true(perform(&bench, &manifest, &got, &error));
    assert_true(server_has(server_request(bench.server, "GET /token", 0),
                           "scope=repository:remote/app:pull "));
    /* A repository whose scope is not the usual one: its 401 says which. */
    tokens.scope = "repository:remote/other:pull";
    tokens.valid_from = 3;
    struct upstream_request other = manifest;
    other.repository = "org/other";
    assert_true(perform(&bench, &other, &got, &error));
    assert_true(server_has(server_request(bench.server, "GET /token", 2),
                           "scope=repository:remote/other:pull "));
    bench_close(&bench);
}

static void *perform_in_thread(void *context) {
    struct bench *bench = context;
    struct got *got = calloc(1, sizeof *got);
    struct error error;
    bool ok = perform(bench, &blob, got, &error);
    free(got);
    return ok ? context : NULL;
}

static void run_threads(struct bench *bench, unsigned count) {
    pthread_t threads[16];
    void *result;
    for (unsigned i = 0; i < count; i++)
        pthread_create(&threads[i], NULL, perform_in_thread, bench);
    for (unsigned i = 0; i < count; i++) {
        pthread_join(threads[i], &result);
        assert_non_null(result);
    }
}

static void test_a_crowd_asks_for_one_token(void **state) {
    (void)state;
    struct tokens tokens = {0};
    struct bench bench = {0};
    bench_open(&bench, answer_bearer, &tokens);
    run_threads(&bench, 16);
    assert_int_equal(tokens.issued, 1);
    tokens.valid_from = 2;
    run_threads(&bench, 16);
    assert_int_equal(tokens.issued, 2);
    bench_close(&bench);
}

/* A password file that is there until the source is freed. */
static struct credential_source *password_source(char *path) {
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "secret\n", 7), 7);
    close(fd);
    return credential_source_static("user", path);
}

static void test_credentials_go_to_the_token_service(void **state) {
    (void)state;
    char path[] = "/tmp/tarn-test-XXXXXX";
    struct tokens tokens = {.needs = "Authorization: Basic dXNlcjpzZWNyZXQ="};
    struct bench bench = {.settings = {.credentials = password_source(path)}};
    struct got got = {0};
    struct error error;
    bench_open(&bench, answer_bearer, &tokens);
    assert_true(perform(&bench, &manifest, &got, &error));
    assert_false(server_has(server_request(bench.server, "GET /v2", 0), "Authorization"));

    tokens.token_status = 403;
    struct upstream_request other = manifest;
    other.repository = "org/secret";
    assert_false(perform(&bench, &other, &got, &error));
    assert_int_equal(error.kind, ERROR_DENIED);
    assert_string_equal(error.code, "DENIED");
    assert_non_null(strstr(error.text, "/token: 403 Forbidden"));
    assert_non_null(strstr(error.text, "not for you"));
    assert_non_null(strstr(error.text, "user user, password file /tmp/tarn-test-"));
    assert_null(strstr(error.text, "secret\n"));

    unlink(path); /* the source is broken now: never silently anonymous */
    clock_sleep_ms(10);
    struct credential credential;
    assert_false(credential_source_get(bench.settings.credentials, "other.example", false,
                                       &credential, &error));
    bench_close(&bench);
}

static void test_an_identity_token_is_posted(void **state) {
    (void)state;
    char path[] = "/tmp/tarn-test-XXXXXX";
    static const char config[] =
        "{\"auths\":{\"origin.example\":{\"identitytoken\":\"re/fresh+\"}}}";
    int fd = mkstemp(path);
    assert_int_equal(write(fd, config, sizeof config - 1), sizeof config - 1);
    close(fd);
    struct tokens tokens = {.needs = "grant_type=refresh_token"};
    struct bench bench = {.settings = {.credentials = credential_source_docker(path)}};
    struct got got = {0};
    struct error error;
    bench_open(&bench, answer_bearer, &tokens);
    assert_true(perform(&bench, &manifest, &got, &error));
    const char *asked = server_request(bench.server, "POST /token", 0);
    assert_non_null(asked);
    assert_true(server_has(asked, "Content-Type: application/x-www-form-urlencoded\r\n"));
    assert_true(server_has(asked, "service=svc%201&scope=repository:org/app:pull"));
    assert_true(server_has(asked, "&refresh_token=re/fresh%2B"));
    bench_close(&bench);
    unlink(path);
}

static bool answer_basic(struct server *server, int fd, const char *head) {
    (void)server;
    if (server_has(head, "Authorization: Basic dXNlcjpzZWNyZXQ="))
        return server_reply(fd, 200, "", "hello");
    return server_reply(fd, 401, "WWW-Authenticate: Basic realm=\"x\"\r\n", "");
}

static void test_basic_is_sent_once_it_was_asked_for(void **state) {
    (void)state;
    char path[] = "/tmp/tarn-test-XXXXXX";
    struct bench bench = {.settings = {.credentials = password_source(path)}};
    struct got got = {0};
    struct error error;
    bench_open(&bench, answer_basic, NULL);
    assert_true(perform(&bench, &manifest, &got, &error));
    assert_true(perform(&bench, &manifest, &got, &error));
    assert_int_equal(bench.server->count, 3);
    bench_close(&bench);
    unlink(path);

    bench = (struct bench){0};
    bench_open(&bench, answer_basic, NULL);
    assert_false(perform(&bench, &manifest, &got, &error));
    assert_int_equal(error.kind, ERROR_DENIED);
    assert_in_range(bench.server->count, 1, 3);
    bench_close(&bench);
}

static void test_a_realm_elsewhere_is_not_asked(void **state) {
    (void)state;
    char path[] = "/tmp/tarn-test-XXXXXX";
    struct tokens elsewhere_tokens = {0};
    struct server *elsewhere = server_start(answer_bearer, &elsewhere_tokens);
    char realm[64], listed[32];
    snprintf(realm, sizeof realm, "http://127.0.0.1:%u/token", elsewhere->port);
    snprintf(listed, sizeof listed, "127.0.0.1:%u", elsewhere->port);
    const char *const token_hosts[] = {listed, NULL};
    for (int with_credentials = 0; with_credentials < 2; with_credentials++) {
        struct tokens tokens = {.realm_path = realm};
        struct bench bench = {
            .settings = {.credentials = with_credentials ? password_source(path) : NULL}};
        struct got got = {0};
        struct error error;
        bench_open(&bench, answer_bearer, &tokens);
        assert_false(perform(&bench, &manifest, &got, &error));
        assert_int_equal(error.kind, ERROR_DENIED);
        assert_non_null(strstr(error.text, realm));
        assert_non_null(strstr(error.text, "token_hosts"));
        assert_int_equal(elsewhere->count, 0);
        bench_close(&bench);
    }
    unlink(path);
    struct tokens tokens = {.realm_path = realm};
    struct bench bench = {.settings = {.token_hosts = token_hosts}};
    struct got got = {0};
    struct error error;
    bench_open(&bench, answer_bearer, &tokens);
    assert_true(perform(&bench, &manifest, &got, &error));
    assert_int_equal(elsewhere->count, 1);
    bench_close(&bench);
    server_stop(elsewhere);
}

/* ---- redirects ---- */

struct redirects {
    const char *location; /* of the blob */
    bool refuse_download; /* what it led to answers 403 */
    unsigned resolved;
};

static bool answer_redirect(struct server *server, int fd, const char *head) {
    struct redirects *redirects = server->context;
    if (server_asks(head, "GET " BLOB)) {
        char *line = NULL;
        redirects->resolved++;
        assert(asprintf(&line, "Location: %s\r\n", redirects->location) > 0);
        bool ok = server_has(head, "Authorization: Basic")
                      ? server_reply(fd, 307, line, "<html>moved</html>")
                      : server_reply(fd, 401, "WWW-Authenticate: Basic realm=x\r\n", "");
        free(line);
        return ok;
    }
    if (redirects->refuse_download)
        return server_reply(fd, 403, "", "expired");
    return server_reply(fd, 200, "", "hello");
}

static struct server *storage; /* another host: another port */

static void check_redirect(const char *location, struct server *leads_to, bool authorized) {
    char path[] = "/tmp/tarn-test-XXXXXX";
    struct redirects redirects = {.location = location};
    struct bench bench = {.settings = {.credentials = password_source(path)}};
    struct got got = {0};
    struct error error;
    bench_open(&bench, answer_redirect, &redirects);
    if (!perform(&bench, &blob, &got, &error))
        fail_msg("%s", error.text);
    assert_int_equal(got.length, 5);
    struct server *there = leads_to ? leads_to : bench.server;
    const char *download = server_request(there, "GET /", there->count - 1);
    assert_int_equal(server_has(download, "Authorization"), authorized);
    bench_close(&bench);
    unlink(path);
}

static void test_authorization_stays_at_its_origin(void **state) {
    (void)state;
    struct redirects nothing = {0};
    storage = server_start(answer_redirect, &nothing);
    char url[128];
    snprintf(url, sizeof url, "http://127.0.0.1:%u/layers/1?sig=a%%2Fb", storage->port);
    check_redirect(url, storage, false);
    snprintf(url, sizeof url, "http://localhost:%u/layers/1", storage->port);
    check_redirect(url, storage, false);
    server_stop(storage);
    check_redirect("/layers/1", NULL, true);
    check_redirect("/artifacts-downloads/namespaces/p/repositories/r/downloads/x", NULL, false);
    check_redirect("/x/../artifacts-downloads/x", NULL, false);
}

static void test_a_long_relative_redirect_is_followed(void **state) {
    (void)state;
    char location[2048] = "/artifacts-downloads/";
    memset(location + strlen(location), 'a', 1500);
    check_redirect(location, NULL, false);
}

static void test_a_targets_url_is_kept_until_it_is_refused(void **state) {
    (void)state;
    char path[] = "/tmp/tarn-test-XXXXXX";
    struct redirects redirects = {.location = "/artifacts-downloads/x"};
    struct bench bench = {.settings = {.credentials = password_source(path)}};
    struct upstream_target target = {0};
    struct got got = {0};
    struct error error;
    bench_open(&bench, answer_redirect, &redirects);
    struct upstream_request request = blob;
    request.target = &target;
    assert_true(perform(&bench, &request, &got, &error));
    assert_non_null(target.url);
    assert_non_null(strstr(target.url, "/artifacts-downloads/x"));
    assert_int_equal(redirects.resolved, 2); /* with the challenge */
    assert_true(perform(&bench, &request, &got, &error));
    assert_int_equal(redirects.resolved, 2);
    redirects.refuse_download = true;
    assert_false(perform(&bench, &request, &got, &error));
    assert_int_equal(error.kind, ERROR_DENIED);
    assert_int_equal(redirects.resolved, 3);
    redirects.refuse_download = false;
    redirects.location = "/artifacts-downloads/y";
    assert_true(perform(&bench, &request, &got, &error));
    assert_non_null(strstr(target.url, "/artifacts-downloads/y"));
    upstream_target_free(&target);
    bench_close(&bench);
    unlink(path);
}

static bool answer_loop(struct server *server, int fd, const char *head) {
    (void)head;
    return server_reply(fd, 302, server->context, "");
}

static void test_redirects_end(void **state) {
    (void)state;
    static const struct {
        const char *location;
        enum error_kind kind;
        unsigned asked;
    } cases[] = {
        {"Location: /again\r\n", ERROR_UNAVAILABLE, 6},
        {"", ERROR_UNAVAILABLE, 1},
        {"Location: ftp://127.0.0.1/x\r\n", ERROR_UNAVAILABLE, 1},
        {"Location: file:///etc/passwd\r\n", ERROR_UNAVAILABLE, 1},
        {"Location: http://user:pw@127.0.0.1/x\r\n", ERROR_UNAVAILABLE, 1},
        {"Location: http://169.254.169.254/latest\r\n", ERROR_DENIED, 1},
        {"Location: http://[fe80::1]/x\r\n", ERROR_DENIED, 1},
        {"Location: http://[fd00:ec2::254]/x\r\n", ERROR_DENIED, 1},
        {"Location: http://2852039166/latest\r\n", ERROR_DENIED, 1},
        {"Location: http://[::ffff:169.254.169.254]/x\r\n", ERROR_DENIED, 1},
        {"Location: http://metadata.google.internal/x\r\n", ERROR_DENIED, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench bench = {0};
        struct got got = {0};
        struct error error;
        char location[128];
        snprintf(location, sizeof location, "%s", cases[i].location);
        bench_open(&bench, answer_loop, location);
        assert_false(perform(&bench, &blob, &got, &error));
        assert_int_equal(error.kind, cases[i].kind);
        assert_int_equal(bench.server->count, cases[i].asked);
        bench_close(&bench);
    }
}

static void test_a_pattern_does_not_reach_this_machine(void **state) {
    (void)state;
    const struct upstream_settings settings = {.host = "*.localhost"};
    struct error error = {0};
    struct upstreams *upstreams = upstreams_new(client, &settings, 1, &error);
    assert_non_null(upstreams);
    struct upstream *upstream = upstreams_find(upstreams, text_of("x.localhost"));
    assert_non_null(upstream);
    const struct upstream_sink sink = {0};
    assert_false(upstream_perform(upstream, &blob, &sink, &error));
    assert_int_equal(error.kind, ERROR_DENIED);
    upstreams_free(upstreams);
}

/* ---- pages ---- */

static bool answer_tags(struct server *server, int fd, const char *head) {
    (void)server;
    if (server_has(head, "last=b"))
        return server_reply(fd, 200, "Link: <http://elsewhere.example/v2/>; rel=\"next\"\r\n",
                            "{}");
    return server_reply(fd, 200, "Link: </v2/org/app/tags/list?n=2&last=b>; rel=\"next\"\r\n",
                        "{}");
}

static void test_a_next_page_stays_at_its_origin(void **state) {
    (void)state;
    struct bench bench = {0};
    struct got got = {0};
    struct error error;
    char page[2048];
    bench_open(&bench, answer_tags, NULL);
    struct upstream_request request = {
        .what = UPSTREAM_TAGS, .repository = "org/app", .attempts = 1};
    assert_true(perform(&bench, &request, &got, &error));
    assert_string_equal(got.head.next, "/v2/org/app/tags/list?n=2&last=b");
    snprintf(page, sizeof page, "%s", got.head.next);
    request.page = page;
    assert_true(perform(&bench, &request, &got, &error));
    assert_true(server_asks(server_request(bench.server, "GET", 1), "GET /v2/org/app/tags/list"));
    assert_string_equal(got.head.next, "");
    request.page = "http://elsewhere/";
    assert_false(perform(&bench, &request, &got, &error));
    assert_int_equal(error.kind, ERROR_INVALID);
    bench_close(&bench);
}

/* ---- the queue ---- */

struct at_once {
    atomic_uint now, most;
};

static bool answer_after_a_while(struct server *server, int fd, const char *head) {
    struct at_once *at_once = server->context;
    unsigned now = atomic_fetch_add(&at_once->now, 1) + 1, most = atomic_load(&at_once->most);
    (void)head;
    while (now > most && !atomic_compare_exchange_weak(&at_once->most, &most, now))
        ;
    clock_sleep_ms(60);
    atomic_fetch_sub(&at_once->now, 1);
    return server_reply(fd, 200, "", "hello");
}

static void test_no_more_requests_at_once_than_allowed(void **state) {
    (void)state;
    struct at_once at_once = {0};
    struct bench bench = {.settings = {.max_connections = 2}};
    bench_open(&bench, answer_after_a_while, &at_once);
    run_threads(&bench, 8);
    assert_int_equal(bench.server->count, 8);
    assert_int_equal(atomic_load(&at_once.most), 2);
    bench_close(&bench);
}

static void test_no_place_in_time_is_busy(void **state) {
    (void)state;
    struct bench bench = {.settings = {.max_connections = 1, .stall_timeout_ms = 600}};
    struct got got = {0};
    struct error error;
    bench_open(&bench, answer_then_silence, NULL);
    pthread_t thread;
    pthread_create(&thread, NULL, perform_in_thread, &bench);
    while (server_count(bench.server, "GET") == 0)
        clock_sleep_ms(5);
    struct upstream_request request = manifest;
    request.deadline_ms = clock_ms() + 100;
    assert_false(perform(&bench, &request, &got, &error));
    assert_int_equal(error.kind, ERROR_BUSY);
    assert_int_equal(error.retry_after_s, 1);
    pthread_join(thread, NULL);
    bench_close(&bench);
}

struct in_line {
    struct queue *queue;
    enum queue_rank rank;
    _Atomic unsigned *order;
    unsigned came;
};

static void *stand_in_line(void *context) {
    struct in_line *in_line = context;
    struct error error;
    if (queue_enter(in_line->queue, in_line->rank, clock_ms() + 5000, &error)) {
        in_line->came = ++*in_line->order;
        queue_leave(in_line->queue);
    }
    return NULL;
}

static void test_manifests_come_before_blobs_and_background_last(void **state) {
    (void)state;
    struct queue queue;
    struct error error;
    _Atomic unsigned order = 0;
    queue_init(&queue, 1);
    struct in_line line[] = {{&queue, QUEUE_BACKGROUND, &order, 0},
                             {&queue, QUEUE_BLOBS, &order, 0},
                             {&queue, QUEUE_BLOBS, &order, 0},
                             {&queue, QUEUE_NAMES, &order, 0}};
    pthread_t threads[4];
    assert_true(queue_enter(&queue, QUEUE_NAMES, clock_ms(), &error));
    for (int i = 0; i < 4; i++) {
        pthread_create(&threads[i], NULL, stand_in_line, &line[i]);
        clock_sleep_ms(30);
    }
    queue_leave(&queue);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(line[3].came, 1);
    assert_int_equal(line[1].came, 2);
    assert_int_equal(line[2].came, 3);
    assert_int_equal(line[0].came, 4);
    queue_finish(&queue);
}

/* ---- fallbacks ---- */

static void test_a_password_is_not_shown_to_a_mirror(void **state) {
    (void)state;
    char path[] = "/tmp/tarn-test-XXXXXX", mirror[64];
    struct server *other = server_start(answer_basic, NULL);
    snprintf(mirror, sizeof mirror, "http://127.0.0.1:%u", other->port);
    const char *const fallbacks[] = {mirror, NULL};
    struct bench bench = {
        .settings = {.credentials = password_source(path), .fallbacks = fallbacks}};
    struct got got = {0};
    struct error error;
    bench_open(&bench, answer_basic, NULL);
    struct upstream_request request = manifest;
    request.location = 1;
    assert_false(perform(&bench, &request, &got, &error));
    assert_int_equal(error.kind, ERROR_DENIED);
    assert_non_null(strstr(error.text, mirror));
    assert_false(server_has(server_request(other, "GET", 0), "Authorization"));
    request.location = 2;
    assert_false(perform(&bench, &request, &got, &error));
    assert_int_equal(error.kind, ERROR_INVALID);
    bench_close(&bench);
    server_stop(other);
    unlink(path);
}

/* ---- names ---- */

static void test_names_find_their_upstream(void **state) {
    (void)state;
    static const char *const allowed[] = {"library/*", NULL};
    const struct upstream_settings settings[] = {
        {.host = "Index.Docker.io", .repositories = allowed},
        {.host = "us-docker.pkg.dev", .is_default = true},
        {.host = "*-docker.pkg.dev", .max_connections = 7},
        {.host = "*.pkg.dev"},
        {.host = "10.0.0.1:5000"},
        {.host = "registry"},
        {.host = "*.*.example"},
    };
    struct error error = {0};
    struct upstreams *upstreams = upstreams_new(client, settings, 7, &error);
    if (!upstreams)
        fail_msg("%s", error.text);
    static const struct {
        const char *name, *host;
    } cases[] = {
        {"docker.io", "docker.io"},
        {"REGISTRY-1.docker.io", "docker.io"},
        {"registry.hub.docker.com", "docker.io"},
        {"us-docker.pkg.dev", "us-docker.pkg.dev"},
        {"us-docker.pkg.dev:443", "us-docker.pkg.dev"},
        {"EU-docker.pkg.dev", "eu-docker.pkg.dev"},
        {"docker.us.rep.pkg.dev", NULL},
        {"pkg.dev", NULL},
        {"10.0.0.1:5000", "10.0.0.1:5000"},
        {"10.0.0.1", NULL},
        {"10.0.0.example", NULL},
        {"registry", "registry"},
        {"other", NULL},
        {"a.b.example", "a.b.example"},
        {"b.example", NULL},
        {"1.2.3.4", NULL},
        {"", NULL},
        {"a b.example", NULL},
        {"evil.com/x.pkg.dev", NULL},
        {"evil.com#.pkg.dev", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct upstream *upstream = upstreams_find(upstreams, text_of(cases[i].name));
        assert_int_equal(upstream != NULL, cases[i].host != NULL);
        if (upstream)
            assert_string_equal(upstream_host(upstream), cases[i].host);
    }
    struct upstream *matched = upstreams_find(upstreams, text_of("eu-docker.pkg.dev"));
    assert_int_equal(upstream_settings(matched)->max_connections, 7);
    assert_int_equal(upstream_settings(matched)->stall_timeout_ms, 10000);
    assert_ptr_equal(matched, upstreams_find(upstreams, text_of("eu-docker.pkg.dev")));
    struct upstream *hub = upstreams_find(upstreams, text_of("docker.io"));
    assert_true(upstream_is_docker_hub(hub));
    assert_true(upstream_allows(hub, "library/busybox"));
    assert_false(upstream_allows(hub, "org/app"));
    assert_string_equal(upstream_host(upstreams_default(upstreams)), "us-docker.pkg.dev");
    upstreams_free(upstreams);
}

static void test_impossible_settings_are_refused(void **state) {
    (void)state;
    static const char *const bad_fallback[] = {"ftp://x", NULL};
    static const struct upstream_settings cases[] = {
        {.host = "no host"},
        {.host = "*"},
        {.host = "**.example"},
        {.host = "*.example", .is_default = true},
        {.host = "x.example", .url = "ftp://x.example"},
        {.host = "x.example", .url = "http://user:pw@x.example"},
        {.host = "x.example", .url = "http://x.example/?q"},
        {.host = "x.example", .fallbacks = bad_fallback},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error error = {0};
        assert_null(upstreams_new(client, &cases[i], 1, &error));
        assert_int_equal(error.kind, ERROR_INVALID);
    }
    const struct upstream_settings twice[] = {{.host = "docker.io"}, {.host = "index.docker.io"}};
    assert_null(upstreams_new(client, twice, 2, NULL));
}

int main(void) {
    unsetenv("http_proxy");
    unsetenv("HTTP_PROXY");
    unsetenv("all_proxy");
    unsetenv("ALL_PROXY");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_manifest_comes_with_its_head),
        cmocka_unit_test(test_upstreams_404_is_not_found_with_its_code),
        cmocka_unit_test(test_statuses_become_kinds),
        cmocka_unit_test(test_after_a_429_upstream_is_left_alone),
        cmocka_unit_test(test_a_refused_connection_says_so),
        cmocka_unit_test(test_the_environments_proxy_is_used),
        cmocka_unit_test(test_what_may_pass_is_tried_again),
        cmocka_unit_test(test_nothing_is_tried_again_after_the_head),
        cmocka_unit_test(test_no_head_by_the_deadline_is_a_timeout),
        cmocka_unit_test(test_silence_in_mid_body_is_a_timeout),
        cmocka_unit_test(test_slow_is_not_silent),
        cmocka_unit_test(test_a_sink_that_refuses_ends_the_request_with_its_error),
        cmocka_unit_test(test_an_endless_head_is_refused),
        cmocka_unit_test(test_a_range_is_answered_with_that_range),
        cmocka_unit_test(test_a_lie_about_the_range_is_noticed),
        cmocka_unit_test(test_a_chunked_body_is_as_long_as_its_range),
        cmocka_unit_test(test_a_whole_body_may_answer_a_range),
        cmocka_unit_test(test_a_416_tells_the_size),
        cmocka_unit_test(test_a_token_is_fetched_once_and_used_again),
        cmocka_unit_test(test_a_refused_token_is_refreshed_once),
        cmocka_unit_test(test_a_token_is_given_up_before_it_ends),
        cmocka_unit_test(test_the_challenges_scope_is_the_one_asked_for),
        cmocka_unit_test(test_a_crowd_asks_for_one_token),
        cmocka_unit_test(test_credentials_go_to_the_token_service),
        cmocka_unit_test(test_an_identity_token_is_posted),
        cmocka_unit_test(test_basic_is_sent_once_it_was_asked_for),
        cmocka_unit_test(test_a_realm_elsewhere_is_not_asked),
        cmocka_unit_test(test_authorization_stays_at_its_origin),
        cmocka_unit_test(test_a_long_relative_redirect_is_followed),
        cmocka_unit_test(test_a_targets_url_is_kept_until_it_is_refused),
        cmocka_unit_test(test_redirects_end),
        cmocka_unit_test(test_a_pattern_does_not_reach_this_machine),
        cmocka_unit_test(test_a_next_page_stays_at_its_origin),
        cmocka_unit_test(test_no_more_requests_at_once_than_allowed),
        cmocka_unit_test(test_no_place_in_time_is_busy),
        cmocka_unit_test(test_manifests_come_before_blobs_and_background_last),
        cmocka_unit_test(test_a_password_is_not_shown_to_a_mirror),
        cmocka_unit_test(test_names_find_their_upstream),
        cmocka_unit_test(test_impossible_settings_are_refused),
    };
    client = client_new();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    client_free(client);
    return failed;
}
