/* Configuration: every mistake is told with its place, and nothing is guessed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/units.h"
#include "config/config.h"

static char folder[] = "/tmp/tarn-config-XXXXXX";
static const char *const no_environment[] = {"HOME=/home/someone", NULL};

static struct config *find_and_load(const struct config_flags *flags,
                                    const char *const *environment, struct buffer *told) {
    return config_load(flags, (char *const *)(uintptr_t)environment, told);
}

/* Loads `text` as a file named f.yaml; what is told goes into `told`. */
static struct config *load_with(const char *text, const struct config_flags *flags,
                                const char *const *environment, struct buffer *told) {
    return config_parse(text_of(text), "f.yaml", flags, (char *const *)(uintptr_t)environment,
                        told);
}

static struct config *load(const char *text) {
    cleanup_buffer struct buffer told = {0};
    struct config *config = load_with(text, NULL, no_environment, &told);
    if (!config)
        fail_msg("refused:\n%s", told.bytes);
    return config;
}

static void assert_told_with(const char *text, const struct config_flags *flags,
                             const char *const *environment, const char *wanted) {
    cleanup_buffer struct buffer told = {0};
    struct config *config = load_with(text, flags, environment, &told);
    if (config)
        fail_msg("accepted:\n%s", text);
    assert_string_equal(told.bytes, wanted);
}

static void assert_told(const char *text, const char *wanted) {
    assert_told_with(text, NULL, no_environment, wanted);
}

static const struct config_option *option_of(struct text flag) {
    for (size_t i = 0; i < config_option_count; i++) {
        char name[CONFIG_NAME_SIZE];
        config_option_flag(&config_options[i], name);
        if (text_is(flag, name))
            return &config_options[i];
    }
    fail_msg("no flag %.*s", TEXT_PRINT(flag));
    return NULL;
}

/* From "--name=value", or "--name" and "value"; a boolean's value is only behind "=". */
static struct config_flags flags_of(int count, const char *const *arguments) {
    struct config_flags flags = {0};
    for (int at = 0; at < count; at++) {
        struct text value, name = text_cut(text_of(arguments[at]), '=', &value);
        const struct config_option *option = text_is(name, "--config") ? NULL : option_of(name);
        const char *given = value.at                                   ? value.at
                            : option && option->type == CONFIG_BOOLEAN ? "true"
                                                                       : arguments[++at];
        if (option)
            assert_true(config_flags_add(&flags, option, given));
        else
            flags.file = given;
    }
    return flags;
}
#define FLAGS(...)                                                                                 \
    flags_of((int)(sizeof(const char *[]){__VA_ARGS__} / sizeof(char *)),                          \
             (const char *[]){__VA_ARGS__})

static const struct upstream_settings *upstream(const struct config *config, const char *host) {
    for (size_t i = 0; i < config->upstream_count; i++) {
        if (strcmp(config->upstreams[i].host, host) == 0)
            return &config->upstreams[i];
    }
    fail_msg("no upstream %s", host);
    return NULL;
}

static const char *default_host(const struct config *config) {
    const char *host = NULL;
    for (size_t i = 0; i < config->upstream_count; i++) {
        if (config->upstreams[i].is_default) {
            assert_null(host);
            host = config->upstreams[i].host;
        }
    }
    return host ? host : "none";
}

static const char *write_file(const char *name, const char *content) {
    static char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(content, file);
    fclose(file);
    return path;
}

/* ---- defaults ---- */

static void test_an_empty_file_gives_the_documented_defaults(void **state) {
    (void)state;
    static const char *const empty[] = {"", "# nothing\n", "---\n", "{}\n"};
    for (size_t i = 0; i < 4; i++) {
        struct config *config = load(empty[i]);
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
        assert_int_equal(config->max_size, 0);
        assert_int_equal(config->max_age_ms, 0);
        assert_int_equal(config->min_free, 0);
        assert_null(config->pin);
        assert_null(config->clients_htpasswd);
        assert_null(config->tls_certificate);
        assert_int_equal(config->log_level, LOG_INFO);
        assert_int_equal(config->log_format, LOG_TEXT);
        assert_int_equal(config->warm_count, 0);
        assert_null(config->warnings);
        config_free(config);
    }
}

static void test_without_a_list_the_well_known_registries_are_served(void **state) {
    (void)state;
    struct config *config = load("");
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
    config_free(config);
}

static void test_the_root_is_where_caches_belong(void **state) {
    (void)state;
    cleanup_buffer struct buffer told = {0};
    const char *const xdg[] = {"HOME=/home/someone", "XDG_CACHE_HOME=/caches", NULL};
    const char *const relative[] = {"HOME=/home/someone", "XDG_CACHE_HOME=caches", NULL};
    const char *const nothing[] = {NULL};
    bool is_root = geteuid() == 0;
    struct config *config = load("");
    assert_string_equal(config->root, is_root ? "/var/lib/tarn" : "/home/someone/.cache/tarn");
    config_free(config);
    config = load_with("", NULL, xdg, &told);
    assert_string_equal(config->root, is_root ? "/var/lib/tarn" : "/caches/tarn");
    config_free(config);
    config = load_with("", NULL, relative, &told);
    assert_string_equal(config->root, is_root ? "/var/lib/tarn" : "/home/someone/.cache/tarn");
    config_free(config);
    config = load_with("", NULL, nothing, &told);
    assert_true(is_root == (config != NULL));
    config_free(config);
    config = load("root: /srv/tarn\n");
    assert_string_equal(config->root, "/srv/tarn");
    config_free(config);
}

static void test_the_size_limit_is_four_fifths_of_the_file_system(void **state) {
    (void)state;
    struct config *config = load("root: /tmp/not/there/yet\n");
    uint64_t bytes = 0;
    assert_true(config_max_size(config, &bytes, NULL));
    assert_true(bytes > 0);
    config_free(config);
    config = load("max_size: 10MB\n");
    assert_true(config_max_size(config, &bytes, NULL));
    assert_int_equal(bytes, 10000000);
    config_free(config);
}

/* ---- each type ---- */

static void test_every_kind_of_value_is_read(void **state) {
    (void)state;
    char text[2000];
    char ca[300], key[300], users[300];
    snprintf(ca, sizeof ca, "%s", write_file("ca.pem", "x"));
    snprintf(key, sizeof key, "%s", write_file("key.pem", "x"));
    snprintf(users, sizeof users, "%s", write_file("users", ""));
    snprintf(text, sizeof text,
             "listen: [0.0.0.0:5000, '[::]:5000', localhost:5001, ':0']\n"
             "max_size: 1.5GiB\n"
             "min_free: 500MB\n"
             "max_age: 168h\n"
             "pin: ['docker.io/library/**', \"ghcr.io/org/app:1.*\"]\n"
             "max_flights: 7\n"
             "prefetch: yes\n"
             "range_fill: false\n"
             "tag_ttl: 0\n"
             "ca: %s\n"
             "log: {level: debug, format: json}\n"
             "tls:\n  certificate: %s\n  key: %s\n"
             "clients:\n  htpasswd: %s\n",
             ca, ca, key, users);
    struct config *config = load(text);
    assert_int_equal(config->listen_count, 4);
    assert_string_equal(config->listen[1], "[::]:5000");
    assert_null(config->listen[4]);
    assert_int_equal(config->max_size, 3ull << 29);
    assert_int_equal(config->min_free, 500000000);
    assert_int_equal(config->max_age_ms, 168ll * 3600000);
    assert_string_equal(config->pin[1], "ghcr.io/org/app:1.*");
    assert_null(config->pin[2]);
    assert_int_equal(config->max_flights, 7);
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
    config_free(config);
}

static void test_an_upstream_says_otherwise_than_the_top_level(void **state) {
    (void)state;
    struct config *config = load("upstreams:\n"
                                 "  - host: Quay.IO\n"
                                 "    tag_ttl: 1h\n"
                                 "    connections: 2\n"
                                 "    max_connections: 9\n"
                                 "    keep_deleted: true\n"
                                 "    repositories: 'org/**'\n"
                                 "    token_hosts: [auth.example, auth.example:8443]\n"
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
    assert_string_equal(quay->fallbacks[1], "http://b.example:5000/sub");
    assert_int_equal(upstream(config, "ghcr.io")->tag_ttl_ms, 120000);
    assert_int_equal(upstream(config, "ghcr.io")->connections, UPSTREAM_CONNECTIONS_LIMIT);
    assert_int_equal(upstream(config, "*.registry.example:5000")->max_connections, 64);
    assert_string_equal(default_host(config), "ghcr.io");
    config_free(config);
}

static void test_credentials_in_each_form(void **state) {
    (void)state;
    char password[300], docker[300], text[2000];
    snprintf(password, sizeof password, "%s", write_file("password", "secret"));
    snprintf(docker, sizeof docker, "%s", write_file("config.json", "{}"));
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
    struct config *config = load(text);
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
    config_free(config);
}

static void test_unsaid_credentials_go_nowhere_else(void **state) {
    (void)state;
    struct config *config = load("upstreams:\n"
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
    config_free(config);
}

static void test_warm_lists_images(void **state) {
    (void)state;
    struct config *config = load("warm:\n"
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
    config_free(config);
}

/* ---- priority ---- */

static void test_flag_over_environment_over_file_over_default(void **state) {
    (void)state;
    cleanup_buffer struct buffer told = {0};
    const char *const environment[] = {
        "HOME=/h",     "TARN_TAG_TTL=3m",    "TARN_LOG_LEVEL=warn", "TARN_MAX_SIZE=3",
        "TARN_GRACE=", "TARN_LISTEN=:1, :2", "TARN_PREFETCH=on",    NULL};
    struct config_flags flags = FLAGS("--max-size=4", "--log-level", "error", "--pin", "a/**,b",
                                      "--pin=c", "--keep-deleted", "--range-fill=false");
    const char *text = "tag_ttl: 2m\nmax_size: 2\nlog: {level: debug}\ngrace: 2s\nlisten: ':9'\n"
                       "max_age: 2h\npin: [z]\n";
    struct config *config = load_with(text, &flags, environment, &told);
    assert_non_null(config);
    assert_int_equal(upstream(config, "quay.io")->tag_ttl_ms, 180000); /* environment */
    assert_int_equal(config->log_level, LOG_ERROR);                    /* flag */
    assert_int_equal(config->max_size, 4);                             /* flag */
    assert_int_equal(config->grace_ms, 2000);          /* file: an empty variable is unset */
    assert_int_equal(config->max_age_ms, 7200000);     /* file */
    assert_int_equal(config->idle_timeout_ms, 120000); /* default */
    assert_int_equal(config->listen_count, 2);
    assert_string_equal(config->listen[1], ":2");
    assert_string_equal(config->pin[0], "a/**");
    assert_string_equal(config->pin[2], "c");
    assert_null(config->pin[3]);
    assert_true(upstream(config, "quay.io")->prefetch);
    assert_true(upstream(config, "quay.io")->keep_deleted);
    assert_false(upstream(config, "quay.io")->range_fill);
    config_free(config);
    config_flags_free(&flags);
}

static void test_the_default_upstream_is_picked_or_added(void **state) {
    (void)state;
    cleanup_buffer struct buffer told = {0};
    static const char text[] = "upstreams:\n"
                               "- {host: quay.io, default: true}\n"
                               "- {host: '*.pkg.dev', tag_ttl: 7s, credentials: anonymous}\n"
                               "- {host: ghcr.io}\n";
    static const char *const hosts[] = {"ghcr.io", "us-docker.pkg.dev", "new.example"};
    for (size_t i = 0; i < 3; i++) {
        struct config_flags flags = FLAGS("--default-upstream", hosts[i]);
        struct config *config = load_with(text, &flags, no_environment, &told);
        assert_non_null(config);
        assert_string_equal(default_host(config), hosts[i]);
        assert_int_equal(config->upstream_count, i == 0 ? 3 : 4);
        const struct upstream_settings *chosen = upstream(config, hosts[i]);
        assert_int_equal(chosen->tag_ttl_ms, i == 1 ? 7000 : 60000);
        if (i == 1) /* it is the pattern's host, with the pattern's settings */
            assert_string_equal(credential_source_name(chosen->credentials), "anonymous");
        config_free(config);
        config_flags_free(&flags);
    }
}

static void test_upstreams_are_added_by_flag_and_variable(void **state) {
    (void)state;
    cleanup_buffer struct buffer told = {0};
    struct config_flags flags =
        FLAGS("--upstream", "origin.example=http://127.0.0.1:5001",
              "--upstream=quay.io=http://127.0.0.1:5002", "--upstream", "plain.example");
    struct config *config = load_with("", &flags, no_environment, &told);
    assert_non_null(config);
    assert_string_equal(upstream(config, "origin.example")->url, "http://127.0.0.1:5001");
    assert_string_equal(upstream(config, "quay.io")->url, "http://127.0.0.1:5002");
    assert_null(upstream(config, "plain.example")->url);
    assert_string_equal(default_host(config), "docker.io");
    config_free(config);
    config_flags_free(&flags);

    const char *const environment[] = {"HOME=/h",
                                       "TARN_UPSTREAM=a.example,b.example=https://c.example",
                                       "TARN_DEFAULT_UPSTREAM=a.example", NULL};
    config = load_with("", NULL, environment, &told);
    assert_non_null(config);
    assert_string_equal(default_host(config), "a.example");
    assert_string_equal(upstream(config, "b.example")->url, "https://c.example");
    config_free(config);
}

/* ---- mistakes and their places ---- */

static void test_each_mistake_is_told_with_its_place(void **state) {
    (void)state;
    static const struct {
        const char *text, *told;
    } cases[] = {
        /* keys */
        {"tag_tll: 5s\n", "f.yaml:1:1: tag_tll: unknown key \"tag_tll\"; did you mean tag_ttl?\n"},
        {"\nlog: {levle: info}\n",
         "f.yaml:2:7: log.levle: unknown key \"levle\"; did you mean level?\n"},
        {"log: {zzzzzz: info}\n",
         "f.yaml:1:7: log.zzzzzz: unknown key \"zzzzzz\"; possible keys: level, format\n"},
        {"upstreams:\n  - host: a.example\n    secret: x\n",
         "f.yaml:3:5: upstreams[0].secret: unknown key \"secret\"; possible keys: host, url, "
         "fallbacks, default, repositories, token_hosts, ca, tag_ttl, connect_timeout, "
         "stall_timeout, first_byte_timeout, connections, max_connections, keep_deleted, "
         "range_fill, prefetch, credentials\n"},
        {"default_upstream: a.example\n", NULL},
        {"grace: 1s\nmax_age: 1h\ngrace: 2s\n",
         "f.yaml:3:1: grace: appears twice; first on line 1\n"},
        {"log: {level: info, level: info}\n",
         "f.yaml:1:20: log.level: appears twice; first on line 1\n"},
        /* shapes */
        {"- a\n", "f.yaml:1:1: expected a mapping (key: value), found a list\n"},
        {"just words\n", "f.yaml:1:1: expected a mapping (key: value), found a single value\n"},
        {"log: info\n", "f.yaml:1:6: log: expected a mapping (key: value), found a single value\n"},
        {"log:\ngrace: 1s\n", "f.yaml:1:5: log: expected a mapping (key: value), found nothing\n"},
        {"grace: [1s]\n", "f.yaml:1:8: grace: expected a duration, found a list\n"},
        {"grace:\n", "f.yaml:1:7: grace: has no value; expected a duration\n"},
        {"root: {a: b}\n", "f.yaml:1:7: root: expected a string, found a mapping\n"},
        {"listen: {a: b}\n", "f.yaml:1:9: listen: expected a list, found a mapping\n"},
        {"listen: []\n",
         "f.yaml:1:9: listen: the list is empty; remove the key to get the default\n"},
        {"pin: [a, [b]]\n", "f.yaml:1:10: pin[1]: expected a string, found a list\n"},
        {"upstreams: {host: a}\n",
         "f.yaml:1:12: upstreams: expected a list; write for example - host: ghcr.io\n"},
        {"upstreams: [ghcr.io]\n", "f.yaml:1:13: upstreams[0]: expected a mapping (key: value), "
                                   "found a single value\n"},
        {"warm: alpine\n",
         "f.yaml:1:7: warm: expected a list; write for example - images: [alpine:3.20]\n"},
        /* values */
        {"upstreams:\n  - host: a.example\n    tag_ttl: 5 parsecs\n",
         "f.yaml:3:14: upstreams[0].tag_ttl: \"5 parsecs\" is not a duration; write for example "
         "30s, "
         "5m, 168h\n"},
        {"max_size: plenty\n", "f.yaml:1:11: max_size: \"plenty\" is not a size; write for example "
                               "10GiB, 500MB, or bytes\n"},
        {"max_size: 0\n", "f.yaml:1:11: max_size: \"0\" is too small; the minimum is 1\n"},
        {"max_flights: many\n",
         "f.yaml:1:14: max_flights: \"many\" is not a whole number; write for example 4\n"},
        {"max_flights: -1\n",
         "f.yaml:1:14: max_flights: \"-1\" is not a whole number; write for example 4\n"},
        {"connections: 17\n", "f.yaml:1:14: connections: \"17\" is too large; the maximum is 16\n"},
        {"upstreams: [{host: a.example, connections: 17}]\n",
         "f.yaml:1:44: upstreams[0].connections: \"17\" is too large; the maximum is 16\n"},
        {"upstreams: [{host: a.example, connections: 4294967297}]\n",
         "f.yaml:1:44: upstreams[0].connections: \"4294967297\" is too large; the maximum is 16\n"},
        {"connect_timeout: 0\n",
         "f.yaml:1:18: connect_timeout: \"0\" is too small; the minimum is 1ms\n"},
        {"prefetch: maybe\n", "f.yaml:1:11: prefetch: \"maybe\" is neither true nor false\n"},
        {"log: {format: xml}\n", "f.yaml:1:15: log.format: \"xml\" is not one of text, json\n"},
        {"listen: '5000'\n",
         "f.yaml:1:9: listen: \"5000\" is not an address to listen on; write for "
         "example 0.0.0.0:5000, [::]:5000 or :5000\n"},
        {"listen: [':1', '::1:70000']\n",
         "f.yaml:1:16: listen[1]: \"::1:70000\" is not an address to listen on; write for example "
         "0.0.0.0:5000, [::]:5000 or :5000\n"},
        {"ca: /not/there\n",
         "f.yaml:1:5: ca: \"/not/there\" cannot be read: No such file or directory\n"},
        {"ca: /\n", "f.yaml:1:5: ca: \"/\" is a folder, but a file is expected\n"},
        {"pin: ['a b']\n",
         "f.yaml:1:7: pin[0]: \"a b\" is not a pattern of repositories; write for "
         "example my-project/** or library/alpine\n"},
        {"root: \"/a\\x07\\n\"\nlog: {level: \"\\x07\"}\n",
         "f.yaml:2:14: log.level: \"\\x07\" is not one of debug, info, warn, error\n"},
        /* upstreams */
        {"upstreams: [{url: http://a.example}]\n",
         "f.yaml:1:13: upstreams[0]: host is missing; write for example host: ghcr.io\n"},
        {"upstreams: [{host: 'a b'}]\n", "f.yaml:1:20: upstreams[0].host: \"a b\" is not a host; "
                                         "write for example ghcr.io or registry.example:5000\n"},
        {"upstreams: [{host: 'https://ghcr.io'}]\n",
         "f.yaml:1:20: upstreams[0].host: \"https://ghcr.io\" is a URL, but a host is expected; "
         "write for example ghcr.io, and put the URL under url\n"},
        {"upstreams: [{host: '*'}]\n",
         "f.yaml:1:20: upstreams[0].host: \"*\" is not a pattern of hosts; write for example "
         "*.pkg.dev (* stands for part of one label, but not of the last one)\n"},
        {"upstreams: [{host: '**.a.example'}]\n",
         "f.yaml:1:20: upstreams[0].host: \"**.a.example\" is not a pattern of hosts; write for "
         "example *.pkg.dev (* stands for part of one label, but not of the last one)\n"},
        {"upstreams: [{host: a.example, url: 'ftp://a.example'}]\n",
         "f.yaml:1:36: upstreams[0].url: \"ftp://a.example\" is not the URL of a registry; write "
         "for "
         "example https://registry.example or http://127.0.0.1:5001\n"},
        {"upstreams: [{host: a.example, url: 'https://u:secret@a.example'}]\n",
         "f.yaml:1:36: upstreams[0].url: the URL contains a user name or password; put them under "
         "credentials\n"},
        {"upstreams: [{host: a.example, url: 'https://a.example/?x'}]\n",
         "f.yaml:1:36: upstreams[0].url: \"https://a.example/?x\" has more parts than scheme, host "
         "and path\n"},
        {"upstreams:\n- {host: a.example}\n- {host: A.example}\n",
         "f.yaml:3:10: upstreams[1].host: \"a.example\" appears twice; first as upstreams[0]\n"},
        {"upstreams:\n- {host: docker.io}\n- {host: registry-1.docker.io}\n",
         "f.yaml:3:10: upstreams[1].host: \"docker.io\" appears twice; first as upstreams[0]\n"},
        {"upstreams:\n- {host: a.example, default: true}\n- {host: b.example, default: true}\n",
         "f.yaml:3:30: upstreams[1].default: upstreams[0] is the default already; only one "
         "upstream can be\n"},
        {"upstreams:\n- x\n- {host: a.example}\n- {host: a.example}\n",
         "f.yaml:2:3: upstreams[0]: expected a mapping (key: value), found a single value\n"
         "f.yaml:4:10: upstreams[2].host: \"a.example\" appears twice; first as upstreams[1]\n"},
        {"upstreams: [{host: '*.pkg.dev', default: true}]\n",
         "f.yaml:1:42: upstreams[0].default: a pattern cannot be the default; add an entry for one "
         "host\n"},
        {"upstreams: [{host: a.example, repositories: []}]\n",
         "f.yaml:1:45: upstreams[0].repositories: the list is empty; remove the key to get the "
         "default\n"},
        {"upstreams: [{host: a.example, token_hosts: ['*.b.example']}]\n",
         "f.yaml:1:45: upstreams[0].token_hosts[0]: \"*.b.example\" is a pattern, but one host is "
         "expected\n"},
        /* credentials */
        {"upstreams: [{host: a.example, credentials: gogle}]\n",
         "f.yaml:1:44: upstreams[0].credentials: \"gogle\" is not one of anonymous, docker, "
         "google, {username: U, password_file: F}, {helper: NAME}\n"},
        {"upstreams: [{host: a.example, credentials: {username: u}}]\n",
         "f.yaml:1:44: upstreams[0].credentials: username is set, but password_file is missing\n"},
        {"upstreams: [{host: a.example, credentials: {password_file: /dev/null}}]\n",
         "f.yaml:1:44: upstreams[0].credentials: password_file is set, but username is missing\n"},
        {"upstreams: [{host: a.example, credentials: {username: u, password_file: /not/there}}]\n",
         "f.yaml:1:73: upstreams[0].credentials.password_file: \"/not/there\" cannot be read: No "
         "such file or directory\n"},
        {"upstreams: [{host: a.example, credentials: {username: u, password: secret}}]\n",
         "f.yaml:1:44: upstreams[0].credentials: username is set, but password_file is missing\n"
         "f.yaml:1:58: upstreams[0].credentials.password: unknown key \"password\"; did you mean "
         "password_file?\n"},
        {"upstreams: [{host: a.example, credentials: {helper: ../x}}]\n",
         "f.yaml:1:53: upstreams[0].credentials.helper: \"../x\" is not a credential helper; write "
         "the NAME of a program docker-credential-NAME\n"},
        {"upstreams: [{host: a.example, credentials: {helper: a, docker: {}}}]\n",
         "f.yaml:1:44: upstreams[0].credentials: expected exactly one of docker, google, helper, "
         "or username with password_file\n"},
        {"upstreams: [{host: a.example, credentials: {}}]\n",
         "f.yaml:1:44: upstreams[0].credentials: expected exactly one of docker, google, helper, "
         "or username with password_file\n"},
        {"upstreams: [{host: a.example, credentials: {docker: {file: /not/there}}}]\n",
         "f.yaml:1:60: upstreams[0].credentials.docker.file: \"/not/there\" cannot be read: No "
         "such file or directory\n"},
        {"upstreams: [{host: a.example, credentials: {google: {file: /dev/null, gcloud: "
         "true}}}]\n",
         "f.yaml:1:53: upstreams[0].credentials.google: only one of file, metadata and gcloud may "
         "be set\n"},
        {"upstreams: [{host: a.example, credentials: {google: {fiel: x}}}]\n",
         "f.yaml:1:54: upstreams[0].credentials.google.fiel: unknown key \"fiel\"; did you mean "
         "file?\n"},
        /* warm */
        {"warm: [{every: 1h}]\n",
         "f.yaml:1:8: warm[0]: images is missing; write for example images: [alpine:3.20]\n"},
        {"warm: [{images: [UPPER]}]\n",
         "f.yaml:1:18: warm[0].images[0]: \"UPPER\" is not an image; write for example "
         "docker.io/library/alpine:3.20\n"},
        {"warm: [{images: [a], platforms: [linux]}]\n",
         "f.yaml:1:34: warm[0].platforms[0]: \"linux\" is not a platform; write for example "
         "linux/amd64 or linux/arm/v7\n"},
        /* what belongs together */
        {"tls: {certificate: /dev/null}\n",
         "f.yaml:1:20: tls.certificate: tls.key is missing; a certificate needs its key\n"},
        {"tls: {key: /dev/null}\n",
         "f.yaml:1:12: tls.key: tls.certificate is missing; a key needs its certificate\n"},
        /* YAML */
        {"grace: &a 1s\n",
         "f.yaml:1:8: anchors and aliases (& and *) are not supported; write the value itself, or "
         "put it in quotes if it begins with such a character\n"},
        {"upstreams: [{host: *.pkg.dev}]\n", NULL},
        {"grace: !!str 1s\n", "f.yaml:1:8: tags (!) are not supported; put the value in quotes if "
                              "it begins with such a character\n"},
        {"log:\n\tlevel: info\n", "f.yaml:2:1: not valid YAML: a tab cannot indent; use spaces\n"},
        {"log: {level: info\n",
         "f.yaml:2:1: not valid YAML: did not find expected ',' or '}' while "
         "parsing a flow mapping\n"},
        {"grace: 1s\n---\ngrace: 2s\n",
         "f.yaml:2:1: a second YAML document begins here; a file may hold only one\n"},
        {"{a: b}: c\n", "f.yaml:1:1: a key must be a plain word, not a list or a mapping\n"},
        {"grace: \"\\0\"\n", "f.yaml:1:8: a NUL character is not allowed\n"},
        {"a: [[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]\n",
         "f.yaml:1:19: nested too deeply: more than 16 levels\n"},
        {"grace: 1s\nroot: \xff\xfe\n", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cleanup_buffer struct buffer told = {0};
        struct config *config = load_with(cases[i].text, NULL, no_environment, &told);
        if (config)
            fail_msg("accepted:\n%s", cases[i].text);
        if (cases[i].told)
            assert_string_equal(told.bytes, cases[i].told);
        else
            assert_int_equal(strncmp(told.bytes, "f.yaml:", 7), 0);
    }
}

static void test_bytes_that_are_no_text_are_told_with_their_place(void **state) {
    (void)state;
    cleanup_buffer struct buffer told = {0};
    assert_null(load_with("grace: 1s\nroot: \xff\xfe\n", NULL, no_environment, &told));
    assert_int_equal(strncmp(told.bytes, "f.yaml:2:7: not valid YAML: ", 21), 0);
}

static void test_mistakes_in_flags_and_environment_name_them(void **state) {
    (void)state;
    struct config_flags flags = FLAGS("--tag-ttl", "5 parsecs", "--log-level=loud");
    assert_told_with(
        "", &flags, no_environment,
        "--log-level: \"loud\" is not one of debug, info, warn, error\n"
        "--tag-ttl: \"5 parsecs\" is not a duration; write for example 30s, 5m, 168h\n");
    config_flags_free(&flags);
    const char *const environment[] = {"HOME=/h", "TARN_TAG_TTL=5 parsecs", "TARN_LISTEN=:1,x",
                                       NULL};
    assert_told_with("", NULL, environment,
                     "TARN_LISTEN: \"x\" is not an address to listen on; write for example "
                     "0.0.0.0:5000, [::]:5000 or :5000\n"
                     "TARN_TAG_TTL: \"5 parsecs\" is not a duration; write for example 30s, 5m, "
                     "168h\n");
    const char *const half[] = {"HOME=/h", "TARN_TLS_KEY=/dev/null", NULL};
    assert_told_with("", NULL, half,
                     "TARN_TLS_KEY: tls.certificate is missing; a key needs its certificate\n");
    struct config_flags pattern = FLAGS("--default-upstream=*.pkg.dev");
    assert_told_with("", &pattern, no_environment,
                     "--default-upstream: \"*.pkg.dev\" is a pattern, but one host is expected\n");
    config_flags_free(&pattern);
}

static void test_ten_mistakes_are_told_at_once_in_their_order(void **state) {
    (void)state;
    cleanup_buffer struct buffer text = {0}, wanted = {0};
    buffer_append_string(&text, "upstreams: [{host: a.example, tag_ttl: x}]\n");
    buffer_append_string(&wanted,
                         "f.yaml:1:40: upstreams[0].tag_ttl: \"x\" is not a duration; write "
                         "for example 30s, 5m, 168h\n");
    static const char *const keys[] = {"grace", "max_age", "head_timeout", "negative_ttl"};
    for (int i = 0; i < 4; i++) {
        buffer_printf(&text, "%s: x\n", keys[i]);
        buffer_printf(
            &wanted,
            "f.yaml:%d:%zu: %s: \"x\" is not a duration; write for example 30s, 5m, 168h\n", i + 2,
            strlen(keys[i]) + 3, keys[i]);
    }
    assert_told(text.bytes, wanted.bytes);

    buffer_clear(&text);
    for (int i = 0; i < 14; i++)
        buffer_printf(&text, "zzzzz%d: x\n", i);
    cleanup_buffer struct buffer told = {0};
    assert_null(load_with(text.bytes, NULL, no_environment, &told));
    size_t lines = 0;
    for (const char *at = told.bytes; (at = strchr(at, '\n')); at++)
        lines++;
    assert_int_equal(lines, 11);
    assert_non_null(strstr(told.bytes, "\nand 4 more\n"));
}

static void test_unknown_variables_only_warn(void **state) {
    (void)state;
    cleanup_buffer struct buffer told = {0};
    const char *const environment[] = {"HOME=/h",
                                       "TARN_ROOTS=/x",
                                       "TARN_CONFIG=/not/read/here",
                                       "TARN_SERVICE_HOST=10.0.0.1",
                                       "TARN_PORT=tcp://10.0.0.1:5000",
                                       "TARN_PORT_5000_TCP=x",
                                       "TARNISH=1",
                                       NULL};
    struct config *config = load_with("", NULL, environment, &told);
    assert_non_null(config);
    assert_string_equal(
        config->warnings[0],
        "\"TARN_ROOTS\" in the environment is not a setting of tarn; did you mean TARN_ROOT?");
    assert_null(config->warnings[1]);
    config_free(config);
}

/* ---- files ---- */

static void test_the_file_is_found_by_flag_then_variable(void **state) {
    (void)state;
    cleanup_buffer struct buffer told = {0};
    char first[300], second[300], variable[320];
    snprintf(first, sizeof first, "%s", write_file("first.yaml", "max_size: 1\n"));
    snprintf(second, sizeof second, "%s", write_file("second.yaml", "max_size: 2\n"));
    snprintf(variable, sizeof variable, "TARN_CONFIG=%s", second);
    const char *const environment[] = {"HOME=/h", variable, NULL};
    struct config_flags flags = FLAGS("--config", first);
    struct config *config = find_and_load(&flags, environment, &told);
    assert_non_null(config);
    assert_int_equal(config->max_size, 1);
    assert_string_equal(config->file, first);
    config_free(config);
    config_flags_free(&flags);
    config = find_and_load(NULL, environment, &told);
    assert_non_null(config);
    assert_int_equal(config->max_size, 2);
    config_free(config);
}

static void test_an_unreadable_or_huge_file_is_refused(void **state) {
    (void)state;
    cleanup_buffer struct buffer told = {0};
    struct config_flags flags = FLAGS("--config=/not/there.yaml");
    assert_null(find_and_load(&flags, no_environment, &told));
    assert_string_equal(told.bytes, "/not/there.yaml: cannot be read: No such file or directory\n");
    config_flags_free(&flags);

    char path[300];
    snprintf(path, sizeof path, "%s", write_file("huge.yaml", ""));
    assert_int_equal(truncate(path, (1 << 20) + 1), 0);
    flags = FLAGS("--config", path);
    buffer_clear(&told);
    assert_null(find_and_load(&flags, no_environment, &told));
    assert_non_null(strstr(told.bytes, "huge.yaml: is longer than 1048576 bytes\n"));
    config_flags_free(&flags);
}

/* ---- what is written about it ---- */

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

/* The example as it is, and with every line that is commented out taken in (`#key: value`, while
 * prose has a space behind the `#`), its files replaced by ones that are there. */
static void test_the_example_is_accepted(void **state) {
    (void)state;
    cleanup_buffer struct buffer example = {0}, whole = {0};
    read_document("tarn.example.yaml", &example);
    config_free(load(example.bytes));

    bool indent = true;
    for (const char *at = example.bytes; *at; at++) {
        if (strncmp(at, "/etc/tarn/", 10) == 0) {
            buffer_append_string(&whole, "/dev/null");
            at += strcspn(at, ",} \n");
        }
        if (!(indent && *at == '#' && at[1] != ' ' && at[1] != '\n'))
            buffer_append(&whole, at, 1);
        indent = *at == '\n' || (indent && *at == ' ');
    }
    struct config *config = load(whole.bytes);
    assert_non_null(config->tls_key);
    assert_non_null(config->clients_htpasswd);
    assert_true(config->warm_count > 0);
    config_free(config);
}

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    static const char *const names[] = {"ca.pem",      "key.pem",    "users",       "password",
                                        "config.json", "first.yaml", "second.yaml", "huge.yaml"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[300];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    return rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_empty_file_gives_the_documented_defaults),
        cmocka_unit_test(test_without_a_list_the_well_known_registries_are_served),
        cmocka_unit_test(test_the_root_is_where_caches_belong),
        cmocka_unit_test(test_the_size_limit_is_four_fifths_of_the_file_system),
        cmocka_unit_test(test_every_kind_of_value_is_read),
        cmocka_unit_test(test_an_upstream_says_otherwise_than_the_top_level),
        cmocka_unit_test(test_credentials_in_each_form),
        cmocka_unit_test(test_unsaid_credentials_go_nowhere_else),
        cmocka_unit_test(test_warm_lists_images),
        cmocka_unit_test(test_flag_over_environment_over_file_over_default),
        cmocka_unit_test(test_the_default_upstream_is_picked_or_added),
        cmocka_unit_test(test_upstreams_are_added_by_flag_and_variable),
        cmocka_unit_test(test_each_mistake_is_told_with_its_place),
        cmocka_unit_test(test_bytes_that_are_no_text_are_told_with_their_place),
        cmocka_unit_test(test_mistakes_in_flags_and_environment_name_them),
        cmocka_unit_test(test_ten_mistakes_are_told_at_once_in_their_order),
        cmocka_unit_test(test_unknown_variables_only_warn),
        cmocka_unit_test(test_the_file_is_found_by_flag_then_variable),
        cmocka_unit_test(test_an_unreadable_or_huge_file_is_refused),
        cmocka_unit_test(test_the_example_is_accepted),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
