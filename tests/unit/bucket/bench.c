/* The bucket that the tests of bucket/ ask. */
#include "bucket/bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/log.h"

static bool answer(struct server *server, int fd, const char *head) {
    struct bench *bench = server->context;
    pthread_mutex_lock(&server->requests_lock);
    struct reply reply = bench->replies[bench->next];
    if (bench->next + 1 < bench->count)
        bench->next++;
    pthread_mutex_unlock(&server->requests_lock);
    if (reply.before)
        reply.before();
    if (reply.silent) {
        sem_wait(&bench->ended);
        return false;
    }
    if (reply.raw) {
        server_send(fd, reply.body, strlen(reply.body));
        return false;
    }
    if (strncmp(head, "HEAD ", 5) == 0)
        return server_printf(fd, "HTTP/1.1 %d Scripted\r\n%s\r\n", reply.status,
                             reply.headers ? reply.headers : "");
    return server_reply(fd, reply.status, reply.headers ? reply.headers : "",
                        reply.body ? reply.body : "");
}

int bench_setup(void **state) {
    static const char *const unset[] = {"http_proxy",        "HTTP_PROXY", "all_proxy",
                                        "ALL_PROXY",         "AWS_REGION", "NO_PROXY",
                                        "AWS_DEFAULT_REGION"};
    for (size_t i = 0; i < sizeof unset / sizeof *unset; i++)
        unsetenv(unset[i]);
    log_configure(LOG_ERROR, LOG_TEXT); /* most tests provoke warnings */
    struct bench *bench = calloc(1, sizeof *bench);
    assert_non_null(bench);
    bench->client = client_new();
    assert_non_null(bench->client);
    sem_init(&bench->ended, 0, 0);
    bench->server = server_start(answer, bench);
    snprintf(bench->endpoint, sizeof bench->endpoint, "http://127.0.0.1:%u", bench->server->port);
    snprintf(bench->secret_file, sizeof bench->secret_file, "/tmp/bucket-secret-XXXXXX");
    int fd = mkstemp(bench->secret_file);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "very-secret\n", 12), 12);
    close(fd);
    bench->settings = bucket_settings_default();
    assert_true(bucket_address_parse("s3://cache/tarn", &bench->settings.address, NULL));
    bench->settings.endpoint = bench->endpoint;
    bench->settings.credentials = BUCKET_CREDENTIALS_KEY;
    bench->settings.key_id = "AKIAEXAMPLE";
    bench->settings.secret_file = bench->secret_file;
    *state = bench;
    return 0;
}

int bench_teardown(void **state) {
    struct bench *bench = *state;
    bucket_free(bench->bucket);
    client_free(bench->client);
    for (int i = 0; i < REPLIES; i++)
        sem_post(&bench->ended);
    server_stop(bench->server);
    sem_destroy(&bench->ended);
    unlink(bench->secret_file);
    free(bench);
    return 0;
}

void bench_open(struct bench *bench) {
    const char *key;
    assert_true(bucket_settings_check(&bench->settings, &key, NULL));
    bench->bucket = bucket_new(&bench->settings, bench->client);
    assert_non_null(bench->bucket);
}

void bench_line_up(struct bench *bench, int status, const char *headers, const char *body) {
    assert_true(bench->count < REPLIES);
    bench->replies[bench->count++] =
        (struct reply){.status = status, .headers = headers, .body = body};
}

void bench_line_up_silence(struct bench *bench) {
    assert_true(bench->count < REPLIES);
    bench->replies[bench->count++] = (struct reply){.silent = true};
}

void bench_line_up_raw(struct bench *bench, const char *bytes) {
    assert_true(bench->count < REPLIES);
    bench->replies[bench->count++] = (struct reply){.body = bytes, .raw = true};
}

static bool on_head(void *context, const struct bucket_head *head, struct error *error) {
    struct bench *bench = context;
    (void)error;
    bench->head = *head;
    bench->heads++;
    return true;
}

static bool on_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    struct bench *bench = context;
    if (length >= sizeof bench->body - bench->length)
        return error_set(error, ERROR_NO_SPACE, "full");
    memcpy(bench->body + bench->length, bytes, length);
    bench->length += length;
    bench->body[bench->length] = '\0';
    return true;
}

bool bench_get(struct bench *bench, const struct bucket_range *range,
               const struct bucket_limits *limits) {
    const struct bucket_sink sink = {bench, on_head, on_bytes, NULL};
    bench->length = 0;
    bench->body[0] = '\0';
    bench->heads = 0;
    return bucket_get(bench->bucket, "blobs/x", range, &sink, limits, &bench->answer,
                      &bench->error);
}

const char *bench_request(struct bench *bench, unsigned nth) {
    return server_request(bench->server, "", nth);
}

unsigned bench_requests(struct bench *bench) {
    return server_count(bench->server, "");
}
