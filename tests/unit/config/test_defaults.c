/* The defaults, and the example in the documentation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "certificate.h"
#include "config/bench.h"

static void test_an_empty_file_gives_the_documented_defaults(void **state) {
    struct bench *bench = *state;
    static const char *const empty[] = {"", "# nothing\n", "---\n", "{}\n"};
    for (size_t i = 0; i < 4; i++) {
        const struct config *config = load(bench, empty[i]);
        assert_int_equal(config->listen_count, 1);
        assert_string_equal(config->listen[0], "127.0.0.1:5000");
        assert_int_equal(config->max_connections, 10000);
        assert_int_equal(config->head_timeout_ms, 10000);
        assert_int_equal(config->idle_timeout_ms, 120000);
        assert_int_equal(config->send_timeout_ms, 60000);
        assert_int_equal(config->grace_ms, 30000);
        assert_int_equal(config->negative_ttl_ms, 5000);
        assert_int_equal(config->manifest_memory, 8 << 20);
        assert_int_equal(config->max_flights, 512);
        assert_int_equal(config->connections_total, 64);
        assert_int_equal(config->waiting_per_upstream, 256);
        assert_int_equal(config->flights_per_upstream, 128);
        assert_int_equal(config->per_client.connections, 50);
        assert_int_equal(config->per_client.requests, 50);
        assert_int_equal(config->per_client.least_rate, 16 << 10);
        assert_int_equal(config->logins.failures, 10);
        assert_int_equal(config->logins.within_ms, 60000);
        assert_int_equal(config->logins.waiting, 16);
        assert_int_equal(config->max_size, 0);
        assert_int_equal(config->max_age_ms, 0);
        assert_int_equal(config->min_free, 0);
        assert_null(config->pin);
        assert_null(config->clients_htpasswd);
        assert_null(config->tls_certificate);
        assert_int_equal(config->tls_minimum, HTTP_TLS_1_2);
        assert_int_equal(config->log_level, LOG_INFO);
        assert_int_equal(config->log_format, LOG_TEXT);
        assert_int_equal(config->warm_count, 0);
        assert_null(config->warnings);
    }
}

static void test_without_a_list_the_well_known_registries_are_served(void **state) {
    struct bench *bench = *state;
    const struct config *config = load(bench, "");
    assert_string_equal(default_host(config), "docker.io");
    const struct upstream_settings *hub = upstream(config, "docker.io");
    assert_null(hub->url);
    assert_int_equal(hub->tag_ttl_ms, 60000);
    assert_int_equal(hub->connect_timeout_ms, 5000);
    assert_int_equal(hub->stall_timeout_ms, 10000);
    assert_int_equal(hub->first_byte_timeout_ms, 25000);
    assert_int_equal(hub->connections, 4);
    assert_int_equal(hub->max_connections, 64);
    assert_true(hub->range_fill);
    assert_false(hub->prefetch);
    assert_false(hub->keep_deleted);
    assert_string_equal(credential_source_name(hub->credentials), "docker");
    static const char *const google[] = {"gcr.io", "*.gcr.io", "*.pkg.dev", "docker.*.rep.pkg.dev"};
    for (size_t i = 0; i < 4; i++) {
        assert_string_equal(credential_source_name(upstream(config, google[i])->credentials),
                            "google");
        /* One source: one access token for all. */
        assert_ptr_equal(upstream(config, google[i])->credentials,
                         upstream(config, "gcr.io")->credentials);
    }
    static const char *const others[] = {"ghcr.io",           "quay.io",
                                         "registry.k8s.io",   "public.ecr.aws",
                                         "mcr.microsoft.com", "registry.gitlab.com",
                                         "nvcr.io",           "registry.access.redhat.com",
                                         "docker.elastic.co", "cgr.dev"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_ptr_equal(upstream(config, others[i])->credentials, hub->credentials);
}

static void test_the_default_root_is_where_caches_belong(void **state) {
    struct bench *bench = *state;
    const char *const xdg[] = {"HOME=/home/someone", "XDG_CACHE_HOME=/caches", NULL};
    const char *const relative[] = {"HOME=/home/someone", "XDG_CACHE_HOME=caches", NULL};
    const char *const nothing[] = {NULL};
    bool is_root = geteuid() == 0;
    const struct config *config = load(bench, "");
    assert_string_equal(config->root, is_root ? "/var/lib/tarn" : "/home/someone/.cache/tarn");
    bench->environment = xdg;
    config = try_load(bench, "");
    assert_string_equal(config->root, is_root ? "/var/lib/tarn" : "/caches/tarn");
    bench->environment = relative;
    config = try_load(bench, "");
    assert_string_equal(config->root, is_root ? "/var/lib/tarn" : "/home/someone/.cache/tarn");
    bench->environment = nothing;
    config = try_load(bench, "");
    assert_true(is_root == (config != NULL));
    config = load(bench, "root: /srv/tarn\n");
    assert_string_equal(config->root, "/srv/tarn");
}

static void test_the_size_limit_is_four_fifths_of_the_file_system(void **state) {
    struct bench *bench = *state;
    const struct config *config = load(bench, "root: /tmp/not/there/yet\n");
    uint64_t bytes = 0;
    assert_true(config_max_size(config, &bytes, NULL));
    assert_true(bytes > 0);
    config = load(bench, "max_size: 10MB\n");
    assert_true(config_max_size(config, &bytes, NULL));
    assert_int_equal(bytes, 10000000);
}

static void read_document(const char *name, struct buffer *out) {
    char path[500], chunk[4096];
    snprintf(path, sizeof path, "%s/docs/%s", SOURCE_ROOT, name);
    FILE *file = fopen(path, "r");
    if (!file)
        fail_msg("cannot read %s", path);
    for (size_t got; (got = fread(chunk, 1, sizeof chunk, file));)
        buffer_append(out, chunk, got);
    fclose(file);
}

struct stand_ins {
    const char *certificate, *key, *jwks, *htpasswd, *replicas;
};

static bool is_at(const char *at, const char *path) {
    return strncmp(at, path, strlen(path)) == 0;
}

/* The file that stands for one of the example's. */
static const char *stand_in(const char *at, const struct stand_ins *files) {
    return is_at(at, "/etc/tarn/tls.crt") || is_at(at, "/etc/tarn/clients.pem") ? files->certificate
           : is_at(at, "/etc/tarn/tls.key")                                     ? files->key
           : is_at(at, "/etc/tarn/jwks.json")                                   ? files->jwks
           : is_at(at, "/etc/tarn/htpasswd")                                    ? files->htpasswd
           : is_at(at, "/etc/tarn/replicas")                                    ? files->replicas
                                                                                : "/dev/null";
}

/* The example as it is; then with the settings that are commented out (`#key: value`, while a
 * comment has a space after the `#`), and with other files for its own. */
static void test_the_example_is_accepted(void **state) {
    struct bench *bench = *state;
    cleanup_buffer struct buffer example = {0}, whole = {0};
    read_document("tarn.example.yaml", &example);
    load(bench, example.bytes);
    const struct stand_ins files = {
        write_file(bench, "tls.crt", ""), write_file(bench, "tls.key", ""),
        write_file(bench, "jwks.json", BENCH_JWKS), write_file(bench, "htpasswd", ""),
        write_file(bench, "replicas", "0123456789abcdef0123456789abcdef\n")};
    certificate_write(files.certificate, files.key, "localhost");

    bool indent = true;
    for (const char *at = example.bytes; *at; at++) {
        if (strncmp(at, "/etc/tarn/", 10) == 0) {
            buffer_append_string(&whole, stand_in(at, &files));
            at += strcspn(at, ",} \n");
        }
        if (!(indent && *at == '#' && at[1] != ' ' && at[1] != '\n'))
            buffer_append(&whole, at, 1);
        indent = *at == '\n' || (indent && *at == ' ');
    }
    const struct config *config = load(bench, whole.bytes);
    assert_non_null(config->tls_key);
    assert_non_null(config->clients_htpasswd);
    assert_true(config->warm_count > 0);
    assert_non_null(config->replicas.dns);
    assert_int_equal(config->replicas.port, 5000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_bench(test_an_empty_file_gives_the_documented_defaults),
        with_bench(test_without_a_list_the_well_known_registries_are_served),
        with_bench(test_the_default_root_is_where_caches_belong),
        with_bench(test_the_size_limit_is_four_fifths_of_the_file_system),
        with_bench(test_the_example_is_accepted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
