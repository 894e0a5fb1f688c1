/* Every mistake is reported with its place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include "config/bench.h"

static void test_each_mistake_is_reported_with_its_place(void **state) {
    struct bench *bench = *state;
    static const struct {
        const char *text, *problems;
    } cases[] = {
        /* keys */
        {"tag_tll: 5s\n", "f.yaml:1: tag_tll: unknown key \"tag_tll\"; did you mean tag_ttl?\n"},
        {"\nlog: {levle: info}\n",
         "f.yaml:2: log.levle: unknown key \"levle\"; did you mean level?\n"},
        {"log: {zzzzzz: info}\n", "f.yaml:1: log.zzzzzz: unknown key \"zzzzzz\"; possible keys: "
                                  "level, format, requests\n"},
        {"upstreams:\n  - host: a.example\n    secret: x\n",
         "f.yaml:3: upstreams[0].secret: unknown key \"secret\"; possible keys: host, url, "
         "prefix, fallbacks, default, repositories, token_hosts, redirect_hosts, ca, tag_ttl, "
         "link_ttl, connect_timeout, "
         "stall_timeout, first_byte_timeout, connections, max_connections, keep_deleted, "
         "range_fill, prefetch, push, delete, push_patience, credentials\n"},
        {"upstreams:\n  - host: a.example\n    push: true\n",
         "f.yaml:3: upstreams[0].push: nobody can log in, so nobody could push; set "
         "clients.htpasswd, clients.token or clients.ca\n"},
        {"upstreams:\n  - host: a.example\n    delete: true\n",
         "f.yaml:3: upstreams[0].delete: delete: true needs push: true beside it\n"},
        {"default_upstream: a.example\n", NULL},
        {"limits: {per_upstrem: {waiting: 1}}\n",
         "f.yaml:1: limits.per_upstrem: unknown key \"per_upstrem\"; did you mean "
         "per_upstream?\n"},
        {"limits:\n  logins: {failure: 1}\n",
         "f.yaml:2: limits.logins.failure: unknown key \"failure\"; did you mean failures?\n"},
        {"limits: {waiting: 1}\n",
         "f.yaml:1: limits.waiting: unknown key \"waiting\"; possible keys: per_upstream, "
         "per_client, logins\n"},
        {"limits: {logins: {within: 1s, within: 2s}}\n",
         "f.yaml:1: limits.logins.within: appears twice; first on line 1\n"},
        {"limits: 50%\n",
         "f.yaml:1: limits: expected a mapping (key: value), found a single value\n"},
        {"limits: {per_client: 50%}\n", "f.yaml:1: limits.per_client: expected a mapping (key: "
                                        "value), found a single value\n"},
        {"limits: {per_client: {requests: {a: b}}}\n",
         "f.yaml:1: limits.per_client.requests: expected a percentage, found a mapping\n"},
        {"grace: 1s\nmax_age: 1h\ngrace: 2s\n",
         "f.yaml:3: grace: appears twice; first on line 1\n"},
        {"log: {level: info, level: info}\n",
         "f.yaml:1: log.level: appears twice; first on line 1\n"},
        /* shapes */
        {"- a\n", "f.yaml:1: expected a mapping (key: value), found a list\n"},
        {"just words\n", "f.yaml:1: expected a mapping (key: value), found a single value\n"},
        {"log: info\n", "f.yaml:1: log: expected a mapping (key: value), found a single value\n"},
        {"log:\ngrace: 1s\n", "f.yaml:1: log: expected a mapping (key: value), found nothing\n"},
        {"grace: [1s]\n", "f.yaml:1: grace: expected a duration, found a list\n"},
        {"grace:\n", "f.yaml:1: grace: has no value; expected a duration\n"},
        {"root: {a: b}\n", "f.yaml:1: root: expected a string, found a mapping\n"},
        {"listen: {a: b}\n", "f.yaml:1: listen: expected a list, found a mapping\n"},
        {"listen: []\n",
         "f.yaml:1: listen: the list is empty; remove the key to get the default\n"},
        {"pin: [a, [b]]\n", "f.yaml:1: pin[1]: expected a string, found a list\n"},
        {"upstreams: {host: a}\n",
         "f.yaml:1: upstreams: expected a list; write for example - host: ghcr.io\n"},
        {"upstreams: [ghcr.io]\n", "f.yaml:1: upstreams[0]: expected a mapping (key: value), "
                                   "found a single value\n"},
        {"warm: alpine\n",
         "f.yaml:1: warm: expected a list; write for example - images: [alpine:3.20]\n"},
        /* patterns that anybody's hosts match */
        {"upstreams: [{host: '*.com'}]\n",
         "f.yaml:1: upstreams[0].host: \"*.com\" matches hosts of everybody, because anybody "
         "can "
         "register a name below com (publicsuffix.org); write the registry's own domain behind the "
         "star, as in *.pkg.dev\n"},
        {"upstreams: [{host: '*.co.uk', credentials: google}]\n", NULL},
        {"upstreams: [{host: '*.CO.UK'}]\n", NULL},
        {"upstreams: [{host: 'registry.*.co.uk:5000'}]\n", NULL},
        {"upstreams: [{host: 'a*.com'}]\n", NULL},
        {"upstreams: [{host: '*.*.com'}]\n", NULL},
        {"upstreams: [{host: '*.github.io'}]\n", NULL},
        {"upstreams: [{host: '*.kawasaki.jp'}]\n", NULL},
        {"upstreams: [{host: '*.xn--p1ai'}]\n", NULL},
        /* values */
        {"upstreams:\n  - host: a.example\n    tag_ttl: 5 parsecs\n",
         "f.yaml:3: upstreams[0].tag_ttl: \"5 parsecs\" is not a duration; write for example "
         "30s, "
         "5m, 168h\n"},
        {"max_size: plenty\n", "f.yaml:1: max_size: \"plenty\" is not a size; write for example "
                               "10GiB, 500MB, or bytes\n"},
        {"max_size: 0\n", "f.yaml:1: max_size: \"0\" is too small; the minimum is 1\n"},
        {"max_flights: many\n",
         "f.yaml:1: max_flights: \"many\" is not a whole number; write for example 4\n"},
        {"max_flights: -1\n",
         "f.yaml:1: max_flights: \"-1\" is not a whole number; write for example 4\n"},
        {"limits: {per_client: {requests: 50}}\n",
         "f.yaml:1: limits.per_client.requests: \"50\" is not a percentage; write for example "
         "50%\n"},
        {"limits: {per_client: {requests: 5%0%}}\n",
         "f.yaml:1: limits.per_client.requests: \"5%0%\" is not a percentage; write for example "
         "50%\n"},
        {"limits: {per_client: {requests: 0%}}\n",
         "f.yaml:1: limits.per_client.requests: \"0%\" is too small; the minimum is 1%\n"},
        {"limits: {per_client: {connections: 101%}}\n",
         "f.yaml:1: limits.per_client.connections: \"101%\" is too large; the maximum is "
         "100%\n"},
        {"limits: {per_upstream: {waiting: 0}}\n",
         "f.yaml:1: limits.per_upstream.waiting: \"0\" is too small; the minimum is 1\n"},
        {"connections: 17\n", "f.yaml:1: connections: \"17\" is too large; the maximum is 16\n"},
        {"upstreams: [{host: a.example, connections: 17}]\n",
         "f.yaml:1: upstreams[0].connections: \"17\" is too large; the maximum is 16\n"},
        {"upstreams: [{host: a.example, connections: 4294967297}]\n",
         "f.yaml:1: upstreams[0].connections: \"4294967297\" is too large; the maximum is 16\n"},
        {"connect_timeout: 0\n",
         "f.yaml:1: connect_timeout: \"0\" is too small; the minimum is 1ms\n"},
        {"prefetch: maybe\n", "f.yaml:1: prefetch: \"maybe\" is neither true nor false\n"},
        {"log: {format: xml}\n", "f.yaml:1: log.format: \"xml\" is not one of text, json\n"},
        {"listen: '5000'\n", "f.yaml:1: listen: \"5000\" is not an address to listen on; write for "
                             "example 0.0.0.0:5000, [::]:5000 or :5000\n"},
        {"listen: [':1', '::1:70000']\n",
         "f.yaml:1: listen[1]: \"::1:70000\" is not an address to listen on; write for example "
         "0.0.0.0:5000, [::]:5000 or :5000\n"},
        {"ca: /not/there\n",
         "f.yaml:1: ca: \"/not/there\" cannot be read: No such file or directory\n"},
        {"ca: /\n", "f.yaml:1: ca: \"/\" is a folder, but a file is expected\n"},
        {"pin: ['a b']\n", "f.yaml:1: pin[0]: \"a b\" is not a pattern of repositories; write for "
                           "example my-project/** or library/alpine\n"},
        {"root: \"/a\\x07\\n\"\nlog: {level: \"\\x07\"}\n",
         "f.yaml:2: log.level: \"\\x07\" is not one of debug, info, warn, error\n"},
        /* upstreams */
        {"upstreams: [{url: http://a.example}]\n",
         "f.yaml:1: upstreams[0]: host is missing; write for example host: ghcr.io\n"},
        {"upstreams: [{host: 'a b'}]\n", "f.yaml:1: upstreams[0].host: \"a b\" is not a host; "
                                         "write for example ghcr.io or registry.example:5000\n"},
        {"upstreams: [{host: 'https://ghcr.io'}]\n",
         "f.yaml:1: upstreams[0].host: \"https://ghcr.io\" is a URL, but a host is expected; "
         "write for example ghcr.io, and put the URL under url\n"},
        {"upstreams: [{host: '*'}]\n",
         "f.yaml:1: upstreams[0].host: \"*\" is not a pattern of hosts; write for example "
         "*.pkg.dev (* stands for part of one label, but not of the last one)\n"},
        {"upstreams: [{host: '**.a.example'}]\n",
         "f.yaml:1: upstreams[0].host: \"**.a.example\" is not a pattern of hosts; write for "
         "example *.pkg.dev (* stands for part of one label, but not of the last one)\n"},
        {"upstreams: [{host: a.example, url: 'ftp://a.example'}]\n",
         "f.yaml:1: upstreams[0].url: \"ftp://a.example\" is not the URL of a registry; write "
         "for "
         "example https://registry.example or http://127.0.0.1:5001\n"},
        {"upstreams: [{host: a.example, url: 'https://u:secret@a.example'}]\n",
         "f.yaml:1: upstreams[0].url: the URL contains a user name or password; put them under "
         "credentials\n"},
        {"upstreams: [{host: a.example, url: 'https://a.example/?x'}]\n",
         "f.yaml:1: upstreams[0].url: \"https://a.example/?x\" has more parts than scheme, host "
         "and path\n"},
        {"upstreams:\n- {host: a.example}\n- {host: A.example}\n",
         "f.yaml:3: upstreams[1].host: \"a.example\" appears twice; first as upstreams[0] "
         "(entries of one host must differ in repositories)\n"},
        {"upstreams:\n- {host: docker.io}\n- {host: registry-1.docker.io}\n",
         "f.yaml:3: upstreams[1].host: \"docker.io\" appears twice; first as upstreams[0] "
         "(entries of one host must differ in repositories)\n"},
        {"upstreams:\n- {host: a.example, default: true}\n- {host: b.example, default: true}\n",
         "f.yaml:3: upstreams[1].default: upstreams[0] is the default already; only one "
         "upstream can be\n"},
        {"upstreams:\n- x\n- {host: a.example}\n- {host: a.example}\n",
         "f.yaml:2: upstreams[0]: expected a mapping (key: value), found a single value\n"
         "f.yaml:4: upstreams[2].host: \"a.example\" appears twice; first as upstreams[1] "
         "(entries of one host must differ in repositories)\n"},
        {"upstreams: [{host: '*.pkg.dev', default: true}]\n",
         "f.yaml:1: upstreams[0].default: a pattern cannot be the default; add an entry for one "
         "host\n"},
        {"upstreams: [{host: a.example, repositories: []}]\n",
         "f.yaml:1: upstreams[0].repositories: the list is empty; remove the key to get the "
         "default\n"},
        {"upstreams: [{host: a.example, redirect_hosts: ['10.0.0.0/8']}]\n", NULL},
        {"upstreams: [{host: a.example, token_hosts: ['*.b.example']}]\n",
         "f.yaml:1: upstreams[0].token_hosts[0]: \"*.b.example\" is a pattern, but one host is "
         "expected\n"},
        /* credentials */
        {"upstreams: [{host: a.example, credentials: gogle}]\n",
         "f.yaml:1: upstreams[0].credentials: \"gogle\" is not one of anonymous, docker, "
         "google, {username: U, password_file: F}, {helper: NAME}\n"},
        {"upstreams: [{host: a.example, credentials: {username: u}}]\n",
         "f.yaml:1: upstreams[0].credentials: username is set, but password_file is missing\n"},
        {"upstreams: [{host: a.example, credentials: {password_file: /dev/null}}]\n",
         "f.yaml:1: upstreams[0].credentials: password_file is set, but username is missing\n"},
        {"upstreams: [{host: a.example, credentials: {username: u, password_file: /not/there}}]\n",
         "f.yaml:1: upstreams[0].credentials.password_file: \"/not/there\" cannot be read: No "
         "such file or directory\n"},
        {"upstreams: [{host: a.example, credentials: {username: u, password: secret}}]\n",
         "f.yaml:1: upstreams[0].credentials: username is set, but password_file is missing\n"
         "f.yaml:1: upstreams[0].credentials.password: unknown key \"password\"; did you mean "
         "password_file?\n"},
        {"upstreams: [{host: a.example, credentials: {helper: ../x}}]\n",
         "f.yaml:1: upstreams[0].credentials.helper: \"../x\" is not a credential helper; write "
         "the NAME of a program docker-credential-NAME, or the absolute path of a program\n"},
        {"upstreams: [{host: a.example, credentials: {helper: a, docker: {}}}]\n",
         "f.yaml:1: upstreams[0].credentials: expected exactly one of docker, google, helper, "
         "or username with password_file\n"},
        {"upstreams: [{host: a.example, credentials: {}}]\n",
         "f.yaml:1: upstreams[0].credentials: expected exactly one of docker, google, helper, "
         "or username with password_file\n"},
        {"upstreams: [{host: a.example, credentials: {docker: {file: /not/there}}}]\n",
         "f.yaml:1: upstreams[0].credentials.docker.file: \"/not/there\" cannot be read: No "
         "such file or directory\n"},
        {"upstreams: [{host: a.example, credentials: {google: {file: /dev/null, gcloud: "
         "true}}}]\n",
         "f.yaml:1: upstreams[0].credentials.google: only one of file, metadata and gcloud may "
         "be set\n"},
        {"upstreams: [{host: a.example, credentials: {google: {fiel: x}}}]\n",
         "f.yaml:1: upstreams[0].credentials.google.fiel: unknown key \"fiel\"; did you mean "
         "file?\n"},
        /* warm */
        {"warm: [{every: 1h}]\n",
         "f.yaml:1: warm[0]: images is missing; write for example images: [alpine:3.20]\n"},
        {"warm: [{images: [UPPER]}]\n",
         "f.yaml:1: warm[0].images[0]: \"UPPER\" is not an image; write for example "
         "docker.io/library/alpine:3.20\n"},
        {"warm: [{images: [a], platforms: [linux]}]\n",
         "f.yaml:1: warm[0].platforms[0]: \"linux\" is not a platform; write for example "
         "linux/amd64 or linux/arm/v7\n"},
        /* settings that belong together */
        {"tls: {certificate: /dev/null}\n",
         "f.yaml:1: tls.certificate: tls.key is missing; a certificate needs its key\n"},
        {"tls: {key: /dev/null}\n",
         "f.yaml:1: tls.key: tls.certificate is missing; a key needs its certificate\n"},
        {"tls: {minimum: 1.3}\n", "f.yaml:1: tls.minimum: there is no TLS without a certificate; "
                                  "set tls.certificate and tls.key\n"},
        {"tls: {minimum: 1.1}\n", "f.yaml:1: tls.minimum: \"1.1\" is not one of 1.2, 1.3\n"},
        /* YAML */
        {"grace: &a 1s\n",
         "f.yaml:1: anchors and aliases (& and *) are not supported; write the value itself, or "
         "put it in quotes if it begins with such a character\n"},
        {"upstreams: [{host: *.pkg.dev}]\n", NULL},
        {"grace: !!str 1s\n", "f.yaml:1: tags (!) are not supported; put the value in quotes if "
                              "it begins with such a character\n"},
        {"log:\n\tlevel: info\n", "f.yaml:2: not valid YAML: a tab cannot indent; use spaces\n"},
        {"log: {level: info\n", "f.yaml:2: not valid YAML: did not find expected ',' or '}' while "
                                "parsing a flow mapping\n"},
        {"grace: 1s\n---\ngrace: 2s\n",
         "f.yaml:2: a second YAML document begins here; a file may hold only one\n"},
        {"{a: b}: c\n", "f.yaml:1: a key must be a plain word, not a list or a mapping\n"},
        {"grace: \"\\0\"\n", "f.yaml:1: a NUL character is not allowed\n"},
        {"a: [[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]\n",
         "f.yaml:1: nested too deeply: more than 16 levels\n"},
        {"grace: 1s\nroot: \xff\xfe\n", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct config *config = try_load(bench, cases[i].text);
        if (config)
            fail_msg("accepted:\n%s", cases[i].text);
        if (cases[i].problems)
            assert_string_equal(bench->problems.bytes, cases[i].problems);
        else
            assert_int_equal(strncmp(bench->problems.bytes, "f.yaml:", 7), 0);
    }
}

static void test_bytes_that_are_not_text_are_reported_with_their_place(void **state) {
    struct bench *bench = *state;
    assert_null(try_load(bench, "grace: 1s\nroot: \xff\xfe\n"));
    assert_int_equal(strncmp(bench->problems.bytes, "f.yaml:2: not valid YAML: ", 26), 0);
}

static void test_mistakes_in_flags_and_variables_name_them(void **state) {
    struct bench *bench = *state;
    give_flags(bench, "--tag-ttl", "5 parsecs", "--log-level=loud");
    assert_refused(bench, "",
                   "--log-level: \"loud\" is not one of debug, info, warn, error\n"
                   "--tag-ttl: \"5 parsecs\" is not a duration; write for example 30s, 5m, 168h\n");
    const char *const environment[] = {"HOME=/h", "TARN_TAG_TTL=5 parsecs", "TARN_LISTEN=:1,x",
                                       NULL};
    config_flags_finish(&bench->flags);
    bench->environment = environment;
    assert_refused(bench, "",
                   "TARN_LISTEN: \"x\" is not an address to listen on; write for example "
                   "0.0.0.0:5000, [::]:5000 or :5000\n"
                   "TARN_TAG_TTL: \"5 parsecs\" is not a duration; write for example 30s, 5m, "
                   "168h\n");
    const char *const half[] = {"HOME=/h", "TARN_TLS_KEY=/dev/null", NULL};
    config_flags_finish(&bench->flags);
    bench->environment = half;
    assert_refused(bench, "",
                   "TARN_TLS_KEY: tls.certificate is missing; a key needs its certificate\n");
    bench->environment = (const char *const[]){"HOME=/h", NULL};
    give_flags(bench, "--default-upstream=*.pkg.dev");
    assert_refused(bench, "",
                   "--default-upstream: \"*.pkg.dev\" is a pattern, but one host is expected\n");
}

static void test_ten_mistakes_are_reported_at_once_in_their_order(void **state) {
    struct bench *bench = *state;
    cleanup_buffer struct buffer text = {0}, wanted = {0};
    buffer_append_string(&text, "upstreams: [{host: a.example, tag_ttl: x}]\n");
    buffer_append_string(&wanted, "f.yaml:1: upstreams[0].tag_ttl: \"x\" is not a duration; write "
                                  "for example 30s, 5m, 168h\n");
    static const char *const keys[] = {"grace", "max_age", "head_timeout", "negative_ttl"};
    for (int i = 0; i < 4; i++) {
        buffer_printf(&text, "%s: x\n", keys[i]);
        buffer_printf(&wanted,
                      "f.yaml:%d: %s: \"x\" is not a duration; write for example 30s, 5m, 168h\n",
                      i + 2, keys[i]);
    }
    assert_refused(bench, text.bytes, wanted.bytes);

    buffer_clear(&text);
    for (int i = 0; i < 14; i++)
        buffer_printf(&text, "zzzzz%d: x\n", i);
    assert_null(try_load(bench, text.bytes));
    size_t lines = 0;
    for (const char *at = bench->problems.bytes; (at = strchr(at, '\n')); at++)
        lines++;
    assert_int_equal(lines, 11);
    assert_non_null(strstr(bench->problems.bytes, "\nand 4 more\n"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_bench(test_each_mistake_is_reported_with_its_place),
        with_bench(test_bytes_that_are_not_text_are_reported_with_their_place),
        with_bench(test_mistakes_in_flags_and_variables_name_them),
        with_bench(test_ten_mistakes_are_reported_at_once_in_their_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
