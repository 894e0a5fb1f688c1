/* How clients log in and who may read what: read as it stands, and each mistake reported. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include "certificate.h"
#include "config/bench.h"

#define PASSWORDS "ann:$2y$05$abcdefghijklmnopqrstuuabcdefghijklmnopqrstuvwxyz012345\n"

static void test_rules_are_read_as_they_stand(void **state) {
    struct bench *bench = *state;
    char text[512];
    snprintf(text, sizeof text,
             "clients:\n"
             "  htpasswd: %s\n"
             "  rules:\n"
             "    - {users: [alice, bob], upstream: GHCR.io, repositories: [\"team/**\", other]}\n"
             "    - {anonymous: true, upstream: \"*.pkg.dev\"}\n"
             "    - {users: carol, upstream: index.docker.io}\n",
             write_file(bench, "htpasswd", PASSWORDS));
    const struct config *config = load(bench, text);
    assert_int_equal(config->rule_count, 3);
    const struct rule *rules = config->rules;
    assert_string_equal(rules[0].users[0], "alice");
    assert_string_equal(rules[0].users[1], "bob");
    assert_null(rules[0].users[2]);
    assert_false(rules[0].anonymous);
    assert_string_equal(rules[0].upstream, "ghcr.io");
    assert_string_equal(rules[0].repositories[0], "team/**");
    assert_string_equal(rules[0].repositories[1], "other");
    assert_null(rules[0].repositories[2]);
    assert_null(rules[1].users);
    assert_true(rules[1].anonymous);
    assert_string_equal(rules[1].upstream, "*.pkg.dev");
    assert_null(rules[1].repositories);
    assert_string_equal(rules[2].users[0], "carol");
    assert_string_equal(rules[2].upstream, "docker.io");
    /* The file of passwords has ann alone. */
    assert_non_null(strstr(config->warnings[0], "clients.rules[0] is for alice, whom "));
    assert_non_null(strstr(config->warnings[1], "clients.rules[0] is for bob, whom "));
    assert_non_null(strstr(config->warnings[2], "clients.rules[2] is for carol, whom "));
    assert_null(config->warnings[3]);
}

static void test_without_rules_nothing_is_forbidden(void **state) {
    struct bench *bench = *state;
    assert_null(load(bench, "grace: 1s\n")->rules);
}

static void test_rules_for_everybody_need_no_login(void **state) {
    struct bench *bench = *state;
    const struct config *config =
        load(bench, "clients: {rules: [{anonymous: true, repositories: \"public/**\"}]}\n");
    assert_int_equal(config->rule_count, 1);
}

static void test_each_mistake_says_what_would_be_right(void **state) {
    struct bench *bench = *state;
    static const struct {
        const char *rules, *told;
    } cases[] = {
        {"[]", "clients.rules: without a rule nobody could read anything; write for example"},
        {"all", "clients.rules: expected a list; write for example"},
        {"[alice]", "clients.rules[0]: expected a mapping"},
        {"[{user: alice, anonymous: true}]",
         "clients.rules[0].user: unknown key \"user\"; did you mean users?"},
        {"[{upstream: ghcr.io}]", "clients.rules[0]: users is missing; write for example users: "
                                  "[alice], or anonymous: true"},
        {"[{anonymous: false}]", "clients.rules[0]: users is missing"},
        {"[{users: [a], anonymous: true}]",
         "clients.rules[0].users: anonymous: true is for everybody, also for users; leave one"},
        {"[{anonymous: true, push: true}]",
         "clients.rules[0].push: push: true is for clients that log in"},
        {"[{users: []}]", "clients.rules[0].users: "},
        {"[{users: ['']}]", "clients.rules[0].users[0]: "},
        {"[{users: [a], upstream: ghcr.io/org}]",
         "clients.rules[0].upstream: \"ghcr.io/org\" is not a pattern of hosts; write for example "
         "ghcr.io or *.pkg.dev"},
        {"[{users: [a], repositories: [/x]}]", "clients.rules[0].repositories[0]: "},
        {"[{users: [a], anonymous: maybe}]", "clients.rules[0].anonymous: "},
        {"[{anonymous: true}, {users: [a], users: [b]}]",
         "clients.rules[1].users: appears twice; first on line"},
    };
    const char *file = write_file(bench, "htpasswd", PASSWORDS);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[512];
        snprintf(text, sizeof text, "clients:\n  htpasswd: %s\n  rules: %s\n", file,
                 cases[i].rules);
        assert_null(try_load(bench, text));
        const char *problems = bench->problems.bytes;
        if (!strstr(problems, cases[i].told) || strncmp(problems, "f.yaml:3:", 9) != 0)
            fail_msg("%s: %s", cases[i].rules, problems);
    }
}

static void test_users_need_a_login(void **state) {
    struct bench *bench = *state;
    assert_null(try_load(bench, "clients:\n  rules:\n    - anonymous: true\n    - users: [a]\n"));
    const char *problems = bench->problems.bytes;
    if (strncmp(problems, "f.yaml:4:", 9) != 0 ||
        !strstr(problems, "clients.rules[1].users: nobody can log in; set clients.htpasswd"))
        fail_msg("%s", problems);
}

/* ---- how clients log in ---- */

static void test_tokens_need_all_that_is_known_of_their_service(void **state) {
    struct bench *bench = *state;
    const char *jwks = write_file(bench, "jwks", BENCH_JWKS);
    char text[512];
    snprintf(text, sizeof text,
             "clients:\n  token:\n    realm: https://auth.example/token\n    service: tarn\n"
             "    issuer: auth\n    jwks: %s\n  rules: [{users: [a]}]\n",
             jwks);
    const struct config *config = load(bench, text);
    assert_string_equal(config->clients_token.realm, "https://auth.example/token");
    assert_string_equal(config->clients_token.service, "tarn");
    assert_string_equal(config->clients_token.issuer, "auth");
    assert_string_equal(config->clients_token.jwks, jwks);
    assert_null(try_load(bench, "clients:\n  token:\n    service: tarn\n    issuer: auth\n"));
    const char *problems = bench->problems.bytes;
    if (!strstr(problems, "clients.token.service: clients.token.realm is missing; write for "
                          "example realm: https://auth.example/token") ||
        !strstr(problems, "clients.token.service: clients.token.jwks is missing; write for "
                          "example jwks: /etc/tarn/jwks.json"))
        fail_msg("%s", problems);
}

/* check-config, the start and a reload find the same mistakes, because all of them load. */
static void test_what_is_wrong_inside_a_file_is_found_with_its_place(void **state) {
    struct bench *bench = *state;
    const char *certificate = write_file(bench, "tls.crt", ""),
               *key = write_file(bench, "tls.key", ""),
               *file = write_file(bench, "wrong", "\nann:secret\n");
    certificate_write(certificate, key, "localhost");
    char text[1024], told[512];
    snprintf(text, sizeof text,
             "tls: {certificate: %s, key: %s}\nclients:\n  htpasswd: %s\n  ca: %s\n  token:\n"
             "    realm: https://auth.example/token\n    service: tarn\n    issuer: auth\n"
             "    jwks: %s\n",
             certificate, key, file, file, file);
    assert_null(try_load(bench, text));
    const char *problems = bench->problems.bytes;
    snprintf(told, sizeof told, "f.yaml:3: clients.htpasswd: %s:2: ", file);
    assert_non_null(strstr(problems, told));
    snprintf(told, sizeof told, "f.yaml:4: clients.ca: authorities of clients %s: ", file);
    assert_non_null(strstr(problems, told));
    snprintf(told, sizeof told, "f.yaml:9: clients.token.jwks: JWK set %s: not JSON", file);
    assert_non_null(strstr(problems, told));
    assert_null(try_load(bench, "clients: {htpasswd: /nonexistent}\n"));
    assert_string_equal(bench->problems.bytes,
                        "f.yaml:1: clients.htpasswd: \"/nonexistent\" cannot be read: No such file "
                        "or directory\n");
}

static void test_what_stands_in_a_challenge_has_no_quotes(void **state) {
    struct bench *bench = *state;
    static const struct {
        const char *member, *told;
    } cases[] = {
        {"realm: auth.example", "clients.token.realm: \"auth.example\" is not the URL of a token "
                                "service; write for example https://auth.example/token"},
        {"realm: 'https://auth.example/\"x'", "is not the URL of a token service"},
        {"service: 'a\"b'", "cannot stand in a field; write 1 to 255 printable ASCII characters"},
        {"issuer: ''", "clients.token.issuer: "},
        {"jwks: /not/there", "clients.token.jwks: "},
        {"key: x", "clients.token.key: unknown key"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256];
        snprintf(text, sizeof text, "clients:\n  token: {%s}\n", cases[i].member);
        assert_null(try_load(bench, text));
        if (!strstr(bench->problems.bytes, cases[i].told))
            fail_msg("%s: %s", cases[i].member, bench->problems.bytes);
    }
}

static void test_certificates_of_clients_need_tls(void **state) {
    struct bench *bench = *state;
    char text[256];
    snprintf(text, sizeof text, "clients: {ca: %s}\n", write_file(bench, "ca", "x"));
    assert_null(try_load(bench, text));
    if (!strstr(bench->problems.bytes, "clients.ca: clients send certificates only with TLS; set "
                                       "tls.certificate and tls.key"))
        fail_msg("%s", bench->problems.bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_bench(test_rules_are_read_as_they_stand),
        with_bench(test_without_rules_nothing_is_forbidden),
        with_bench(test_rules_for_everybody_need_no_login),
        with_bench(test_each_mistake_says_what_would_be_right),
        with_bench(test_users_need_a_login),
        with_bench(test_tokens_need_all_that_is_known_of_their_service),
        with_bench(test_what_is_wrong_inside_a_file_is_found_with_its_place),
        with_bench(test_what_stands_in_a_challenge_has_no_quotes),
        with_bench(test_certificates_of_clients_need_tls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
