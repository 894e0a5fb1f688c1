/* Which upstream a name finds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "upstream/bench.h"

static const struct upstreams *make(struct bench *bench, const struct upstream_settings *settings,
                                    size_t count) {
    if (!bench_make(bench, settings, count))
        fail_msg("%s", bench->error.text);
    return bench->upstreams;
}

static void test_names_find_their_upstream(void **state) {
    struct bench *bench = *state;
    static const char *const allowed[] = {"library/*", NULL};
    static const char *const hosts[] = {"Index.Docker.io", "us-docker.pkg.dev", "*-docker.pkg.dev",
                                        "*.pkg.dev",       "10.0.0.1:5000",     "registry",
                                        "*.*.example"};
    struct upstream_settings settings[7];
    for (size_t i = 0; i < 7; i++) {
        settings[i] = upstream_settings_default();
        settings[i].host = hosts[i];
    }
    settings[0].repositories = allowed;
    settings[1].is_default = true;
    settings[2].max_connections = 7;
    const struct upstreams *upstreams = make(bench, settings, 7);
    static const struct {
        const char *name, *host;
    } cases[] = {
        {"docker.io", "docker.io"},
        {"REGISTRY-1.docker.io", "docker.io"},
        {"registry.hub.docker.com", "docker.io"},
        {"us-docker.pkg.dev", "us-docker.pkg.dev"},
        {"us-docker.pkg.dev:443", "us-docker.pkg.dev"},
        {"EU-docker.pkg.dev", "eu-docker.pkg.dev"},
        {"docker.us.rep.pkg.dev", NULL},
        {"pkg.dev", NULL},
        {"10.0.0.1:5000", "10.0.0.1:5000"},
        {"10.0.0.1", NULL},
        {"10.0.0.example", NULL},
        {"registry", "registry"},
        {"other", NULL},
        {"a.b.example", "a.b.example"},
        {"b.example", NULL},
        {"1.2.3.4", NULL},
        {"", NULL},
        {"a b.example", NULL},
        {"evil.com/x.pkg.dev", NULL},
        {"evil.com#.pkg.dev", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char host[HOST_LIMIT + 1];
        struct upstream *upstream = upstreams_find(upstreams, text_of(cases[i].name), host);
        assert_int_equal(upstream != NULL, cases[i].host != NULL);
        if (upstream)
            assert_string_equal(host, cases[i].host);
    }
    char host[HOST_LIMIT + 1];
    struct upstream *matched = upstreams_find(upstreams, text_of("eu-docker.pkg.dev"), host);
    assert_string_equal(upstream_name(matched), "*-docker.pkg.dev");
    assert_int_equal(upstream_settings(matched)->max_connections, 7);
    assert_int_equal(upstream_settings(matched)->stall_timeout_ms, 10000);
    assert_ptr_equal(matched, upstreams_find(upstreams, text_of("US2-docker.pkg.dev"), host));
    struct upstream *hub = upstreams_find(upstreams, text_of("docker.io"), host);
    assert_true(upstream_is_docker_hub(hub));
    assert_ptr_equal(upstream_for(upstreams, hub, "library/busybox"), hub);
    assert_null(upstream_for(upstreams, hub, "org/app"));
    assert_string_equal(upstream_name(upstreams_default(upstreams)), "us-docker.pkg.dev");
}

static void test_the_longest_glob_chooses_among_the_entries_of_a_host(void **state) {
    struct bench *bench = *state;
    static const char *const org[] = {"org/**", "few/*", NULL}, *const app[] = {"org/app/**", NULL},
                             *const same[] = {"few/*", "org/**", NULL},
                             *const other[] = {"org/??", "org/*", NULL};
    static const struct {
        const char *host;
        const char *const *repositories;
    } entries[] = {{"quay.io", org},  {"QUAY.io:443", app}, {"*.pkg.dev", org},
                   {"quay.io", NULL}, {"quay.io", other},   {"*.PKG.dev", app}};
    struct upstream_settings settings[7];
    for (size_t i = 0; i < 6; i++) {
        settings[i] = upstream_settings_default();
        settings[i].host = entries[i].host;
        settings[i].repositories = entries[i].repositories;
        settings[i].max_connections = (unsigned)i + 1;
    }
    settings[3].is_default = settings[4].is_default = true;
    const struct upstreams *upstreams = make(bench, settings, 6);
    static const struct {
        const char *host, *repository;
        unsigned entry; /* from 1; 0: none */
    } cases[] = {
        {"quay.io", "org/x", 1},   {"quay.io", "org/app/x", 2},   {"quay.io", "org/app/x/y", 2},
        {"quay.io", "few/x", 1},   {"quay.io", "few/x/y", 4},     {"quay.io", "organisation/x", 4},
        {"quay.io", "org", 4},     {"quay.io", "org/ab", 1}, /* "org/??" is as long, and later */
        {"a.pkg.dev", "org/x", 3}, {"b.pkg.dev", "org/app/x", 6}, {"a.pkg.dev", "other", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char host[HOST_LIMIT + 1];
        struct upstream *found = upstreams_find(upstreams, text_of(cases[i].host), host);
        struct upstream *chosen = upstream_for(upstreams, found, cases[i].repository);
        assert_int_equal(chosen ? upstream_settings(chosen)->max_connections : 0, cases[i].entry);
    }
    assert_int_equal(upstream_settings(upstreams_default(upstreams))->max_connections, 1);

    settings[6] = settings[0];
    settings[6].repositories = same;
    bench_close(bench);
    assert_false(bench_make(bench, settings, 7));
    assert_non_null(strstr(bench->error.text, "quay.io is configured twice"));
}

static void test_impossible_settings_are_refused(void **state) {
    struct bench *bench = *state;
    static const char *const bad_fallback[] = {"ftp://x", NULL};
    static const struct upstream_settings cases[] = {
        {.host = "no host"},
        {.host = "*"},
        {.host = "**.example"},
        {.host = "*.example", .is_default = true},
        {.host = "x.example", .url = "ftp://x.example"},
        {.host = "x.example", .url = "http://user:pw@x.example"},
        {.host = "x.example", .url = "http://x.example/?q"},
        {.host = "x.example", .url = "https://x.example/v2/Upper"},
        {.host = "x.example", .url = "https://x.example/v2/a", .prefix = "b"},
        {.host = "x.example", .fallbacks = bad_fallback},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bench->error = (struct error){0};
        assert_false(bench_make(bench, &cases[i], 1));
        assert_int_equal(bench->error.kind, ERROR_INVALID);
    }
    const struct upstream_settings twice[] = {{.host = "docker.io"}, {.host = "index.docker.io"}};
    assert_false(bench_make(bench, twice, 2));
}

static void test_a_pattern_does_not_reach_this_machine(void **state) {
    struct bench *bench = *state;
    struct upstream_settings settings = upstream_settings_default();
    settings.host = "*.localhost";
    struct error error = {0};
    const struct upstreams *upstreams = make(bench, &settings, 1);
    char host[HOST_LIMIT + 1];
    struct upstream *upstream = upstreams_find(upstreams, text_of("x.localhost"), host);
    assert_non_null(upstream);
    const struct upstream_sink sink = {0};
    struct upstream_request request = bench_blob;
    request.host = host;
    assert_false(upstream_perform(upstream, &request, &sink, &error));
    assert_int_equal(error.kind, ERROR_DENIED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_BENCH(test_a_pattern_does_not_reach_this_machine),
        WITH_BENCH(test_names_find_their_upstream),
        WITH_BENCH(test_the_longest_glob_chooses_among_the_entries_of_a_host),
        WITH_BENCH(test_impossible_settings_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
