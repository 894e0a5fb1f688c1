/* Blobs that are pushed to an upstream that fails in each phase. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "upstream/bench.h"
#include "upstream/name.h"
#include "upstream/push.h"

enum { BLOB_SIZE = 6000, MOST = 8192 };

/* A registry that takes pushes, and what it does wrong. */
struct fake {
    char bytes[MOST];
    size_t length;
    bool open, stored;
    unsigned sessions, patches;
    size_t taken; /* bytes of all bodies */
    const char *fault;
    unsigned skip; /* so many requests of the fault's kind go well first */
    bool faulty_once;
    atomic_bool stop; /* cancels the push */
};

static char blob[BLOB_SIZE];
static struct digest blob_digest;

/* Whether the named fault is to happen now. */
static bool is_faulty(struct fake *fake, const char *fault) {
    if (!fake->fault || strcmp(fake->fault, fault) != 0)
        return false;
    if (fake->skip > 0) {
        fake->skip--;
        return false;
    }
    if (fake->faulty_once)
        fake->fault = NULL;
    return true;
}

static bool reply(struct fake *fake, int fd, int status) {
    char head[300];
    size_t last = fake->length ? fake->length - 1 : 0;
    snprintf(head, sizeof head, "Location: /v2/org/app/blobs/uploads/%u\r\nRange: 0-%zu\r\n",
             fake->sessions, last);
    return server_reply(fd, status, head, "");
}

static size_t body_length(const char *head) {
    const char *field = strcasestr(head, "\r\nContent-Length:");
    return field ? strtoul(field + 17, NULL, 10) : 0;
}

static bool answer_patch(struct fake *fake, int fd, const char *head) {
    const char *body = strstr(head, "\r\n\r\n") + 4;
    size_t length = body_length(head);
    unsigned long first = fake->length;
    const char *range = strcasestr(head, "\r\nContent-Range:");
    fake->taken += length;
    if (range)
        first = strtoul(range + 16, NULL, 10);
    if (is_faulty(fake, "patch 404")) {
        fake->open = false;
        return server_reply(fd, 404, "", "");
    }
    if (is_faulty(fake, "patch 500"))
        return server_reply(fd, 500, "", "");
    if (is_faulty(fake, "patch 429"))
        return server_reply(fd, 429, "Retry-After: 600\r\n", "");
    if (!fake->open || first != fake->length)
        return server_reply(fd, fake->open ? 416 : 404, "", "");
    if ((fake->patches > 0 && is_faulty(fake, "one patch")) ||
        (range && is_faulty(fake, "no range")) || (!range && is_faulty(fake, "needs range")))
        return server_reply(fd, 400, "", "");
    bool cut = is_faulty(fake, "patch cut"), half = cut || is_faulty(fake, "patch half");
    size_t kept = half ? length / 2 : length;
    memcpy(fake->bytes + fake->length, body, kept);
    fake->length += kept;
    fake->patches++;
    if (cut)
        return false;
    return reply(fake, fd, 202);
}

static bool answer_put(struct fake *fake, int fd) {
    bool lost = is_faulty(fake, "put lost");
    if (is_faulty(fake, "put 400"))
        return server_reply(fd, 400, "",
                            "{\"errors\":[{\"code\":\"DIGEST_INVALID\",\"message\":\"no\"}]}");
    if (!fake->open)
        return server_reply(fd, 404, "", "");
    fake->stored = fake->length == BLOB_SIZE && memcmp(fake->bytes, blob, BLOB_SIZE) == 0;
    fake->open = false;
    return !lost && server_reply(fd, fake->stored ? 201 : 400, "", "");
}

/* The push is cancelled when the session has been begun, and before the response says so. Whoever
 * does not wait for that hangs up meanwhile. */
static bool cancel_begun(struct fake *fake, int fd) {
    struct pollfd hang_up = {.fd = fd, .events = POLLIN};
    atomic_store(&fake->stop, true);
    return poll(&hang_up, 1, 1000) == 0 && reply(fake, fd, 202);
}

static bool answer_by(struct fake *fake, int fd, const char *head) {
    if (strncmp(head, "POST", 4) == 0) {
        if (is_faulty(fake, "post cut"))
            return false;
        if (is_faulty(fake, "mount") && strstr(head, "mount="))
            return server_reply(fd, 201, "", "");
        fake->length = fake->patches = 0;
        fake->sessions++;
        fake->open = true;
        return is_faulty(fake, "post cancelled") ? cancel_begun(fake, fd) : reply(fake, fd, 202);
    }
    if (strncmp(head, "PATCH", 5) == 0)
        return answer_patch(fake, fd, head);
    if (strncmp(head, "PUT", 3) == 0)
        return answer_put(fake, fd);
    if (strncmp(head, "HEAD", 4) == 0)
        return server_printf(fd, "HTTP/1.1 %d Scripted\r\nContent-Length: %d\r\n\r\n",
                             fake->stored ? 200 : 404, fake->stored ? BLOB_SIZE : 0);
    if (strncmp(head, "DELETE", 6) == 0) {
        if (is_faulty(fake, "delete 503"))
            return server_reply(fd, 503, "", "");
        if (is_faulty(fake, "delete cut"))
            return false;
        fake->open = false;
        return server_reply(fd, 204, "", "");
    }
    if (is_faulty(fake, "get 404") || !fake->open)
        return server_reply(fd, 404, "", "");
    return reply(fake, fd, 204);
}

/* Each connection has a thread of its own. */
static bool answer_push(struct server *server, int fd, const char *head) {
    static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&turn);
    bool ok = answer_by(server->context, fd, head);
    pthread_mutex_unlock(&turn);
    return ok;
}

/* ---- a blob in memory ---- */

static ssize_t read_blob(void *context, uint64_t offset, void *out, size_t size,
                         struct error *error) {
    (void)context, (void)error;
    size_t left = BLOB_SIZE - (size_t)offset;
    size_t now = left < size ? left : size;
    memcpy(out, blob + offset, now);
    return (ssize_t)now;
}

static struct push_source source_to(uint64_t end) {
    return (struct push_source){
        .bytes = {.read = read_blob, .wake_fd = -1}, .end = end, .is_whole = end == BLOB_SIZE};
}

static struct repository repository_of(struct bench *bench) {
    struct repository repository = {.upstream = bench->upstream};
    assert_true(
        repository_name_parse(text_of("origin.example"), text_of("org/app"), &repository.name));
    return repository;
}

static void fill_blob(void) {
    for (size_t i = 0; i < BLOB_SIZE; i++)
        blob[i] = (char)('a' + i * i % 25);
    assert_true(digest_of(DIGEST_SHA256, blob, BLOB_SIZE, &blob_digest));
}

/* Pushes the blob in pieces that end at `ends`. */
static bool push_pieces(struct bench *bench, const uint64_t *ends, size_t count) {
    struct repository repository = repository_of(bench);
    const struct push_settings settings = {.patience_ms = 3000};
    struct push *push = push_new(&repository, &settings);
    bool mounted, ok = push_begin(push, NULL, &mounted, &bench->error);
    for (size_t i = 0; ok && i < count; i++) {
        struct push_source source = source_to(ends[i]);
        ok = push_write(push, &source, &bench->error) || push->wants_whole;
    }
    struct push_source whole = source_to(BLOB_SIZE);
    ok = ok && push_finish(push, &whole, &blob_digest, &bench->error);
    push_free(push);
    return ok;
}

static const uint64_t pieces[] = {1000, 3000};

static void test_a_blob_is_sent_once(void **state) {
    struct bench *bench = *state;
    struct fake fake = {0};
    fill_blob();
    bench_open(bench, answer_push, &fake);
    assert_true(push_pieces(bench, pieces, 2));
    assert_true(fake.stored);
    assert_int_equal(fake.taken, BLOB_SIZE);
    assert_int_equal(fake.sessions, 1);
    assert_false(server_has(server_request(bench->server, "PATCH", 0), "Content-Range"));
    assert_true(
        server_has(server_request(bench->server, "PATCH", 1), "Content-Range: 1000-2999\r"));
}

/* A source that ends before what it has handed out is its caller's mistake, and no endless work. */
static void test_a_source_that_becomes_shorter_is_refused(void **state) {
    struct bench *bench = *state;
    const uint64_t shorter[] = {BLOB_SIZE, 1000};
    struct fake fake = {0};
    fill_blob();
    bench_open(bench, answer_push, &fake);
    assert_false(push_pieces(bench, shorter, 2));
    assert_int_equal(bench->error.kind, ERROR_CORRUPT);
}

static void test_each_fault_is_mended(void **state) {
    static const struct {
        const char *fault;
        unsigned skip;
    } faults[] = {
        {"post cut", 0},    {"patch 404", 0},  {"patch 404", 1}, {"patch 500", 0},
        {"patch 500", 2},   {"patch cut", 0},  {"patch cut", 1}, {"patch cut", 2},
        {"patch half", 0},  {"patch half", 2}, {"put lost", 0},  {"no range", 0},
        {"needs range", 0}, {"one patch", 0},
    };
    struct bench *bench = *state;
    fill_blob();
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        struct fake fake = {.fault = faults[i].fault, .skip = faults[i].skip, .faulty_once = true};
        bench_open(bench, answer_push, &fake);
        if (!push_pieces(bench, pieces, 2))
            fail_msg("%s, after %u: %s", faults[i].fault, faults[i].skip, bench->error.text);
        if (!fake.stored || fake.taken > 2 * BLOB_SIZE)
            fail_msg("%s, after %u: %zu bytes were sent", faults[i].fault, faults[i].skip,
                     fake.taken);
        bench_close(bench);
    }
}

static void test_one_patch_is_learnt(void **state) {
    struct bench *bench = *state;
    struct fake fake = {.fault = "one patch"};
    fill_blob();
    bench_open(bench, answer_push, &fake);
    struct repository repository = repository_of(bench);
    assert_false(push_takes_one_patch(&repository));
    assert_true(push_pieces(bench, pieces, 2));
    assert_true(push_takes_one_patch(&repository));
    fake.stored = false;
    fake.taken = 0;
    assert_true(push_pieces(bench, pieces, 2));
    assert_true(fake.stored);
    assert_int_equal(fake.taken, BLOB_SIZE);
}

static void test_a_lasting_fault_ends_with_the_patience(void **state) {
    struct bench *bench = *state;
    struct fake fake = {.fault = "patch 429"};
    fill_blob();
    bench_open(bench, answer_push, &fake);
    assert_false(push_pieces(bench, pieces, 2));
    assert_int_equal(bench->error.kind, ERROR_RATE_LIMITED);
    assert_non_null(strstr(bench->error.text, "upstream origin.example"));
    fake.fault = "patch 500";
    assert_false(push_pieces(bench, pieces, 2));
    assert_int_equal(bench->error.kind, ERROR_UNAVAILABLE);
    assert_int_equal(bench->error.status, 500);
}

static void test_a_refused_digest_is_final(void **state) {
    struct bench *bench = *state;
    struct fake fake = {.fault = "put 400"};
    fill_blob();
    bench_open(bench, answer_push, &fake);
    assert_false(push_pieces(bench, pieces, 2));
    assert_int_equal(bench->error.status, 400);
    assert_string_equal(bench->error.code, "DIGEST_INVALID");
    assert_int_equal(server_count(bench->server, "PUT"), 1);
}

static void test_a_refused_mount_is_a_session(void **state) {
    struct bench *bench = *state;
    struct fake fake = {.fault = "mount", .faulty_once = true};
    fill_blob();
    bench_open(bench, answer_push, &fake);
    struct repository repository = repository_of(bench);
    const struct push_settings settings = {0};
    const struct push_mount mount = {.digest = &blob_digest, .from = "org/base"};
    struct push *push = push_new(&repository, &settings);
    bool mounted;
    assert_true(push_begin(push, &mount, &mounted, &bench->error));
    assert_true(mounted);
    assert_true(push_begin(push, &mount, &mounted, &bench->error));
    assert_false(mounted);
    assert_non_null(push->url);
    assert_non_null(strstr(server_request(bench->server, "POST", 1), "&from=org/base"));
    push_cancel(push);
    assert_false(fake.open);
    push_free(push);
}

static void test_a_cancelled_session_is_deleted(void **state) {
    static const char *const faults[] = {"post cancelled", "delete 503", "delete cut"};
    struct bench *bench = *state;
    fill_blob();
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        struct fake fake = {.fault = faults[i], .faulty_once = true};
        bench_open(bench, answer_push, &fake);
        struct repository repository = repository_of(bench);
        const struct cancel cancel = {.stop = &fake.stop};
        const struct push_settings settings = {.cancel = &cancel};
        const struct push_source whole = source_to(BLOB_SIZE);
        struct push *push = push_new(&repository, &settings);
        bool mounted;
        if (!push_begin(push, NULL, &mounted, &bench->error))
            fail_msg("%s: %s", faults[i], bench->error.text);
        atomic_store(&fake.stop, true);
        assert_false(push_write(push, &whole, &bench->error));
        assert_int_equal(bench->error.kind, ERROR_CLOSED);
        push_cancel(push);
        if (fake.open || fake.sessions != 1 || fake.taken)
            fail_msg("%s: a session is left, or a byte was sent", faults[i]);
        push_free(push);
        bench_close(bench);
    }
}

/* ---- tokens ---- */

struct tokens {
    struct fake fake;
    char challenge[256];
};

static bool answer_with_tokens(struct server *server, int fd, const char *head) {
    struct tokens *tokens = server->context;
    if (server_asks(head, "GET /token"))
        return server_reply(fd, 200, "",
                            strstr(head, "push")     ? "{\"token\":\"writer\"}"
                            : strstr(head, "delete") ? "{\"token\":\"deleter\"}"
                                                     : "{\"token\":\"reader\"}");
    bool is_read = strncmp(head, "GET /v2/org/app/manifests", 25) == 0;
    const char *wanted = is_read ? "Bearer reader\r"
                         : strncmp(head, "DELETE /v2/org/app/manifests", 28) == 0
                             ? "Bearer deleter\r"
                             : "Bearer writer\r";
    if (!server_has(head, wanted)) {
        char challenge[512];
        snprintf(challenge, sizeof challenge,
                 "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:%u/token\",service=\"s\"\r\n",
                 server->port);
        return server_reply(fd, 401, challenge, "");
    }
    if (is_read)
        return answer_hello(server, fd, head);
    if (strncmp(head, "PUT /v2/org/app/manifests", 25) == 0)
        return server_reply(fd, 201, "OCI-Subject: " DIGEST "\r\n", "");
    if (strncmp(head, "DELETE /v2/org/app/manifests", 28) == 0)
        return server_reply(fd, 202, "", "");
    server->context = &tokens->fake;
    bool goes_on = answer_push(server, fd, head);
    server->context = tokens;
    return goes_on;
}

static void test_each_kind_of_token_is_its_own(void **state) {
    struct bench *bench = *state;
    struct tokens tokens = {.challenge = ""};
    fill_blob();
    bench_open(bench, answer_with_tokens, &tokens);
    struct repository repository = repository_of(bench);
    const struct push_settings settings = {0};
    assert_true(bench_ask(bench, &bench_manifest));
    if (!push_pieces(bench, pieces, 2))
        fail_msg("%s", bench->error.text);
    const struct push_manifest manifest = {"1.2", "application/json", "{}", 2};
    struct push_stored stored;
    assert_true(push_manifest(&repository, &settings, &manifest, &stored, &bench->error));
    assert_string_equal(stored.subject, DIGEST);
    assert_true(push_delete(&repository, &settings, UPSTREAM_MANIFEST, "1.2", &bench->error));
    assert_true(bench_ask(bench, &bench_manifest));
    assert_int_equal(server_count(bench->server, "GET /token"), 3);
    assert_non_null(strstr(server_request(bench->server, "GET /token", 1),
                           "scope=repository:org/app:pull%2Cpush"));
    const struct push_mount mount = {.digest = &blob_digest, .from = "org/base"};
    struct push *push = push_new(&repository, &settings);
    bool mounted;
    assert_true(push_begin(push, &mount, &mounted, &bench->error));
    push_free(push);
    assert_non_null(strstr(server_request(bench->server, "GET /token", 3),
                           "scope=repository:org/app:pull%2Cpush&scope=repository:org/base:pull"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_BENCH(test_a_blob_is_sent_once),
        WITH_BENCH(test_a_source_that_becomes_shorter_is_refused),
        WITH_BENCH(test_each_fault_is_mended),
        WITH_BENCH(test_one_patch_is_learnt),
        WITH_BENCH(test_a_lasting_fault_ends_with_the_patience),
        WITH_BENCH(test_a_refused_digest_is_final),
        WITH_BENCH(test_a_refused_mount_is_a_session),
        WITH_BENCH(test_a_cancelled_session_is_deleted),
        WITH_BENCH(test_each_kind_of_token_is_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
