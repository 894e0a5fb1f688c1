/* A configuration of the CNCF registry (version: 0.1) is read as one of tarn's that serves the
 * same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/cleanup.h"
#include "base/file.h"
#include "certificate.h"
#include "config/bench.h"
#include "config/convert.h"
#include "config/distribution_keys.h"
#include "config/go_duration.h"

#define PROXY "version: 0.1\nproxy: {remoteurl: 'http://127.0.0.1:5001'}\nhttp: {addr: ':5000'}\n"

/* The warning that holds `part`; NULL: there is none. */
static const char *warning(const struct config *config, const char *part) {
    for (size_t i = 0; config->warnings && config->warnings[i]; i++) {
        if (strstr(config->warnings[i], part))
            return config->warnings[i];
    }
    return NULL;
}

static size_t count_warnings(const struct config *config) {
    size_t count = 0;
    while (config->warnings && config->warnings[count])
        count++;
    return count;
}

static void give_environment(struct bench *bench, const char *const *environment) {
    bench->environment = environment;
}
#define with_variables(bench, ...)                                                                 \
    give_environment(bench, (const char *const[]){"HOME=/home/someone", __VA_ARGS__, NULL})

static void test_the_proxy_is_the_only_and_default_upstream(void **state) {
    struct bench *bench = *state;
    const struct config *config = load(bench, PROXY);
    assert_int_equal(config->upstream_count, 1);
    const struct upstream_settings *settings = &config->upstreams[0];
    assert_string_equal(settings->host, "127.0.0.1:5001");
    assert_string_equal(settings->url, "http://127.0.0.1:5001");
    assert_true(settings->is_default);
    assert_string_equal(credential_source_name(settings->credentials), "anonymous");
    assert_int_equal(settings->tag_ttl_ms, 0);
    assert_int_equal(config->negative_ttl_ms, 0);
    assert_true(config->ignore_ns);
    assert_true(config->log_requests);
    assert_int_equal(config->max_age_ms, INT64_C(168) * 3600 * 1000);
    assert_string_equal(config->listen[0], ":5000");
    assert_int_equal(count_warnings(config), 0);
}

static void test_a_ttl_without_a_unit_is_of_nanoseconds_and_a_warning(void **state) {
    const struct config *config =
        load(*state, "version: 0.1\nhttp: {addr: ':5000'}\n"
                     "proxy: {remoteurl: http://a.example, ttl: 604800}\n");
    assert_int_equal(config->max_age_ms, 1);
    assert_non_null(warning(config, "nanoseconds"));
    config = load(*state, "version: 0.1\nhttp: {addr: ':5000'}\n"
                          "proxy: {remoteurl: http://a.example, ttl: 604800000000000}\n");
    assert_int_equal(config->max_age_ms, INT64_C(168) * 3600 * 1000);
    assert_int_equal(count_warnings(config), 0);
}

static void test_docker_hub_has_its_usual_name(void **state) {
    const struct config *config =
        load(*state, "version: 0.1\nproxy: {remoteurl: https://registry-1.docker.io/}\n");
    assert_string_equal(default_host(config), "docker.io");
    assert_non_null(warning(config, "http.addr is missing"));
    assert_string_equal(config->listen[0], "127.0.0.1:5000");
}

static void test_all_that_tarn_uses_is_used(void **state) {
    struct bench *bench = *state;
    const char *file = write_file(bench, "users", "");
    const char *certificate = write_file(bench, "crt", ""), *key = write_file(bench, "key", "");
    certificate_write(certificate, key, "localhost");
    cleanup_buffer struct buffer text = {0};
    buffer_printf(&text,
                  "version: 0.1\n"
                  "loglevel: info\n"
                  "log: {level: ERROR, formatter: json, accesslog: {disabled: true}}\n"
                  "storage: {filesystem: {rootdirectory: /srv/cache}}\n"
                  "auth: {htpasswd: {path: %s, realm: My Realm}}\n"
                  "http:\n"
                  "  addr: localhost:443\n"
                  "  net: tcp\n"
                  "  draintimeout: 90s\n"
                  "  tls: {certificate: %s, key: %s}\n"
                  "proxy:\n"
                  "  remoteurl: https://mirror.example/path\n"
                  "  username: me\n"
                  "  password: hunter2\n"
                  "  ttl: 36h\n"
                  "  remotenamespace: team\n",
                  file, certificate, key);
    const struct config *config = load(bench, text.bytes);
    assert_int_equal(config->log_level, LOG_ERROR);
    assert_int_equal(config->log_format, LOG_JSON);
    assert_false(config->log_requests);
    assert_string_equal(config->root, "/srv/cache");
    assert_string_equal(config->clients_htpasswd, file);
    assert_string_equal(config->clients_realm, "My Realm");
    assert_string_equal(config->listen[0], "localhost:443");
    assert_int_equal(config->grace_ms, 90000);
    assert_string_equal(config->tls_certificate, certificate);
    assert_string_equal(config->tls_key, key);
    const struct upstream_settings *settings = upstream(config, "mirror.example");
    assert_string_equal(settings->url, "https://mirror.example/path");
    assert_string_equal(settings->prefix, "team");
    assert_int_equal(config->max_age_ms, INT64_C(36) * 3600 * 1000);
    assert_int_equal(count_warnings(config), 0);

    cleanup_credential struct credential credential = {0};
    struct error error = {0};
    assert_true(credential_source_get(settings->credentials, "mirror.example", false, INT64_MAX,
                                      &credential, &error));
    assert_int_equal(credential.kind, CREDENTIAL_BASIC);
    assert_string_equal(credential.username, "me");
    assert_string_equal(credential.secret, "hunter2");
}

static void test_each_key_that_is_not_used_is_named_once(void **state) {
    static const char *const keys[] = {
        "log: {fields: {a: b}}",
        "log: {hooks: [{type: mail}]}",
        "log: {reportcaller: true}",
        "storage: {filesystem: {maxthreads: 100}}",
        "storage: {delete: {enabled: true}}",
        "storage: {redirect: {disable: true}}",
        "storage: {cache: {blobdescriptor: redis}}",
        "storage: {maintenance: {readonly: {enabled: true}}}",
        "storage: {tag: {concurrencylimit: 8}}",
        "storage: {inmemory: }",
        "storage: {azure: {accountkey: hunter2}}",
        "storage: {other: {secretkey: hunter2}}",
        "middleware: {storage: [{name: a}], storage: [{name: b}]}",
        "reporting: {bugsnag: {apikey: hunter2}}",
        "notifications: {endpoints: []}",
        "redis: {addr: localhost, password: hunter2}",
        "health: {storagedriver: {enabled: true}}",
        "catalog: {maxentries: 5}",
        "compatibility: {schema1: {enabled: true}}",
        "validation: {disabled: true}",
        "policy: {repository: {classes: [a]}}",
        "nothing: [1, 2]",
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        cleanup_buffer struct buffer text = {0};
        buffer_printf(&text, "%s%s\n", PROXY, keys[i]);
        const struct config *config = load(*state, text.bytes);
        if (count_warnings(config) != 1)
            fail_msg("%zu warnings for %s", count_warnings(config), keys[i]);
        assert_non_null(strstr(config->warnings[0], "f.yaml:4: "));
        assert_non_null(strstr(config->warnings[0], " is ignored: "));
        assert_null(strstr(config->warnings[0], "hunter2"));
    }
}

static void test_keys_of_http_that_are_not_used_are_named_once(void **state) {
    static const char *const keys[] = {
        "secret: hunter2",
        "relativeurls: true",
        "debug: {prometheus: {path: /m}}",
        "headers: {Content-Length: ['5']}",
        "http2: {disabled: true}",
        "h2c: {enabled: true}",
        "tls: {ciphersuites: [A]}",
        "tls: {minimumtls: tls1.0}",
        "tls: {letsencrypt: {email: a@b}}",
        "tls: {clientauth: verify-client-cert-if-given, clientcas: [/nonexistent]}",
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        cleanup_buffer struct buffer text = {0};
        buffer_printf(&text,
                      "version: 0.1\nproxy: {remoteurl: http://a.example}\nhttp:\n"
                      "  addr: :5000\n  %s\n",
                      keys[i]);
        const struct config *config = load(*state, text.bytes);
        if (count_warnings(config) != 1)
            fail_msg("%zu warnings for %s", count_warnings(config), keys[i]);
        assert_non_null(strstr(config->warnings[0], "f.yaml:5: http."));
        assert_non_null(strstr(config->warnings[0], " is ignored: "));
        assert_null(strstr(config->warnings[0], "hunter2"));
    }
}

static void test_names_fields_and_metrics_are_used(void **state) {
    const struct config *config = load(
        *state, "version: 0.1\nproxy: {remoteurl: http://a.example}\nhttp:\n"
                "  addr: :5000\n"
                "  host: https://cache.example\n"
                "  prefix: /my/registry/\n"
                "  debug: {addr: 'localhost:5001', prometheus: {enabled: true, path: /metrics}}\n"
                "  headers:\n"
                "    X-Content-Type-Options: [nosniff]\n"
                "    Access-Control-Allow-Origin: ['*', b]\n"
                "    Strict-Transport-Security: max-age=5\n");
    assert_int_equal(count_warnings(config), 0);
    assert_string_equal(config->server_names[0], "cache.example");
    assert_string_equal(config->path_prefix, "/my/registry");
    assert_int_equal(config->metrics_listen_count, 1);
    assert_string_equal(config->metrics_listen[0], "localhost:5001");
    assert_string_equal(config->headers[0], "Access-Control-Allow-Origin: *");
    assert_string_equal(config->headers[1], "Access-Control-Allow-Origin: b");
    assert_string_equal(config->headers[2], "Strict-Transport-Security: max-age=5");
    assert_null(config->headers[3]);

    config = load(*state, "version: 0.1\nproxy: {remoteurl: http://a.example}\nhttp:\n"
                          "  addr: :5000\n"
                          "  prefix: /\n"
                          "  headers: {X-Content-Type-Options: [nosniff]}\n");
    assert_int_equal(count_warnings(config), 0);
    assert_null(config->path_prefix);
    assert_null(config->headers);
}

static void test_mistakes_name_the_line_and_the_registrys_key(void **state) {
    static const struct {
        const char *text, *problems;
    } cases[] = {
        {"version: 0.2\n", "f.yaml:1: version: \"0.2\" is not a version that tarn knows; a file "
                           "of the CNCF registry has version: 0.1, and a file of tarn's own has no "
                           "version\n"},
        {"version: [0.1]\n", "f.yaml:1: version: expected 0.1, found a list\n"},
        {"version: 0.1\nproxy: {remoteurl: registry.example}\n",
         "f.yaml:2: proxy.remoteurl: \"registry.example\" is not the URL of a registry; write "
         "for example https://registry.example or http://127.0.0.1:5001\n"},
        {"version: 0.1\nproxy: {remoteurl: 'https://me:hunter2@a.example'}\n",
         "f.yaml:2: proxy.remoteurl: the URL contains a user name or password; put them under "
         "credentials\n"},
        {"version: 0.1\nproxy: {remoteurl: [http://a.example]}\n",
         "f.yaml:2: proxy.remoteurl: is missing, so this is a registry that keeps images of its "
         "own; tarn is a cache and serves only files with a proxy, for example proxy: {remoteurl: "
         "https://registry-1.docker.io}\n"
         "f.yaml:2: proxy.remoteurl: expected a single value, found a list\n"},
        {PROXY "log: info\n",
         "f.yaml:4: log: expected a mapping (key: value), found a single value\n"},
        {PROXY "log: {level: loud}\n",
         "f.yaml:4: log.level: \"loud\" is not one of error, warn, info, debug\n"},
        {PROXY "loglevel: loud\n",
         "f.yaml:4: loglevel: \"loud\" is not one of error, warn, info, debug\n"},
        {PROXY "log: {formatter: xml}\n",
         "f.yaml:4: log.formatter: \"xml\" is not one of text, json, logstash\n"},
        {PROXY "log: {accesslog: {disabled: perhaps}}\n",
         "f.yaml:4: log.accesslog.disabled: \"perhaps\" is neither true nor false\n"},
        {PROXY "log: {level: info, level: warn}\n",
         "f.yaml:4: log.level: appears twice; first on line 4\n"},
        {PROXY "auth: htpasswd\n", "f.yaml:4: auth.htpasswd: path is missing; it names the file "
                                   "of the users who may read\n"},
        {PROXY "auth: {htpasswd: {path: /nonexistent}}\n",
         "f.yaml:4: auth.htpasswd.path: \"/nonexistent\" cannot be read: No such file or "
         "directory\n"},
        {PROXY "auth: {token: {realm: 'https://a.example/t', service: s, issuer: i}}\n",
         "f.yaml:4: auth.token: jwks is missing; tarn reads the keys of tokens from a JWK set, "
         "not from certificates\n"
         "f.yaml:4: auth.token.realm: clients.token.jwks is missing; write for example jwks: "
         "/etc/tarn/jwks.json\n"},
        {PROXY "auth: {silly: {realm: a}}\n",
         "f.yaml:4: auth.silly: it is for tests only, and without it everybody could read; use "
         "auth.htpasswd\n"},
        {PROXY "auth: {ldap: {realm: a}}\n",
         "f.yaml:4: auth.ldap: tarn does not know it; use auth.htpasswd\n"},
        {"version: 0.1\nproxy: {remoteurl: http://a.example, ttl: soon}\n",
         "f.yaml:2: proxy.ttl: \"soon\" is not a duration; write for example 90s, 24h, or 0\n"},
        {"version: 0.1\nproxy: {remoteurl: http://a.example, exec: {lifetime: 1h}}\n",
         "f.yaml:2: proxy.exec: command is missing; it names a program that prints "
         "credentials\n"},
        {"version: 0.1\nproxy: {remoteurl: http://a.example, exec: {command: /nonexistent}}\n",
         "f.yaml:2: proxy.exec.command: there is no program \"/nonexistent\"; write the path of "
         "a credential helper\n"},
        {"version: 0.1\nproxy: {remoteurl: http://a.example, remotenamespace: A}\n",
         "f.yaml:2: proxy.remotenamespace: \"A\" is no beginning of repository names; write for "
         "example my-project/docker-remote\n"},
        {"version: 0.1\nproxy: {remoteurl: http://a.example}\nhttp: {addr: 5000}\n",
         "f.yaml:3: http.addr: \"5000\" is not an address to listen on; write for example "
         "0.0.0.0:5000, [::]:5000 or :5000\n"},
        {"version: 0.1\nproxy: {remoteurl: http://a.example}\nhttp: {net: unix, addr: /x}\n",
         "f.yaml:3: http.net: tarn serves over tcp only; remove the key, and set http.addr to "
         "an address such as :5000\n"},
        {"version: 0.1\nproxy: {remoteurl: http://a.example}\n"
         "http: {addr: ':5000', host: cache.example}\n",
         "f.yaml:3: http.host: is not a URL; write for example https://cache.example\n"},
        {"version: 0.1\nproxy: {remoteurl: http://a.example}\n"
         "http: {addr: ':5000', headers: {X-A: [\"a\\r\\nB: c\"]}}\n",
         "f.yaml:3: http.headers[0]: \"X-A: a\\x0d\\x0aB: c\" is not a field of a response; "
         "write "
         "for example \"Strict-Transport-Security: max-age=63072000\"\n"},
        {"version: 0.1\nproxy: {remoteurl: http://a.example}\n"
         "http: {addr: ':5000', prefix: 'my images'}\n",
         "f.yaml:3: http.prefix: \"my images\" is not the beginning of a path; write for "
         "example "
         "/images\n"},
        {PROXY "http: {}\n", "f.yaml:4: http: appears twice; first on line 3\n"},
        {PROXY "a: &b 1\n",
         "f.yaml:4: anchors and aliases (& and *) are not supported; write the value itself, or "
         "put it in quotes if it begins with such a character\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_refused(*state, cases[i].text, cases[i].problems);
}

static void test_tokens_and_certificates_of_clients_are_asked_for(void **state) {
    struct bench *bench = *state;
    const char *file = write_file(bench, "jwks", BENCH_JWKS);
    const char *certificate = write_file(bench, "crt", ""), *key = write_file(bench, "key", "");
    certificate_write(certificate, key, "localhost");
    cleanup_buffer struct buffer text = {0};
    buffer_printf(&text,
                  PROXY "auth: {token: {realm: 'https://a.example/t', service: s, issuer: i, "
                        "jwks: %s, rootcertbundle: /x, signingalgorithms: [RS256]}}\n",
                  file);
    const struct config *config = load(bench, text.bytes);
    assert_string_equal(config->clients_token.realm, "https://a.example/t");
    assert_string_equal(config->clients_token.service, "s");
    assert_string_equal(config->clients_token.issuer, "i");
    assert_string_equal(config->clients_token.jwks, file);
    assert_non_null(warning(config, "auth.token.rootcertbundle is ignored"));

    buffer_clear(&text);
    buffer_printf(&text,
                  "version: 0.1\nproxy: {remoteurl: http://a.example}\nhttp:\n  addr: :5000\n"
                  "  tls: {certificate: %s, key: %s, clientcas: [%s]}\n",
                  certificate, key, certificate);
    assert_string_equal(load(bench, text.bytes)->clients_ca, certificate);
    buffer_printf(&text, "auth: {htpasswd: {path: %s}}\n", file);
    assert_null(try_load(bench, text.bytes));
    assert_non_null(strstr(bench->problems.bytes, "http.tls.clientcas: there is auth as well"));
}

static void test_tls_is_never_given_up_silently(void **state) {
    static const char *const keys[] = {
        "clientcas: [/ca.pem]",
        "clientcas: [/a, /b]",
        "clientcas: [/a], clientauth: require-any-client-cert",
        "letsencrypt: {cachefile: /c}",
        "minimumtls: tls1.3",
        "minimumtls: tls9",
        "certificate: /nonexistent",
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        cleanup_buffer struct buffer text = {0};
        buffer_printf(&text,
                      "version: 0.1\nproxy: {remoteurl: http://a.example}\n"
                      "http: {addr: ':5000', tls: {%s}}\n",
                      keys[i]);
        struct bench *bench = *state;
        assert_null(try_load(bench, text.bytes));
        assert_non_null(strstr(bench->problems.bytes, "f.yaml:3:"));
        assert_non_null(strstr(bench->problems.bytes, ": http.tls."));
    }
}

static void test_the_least_version_of_tls_is_kept(void **state) {
    struct bench *bench = *state;
    static const struct {
        const char *word;
        enum http_tls_version minimum;
        size_t warnings;
    } cases[] = {{"tls1.3", HTTP_TLS_1_3, 0},
                 {"TLS1.3", HTTP_TLS_1_3, 0},
                 {"tls1.2", HTTP_TLS_1_2, 0},
                 {"tls1.1", HTTP_TLS_1_2, 1},
                 {"tls1.0", HTTP_TLS_1_2, 1}};
    static const char *const plain[] = {"HOME=/home/someone", NULL};
    const char *certificate = write_file(bench, "crt", ""), *key = write_file(bench, "key", "");
    certificate_write(certificate, key, "localhost");
    cleanup_buffer struct buffer start = {0};
    buffer_printf(&start,
                  "version: 0.1\nproxy: {remoteurl: http://a.example}\n"
                  "http: {addr: ':5000', tls: {certificate: %s, key: %s",
                  certificate, key);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cleanup_buffer struct buffer text = {0}, variable = {0};
        buffer_printf(&text, "%s, minimumtls: %s}}\n", start.bytes, cases[i].word);
        const struct config *config = load(bench, text.bytes);
        assert_int_equal(config->tls_minimum, cases[i].minimum);
        assert_int_equal(count_warnings(config), cases[i].warnings);

        buffer_printf(&variable, "REGISTRY_HTTP_TLS_MINIMUMTLS=%s", cases[i].word);
        buffer_clear(&text);
        buffer_printf(&text, "%s}}\n", start.bytes);
        with_variables(bench, variable.bytes);
        config = load(bench, text.bytes);
        assert_int_equal(config->tls_minimum, cases[i].minimum);
        assert_int_equal(count_warnings(config), cases[i].warnings);
        give_environment(bench, plain);
    }
}

/* ---- the environment ---- */

static void test_variables_override_the_file(void **state) {
    struct bench *bench = *state;
    with_variables(bench, "REGISTRY_HTTP_ADDR=0.0.0.0:6000", "REGISTRY_PROXY_TTL=0",
                   "REGISTRY_PROXY_REMOTEURL=https://b.example", "REGISTRY_LOG_LEVEL=debug",
                   "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=/srv/b",
                   "REGISTRY_LOG_ACCESSLOG_DISABLED=true");
    const struct config *config = load(bench, PROXY);
    assert_string_equal(config->listen[0], "0.0.0.0:6000");
    assert_int_equal(config->max_age_ms, 0);
    assert_string_equal(default_host(config), "b.example");
    assert_int_equal(config->log_level, LOG_DEBUG);
    assert_string_equal(config->root, "/srv/b");
    assert_false(config->log_requests);
    assert_int_equal(count_warnings(config), 0);
}

static void test_variables_may_hold_whole_sections(void **state) {
    struct bench *bench = *state;
    with_variables(bench, "REGISTRY_PROXY={remoteurl: 'http://c.example', ttl: 1h}",
                   "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=/srv/c",
                   "REGISTRY_STORAGE=filesystem");
    const struct config *config =
        load(bench, PROXY "storage: {inmemory: , filesystem: {rootdirectory: /srv/file}}\n");
    assert_string_equal(default_host(config), "c.example");
    assert_int_equal(config->max_age_ms, 3600000);
    assert_string_equal(config->root, "/srv/c");
    assert_int_equal(count_warnings(config), 0);

    with_variables(bench, "REGISTRY_STORAGE={filesystem: {rootdirectory: /srv/d}}");
    assert_string_equal(load(bench, PROXY)->root, "/srv/d");
    with_variables(bench, "REGISTRY_STORAGE=filesystem");
    config = load(bench, PROXY "storage: {filesystem: {rootdirectory: /srv/file}}\n");
    assert_string_equal(config->root, "/var/lib/registry");
}

static void test_auth_may_come_from_variables_alone(void **state) {
    struct bench *bench = *state;
    char path[100];
    snprintf(path, sizeof path, "REGISTRY_AUTH_HTPASSWD_PATH=%s", write_file(bench, "users", ""));
    with_variables(bench, "REGISTRY_AUTH=htpasswd", path);
    assert_string_equal(load(bench, PROXY)->clients_htpasswd, strchr(path, '=') + 1);
    with_variables(bench, "REGISTRY_AUTH=token");
    assert_refused(bench, PROXY,
                   "REGISTRY_AUTH: jwks is missing; tarn reads the keys of tokens from a JWK set, "
                   "not from certificates\n");
}

static void test_variables_are_named_in_mistakes(void **state) {
    struct bench *bench = *state;
    with_variables(bench, "REGISTRY_HTTP_ADDR=nowhere");
    assert_refused(bench, PROXY,
                   "REGISTRY_HTTP_ADDR: \"nowhere\" is not an address to listen on; write for "
                   "example 0.0.0.0:5000, [::]:5000 or :5000\n");
    with_variables(bench, "REGISTRY_PROXY_PASSWORD={hunter2: ");
    assert_null(try_load(bench, PROXY));
    assert_non_null(strstr(bench->problems.bytes, "REGISTRY_PROXY_PASSWORD:"));
    assert_null(strstr(bench->problems.bytes, "hunter2"));
    with_variables(bench, "REGISTRY_PROXY_PASSWORD=a: b");
    assert_refused(bench, PROXY,
                   "REGISTRY_PROXY_PASSWORD: expected a single value, found a mapping\n");
}

static void test_variables_that_mean_nothing_are_named(void **state) {
    static const char *const variables[] = {
        "REGISTRY_PORT_5000_TCP_ADDR=10.0.0.1",
        "REGISTRY_SERVICE_HOST=10.0.0.1",
        "REGISTRY_=hunter2",
        "REGISTRY_proxy_remoteurl=http://b.example",
        "REGISTRY_PROXY_PORT=tcp://10.0.0.1",
        "REGISTRY_HTTP_SECRET=hunter2",
        "REGISTRY_HTTP_ADDR_PORT=1",
        "REGISTRY__=1",
    };
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
        struct bench *bench = *state;
        with_variables(bench, variables[i]);
        const struct config *config = load(bench, PROXY);
        if (count_warnings(config) != 1)
            fail_msg("%zu warnings for %s", count_warnings(config), variables[i]);
        assert_non_null(strstr(config->warnings[0], "ignored"));
        assert_non_null(strstr(config->warnings[0], "REGISTRY_"));
        assert_null(strstr(config->warnings[0], "hunter2"));
        assert_string_equal(default_host(config), "127.0.0.1:5001");
    }
}

static void test_an_empty_variable_removes_a_value(void **state) {
    struct bench *bench = *state;
    with_variables(bench, "REGISTRY_PROXY_REMOTEURL=");
    assert_null(try_load(bench, PROXY));
    assert_non_null(strstr(bench->problems.bytes, "proxy.remoteurl: is missing"));
}

static void test_variables_are_not_read_with_a_file_of_tarns_own(void **state) {
    struct bench *bench = *state;
    with_variables(bench, "REGISTRY_HTTP_ADDR=0.0.0.0:6000", "REGISTRY_FOO=1");
    const struct config *config = load(bench, "root: /srv/x\n");
    assert_string_equal(config->listen[0], "127.0.0.1:5000");
    assert_int_equal(count_warnings(config), 0);
}

static void test_tarns_flags_and_variables_override_both(void **state) {
    struct bench *bench = *state;
    with_variables(bench, "REGISTRY_HTTP_ADDR=0.0.0.0:6000", "TARN_ROOT=/srv/tarn",
                   "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=/srv/b");
    give_flags(bench, "--listen=127.0.0.1:7000");
    const struct config *config = load(bench, PROXY);
    assert_string_equal(config->listen[0], "127.0.0.1:7000");
    assert_string_equal(config->root, "/srv/tarn");
}

static void test_hostile_files_and_variables_are_bounded(void **state) {
    struct bench *bench = *state;
    cleanup_buffer struct buffer text = {0}, variable = {0};
    buffer_printf(&text, PROXY);
    for (int i = 0; i < 40; i++)
        buffer_printf(&text, "%*sa:\n", i, "");
    assert_null(try_load(bench, text.bytes));
    assert_non_null(strstr(bench->problems.bytes, "nested too deeply"));

    buffer_clear(&text);
    buffer_printf(&text, PROXY);
    for (int i = 0; i < 200; i++)
        buffer_printf(&text, "key%d: 1\n", i);
    assert_null(try_load(bench, text.bytes));
    assert_non_null(strstr(bench->problems.bytes, "too many entries"));

    buffer_printf(&variable, "REGISTRY_PROXY");
    for (int i = 0; i < 60; i++)
        buffer_printf(&variable, "_A");
    buffer_printf(&variable, "=1");
    with_variables(bench, variable.bytes);
    assert_non_null(warning(load(bench, PROXY), "proxy.a"));

    buffer_clear(&variable);
    buffer_printf(&variable, "REGISTRY_PROXY");
    for (int i = 0; i < 5000; i++)
        buffer_printf(&variable, "_A");
    buffer_printf(&variable, "=hunter2");
    with_variables(bench, variable.bytes);
    assert_non_null(warning(load(bench, PROXY), "its name is too long"));
    assert_null(warning(bench->config, "hunter2"));

    const char *many[1200] = {"HOME=/home/someone"};
    for (int i = 1; i < 1199; i++)
        many[i] = "REGISTRY_FOO=hunter2";
    give_environment(bench, many);
    assert_non_null(warning(load(bench, PROXY), "more than 1000"));
    assert_null(warning(bench->config, "hunter2"));

    with_variables(bench, "REGISTRY_HTTP_TLS_CLIENTCAS_99999999999999999999=/x",
                   "REGISTRY_STORAGE_FILESYSTEM_0=1", "REGISTRY_HTTP_HEADERS_X-A_0=1");
    assert_null(try_load(bench, PROXY)); /* clientcas is refused, whatever it holds */
}

/* ---- durations ---- */

static void test_durations_are_gos(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } cases[] = {
        {"0", 0},
        {"0s", 0},
        {"168h", 604800000},
        {"1h30m", 5400000},
        {"1.5h", 5400000},
        {"100ms", 100},
        {"0.1s", 100},
        {"-1h", -3600000},
        {"+1m", 60000},
        {"1us", 1},
        {"1µs", 1},
        {"5ns", 1},
        {"1000000000", 1000},
        {".5s", 500},
        {"1.s", 1000},
        {"1h1h", 7200000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t ms = -7;
        assert_true(go_duration_parse(text_of(cases[i].text), &ms));
        assert_int_equal(ms, cases[i].ms);
    }
    static const char *const wrong[] = {"",   "-",    "h",    "1d",          "1 h", "1h2",
                                        ".h", "soon", "1e3s", "9999999999h", "--1s"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        int64_t ms = -7;
        assert_false(go_duration_parse(text_of(wrong[i]), &ms));
        assert_int_equal(ms, -7);
    }
}

/* ---- documentation ---- */

static void test_the_documentation_has_every_key(void **state) {
    (void)state;
    struct error error = {0};
    cleanup_free char *text =
        file_read_small(SOURCE_ROOT "/docs/distribution.md", 1 << 20, FILE_ANY, NULL, NULL, &error);
    assert_non_null(text);
    for (size_t i = 0; i < distribution_key_count; i++) {
        const struct distribution_key *key = &distribution_keys[i];
        char quoted[100];
        snprintf(quoted, sizeof quoted, "`%s`", key->name);
        bool is_section = key->kind == DISTRIBUTION_CHOSEN ||
                          (key->kind == DISTRIBUTION_SECTION && strcmp(key->name, "auth.none"));
        if (text_starts(text_of(key->name), "storage.s3aws."))
            continue; /* the same keys as storage.s3 */
        if (!is_section && !strstr(text, quoted))
            fail_msg("docs/distribution.md says nothing of %s", quoted);
    }
}

/* ---- buckets ---- */

static void test_the_driver_s3_becomes_a_bucket(void **state) {
    struct bench *bench = *state;
    static const char *const names[] = {"s3", "s3aws"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char text[700];
        snprintf(text, sizeof text,
                 PROXY "storage: {%s: {bucket: kept, rootdirectory: /a/b/, region: eu-central-1,\n"
                       "  regionendpoint: 'https://s3.example:9000', forcepathstyle: false,\n"
                       "  accesskey: AKID, secretkey: hunter2, encrypt: true, keyid: 'arn:x',\n"
                       "  storageclass: STANDARD_IA, chunksize: 8388608, secure: true,\n"
                       "  skipverify: false, v4auth: true}}\n",
                 names[i]);
        const struct config *config = load(bench, text);
        const struct bucket_settings *bucket = &config->bucket;
        assert_int_equal(bucket->address.kind, BUCKET_S3);
        assert_string_equal(bucket->address.name, "kept");
        assert_string_equal(bucket->address.prefix, "a/b");
        assert_string_equal(bucket->region, "eu-central-1");
        assert_string_equal(bucket->endpoint, "https://s3.example:9000");
        assert_int_equal(bucket->path_style, BUCKET_STYLE_HOST);
        assert_int_equal(bucket->credentials, BUCKET_CREDENTIALS_KEY);
        assert_string_equal(bucket->key_id, "AKID");
        assert_string_equal(bucket->secret, "hunter2");
        assert_string_equal(bucket->encryption, "aws:kms");
        assert_string_equal(bucket->kms_key, "arn:x");
        assert_string_equal(bucket->storage_class, "STANDARD_IA");
        assert_int_equal(bucket->part_size, 8 << 20);
        assert_int_equal(count_warnings(config), 0);
    }
}

static void test_the_driver_gcs_becomes_a_bucket(void **state) {
    struct bench *bench = *state;
    const char *key = write_file(bench, "key.json", "{}");
    char text[300];
    snprintf(text, sizeof text,
             PROXY "storage: {gcs: {bucket: kept_1, keyfile: %s, rootdirectory: /x}}\n", key);
    const struct bucket_settings *bucket = &load(bench, text)->bucket;
    assert_int_equal(bucket->address.kind, BUCKET_GOOGLE);
    assert_string_equal(bucket->address.name, "kept_1");
    assert_string_equal(bucket->address.prefix, "x");
    assert_int_equal(bucket->credentials, BUCKET_CREDENTIALS_GOOGLE);
    assert_string_equal(bucket->google.file, key);
    bucket = &load(bench, PROXY "storage: {gcs: {bucket: kept}}\n")->bucket;
    assert_int_equal(bucket_settings_credentials(bucket), BUCKET_CREDENTIALS_GOOGLE);
}

static void test_an_endpoint_gets_its_scheme_from_secure(void **state) {
    static const struct {
        const char *keys, *endpoint;
    } cases[] = {
        {"regionendpoint: 'minio:9000', secure: false", "http://minio:9000"},
        {"regionendpoint: 'minio:9000'", "https://minio:9000"},
        {"regionendpoint: 'http://minio:9000/', secure: true", "http://minio:9000"},
        {"region: eu-west-1, secure: false", "http://s3.eu-west-1.amazonaws.com"},
        {"region: eu-west-1", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[300];
        snprintf(text, sizeof text, PROXY "storage: {s3: {bucket: kept, %s}}\n", cases[i].keys);
        const struct bucket_settings *bucket = &load(*state, text)->bucket;
        if (cases[i].endpoint)
            assert_string_equal(bucket->endpoint, cases[i].endpoint);
        else
            assert_null(bucket->endpoint);
    }
}

static void test_encryption_follows_encrypt(void **state) {
    struct bench *bench = *state;
    const struct config *config =
        load(bench, PROXY "storage: {s3: {bucket: kept, encrypt: true, storageclass: NONE}}\n");
    assert_string_equal(config->bucket.encryption, "AES256");
    assert_null(config->bucket.storage_class);
    config = load(bench, PROXY "storage: {s3: {bucket: kept, keyid: k}}\n");
    assert_null(config->bucket.encryption);
    assert_null(config->bucket.kms_key);
    assert_non_null(strstr(config->warnings[0], "storage.s3.keyid is ignored"));
}

static void test_what_a_bucket_does_not_use_is_named(void **state) {
    static const char *const keys[] = {
        "s3: {bucket: kept, sessiontoken: hunter2}",
        "s3: {bucket: kept, objectacl: x}",
        "s3: {bucket: kept, useragent: x}",
        "s3: {bucket: kept, accelerate: true}",
        "s3: {bucket: kept, accesskey: a}",
        "s3: {bucket: kept, secretkey: hunter2}",
        "s3: {bucket: kept, new: x}",
        "gcs: {bucket: kept, credentials: {a: b}}",
        "gcs: {bucket: kept, maxconcurrency: 5}",
        "gcs: {bucket: kept, chunksize: 262144}",
        "redirect: {disable: false}",
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char text[300];
        snprintf(text, sizeof text, PROXY "storage: {%s}\n", keys[i]);
        const struct config *config = load(*state, text);
        if (count_warnings(config) != 1)
            fail_msg("%zu warnings for %s", count_warnings(config), keys[i]);
        assert_non_null(strstr(config->warnings[0], " is ignored: "));
        assert_null(strstr(config->warnings[0], "hunter2"));
    }
}

static void test_mistakes_of_a_bucket_name_the_registrys_key(void **state) {
    static const struct {
        const char *keys, *problem;
    } cases[] = {
        {"s3: {bucket: kept, skipverify: true}", "f.yaml:4: storage.s3.skipverify: "},
        {"s3: {bucket: kept, v4auth: false}", "f.yaml:4: storage.s3.v4auth: "},
        {"s3: {region: x}", "f.yaml:4: storage.s3.bucket: is missing"},
        {"s3: {bucket: Kept}", "f.yaml:4: storage.s3.bucket: the bucket's name"},
        {"s3: {bucket: kept/x}", "f.yaml:4: storage.s3.bucket: is no name"},
        {"s3: {bucket: kept, rootdirectory: /a//b}", "f.yaml:4: storage.s3.rootdirectory: "},
        {"s3: {bucket: kept, chunksize: 1024}", "f.yaml:4: storage.s3.chunksize: "},
        {"s3: {bucket: kept, regionendpoint: 'http://u@x'}", "storage.s3.regionendpoint: "},
        {"s3: {bucket: kept, secure: false}", "f.yaml:4: storage.s3.secure: "},
        {"s3aws: {bucket: kept, chunksize: x}", "f.yaml:4: storage.s3aws.chunksize: "},
        {"gcs: {bucket: kept, chunksize: x}", "f.yaml:4: storage.gcs.chunksize: "},
        {"gcs: {bucket: kept, keyfile: /not/there}", "f.yaml:4: storage.gcs.keyfile: "},
        {"gcs: {bucket: kept}, s3: {bucket: kept}", "there is another bucket"},
    };
    struct bench *bench = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[300];
        snprintf(text, sizeof text, PROXY "storage: {%s}\n", cases[i].keys);
        assert_null(try_load(bench, text));
        if (!strstr(bench->problems.bytes, cases[i].problem))
            fail_msg("%s: %s", cases[i].keys, bench->problems.bytes);
        assert_null(strstr(bench->problems.bytes, "\n\n"));
    }
}

static void test_a_bucket_may_come_from_variables(void **state) {
    struct bench *bench = *state;
    with_variables(bench, "REGISTRY_STORAGE=s3", "REGISTRY_STORAGE_S3_BUCKET=kept",
                   "REGISTRY_STORAGE_S3_REGION=here");
    const struct bucket_settings *bucket = &load(bench, PROXY)->bucket;
    assert_string_equal(bucket->address.name, "kept");
    assert_string_equal(bucket->region, "here");
}

static void test_the_secret_of_a_bucket_is_converted_to_a_file(void **state) {
    struct bench *bench = *state;
    const char *secret = write_file(bench, "secret", "hunter2\n");
    const char *file = write_file(
        bench, "config.yml",
        PROXY "storage: {s3: {bucket: kept, accesskey: AKID, secretkey: hunter2, region: r}}\n");
    struct config_conversion conversion;
    const struct config_conversion_files files = {"/p", secret};
    char *const environment[] = {(char[]){"HOME=/"}, NULL};
    buffer_clear(&bench->problems);
    if (!config_convert(file, &files, environment, &conversion, &bench->problems))
        fail_msg("%s", bench->problems.bytes);
    assert_string_equal(conversion.secret, "hunter2");
    assert_null(conversion.password);
    assert_null(strstr(conversion.yaml.bytes, "hunter2"));
    const struct config *config = load(bench, conversion.yaml.bytes);
    struct bucket_settings same = conversion.config->bucket;
    assert_string_equal(config->bucket.secret_file, secret);
    same.secret = NULL;
    same.secret_file = secret;
    assert_true(bucket_settings_equal(&config->bucket, &same));
    config_conversion_finish(&conversion);
}

/* ---- convert-config ---- */

static void test_the_converted_file_loads_as_the_same(void **state) {
    struct bench *bench = *state;
    const char *password = write_file(bench, "password", "hunter2\n");
    const char *file = write_file(bench, "config.yml",
                                  "version: 0.1\n"
                                  "log: {level: warn, accesslog: {disabled: yes}}\n"
                                  "storage: {filesystem: {rootdirectory: \"/srv/a b: #c\"}}\n"
                                  "http: {addr: ':5000', draintimeout: 1.5s, secret: x}\n"
                                  "proxy:\n"
                                  "  remoteurl: https://registry-1.docker.io\n"
                                  "  username: 'me: \"\\ you'\n"
                                  "  password: hunter2\n");
    struct config_conversion conversion;
    char *const environment[] = {(char[]){"HOME=/"}, (char[]){"REGISTRY_PROXY_TTL=2h"}, NULL};
    buffer_clear(&bench->problems);
    if (!config_convert(file, &(struct config_conversion_files){.password = password}, environment,
                        &conversion, &bench->problems))
        fail_msg("%s", bench->problems.bytes);
    assert_string_equal(conversion.password, "hunter2");
    assert_null(strstr(conversion.yaml.bytes, "hunter2"));
    assert_null(strstr(conversion.yaml.bytes, "version"));

    const struct config *config = load(bench, conversion.yaml.bytes);
    const struct config *same = conversion.config;
    assert_int_equal(config->log_level, same->log_level);
    assert_int_equal(config->log_requests, same->log_requests);
    assert_string_equal(config->root, "/srv/a b: #c");
    assert_string_equal(config->root, same->root);
    assert_string_equal(config->listen[0], same->listen[0]);
    assert_int_equal(config->grace_ms, 1500);
    assert_int_equal(config->max_age_ms, 7200000);
    assert_int_equal(config->ignore_ns, same->ignore_ns);
    assert_int_equal(config->negative_ttl_ms, same->negative_ttl_ms);
    assert_string_equal(default_host(config), default_host(same));
    assert_string_equal(config->upstreams[0].url, same->upstreams[0].url);
    assert_int_equal(config->upstreams[0].tag_ttl_ms, same->upstreams[0].tag_ttl_ms);

    cleanup_credential struct credential credential = {0};
    struct error error = {0};
    assert_true(credential_source_get(config->upstreams[0].credentials, "docker.io", false,
                                      INT64_MAX, &credential, &error));
    assert_string_equal(credential.username, "me: \"\\ you");
    assert_string_equal(credential.secret, "hunter2");
    config_conversion_finish(&conversion);
}

static void test_only_the_registrys_files_are_converted(void **state) {
    struct bench *bench = *state;
    struct config_conversion conversion;
    char *const environment[] = {(char[]){"HOME=/"}, NULL};
    const struct config_conversion_files files = {"/p", "/s"};
    const char *file = write_file(bench, "tarn.yaml", "root: /srv\n");
    assert_false(config_convert(file, &files, environment, &conversion, &bench->problems));
    assert_non_null(strstr(bench->problems.bytes, "version: 0.1"));
    config_conversion_finish(&conversion);
    assert_false(
        config_convert("/nonexistent", &files, environment, &conversion, &bench->problems));
    config_conversion_finish(&conversion);
}

static void test_a_helper_is_a_program_by_its_path(void **state) {
    struct bench *bench = *state;
    const char *program =
        write_file(bench, "helper",
                   "#!/bin/sh\nread host\necho '{\"Username\": \"'$host'\", \"Secret\": \"s\"}'\n");
    assert_int_equal(chmod(program, 0700), 0);
    char path[100], text[300];
    snprintf(path, sizeof path, "PATH=/nonexistent:%s:/bin", bench->folder);
    with_variables(bench, path);
    for (int by_name = 0; by_name < 2; by_name++) {
        snprintf(text, sizeof text,
                 "version: 0.1\nhttp: {addr: ':5000'}\n"
                 "proxy: {remoteurl: http://a.example, exec: {command: %s}}\n",
                 by_name ? "helper" : program);
        const struct config *config = load(bench, text);
        struct credential_source *source = config->upstreams[0].credentials;
        assert_true(credential_source_may_run_programs(source));
        cleanup_credential struct credential credential = {0};
        struct error error = {0};
        if (!credential_source_get(source, "a.example", false, INT64_MAX, &credential, &error))
            fail_msg("%s", error.text);
        assert_string_equal(credential.username, "a.example");
        assert_string_equal(credential.from, "helper"); /* clients see it, and no path */
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_bench(test_the_proxy_is_the_only_and_default_upstream),
        with_bench(test_a_ttl_without_a_unit_is_of_nanoseconds_and_a_warning),
        with_bench(test_docker_hub_has_its_usual_name),
        with_bench(test_all_that_tarn_uses_is_used),
        with_bench(test_the_driver_s3_becomes_a_bucket),
        with_bench(test_the_driver_gcs_becomes_a_bucket),
        with_bench(test_an_endpoint_gets_its_scheme_from_secure),
        with_bench(test_encryption_follows_encrypt),
        with_bench(test_what_a_bucket_does_not_use_is_named),
        with_bench(test_mistakes_of_a_bucket_name_the_registrys_key),
        with_bench(test_a_bucket_may_come_from_variables),
        with_bench(test_the_secret_of_a_bucket_is_converted_to_a_file),
        with_bench(test_each_key_that_is_not_used_is_named_once),
        with_bench(test_keys_of_http_that_are_not_used_are_named_once),
        with_bench(test_names_fields_and_metrics_are_used),
        with_bench(test_mistakes_name_the_line_and_the_registrys_key),
        with_bench(test_tokens_and_certificates_of_clients_are_asked_for),
        with_bench(test_tls_is_never_given_up_silently),
        with_bench(test_the_least_version_of_tls_is_kept),
        with_bench(test_variables_override_the_file),
        with_bench(test_variables_may_hold_whole_sections),
        with_bench(test_auth_may_come_from_variables_alone),
        with_bench(test_variables_are_named_in_mistakes),
        with_bench(test_variables_that_mean_nothing_are_named),
        with_bench(test_an_empty_variable_removes_a_value),
        with_bench(test_variables_are_not_read_with_a_file_of_tarns_own),
        with_bench(test_tarns_flags_and_variables_override_both),
        with_bench(test_hostile_files_and_variables_are_bounded),
        cmocka_unit_test(test_durations_are_gos),
        cmocka_unit_test(test_the_documentation_has_every_key),
        with_bench(test_the_converted_file_loads_as_the_same),
        with_bench(test_only_the_registrys_files_are_converted),
        with_bench(test_a_helper_is_a_program_by_its_path),
    };
    return cmocka_run_group_tests_name("distribution", tests, NULL, NULL);
}
