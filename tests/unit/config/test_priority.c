/* Which of file, environment and flags overrides the others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "config/bench.h"

static void test_flag_over_environment_over_file_over_default(void **state) {
    struct bench *bench = *state;
    const char *const environment[] = {"HOME=/h",
                                       "TARN_TAG_TTL=3m",
                                       "TARN_LOG_LEVEL=warn",
                                       "TARN_MAX_SIZE=3",
                                       "TARN_GRACE=",
                                       "TARN_LISTEN=:1, :2",
                                       "TARN_PREFETCH=on",
                                       "TARN_LIMITS_PER_CLIENT_REQUESTS=7%",
                                       NULL};
    give_flags(bench, "--max-size=4", "--log-level", "error", "--pin", "a/**,b", "--pin=c",
               "--keep-deleted", "--range-fill=false", "--limits-per-upstream-waiting=9");
    const char *text = "tag_ttl: 2m\nmax_size: 2\nlog: {level: debug}\ngrace: 2s\nlisten: ':9'\n"
                       "max_age: 2h\npin: [z]\n"
                       "limits: {per_client: {requests: 8%}, per_upstream: {waiting: 8}}\n";
    bench->environment = environment;
    const struct config *config = load(bench, text);
    assert_int_equal(upstream(config, "quay.io")->tag_ttl_ms, 180000); /* environment */
    assert_int_equal(config->log_level, LOG_ERROR);                    /* flag */
    assert_int_equal(config->max_size, 4);                             /* flag */
    assert_int_equal(config->grace_ms, 2000);          /* file: an empty variable is unset */
    assert_int_equal(config->max_age_ms, 7200000);     /* file */
    assert_int_equal(config->idle_timeout_ms, 120000); /* default */
    assert_int_equal(config->per_client.requests, 7);  /* environment */
    assert_int_equal(config->waiting_per_upstream, 9); /* flag */
    assert_int_equal(config->listen_count, 2);
    assert_string_equal(config->listen[1], ":2");
    assert_string_equal(config->pin[0], "a/**");
    assert_string_equal(config->pin[2], "c");
    assert_null(config->pin[3]);
    assert_true(upstream(config, "quay.io")->prefetch);
    assert_true(upstream(config, "quay.io")->keep_deleted);
    assert_false(upstream(config, "quay.io")->range_fill);
}

static void test_the_default_upstream_is_chosen_or_added(void **state) {
    struct bench *bench = *state;
    static const char text[] = "upstreams:\n"
                               "- {host: quay.io, default: true}\n"
                               "- {host: '*.pkg.dev', tag_ttl: 7s, credentials: anonymous}\n"
                               "- {host: ghcr.io}\n";
    static const char *const hosts[] = {"ghcr.io", "us-docker.pkg.dev", "new.example"};
    for (size_t i = 0; i < 3; i++) {
        give_flags(bench, "--default-upstream", hosts[i]);
        const struct config *config = load(bench, text);
        assert_string_equal(default_host(config), hosts[i]);
        assert_int_equal(config->upstream_count, i == 0 ? 3 : 4);
        const struct upstream_settings *chosen = upstream(config, hosts[i]);
        assert_int_equal(chosen->tag_ttl_ms, i == 1 ? 7000 : 60000);
        if (i == 1) /* the pattern's entry has this host, with the pattern's settings */
            assert_string_equal(credential_source_name(chosen->credentials), "anonymous");
    }
}

static void test_upstreams_are_added_by_flag_and_variable(void **state) {
    struct bench *bench = *state;
    give_flags(bench, "--upstream", "origin.example=http://127.0.0.1:5001",
               "--upstream=quay.io=http://127.0.0.1:5002", "--upstream", "plain.example");
    const struct config *config = load(bench, "");
    assert_string_equal(upstream(config, "origin.example")->url, "http://127.0.0.1:5001");
    assert_string_equal(upstream(config, "quay.io")->url, "http://127.0.0.1:5002");
    assert_null(upstream(config, "plain.example")->url);
    assert_string_equal(default_host(config), "docker.io");

    const char *const environment[] = {"HOME=/h",
                                       "TARN_UPSTREAM=a.example,b.example=https://c.example",
                                       "TARN_DEFAULT_UPSTREAM=a.example", NULL};
    config_flags_finish(&bench->flags);
    bench->environment = environment;
    config = load(bench, "");
    assert_string_equal(default_host(config), "a.example");
    assert_string_equal(upstream(config, "b.example")->url, "https://c.example");
}

/* The defaults of a container image: a file that is mounted has priority, also in part. */
static void test_a_fallback_counts_where_nothing_else_says_anything(void **state) {
    struct bench *bench = *state;
    const char *const environment[] = {"HOME=/h",
                                       "TARN_FALLBACK_LISTEN=:5000",
                                       "TARN_FALLBACK_ROOT=/fallback",
                                       "TARN_FALLBACK_LOG_FORMAT=json",
                                       "TARN_MAX_SIZE=7",
                                       "TARN_FALLBACK_MAX_SIZE=8",
                                       NULL};
    bench->environment = environment;
    const struct config *config = load(bench, "");
    assert_string_equal(config->listen[0], ":5000");
    assert_null(config->listen[1]);
    assert_string_equal(config->root, "/fallback");
    assert_int_equal(config->log_format, LOG_JSON);
    assert_int_equal(config->max_size, 7);
    assert_null(config->warnings);
    config = load(bench, "listen: [127.0.0.1:1]\nlog: {format: text}\n");
    assert_string_equal(config->listen[0], "127.0.0.1:1");
    assert_string_equal(config->root, "/fallback");
    assert_int_equal(config->log_format, LOG_TEXT);
    give_flags(bench, "--root=/flag");
    assert_string_equal(load(bench, "")->root, "/flag");

    const char *const wrong[] = {"HOME=/h", "TARN_FALLBACK_LISTEN=5000", NULL};
    bench->environment = wrong;
    assert_null(try_load(bench, ""));
    assert_non_null(strstr(bench->problems.bytes, "TARN_FALLBACK_LISTEN: "));
}

static void test_unknown_variables_only_warn(void **state) {
    struct bench *bench = *state;
    const char *const environment[] = {"HOME=/h",
                                       "TARN_ROOTS=/x",
                                       "TARN_FALLBACK_ROOTS=/x",
                                       "TARN_CONFIG=/not/read/here",
                                       "TARN_SERVICE_HOST=10.0.0.1",
                                       "TARN_PORT=tcp://10.0.0.1:5000",
                                       "TARN_PORT_5000_TCP=x",
                                       "TARNISH=1",
                                       NULL};
    bench->environment = environment;
    const struct config *config = load(bench, "");
    assert_string_equal(
        config->warnings[0],
        "\"TARN_ROOTS\" in the environment is not a setting of tarn; did you mean TARN_ROOT?");
    assert_non_null(config->warnings[1]);
    assert_null(config->warnings[2]);
}

static void test_the_file_is_found_by_flag_then_variable(void **state) {
    struct bench *bench = *state;
    char variable[320];
    const char *first = write_file(bench, "first.yaml", "max_size: 1\n");
    const char *second = write_file(bench, "second.yaml", "max_size: 2\n");
    snprintf(variable, sizeof variable, "TARN_CONFIG=%s", second);
    const char *const environment[] = {"HOME=/h", variable, NULL};
    bench->environment = environment;
    give_flags(bench, "--config", first);
    const struct config *config = load_named(bench);
    assert_non_null(config);
    assert_int_equal(config->max_size, 1);
    assert_string_equal(config->file, first);
    config_flags_finish(&bench->flags);
    config = load_named(bench);
    assert_non_null(config);
    assert_int_equal(config->max_size, 2);
}

static void test_an_unreadable_or_huge_file_is_refused(void **state) {
    struct bench *bench = *state;
    give_flags(bench, "--config=/not/there.yaml");
    assert_null(load_named(bench));
    assert_string_equal(bench->problems.bytes,
                        "/not/there.yaml: cannot be read: No such file or directory\n");

    const char *path = write_file(bench, "huge.yaml", "");
    assert_int_equal(truncate(path, (1 << 20) + 1), 0);
    give_flags(bench, "--config", path);
    assert_null(load_named(bench));
    assert_non_null(strstr(bench->problems.bytes, "huge.yaml: is longer than 1048576 bytes\n"));

    cleanup_free char *text = calloc(1, (1 << 20) + 2);
    memset(text, ' ', (1 << 20) + 1);
    assert_refused(bench, text, "f.yaml:1: larger than 1 MiB\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_bench(test_flag_over_environment_over_file_over_default),
        with_bench(test_the_default_upstream_is_chosen_or_added),
        with_bench(test_upstreams_are_added_by_flag_and_variable),
        with_bench(test_a_fallback_counts_where_nothing_else_says_anything),
        with_bench(test_unknown_variables_only_warn),
        with_bench(test_the_file_is_found_by_flag_then_variable),
        with_bench(test_an_unreadable_or_huge_file_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
