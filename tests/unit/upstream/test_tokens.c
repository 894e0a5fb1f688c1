/* Challenges, tokens and credentials. */
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
#include "upstream/bench.h"

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
    struct bench *bench = *state;
    struct tokens tokens = {0};
    bench_open(bench, answer_bearer, &tokens);
    assert_true(bench_ask(bench, &bench_manifest));
    assert_int_equal(bench->server->count, 3); /* challenge, token, manifest */
    const char *asked = server_request(bench->server, "GET /token", 0);
    assert_true(server_asks(asked, "GET /token"));
    assert_true(server_has(asked, "service=svc%201&scope=repository:org/app:pull "));
    assert_false(server_has(asked, "Authorization"));
    for (int i = 0; i < 3; i++)
        assert_true(bench_ask(bench, &bench_blob));
    assert_int_equal(tokens.issued, 1);
    assert_int_equal(bench->server->count, 6);

    /* The challenge is remembered: another repository fetches its token without provoking a 401. */
    struct upstream_request other = bench_manifest;
    other.repository = "org/other";
    assert_true(bench_ask(bench, &other));
    assert_int_equal(bench->server->count, 8);
    assert_true(server_has(server_request(bench->server, "GET /token", 1),
                           "scope=repository:org/other:pull "));
}

static void test_a_refused_token_is_refreshed_once(void **state) {
    struct bench *bench = *state;
    struct tokens tokens = {0};
    bench_open(bench, answer_bearer, &tokens);
    assert_true(bench_ask(bench, &bench_manifest));
    tokens.valid_from = 2; /* token-1 is revoked */
    assert_true(bench_ask(bench, &bench_manifest));
    assert_int_equal(tokens.issued, 2);
    tokens.valid_from = 100; /* nothing helps */
    assert_false(bench_ask(bench, &bench_manifest));
    assert_int_equal(bench->error.kind, ERROR_DENIED);
    assert_int_equal(tokens.issued, 3);
    assert_string_equal(bench->error.code, "UNAUTHORIZED");
    assert_non_null(strstr(bench->error.text, "set credentials for origin.example"));
}

static void test_a_token_is_given_up_before_it_ends(void **state) {
    struct bench *bench = *state;
    struct tokens tokens = {.reply = ",\"expires_in\":2"};
    bench_open(bench, answer_bearer, &tokens);
    assert_true(bench_ask(bench, &bench_manifest));
    assert_true(bench_ask(bench, &bench_manifest));
    assert_int_equal(tokens.issued, 1);
    clock_sleep_ms(1850);
    assert_true(bench_ask(bench, &bench_manifest));
    assert_int_equal(tokens.issued, 2);
    assert_int_equal(server_count(bench->server, "GET /v2/"), 4); /* and no second 401 */
}

static void test_the_challenges_scope_is_the_one_asked_for(void **state) {
    struct bench *bench = *state;
    struct tokens tokens = {.scope = "repository:remote/app:pull"};
    bench_open(bench, answer_bearer, &tokens);
    assert_true(bench_ask(bench, &bench_manifest));
    assert_true(server_has(server_request(bench->server, "GET /token", 0),
                           "scope=repository:remote/app:pull "));
    /* A repository whose scope is not the usual one: its 401 says which. */
    tokens.scope = "repository:remote/other:pull";
    tokens.valid_from = 3;
    struct upstream_request other = bench_manifest;
    other.repository = "org/other";
    assert_true(bench_ask(bench, &other));
    assert_true(server_has(server_request(bench->server, "GET /token", 2),
                           "scope=repository:remote/other:pull "));
}

static void test_a_crowd_asks_for_one_token(void **state) {
    struct bench *bench = *state;
    struct tokens tokens = {0};
    bench_open(bench, answer_bearer, &tokens);
    bench_ask_at_once(bench, 16);
    assert_int_equal(tokens.issued, 1);
    tokens.valid_from = 2;
    bench_ask_at_once(bench, 16);
    assert_int_equal(tokens.issued, 2);
}

static void test_credentials_go_to_the_token_service(void **state) {
    struct bench *bench = *state;
    struct tokens tokens = {.needs = "Authorization: Basic dXNlcjpzZWNyZXQ="};
    bench->settings.credentials = bench_password(bench);
    bench_open(bench, answer_bearer, &tokens);
    assert_true(bench_ask(bench, &bench_manifest));
    assert_false(server_has(server_request(bench->server, "GET /v2", 0), "Authorization"));

    tokens.token_status = 403;
    struct upstream_request other = bench_manifest;
    other.repository = "org/secret";
    assert_false(bench_ask(bench, &other));
    assert_int_equal(bench->error.kind, ERROR_DENIED);
    assert_string_equal(bench->error.code, "DENIED");
    assert_non_null(strstr(bench->error.text, "/token: 403 Forbidden"));
    assert_non_null(strstr(bench->error.text, "not for you"));
    assert_non_null(strstr(bench->error.text, "(credentials: user user)"));
    assert_null(strstr(bench->error.text, "/tmp/")); /* it goes to clients */
    assert_null(strstr(bench->error.text, "secret\n"));

    unlink(bench->password_file); /* the source is broken now: never silently anonymous */
    struct credential credential;
    assert_false(credential_source_get(bench->settings.credentials, "other.example", false,
                                       INT64_MAX, &credential, &bench->error));
}

/* ---- credentials that come later ---- */

/* A source that has nothing at first. */
struct late {
    bool here;        /* it has a credential now */
    bool provisional; /* until then, it cannot be sure that it has nothing */
};

static bool late_get(void *context, const char *host, bool renew, struct credential *out,
                     struct error *error) {
    const struct late *late = context;
    (void)host, (void)renew, (void)error;
    *out = (struct credential){.provisional = !late->here && late->provisional};
    if (late->here) {
        out->kind = CREDENTIAL_BASIC;
        out->username = strdup("user");
        out->secret = strdup("secret");
    }
    return true;
}

static const struct credential_source_kind late_kind = {.name = "late", .get = late_get};

/* Who asks without the password gets nothing: the token service refuses it (`at_service`), or gives
 * a token that is refused. `status` is the refusal's. */
struct closed {
    bool at_service;
    int status;
};

static bool answer_closed(struct server *server, int fd, const char *head) {
    const struct closed *closed = server->context;
    char challenge[128];
    snprintf(challenge, sizeof challenge,
             "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:%u/token\"\r\n", server->port);
    if (server_asks(head, "GET /token")) {
        bool known = server_has(head, "Authorization: Basic dXNlcjpzZWNyZXQ=");
        if (!known && closed->at_service)
            return server_reply(fd, closed->status, "", "");
        return server_reply(fd, 200, "",
                            known ? "{\"token\":\"of-the-user\",\"expires_in\":3600}"
                                  : "{\"token\":\"of-nobody\",\"expires_in\":3600}");
    }
    if (server_has(head, "Bearer of-the-user"))
        return server_reply(fd, 200, "", "hello");
    if (server_has(head, "Bearer of-nobody"))
        return server_reply(fd, closed->status, closed->status == 401 ? challenge : "", "");
    return server_reply(fd, 401, challenge, "");
}

static void test_a_refusal_proves_nothing_while_credentials_may_come(void **state) {
    struct bench *bench = *state;
    static const struct closed ways[] = {{true, 401}, {true, 403}, {false, 401}, {false, 403}};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        struct closed closed = ways[i];
        struct late late = {.provisional = true};
        bench->settings.credentials = credential_source_new(&late_kind, &late);
        bench_open(bench, answer_closed, &closed);
        assert_false(bench_ask(bench, &bench_manifest));
        assert_int_equal(bench->error.kind, ERROR_UNAVAILABLE);
        assert_non_null(strstr(bench->error.text, "cannot be told yet"));
        late.here = true;
        clock_sleep_ms(1100); /* renewals of one second share their outcome */
        assert_true(bench_ask(bench, &bench_manifest));
        bench_close(bench);
    }
}

static void test_a_refusal_stands_when_there_are_no_credentials(void **state) {
    struct bench *bench = *state;
    static const struct closed ways[] = {{true, 401}, {true, 403}, {false, 401}, {false, 403}};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        struct closed closed = ways[i];
        struct late late = {0};
        bench->settings.credentials = credential_source_new(&late_kind, &late);
        bench_open(bench, answer_closed, &closed);
        assert_false(bench_ask(bench, &bench_manifest));
        assert_int_equal(bench->error.kind, ERROR_DENIED);
        assert_non_null(strstr(bench->error.text, "set credentials for origin.example"));
        bench_close(bench);
    }
}

/* A config.json that is written after the first pull counts at once. */
static void test_an_anonymous_token_does_not_outlive_its_reason(void **state) {
    struct bench *bench = *state;
    struct closed closed = {false, 403};
    const char *file = bench_write_file(bench, "{}");
    bench->settings.credentials = credential_source_docker(file);
    bench_open(bench, answer_closed, &closed);
    assert_false(bench_ask(bench, &bench_manifest));
    assert_int_equal(bench->error.kind, ERROR_DENIED);
    FILE *config = fopen(file, "we");
    assert_non_null(config);
    fputs("{\"auths\":{\"origin.example\":{\"auth\":\"dXNlcjpzZWNyZXQ=\"}}}", config);
    fclose(config);
    clock_sleep_ms(1100);
    assert_true(bench_ask(bench, &bench_manifest));
}

static void test_an_identity_token_is_posted(void **state) {
    struct bench *bench = *state;
    static const char config[] =
        "{\"auths\":{\"origin.example\":{\"identitytoken\":\"re/fresh+\"}}}";
    struct tokens tokens = {.needs = "grant_type=refresh_token"};
    bench->settings.credentials = credential_source_docker(bench_write_file(bench, config));
    bench_open(bench, answer_bearer, &tokens);
    assert_true(bench_ask(bench, &bench_manifest));
    const char *asked = server_request(bench->server, "POST /token", 0);
    assert_non_null(asked);
    assert_true(server_has(asked, "Content-Type: application/x-www-form-urlencoded\r\n"));
    assert_true(server_has(asked, "service=svc%201&scope=repository:org/app:pull"));
    assert_true(server_has(asked, "&refresh_token=re/fresh%2B"));
}

static bool answer_basic(struct server *server, int fd, const char *head) {
    (void)server;
    if (server_has(head, "Authorization: Basic dXNlcjpzZWNyZXQ="))
        return server_reply(fd, 200, "", "hello");
    return server_reply(fd, 401, "WWW-Authenticate: Basic realm=\"x\"\r\n", "");
}

static void test_basic_is_sent_once_it_was_asked_for(void **state) {
    struct bench *bench = *state;
    bench->settings.credentials = bench_password(bench);
    bench_open(bench, answer_basic, NULL);
    assert_true(bench_ask(bench, &bench_manifest));
    assert_true(bench_ask(bench, &bench_manifest));
    assert_int_equal(bench->server->count, 3);
    bench_close(bench);

    bench_open(bench, answer_basic, NULL);
    assert_false(bench_ask(bench, &bench_manifest));
    assert_int_equal(bench->error.kind, ERROR_DENIED);
    assert_in_range(bench->server->count, 1, 3);
}

static void test_a_realm_elsewhere_is_not_asked(void **state) {
    struct bench *bench = *state;
    struct tokens elsewhere_tokens = {0};
    struct server *elsewhere = bench_start_other(bench, answer_bearer, &elsewhere_tokens);
    char realm[64], listed[32];
    snprintf(realm, sizeof realm, "http://127.0.0.1:%u/token", elsewhere->port);
    snprintf(listed, sizeof listed, "127.0.0.1:%u", elsewhere->port);
    const char *const token_hosts[] = {listed, NULL};
    for (int with_credentials = 0; with_credentials < 2; with_credentials++) {
        struct tokens tokens = {.realm_path = realm};
        bench->settings.credentials = with_credentials ? bench_password(bench) : NULL;
        bench_open(bench, answer_bearer, &tokens);
        assert_false(bench_ask(bench, &bench_manifest));
        assert_int_equal(bench->error.kind, ERROR_DENIED);
        assert_non_null(strstr(bench->error.text, realm));
        assert_non_null(strstr(bench->error.text, "token_hosts"));
        assert_int_equal(elsewhere->count, 0);
        bench_close(bench);
    }
    struct tokens tokens = {.realm_path = realm};
    bench->settings.token_hosts = token_hosts;
    bench_open(bench, answer_bearer, &tokens);
    assert_true(bench_ask(bench, &bench_manifest));
    assert_int_equal(elsewhere->count, 1);
}

static void test_a_password_is_not_shown_to_a_mirror(void **state) {
    struct bench *bench = *state;
    char mirror[64];
    struct server *other = bench_start_other(bench, answer_basic, NULL);
    snprintf(mirror, sizeof mirror, "http://127.0.0.1:%u", other->port);
    const char *const fallbacks[] = {mirror, NULL};
    bench->settings.credentials = bench_password(bench);
    bench->settings.fallbacks = fallbacks;
    bench_open(bench, answer_basic, NULL);
    struct upstream_request request = bench_manifest;
    request.location = 1;
    assert_false(bench_ask(bench, &request));
    assert_int_equal(bench->error.kind, ERROR_DENIED);
    assert_non_null(strstr(bench->error.text, mirror));
    assert_false(server_has(server_request(other, "GET", 0), "Authorization"));
    request.location = 2;
    assert_false(bench_ask(bench, &request));
    assert_int_equal(bench->error.kind, ERROR_INVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_BENCH(test_a_token_is_fetched_once_and_used_again),
        WITH_BENCH(test_a_refused_token_is_refreshed_once),
        WITH_BENCH(test_a_token_is_given_up_before_it_ends),
        WITH_BENCH(test_the_challenges_scope_is_the_one_asked_for),
        WITH_BENCH(test_a_crowd_asks_for_one_token),
        WITH_BENCH(test_credentials_go_to_the_token_service),
        WITH_BENCH(test_a_refusal_proves_nothing_while_credentials_may_come),
        WITH_BENCH(test_a_refusal_stands_when_there_are_no_credentials),
        WITH_BENCH(test_an_anonymous_token_does_not_outlive_its_reason),
        WITH_BENCH(test_an_identity_token_is_posted),
        WITH_BENCH(test_basic_is_sent_once_it_was_asked_for),
        WITH_BENCH(test_a_realm_elsewhere_is_not_asked),
        WITH_BENCH(test_a_password_is_not_shown_to_a_mirror),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
