/* Which changes a running tarn takes, and which need a restart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include "certificate.h"
#include "config/bench.h"

/* What is said when a tarn with the file `now` is to take `next`. */
static const char *change_of(enum config_user user, struct bench *bench, const char *now,
                             const char *next) {
    load(bench, now);
    struct config *before = bench->config;
    bench->config = NULL;
    load(bench, next);
    buffer_clear(&bench->problems);
    bool ok = config_check_change(user, before, bench->config, &bench->problems);
    config_free(before);
    assert_int_equal(ok, bench->problems.length == 0);
    return bench->problems.length ? bench->problems.bytes : "";
}

static const char *change(struct bench *bench, const char *now, const char *next) {
    return change_of(CONFIG_OF_SERVE, bench, now, next);
}

static void test_each_process_refuses_only_what_it_uses(void **state) {
    struct bench *bench = *state;
    static const char now[] = "root: /a\nkeep: {lease: one, namespace: n, refresh: 1m}\n";
    static const char next[] = "root: /b\nkeep: {lease: two, namespace: n, refresh: 2m}\n";
    assert_string_equal(change(bench, now, next),
                        "f.yaml:1: root: cannot change from \"/a\" to \"/b\" while tarn runs; "
                        "restart tarn, or change it back\n");
    assert_string_equal(change_of(CONFIG_OF_KEEP, bench, now, next),
                        "f.yaml:2:15: keep.lease: cannot change from \"one\" to \"two\" while tarn "
                        "runs; restart tarn, or change it back\n");
    assert_string_equal(change_of(CONFIG_OF_KEEP, bench, "confine: off\n", ""),
                        "f.yaml: confine: cannot change from \"off\" to \"auto\" while tarn runs; "
                        "restart tarn, or change it back\n");
}

static void test_most_settings_can_change(void **state) {
    struct bench *bench = *state;
    assert_string_equal(change(bench, "", ""), "");
    assert_string_equal(
        change(bench, "root: /r\nlog: {level: info}\nupstreams: [{host: a.example}]\n",
               "log: {level: debug, format: json}\nroot: /r\nmax_size: 1GiB\nmax_connections: 9\n"
               "limits: {per_client: {requests: 10%}}\npin: [a.example/**]\nscrub: 30d\n"
               "server_names: [tarn.example]\nmanifest_memory: 1MiB\n"
               "warm: [{images: [alpine:3]}]\ntag_ttl: 0\n"
               "upstreams: [{host: b.example, url: 'http://127.0.0.1:1', default: true}]\n"),
        "");
}

static void test_what_cannot_change_is_named_with_its_place(void **state) {
    struct bench *bench = *state;
    assert_string_equal(change(bench, "root: /a\n", "\nroot: /b\n"),
                        "f.yaml:2: root: cannot change from \"/a\" to \"/b\" while tarn runs; "
                        "restart tarn, or change it back\n");
    assert_string_equal(change(bench, "confine: off\n", "log: {level: warn}\n"),
                        "f.yaml: confine: cannot change from \"off\" to \"auto\" while tarn runs; "
                        "restart tarn, or change it back\n");
    assert_string_equal(change(bench, "root: /a\nconfine: off\n", "confine: require\nroot: /c\n"),
                        "f.yaml:1: confine: cannot change from \"off\" to \"require\" while tarn "
                        "runs; restart tarn, or change it back\n"
                        "f.yaml:2: root: cannot change from \"/a\" to \"/c\" while tarn runs; "
                        "restart tarn, or change it back\n");
}

static void test_long_values_are_compared_to_their_end(void **state) {
    struct bench *bench = *state;
    char now[400], next[400];
    snprintf(now, sizeof now, "root: /%0300d\n", 1);
    snprintf(next, sizeof next, "root: /%0300d\n", 2);
    assert_non_null(strstr(change(bench, now, next), "f.yaml:1: root: cannot change from"));
    assert_string_equal(change(bench, now, now), "");
}

/* A flag overrides the file before and after. */
static void test_a_flag_hides_a_change(void **state) {
    struct bench *bench = *state;
    give_flags(bench, "--root=/flag");
    assert_string_equal(change(bench, "root: /a\n", "root: /b\n"), "");
}

static void test_tls_stays_on_or_off(void **state) {
    struct bench *bench = *state;
    char with[400], other[500];
    const char *paths[4];
    static const char *const names[] = {"1.crt", "1.key", "2.crt", "2.key"};
    for (int i = 0; i < 4; i++)
        paths[i] = write_file(bench, names[i], "");
    certificate_write(paths[0], paths[1], "one");
    certificate_write(paths[2], paths[3], "two");
    snprintf(with, sizeof with, "tls:\n  certificate: %s\n  key: %s\n", paths[0], paths[1]);
    snprintf(other, sizeof other, "tls:\n  certificate: %s\n  key: %s\n", paths[2], paths[3]);
    assert_string_equal(change(bench, with, other), "");
    snprintf(other, sizeof other, "%s  minimum: 1.3\n", with);
    assert_string_equal(change(bench, with, other), "");
    assert_string_equal(change(bench, other, with), "");
    assert_string_equal(
        change(bench, "", with),
        "f.yaml:2: tls.certificate: TLS cannot begin while tarn runs; restart tarn, "
        "or remove tls\n");
    assert_string_equal(change(bench, with, ""),
                        "f.yaml: tls.certificate: TLS cannot end while tarn runs; restart tarn, or "
                        "set tls again\n");
}

static void test_a_confined_tarn_cannot_begin_to_run_programs(void **state) {
    struct bench *bench = *state;
    static const char *const plain = "upstreams: [{host: a.example, credentials: anonymous}]\n",
                             *const helped =
                                 "upstreams: [{host: a.example, credentials: {helper: x}}]\n",
                             *const both =
                                 "upstreams: [{host: a.example, credentials: {helper: x}},\n"
                                 "{host: b.example, credentials: {helper: y}}]\n";
    assert_string_equal(change(bench, plain, helped),
                        "f.yaml: upstreams: the credentials (helper x) of a.example may start "
                        "programs, and the running tarn has given up the right to; restart tarn\n");
    assert_string_equal(change(bench, helped, both), "");
    assert_string_equal(change(bench, helped, plain), "");
    give_flags(bench, "--confine=off");
    assert_string_equal(change(bench, plain, helped), "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_bench(test_each_process_refuses_only_what_it_uses),
        with_bench(test_most_settings_can_change),
        with_bench(test_what_cannot_change_is_named_with_its_place),
        with_bench(test_long_values_are_compared_to_their_end),
        with_bench(test_a_flag_hides_a_change),
        with_bench(test_tls_stays_on_or_off),
        with_bench(test_a_confined_tarn_cannot_begin_to_run_programs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
