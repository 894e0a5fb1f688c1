/* Kubeconfig files, and what programs print: pure tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include "kubernetes/exec_credential.h"
#include "kubernetes/kubeconfig.h"

#define CONTEXT                                                                                    \
    "current-context: a\ncontexts: [{name: a, context: {cluster: c, user: u, namespace: n}}]\n"
#define CLUSTER "clusters: [{name: c, cluster: {server: 'https://h:6443/'}}]\n"
#define USER    "users: [{name: u, user: {token: t}}]\n"

static bool read_files(const char *const *texts, size_t count, struct kubeconfig *out,
                       struct error *error) {
    static const char *const paths[] = {"/one/config", "/two/config", "three"};
    struct kubeconfig_file files[3];
    for (size_t i = 0; i < count; i++)
        files[i] = (struct kubeconfig_file){paths[i], text_of(texts[i])};
    return kubeconfig_read(files, count, out, error);
}

static void test_the_current_context_says_cluster_user_and_namespace(void **state) {
    (void)state;
    cleanup_kubeconfig struct kubeconfig config;
    assert_true(read_files((const char *const[]){CONTEXT CLUSTER USER}, 1, &config, NULL));
    assert_string_equal(config.server, "https://h:6443");
    assert_string_equal(config.token, "t");
    assert_string_equal(config.namespace, "n");
    assert_string_equal(config.user, "u");
}

static void test_paths_belong_to_the_folder_of_their_own_file(void **state) {
    (void)state;
    static const char *const texts[] = {
        CONTEXT, "clusters: [{name: c, cluster: {server: 'https://h', certificate-authority: ca}}]",
        "users: [{name: u, user: {client-certificate: /abs, client-key: k/ey}}]"};
    cleanup_kubeconfig struct kubeconfig config;
    assert_true(read_files(texts, 3, &config, NULL));
    assert_string_equal(config.authority_file, "/two/ca");
    assert_string_equal(config.certificate_file, "/abs");
    assert_string_equal(config.key_file, "k/ey");
}

static void test_the_first_mention_of_a_name_counts(void **state) {
    (void)state;
    static const char *const texts[] = {
        ("current-context: ''\n" CLUSTER USER), CONTEXT,
        "current-context: b\nclusters: [{name: c, cluster: {server: 'https://other'}}]\n"
        "users: [{name: u, user: {token: other}}]\n"};
    cleanup_kubeconfig struct kubeconfig config;
    assert_true(read_files(texts, 3, &config, NULL));
    assert_string_equal(config.context, "a");
    assert_string_equal(config.server, "https://h:6443");
    assert_string_equal(config.token, "t");
}

static void test_other_users_may_be_broken(void **state) {
    (void)state;
    cleanup_kubeconfig struct kubeconfig config;
    assert_true(read_files((const char *const[]){CONTEXT CLUSTER
                                                 "users: [{name: x, user: {auth-provider: {}}}, "
                                                 "{name: u, user: {token: t}}]"},
                           1, &config, NULL));
}

/* What is wrong is said with its file and line, and without its value. */
static void test_mistakes_are_named(void **state) {
    (void)state;
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"", "no current-context"},
        {"[]", "not a kubeconfig"},
        {"a: b: c", "/one/config:1: not valid YAML"},
        {"current-context: a", "there is no a in `contexts`"},
        {CONTEXT, "there is no c in `clusters`"},
        {CONTEXT CLUSTER, "there is no u in `users`"},
        {CONTEXT "clusters: [{name: c, cluster: {}}]", "server: is missing"},
        {CONTEXT "clusters: [{name: c, cluster: {server: h}}]", "/one/config:3: clusters[c]"},
        {CONTEXT "clusters: [{name: c, cluster: {server: 'https://u:secret@h'}}]",
         "without a user"},
        {CONTEXT "clusters: [{name: c, cluster: {server: 'http://10.1.1.1'}}]", "this machine"},
        {CONTEXT "clusters: [{name: c, cluster: {server: 'https://h?secret'}}]", "no query"},
        {CONTEXT "clusters: [{name: c, cluster: {server: [secret]}}]", "a single value"},
        {CONTEXT "clusters: [{name: c, cluster: {server: 'https://h', insecure-skip-tls-verify: "
                 "secret}}]",
         "true or false"},
        {CONTEXT CLUSTER "users: [{name: u, user: {exec: {apiVersion: "
                         "client.authentication.k8s.io/v1}}}]",
         "command: is missing"},
        {CONTEXT CLUSTER "users: [{name: u, user: {username: secret}}]", "password: is missing"},
        {CONTEXT CLUSTER "users: [{name: u, user: {token: secret, exec: {command: x, apiVersion: "
                         "client.authentication.k8s.io/v1}}}]",
         "several of"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kubeconfig config;
        struct error error = {0};
        assert_false(read_files((const char *const[]){cases[i].text}, 1, &config, &error));
        if (!strstr(error.text, cases[i].words) || strstr(error.text, "secret"))
            fail_msg("%s: %s", cases[i].text, error.text);
    }
}

/* ---- what a program prints ---- */

#define PRINTED(status) "{\"kind\":\"ExecCredential\",\"apiVersion\":\"v\",\"status\":" status "}"

static void test_a_credential_is_a_token_or_a_certificate_with_its_key(void **state) {
    (void)state;
    struct exec_credential credential;
    assert_true(exec_credential_read(
        text_of(PRINTED("{\"token\":\"t\",\"expirationTimestamp\":\"1970-01-01T00:01:00Z\"}")), "v",
        &credential, NULL));
    assert_string_equal(credential.token, "t");
    assert_int_equal(credential.expires_s, 60);
    exec_credential_wipe(&credential);
    assert_true(exec_credential_read(
        text_of(PRINTED("{\"clientCertificateData\":\"c\",\"clientKeyData\":\"k\"}")), "v",
        &credential, NULL));
    assert_null(credential.token);
    assert_string_equal(credential.key, "k");
    assert_true(credential.expires_s == INT64_MAX);
    exec_credential_wipe(&credential);
}

static void test_other_output_is_refused_without_a_word_of_it(void **state) {
    (void)state;
    static const char *const cases[] = {
        "",
        "secret",
        "{\"token\":\"secret\"}",
        PRINTED("null"),
        PRINTED("{}"),
        PRINTED("{\"token\":\"\"}"),
        PRINTED("{\"token\":7}"),
        PRINTED("{\"token\":\"secret\\u0000\"}"),
        PRINTED("{\"clientCertificateData\":\"secret\"}"),
        PRINTED("{\"token\":\"secret\",\"expirationTimestamp\":\"soon\"}"),
        "{\"kind\":\"ExecCredential\",\"apiVersion\":\"w\",\"status\":{\"token\":\"secret\"}}",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct exec_credential credential;
        struct error error = {0};
        assert_false(exec_credential_read(text_of(cases[i]), "v", &credential, &error));
        assert_null(strstr(error.text, "secret"));
        assert_null(credential.token);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_current_context_says_cluster_user_and_namespace),
        cmocka_unit_test(test_paths_belong_to_the_folder_of_their_own_file),
        cmocka_unit_test(test_the_first_mention_of_a_name_counts),
        cmocka_unit_test(test_other_users_may_be_broken),
        cmocka_unit_test(test_mistakes_are_named),
        cmocka_unit_test(test_a_credential_is_a_token_or_a_certificate_with_its_key),
        cmocka_unit_test(test_other_output_is_refused_without_a_word_of_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
