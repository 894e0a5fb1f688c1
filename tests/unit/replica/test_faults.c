/* Memory that runs out at each allocation in turn: a question to a replica then fails truthfully,
 * no member is taken for down, and the next question works. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/log.h"
#include "memory_faults.h"
#include "replica/asker.h"
#include "replica/replicas.h"
#include "server_process.h"

#define SECRET "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

enum { LIVEZ }; /* the count of questions to /livez */

struct bench {
    struct server_process server; /* the member */
    struct client *client;
    struct members *members;
    struct replica_asker *asker;
    struct member member;
    struct secrets *secrets;
    char file[40]; /* of the secrets */
};

/* ---- the member ---- */

static bool answer(struct server *server, int fd, const char *head) {
    atomic_uint *counts = server->context;
    if (server_asks(head, "GET /livez")) {
        atomic_fetch_add(&counts[LIVEZ], 1);
        pause(); /* and does not answer */
    }
    if (server_asks(head, "GET /v2/silent"))
        pause();
    if (server_asks(head, "GET /v2/refused"))
        return server_reply(fd, 404, "Tarn-Answer: upstream\r\nContent-Type: application/json\r\n",
                            "{\"errors\":[{\"code\":\"BLOB_UNKNOWN\",\"message\":\"gone\"}]}");
    return server_reply(fd, 200, "Tarn-Answer: held\r\nAge: 1\r\nCache-Control: max-age=5\r\n",
                        "content");
}

static unsigned livez(const struct bench *bench) {
    return atomic_load(&bench->server.counts[LIVEZ]);
}

/* ---- the bench ---- */

static bool sign(void *context, const struct signed_request *request,
                 char input[static SIGNATURE_INPUT_SIZE], char signature[static SIGNATURE_SIZE]) {
    const struct bench *bench = context;
    return signature_make(bench->secrets, request, clock_wall_s(), input, signature);
}

static int set_up(void **state) {
    struct bench *bench = calloc(1, sizeof *bench);
    struct member_list list = {0};
    struct members_change change;
    assert_non_null(bench);
    log_configure(LOG_ERROR, LOG_TEXT);
    server_process_start(&bench->server, answer);
    snprintf(bench->member.text, sizeof bench->member.text, "127.0.0.1:%u", bench->server.port);
    bench->client = client_new();
    bench->members = members_new(clock_ms());
    bench->secrets = secrets_parse(text_of(SECRET), NULL);
    assert_true(bench->client && bench->members && bench->secrets);
    member_list_add(&list, &bench->member);
    members_set(bench->members, &list, NULL, clock_ms(), &change);
    const struct replica_asker_settings settings = {
        .client = bench->client, .members = bench->members, .sign = sign, .context = bench};
    bench->asker = replica_asker_new(&settings, NULL);
    assert_non_null(bench->asker);
    snprintf(bench->file, sizeof bench->file, "/tmp/tarn-replicas-XXXXXX");
    int fd = mkstemp(bench->file);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, SECRET, strlen(SECRET)), strlen(SECRET));
    close(fd);
    *state = bench;
    return 0;
}

static int tear_down(void **state) {
    struct bench *bench = *state;
    replica_asker_free(bench->asker);
    members_free(bench->members);
    client_free(bench->client);
    secrets_free(bench->secrets);
    unlink(bench->file);
    server_process_stop(&bench->server);
    free(bench);
    return 0;
}

static bool is_down(const struct bench *bench) {
    struct members_owner owner;
    members_owner(bench->members, "key", 0, clock_ms(), &owner);
    return owner.is_nobody;
}

/* ---- questions ---- */

static enum replica_outcome ask(struct bench *bench, const char *path, bool head_only,
                                struct error *error) {
    cleanup_buffer struct buffer body = {.limit = 1000};
    struct replica_head head;
    const struct replica_request request = {
        .member = &bench->member,
        .ask = REPLICA_ASK_FETCH,
        .head_only = head_only,
        .path = path,
        .deadline_ms = clock_ms() + 60000,
    };
    enum replica_outcome outcome = replica_asker_read(bench->asker, &request, &body, &head, error);
    if (outcome == REPLICA_GAVE && !head_only) {
        assert_int_equal(body.length, 7);
        assert_memory_equal(body.bytes, "content", 7);
    }
    return outcome;
}

static enum replica_outcome ask_for_content(struct bench *bench, struct error *error) {
    return ask(bench, "/v2/content", false, error);
}

static enum replica_outcome ask_for_refusal(struct bench *bench, struct error *error) {
    enum replica_outcome outcome = ask(bench, "/v2/refused", false, error);
    if (outcome == REPLICA_FINAL)
        assert_int_equal(error->kind, ERROR_NOT_FOUND); /* whether or not its words could be read */
    return outcome == REPLICA_FINAL ? REPLICA_GAVE : outcome;
}

static enum replica_outcome have_forgotten(struct bench *bench, struct error *error) {
    bool had_any;
    const bool ok =
        replica_asker_forget(bench->asker, &bench->member, "fake.test/app", NULL, &had_any, error);
    return ok ? REPLICA_GAVE : REPLICA_STOPPED;
}

/* Lets each allocation of a question fail in turn. */
static void try_all(struct bench *bench,
                    enum replica_outcome (*call)(struct bench *, struct error *)) {
    struct error error = {0};
    assert_int_equal(call(bench, &error), REPLICA_GAVE); /* there is a connection */
    for (long at = 0;; at++) {
        assert_true(at < 2000);
        error_clear(&error);
        memory_faults_set(at);
        enum replica_outcome outcome = call(bench, &error);
        const bool failed = memory_faults_failed();
        memory_faults_set(-1);
        assert_false(is_down(bench));
        if (!failed) {
            assert_int_equal(outcome, REPLICA_GAVE);
            return;
        }
        if (outcome == REPLICA_GAVE) /* what could be done without */
            continue;
        if (error.kind != ERROR_MEMORY)
            fail_msg("allocation %ld: %s", at, error.text);
        assert_int_equal(outcome, REPLICA_STOPPED);
        error_clear(&error);
        assert_int_equal(call(bench, &error), REPLICA_GAVE);
    }
}

static void test_a_question_survives(void **state) {
    try_all(*state, ask_for_content);
}

static void test_a_question_that_upstream_refuses_survives(void **state) {
    try_all(*state, ask_for_refusal);
}

static void test_the_order_to_forget_survives(void **state) {
    try_all(*state, have_forgotten);
}

/* ---- silence ---- */

static bool is_wanted(void *context) {
    const struct bench *bench = context;
    return livez(bench) == 0;
}

static void test_a_member_is_not_down_because_nobody_waits_for_its_sign_of_life(void **state) {
    struct bench *bench = *state;
    struct error error = {0};
    const struct cancel cancel = {.is_wanted = is_wanted, .context = bench};
    const struct replica_request request = {.member = &bench->member,
                                            .ask = REPLICA_ASK_FETCH,
                                            .path = "/v2/silent",
                                            .deadline_ms = clock_ms() + 60000,
                                            .cancel = &cancel};
    struct buffer body = {.limit = 1000};
    assert_int_equal(replica_asker_read(bench->asker, &request, &body, NULL, &error),
                     REPLICA_STOPPED);
    assert_int_equal(error.kind, ERROR_CLOSED);
    assert_false(is_down(bench));
    buffer_finish(&body);
}

/* When the member is silent, memory runs out. */
static bool runs_out(void *context, struct error *error) {
    (void)context, (void)error;
    memory_faults_from(0);
    return true;
}

static bool take_all(void *context, const void *bytes, size_t length, struct error *error) {
    (void)context, (void)bytes, (void)length, (void)error;
    return true;
}

static void test_a_member_is_not_down_because_it_cannot_be_asked_for_a_sign_of_life(void **state) {
    struct bench *bench = *state;
    struct error error = {0};
    const struct replica_request request = {.member = &bench->member,
                                            .ask = REPLICA_ASK_FETCH,
                                            .path = "/v2/silent",
                                            .deadline_ms = clock_ms() + 3000};
    const struct replica_sink sink = {.on_bytes = take_all, .on_idle = runs_out};
    enum replica_outcome outcome = replica_asker_ask(bench->asker, &request, &sink, NULL, &error);
    memory_faults_set(-1);
    assert_int_equal(outcome, REPLICA_CUT); /* the time is over */
    assert_int_equal(livez(bench), 0);
    assert_false(is_down(bench));
}

/* ---- what lasts ---- */

/* Lets each allocation of `make` fail in turn: it gives the whole or NULL. */
static void try_to_make(struct bench *bench, void *(*make)(struct bench *, struct error *)) {
    for (long at = 0;; at++) {
        struct error error = {0};
        assert_true(at < 2000);
        memory_faults_set(at);
        void *made = make(bench, &error);
        const bool failed = memory_faults_failed();
        memory_faults_set(-1);
        if (!failed) {
            assert_non_null(made);
            return;
        }
        if (made) /* a metric could be done without */
            continue;
        if (error.kind != ERROR_MEMORY)
            fail_msg("allocation %ld: %s", at, error.text);
    }
}

static void *make_asker(struct bench *bench, struct error *error) {
    const struct replica_asker_settings settings = {.client = bench->client,
                                                    .members = bench->members,
                                                    .sign = sign,
                                                    .is_tls = true,
                                                    .ca_file = bench->file};
    struct replica_asker *asker = replica_asker_new(&settings, error);
    replica_asker_free(asker);
    return asker ? bench : NULL;
}

static void *make_replicas(struct bench *bench, struct error *error) {
    static const char *const peers[] = {"10.9.8.1:5000", "10.9.8.2:5000", NULL};
    const struct replicas_settings settings = {
        .peers = peers, .secret_file = bench->file, .port = 5000};
    struct replicas *replicas = replicas_new(&settings, error);
    const bool ok = replicas && replicas_start(replicas, error);
    assert_true(replicas_free(replicas));
    return ok ? bench : NULL;
}

static void test_what_asks_is_made_whole_or_not_at_all(void **state) {
    try_to_make(*state, make_asker);
}

static void test_replicas_are_made_whole_or_not_at_all(void **state) {
    try_to_make(*state, make_replicas);
}

static void write_secrets(const struct bench *bench, const char *text) {
    FILE *out = fopen(bench->file, "w");
    assert_non_null(out);
    assert_true(fputs(text, out) >= 0);
    assert_int_equal(fclose(out), 0);
}

static bool accepts(struct replicas *replicas, const char *secret) {
    static const struct signed_request request = {
        .method = {"GET", 3}, .path = {"/v2/", 4}, .ask = {"fetch", 5}};
    char input[SIGNATURE_INPUT_SIZE], signature[SIGNATURE_SIZE];
    struct secrets *own = secrets_parse(text_of(secret), NULL);
    assert_non_null(own);
    assert_true(signature_make(own, &request, clock_wall_s(), input, signature));
    secrets_free(own);
    return replicas_verify(replicas, &request, text_of(input), text_of(signature));
}

static void test_secrets_that_cannot_be_read_again_stay_in_use(void **state) {
    struct bench *bench = *state;
    static const char *const peers[] = {"10.9.8.1:5000", NULL};
    static const char other[] = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    const struct replicas_settings settings = {
        .peers = peers, .secret_file = bench->file, .port = 5000};
    struct replicas *replicas = replicas_new(&settings, NULL);
    assert_non_null(replicas);
    assert_true(replicas_start(replicas, NULL));
    write_secrets(bench, other);
    memory_faults_from(0);
    while (!memory_faults_failed()) /* it looks every second */
        clock_sleep_ms(1);
    memory_faults_set(-1);
    assert_true(accepts(replicas, SECRET) || accepts(replicas, other));
    while (!accepts(replicas, other)) /* the next look takes them */
        clock_sleep_ms(1);
    assert_false(accepts(replicas, SECRET));
    assert_true(replicas_free(replicas));
}

#define WITH_BENCH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_BENCH(test_a_question_survives),
        WITH_BENCH(test_a_question_that_upstream_refuses_survives),
        WITH_BENCH(test_the_order_to_forget_survives),
        WITH_BENCH(test_a_member_is_not_down_because_nobody_waits_for_its_sign_of_life),
        WITH_BENCH(test_a_member_is_not_down_because_it_cannot_be_asked_for_a_sign_of_life),
        WITH_BENCH(test_what_asks_is_made_whole_or_not_at_all),
        WITH_BENCH(test_replicas_are_made_whole_or_not_at_all),
        WITH_BENCH(test_secrets_that_cannot_be_read_again_stay_in_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
