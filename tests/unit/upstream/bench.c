/* The upstream that the tests of upstream/ ask. */
#include "upstream/bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const struct upstream_request bench_blob = {
    .what = UPSTREAM_BLOB, .repository = "org/app", .reference = DIGEST, .attempts = 1};
const struct upstream_request bench_manifest = {
    .what = UPSTREAM_MANIFEST, .repository = "org/app", .reference = "1.2", .attempts = 1};

int bench_setup(void **state) {
    static const char *const proxies[] = {"http_proxy", "HTTP_PROXY", "all_proxy",
                                          "ALL_PROXY",  "NO_PROXY",   "no_proxy"};
    for (size_t i = 0; i < sizeof proxies / sizeof *proxies; i++)
        unsetenv(proxies[i]);
    struct bench *bench = calloc(1, sizeof *bench);
    assert_non_null(bench);
    bench->client = client_new();
    assert_non_null(bench->client);
    bench->settings = upstream_settings_default();
    *state = bench;
    return 0;
}

bool bench_make(struct bench *bench, const struct upstream_settings *settings, size_t count) {
    bench->current = current_upstreams_new(bench->client, settings, count, &bench->error);
    bench->upstreams = bench->current ? current_upstreams_hold(bench->current) : NULL;
    return bench->current != NULL;
}

static void drop_upstreams(struct bench *bench) {
    upstreams_release(bench->upstreams);
    current_upstreams_free(bench->current);
    bench->upstreams = NULL;
    bench->current = NULL;
}

void bench_open(struct bench *bench, server_answer *answer, void *context) {
    bench->server = server_start(answer, context);
    snprintf(bench->url, sizeof bench->url, "http://127.0.0.1:%u", bench->server->port);
    bench->settings.host = "origin.example";
    if (!bench->settings.url)
        bench->settings.url = bench->url;
    if (!bench_make(bench, &bench->settings, 1))
        fail_msg("%s", bench->error.text);
    char host[HOST_LIMIT + 1];
    bench->upstream = upstreams_find(bench->upstreams, text_of("origin.example"), host);
    assert_non_null(bench->upstream);
}

void bench_close(struct bench *bench) {
    drop_upstreams(bench);
    if (bench->server)
        server_stop(bench->server);
    bench->server = NULL;
    credential_source_free(bench->settings.credentials);
    bench->settings = upstream_settings_default();
    if (bench->password_file[0])
        unlink(bench->password_file);
    bench->password_file[0] = '\0';
}

int bench_teardown(void **state) {
    struct bench *bench = *state;
    bench_close(bench);
    if (bench->other)
        server_stop(bench->other);
    client_free(bench->client);
    free(bench);
    return 0;
}

struct server *bench_start_other(struct bench *bench, server_answer *answer, void *context) {
    assert_null(bench->other);
    bench->other = server_start(answer, context);
    return bench->other;
}

const char *bench_write_file(struct bench *bench, const char *content) {
    strcpy(bench->password_file, "/tmp/tarn-test-XXXXXX");
    int fd = mkstemp(bench->password_file);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, content, strlen(content)), strlen(content));
    close(fd);
    return bench->password_file;
}

struct credential_source *bench_password(struct bench *bench) {
    return credential_source_static("user", bench_write_file(bench, "secret\n"));
}

/* ---- asking ---- */

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

static bool ask(struct bench *bench, const struct upstream_request *request, struct got *got,
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

bool bench_ask(struct bench *bench, const struct upstream_request *request) {
    return ask(bench, request, &bench->got, &bench->error);
}

static void *ask_in_thread(void *context) {
    struct bench *bench = context;
    struct got *got = calloc(1, sizeof *got);
    struct error error;
    bool ok = ask(bench, &bench_blob, got, &error);
    free(got);
    return ok ? context : NULL;
}

void bench_ask_at_once(struct bench *bench, unsigned count) {
    pthread_t threads[16];
    void *results[16];
    assert_true(count <= 16);
    for (unsigned i = 0; i < count; i++)
        pthread_create(&threads[i], NULL, ask_in_thread, bench);
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i], &results[i]);
    for (unsigned i = 0; i < count; i++)
        assert_non_null(results[i]);
}

bool answer_hello(struct server *server, int fd, const char *head) {
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
