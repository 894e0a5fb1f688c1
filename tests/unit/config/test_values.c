/* Values of every type, for the top level, for one upstream and for warm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include "certificate.h"
#include "config/bench.h"

static void test_every_kind_of_value_is_read(void **state) {
    struct bench *bench = *state;
    char text[2000];
    const char *ca = write_file(bench, "ca.pem", "x");
    const char *key = write_file(bench, "key.pem", "x");
    certificate_write(ca, key, "localhost");
    const char *users = write_file(bench, "users", "");
    snprintf(text, sizeof text,
             "listen: [0.0.0.0:5000, '[::]:5000', localhost:5001, ':0']\n"
             "max_size: 1.5GiB\n"
             "min_free: 500MB\n"
             "max_age: 168h\n"
             "pin: ['docker.io/library/**', \"ghcr.io/org/app:1.*\"]\n"
             "max_flights: 7\n"
             "limits:\n"
             "  per_upstream: {waiting: 3, flights: 4}\n"
             "  per_client: {connections: 100%%, requests: 1%%, least_rate: 0}\n"
             "  logins:\n    failures: 5\n    within: 2m\n    waiting: 6\n"
             "prefetch: yes\n"
             "range_fill: false\n"
             "tag_ttl: 0\n"
             "ca: %s\n"
             "log: {level: debug, format: json}\n"
             "tls:\n  certificate: %s\n  key: %s\n"
             "clients:\n  htpasswd: %s\n",
             ca, ca, key, users);
    const struct config *config = load(bench, text);
    assert_int_equal(config->listen_count, 4);
    assert_string_equal(config->listen[1], "[::]:5000");
    assert_null(config->listen[4]);
    assert_int_equal(config->max_size, 3ull << 29);
    assert_int_equal(config->min_free, 500000000);
    assert_int_equal(config->max_age_ms, 168ll * 3600000);
    assert_string_equal(config->pin[1], "ghcr.io/org/app:1.*");
    assert_null(config->pin[2]);
    assert_int_equal(config->max_flights, 7);
    assert_int_equal(config->waiting_per_upstream, 3);
    assert_int_equal(config->flights_per_upstream, 4);
    assert_int_equal(config->per_client.connections, 100);
    assert_int_equal(config->per_client.requests, 1);
    assert_int_equal(config->per_client.least_rate, 0);
    assert_int_equal(config->logins.failures, 5);
    assert_int_equal(config->logins.within_ms, 120000);
    assert_int_equal(config->logins.waiting, 6);
    assert_int_equal(config->log_level, LOG_DEBUG);
    assert_int_equal(config->log_format, LOG_JSON);
    assert_string_equal(config->tls_certificate, ca);
    assert_string_equal(config->tls_key, key);
    assert_string_equal(config->clients_htpasswd, users);
    const struct upstream_settings *quay = upstream(config, "quay.io");
    assert_true(quay->prefetch);
    assert_false(quay->range_fill);
    assert_int_equal(quay->tag_ttl_ms, 0);
    assert_string_equal(quay->ca_file, ca);
}

static void test_an_upstream_overrides_the_top_level(void **state) {
    struct bench *bench = *state;
    const struct config *config =
        load(bench, "upstreams:\n"
                    "  - host: Quay.IO\n"
                    "    tag_ttl: 1h\n"
                    "    connections: 2\n"
                    "    max_connections: 9\n"
                    "    keep_deleted: true\n"
                    "    repositories: 'org/**'\n"
                    "    token_hosts: [auth.example, auth.example:8443]\n"
                    "    redirect_hosts: [s3.internal, '10.1.2.3:9000']\n"
                    "    fallbacks: [https://a.example, 'http://b.example:5000/sub']\n"
                    "  - host: '*.registry.example:5000'\n"
                    "  - {host: ghcr.io, default: true}\n"
                    "tag_ttl: 2m\n"
                    "connections: 16\n");
    assert_int_equal(config->upstream_count, 3);
    const struct upstream_settings *quay = upstream(config, "quay.io");
    assert_int_equal(quay->tag_ttl_ms, 3600000);
    assert_int_equal(quay->connections, 2);
    assert_int_equal(quay->max_connections, 9);
    assert_true(quay->keep_deleted);
    assert_string_equal(quay->repositories[0], "org/**");
    assert_null(quay->repositories[1]);
    assert_string_equal(quay->token_hosts[1], "auth.example:8443");
    assert_string_equal(quay->redirect_hosts[0], "s3.internal");
    assert_string_equal(quay->redirect_hosts[1], "10.1.2.3:9000");
    assert_null(quay->redirect_hosts[2]);
    assert_string_equal(quay->fallbacks[1], "http://b.example:5000/sub");
    assert_int_equal(upstream(config, "ghcr.io")->tag_ttl_ms, 120000);
    assert_int_equal(upstream(config, "ghcr.io")->connections, UPSTREAM_CONNECTIONS_LIMIT);
    assert_int_equal(upstream(config, "*.registry.example:5000")->max_connections, 64);
    assert_string_equal(default_host(config), "ghcr.io");
}

static void test_credentials_in_each_form(void **state) {
    struct bench *bench = *state;
    char text[2000];
    const char *password = write_file(bench, "password", "secret");
    const char *docker = write_file(bench, "config.json", "{}");
    snprintf(text, sizeof text,
             "upstreams:\n"
             "  - {host: a.example, credentials: anonymous}\n"
             "  - {host: b.example, credentials: docker}\n"
             "  - {host: c.example, credentials: google}\n"
             "  - {host: d.example, credentials: {docker: {file: %s}}}\n"
             "  - {host: e.example, credentials: {username: u, password_file: %s}}\n"
             "  - {host: f.example, credentials: {helper: gcr}}\n"
             "  - {host: g.example, credentials: {google: {file: %s, impersonate: a@b.c}}}\n"
             "  - {host: h.example, credentials: {google: {gcloud: true, scopes: [a, b]}}}\n"
             "  - {host: i.example, credentials: {google: {metadata: 'localhost:80'}}}\n"
             "  - {host: j.example, credentials: {google: {}}}\n"
             "  - {host: k.example, credentials: {username: u, password_file: %s}}\n",
             docker, password, docker, password);
    const struct config *config = load(bench, text);
    assert_string_equal(credential_source_name(upstream(config, "a.example")->credentials),
                        "anonymous");
    struct credential_source *of[11];
    for (int i = 0; i < 11; i++) {
        char host[] = "a.example";
        host[0] = (char)('a' + i);
        assert_non_null(of[i] = upstream(config, host)->credentials);
    }
    assert_ptr_equal(of['j' - 'a'], of['c' - 'a']); /* the same words, the same source */
    assert_ptr_equal(of['k' - 'a'], of['e' - 'a']);
    assert_ptr_not_equal(of['d' - 'a'], of['b' - 'a']);
    assert_ptr_not_equal(of['g' - 'a'], of['h' - 'a']);
}

static void test_default_credentials_go_to_no_other_host(void **state) {
    struct bench *bench = *state;
    const struct config *config =
        load(bench, "upstreams:\n"
                    "- host: us-docker.pkg.dev\n"
                    "- {host: ghcr.io, url: https://mirror.example}\n"
                    "- {host: gcr.io, url: 'http://127.0.0.1:5001'}\n"
                    "- {host: quay.io, url: 'https://QUAY.io:443'}\n"
                    "- {host: eu.gcr.io, url: 'https://mirror.example'}\n");
    static const struct {
        const char *host, *source;
    } wanted[] = {{"us-docker.pkg.dev", "google"},
                  {"ghcr.io", "anonymous"},
                  {"gcr.io", "google"},
                  {"quay.io", "docker"},
                  {"eu.gcr.io", "anonymous"}};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        assert_string_equal(credential_source_name(upstream(config, wanted[i].host)->credentials),
                            wanted[i].source);
}

static void test_credentials_on_an_odd_way_only_warn(void **state) {
    struct bench *bench = *state;
    const struct config *config =
        load(bench, "upstreams:\n"
                    "- {host: a.example, credentials: google}\n"
                    "- {host: b.example, url: 'http://c.example:81', credentials: docker}\n"
                    "- {host: '*.d.example', credentials: {google: {gcloud: true}}}\n"
                    "- {host: us-docker.pkg.dev, url: 'https://e.example', credentials: google}\n"
                    "- {host: f.example, credentials: docker, fallbacks: ['http://g.example']}\n");
    static const char *const wanted[][2] = {
        {"upstream a.example: ", "Google's access token goes to a.example"},
        {"upstream b.example: ", "its credentials go to c.example over http"},
        {"upstream *.d.example: ", "Google's access token goes to *.d.example"},
        {"upstream us-docker.pkg.dev: ", "Google's access token goes to e.example"},
        {"upstream f.example: ", "its credentials go to g.example over http"},
    };
    const size_t count = sizeof wanted / sizeof *wanted;
    for (size_t i = 0; i < count; i++) {
        assert_non_null(config->warnings[i]);
        assert_ptr_equal(strstr(config->warnings[i], wanted[i][0]), config->warnings[i]);
        assert_non_null(strstr(config->warnings[i], wanted[i][1]));
    }
    assert_null(config->warnings[count]);
}

static void test_credentials_on_the_usual_way_do_not_warn(void **state) {
    struct bench *bench = *state;
    const struct config *config =
        load(bench, "upstreams:\n"
                    "- {host: '*.pkg.dev', credentials: google}\n"
                    "- {host: eu.gcr.io, credentials: google, url: 'http://127.0.0.1:81'}\n"
                    "- {host: a.example, credentials: docker}\n"
                    "- {host: b.example, credentials: anonymous, url: 'http://b.example'}\n"
                    "- {host: 'localhost:81', credentials: docker, url: 'http://localhost:81'}\n"
                    "- {host: '*.internal'}\n"
                    "- {host: '*.azurecr.io'}\n"
                    "- {host: '*.dkr.ecr.*.amazonaws.com'}\n");
    assert_null(config->warnings);
}

static void test_warm_lists_images(void **state) {
    struct bench *bench = *state;
    const struct config *config = load(bench, "warm:\n"
                                              "- images: [alpine:3.20, ghcr.io/org/app]\n"
                                              "  platforms: [linux/amd64, linux/arm/v7]\n"
                                              "  every: 6h\n"
                                              "- images: busybox\n");
    assert_int_equal(config->warm_count, 2);
    assert_string_equal(config->warm[0].images[1], "ghcr.io/org/app");
    assert_string_equal(config->warm[0].platforms[1], "linux/arm/v7");
    assert_int_equal(config->warm[0].every_ms, 6 * 3600000);
    assert_string_equal(config->warm[1].images[0], "busybox");
    assert_null(config->warm[1].platforms);
    assert_int_equal(config->warm[1].every_ms, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_bench(test_every_kind_of_value_is_read),
        with_bench(test_an_upstream_overrides_the_top_level),
        with_bench(test_credentials_in_each_form),
        with_bench(test_default_credentials_go_to_no_other_host),
        with_bench(test_credentials_on_an_odd_way_only_warn),
        with_bench(test_credentials_on_the_usual_way_do_not_warn),
        with_bench(test_warm_lists_images),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
