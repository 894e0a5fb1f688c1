/* The section `keep`: what it says, and how its mistakes are told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "config/bench.h"

static void test_every_setting_is_read(void **state) {
    struct bench *bench = *state;
    const struct keep_settings *keep =
        &load(bench,
              "keep:\n"
              "  listen: 0.0.0.0:8080\n"
              "  namespace: tarn\n"
              "  refresh: 10m\n"
              "  operators: anyone\n"
              "  lease: none\n"
              "  machines: /etc/m\n"
              "  nublado: jupyter\n"
              "  prefix: cache\n"
              "  keeps:\n"
              "    - name: jupyter\n"
              "      nodes: {labels: {pool: user}, tolerations: [{key: only, operator: Equal, "
              "value: labs, "
              "effect: NoSchedule}, {operator: Exists}]}\n"
              "      images:\n"
              "        - repository: us-central1-docker.pkg.dev/p/sciplat/sciplat-lab\n"
              "          rubin: {releases: 1, weeklies: 2, dailies: 3, recommended: recommended, "
              "aliases: "
              "[latest_weekly], cycle: 34, pin: [w_2024_10], candidates: 4, experimentals: 5}\n"
              "          filter: {weekly: {number: 7, age: 90d, cutoff_date: 2024-05-01}, release: "
              "{cutoff_version: r26_0_0, cutoff_build: 3}}\n"
              "        - repository: ghcr.io/org/app\n"
              "          tags: {matching: \"v*\", order: uploaded, newest: 3, newer_than: 90d}\n"
              "          pull_as: localhost:30026/ghcr.io/org/app\n"
              "        - image: python:3.12\n"
              "      pull: {by: digest, secret: s, service_account: \"\", timeout: 5m, "
              "nodes_at_once: 7, "
              "node_limit: 2, disk: 50%, pod_labels: {a: b}, pod_annotations: {c: d}, "
              "priority_class: p}\n")
             ->keep;
    assert_string_equal(keep->listen[0], "0.0.0.0:8080");
    assert_string_equal(keep->namespace, "tarn");
    assert_int_equal(keep->refresh_ms, 600000);
    assert_string_equal(keep->operators, "anyone");
    assert_string_equal(keep->lease, "none");
    assert_string_equal(keep->machines, "/etc/m");
    assert_string_equal(keep->nublado, "jupyter");
    assert_string_equal(keep->prefix, "cache");
    assert_int_equal(keep->keep_count, 1);
    const struct keep_spec *spec = &keep->keeps[0];
    assert_string_equal(spec->nodes.labels[0].value, "user");
    assert_int_equal(spec->nodes.toleration_count, 2);
    assert_string_equal(spec->nodes.tolerations[0].effect, "NoSchedule");
    assert_null(spec->nodes.tolerations[1].key);
    assert_int_equal(spec->entry_count, 3);
    const struct keep_rubin *rubin = &spec->entries[0].rubin;
    assert_int_equal(rubin->releases + 10 * rubin->weeklies + 100 * rubin->dailies, 321);
    assert_int_equal(rubin->candidates + 10 * rubin->experimentals, 54);
    assert_true(rubin->has_cycle && rubin->cycle == 34);
    assert_string_equal(rubin->aliases[0], "latest_weekly");
    assert_string_equal(rubin->pins[0], "w_2024_10");
    const struct keep_filter *weekly = &rubin->filters[KEEP_TAG_WEEKLY];
    assert_true(weekly->has_number && weekly->number == 7);
    assert_int_equal(weekly->age_ms, INT64_C(90) * 86400000);
    assert_int_equal(weekly->cutoff_date_s, 1714521600);
    assert_string_equal(rubin->filters[KEEP_TAG_RELEASE].cutoff_version, "r26_0_0");
    assert_true(rubin->filters[KEEP_TAG_RELEASE].has_cutoff_build);
    assert_int_equal(spec->entries[1].tags.order, KEEP_ORDER_UPLOADED);
    assert_int_equal(spec->entries[1].tags.newest, 3);
    assert_string_equal(spec->entries[1].pull_as, "localhost:30026/ghcr.io/org/app");
    assert_string_equal(spec->entries[2].repository, "docker.io/library/python");
    assert_string_equal(spec->entries[2].tag, "3.12");
    assert_int_equal(spec->pull.by, KEEP_PULL_BY_DIGEST);
    assert_string_equal(spec->pull.secret, "s");
    assert_null(spec->pull.service_account);
    assert_int_equal(spec->pull.timeout_ms, 300000);
    assert_int_equal(spec->pull.nodes_at_once, 7);
    assert_int_equal(spec->pull.node_limit, 2);
    assert_int_equal(spec->pull.disk_percent, 50);
    assert_string_equal(spec->pull.pod_labels[0].key, "a");
    assert_string_equal(spec->pull.pod_annotations[0].value, "d");
    assert_string_equal(spec->pull.priority_class, "p");
}

static void test_images_are_named_as_nodes_name_them(void **state) {
    static const struct {
        const char *image, *repository, *tag, *digest;
    } images[] = {
#define DIGEST "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
        {"alpine", "docker.io/library/alpine", "latest", NULL},
        {"org/app:1", "docker.io/org/app", "1", NULL},
        {"ghcr.io/org/app@" DIGEST, "ghcr.io/org/app", NULL, DIGEST},
        {"localhost:5000/a/b:c@" DIGEST, "localhost:5000/a/b", "c", DIGEST},
        {"localhost:5000/a/b", "localhost:5000/a/b", "latest", NULL},
    };
    struct bench *bench = *state;
    for (size_t i = 0; i < sizeof images / sizeof *images; i++) {
        char text[400];
        snprintf(text, sizeof text, "keep: {keeps: [{name: a, images: [{image: \"%s\"}]}]}\n",
                 images[i].image);
        const struct keep_entry *entry = &load(bench, text)->keep.keeps[0].entries[0];
        assert_string_equal(entry->repository, images[i].repository);
        assert_string_equal(entry->tag ? entry->tag : "-", images[i].tag ? images[i].tag : "-");
        assert_string_equal(entry->digest ? entry->digest : "-",
                            images[i].digest ? images[i].digest : "-");
    }
    const struct keep_entry *hub =
        &load(bench, "keep: {keeps: [{name: a, images: [{repository: registry.hub.docker.com/o/a, "
                     "tags: {newest: 1}}]}]}\n")
             ->keep.keeps[0]
             .entries[0];
    assert_string_equal(hub->repository, "docker.io/o/a");
    assert_string_equal(hub->pull_as, "registry.hub.docker.com/o/a");
}

static void test_without_a_section_there_are_defaults(void **state) {
    struct bench *bench = *state;
    const struct keep_settings *keep = &load(bench, "")->keep;
    assert_string_equal(keep->listen[0], "127.0.0.1:8080");
    assert_int_equal(keep->refresh_ms, 300000);
    assert_string_equal(keep->lease, "tarn-keep");
    assert_string_equal(keep->prefix, "cachemachine");
    assert_null(keep->operators);
    assert_int_equal(keep->keep_count, 0);
    const struct keep_spec *spec =
        &load(bench, "keep: {keeps: [{name: a, images: [{image: b}]}]}\n")->keep.keeps[0];
    assert_int_equal(spec->pull.nodes_at_once, 20);
    assert_int_equal(spec->pull.node_limit, 1);
    assert_int_equal(spec->pull.timeout_ms, 1200000);
    assert_int_equal(spec->pull.disk_percent, 60);
}

#define KEEP(text)  "keep: {keeps: [{name: a, images: [{image: b}], " text "}]}\n"
#define IMAGE(text) "keep: {keeps: [{name: a, images: [{" text "}]}]}\n"

static void test_mistakes_are_told_with_their_place(void **state) {
    struct bench *bench = *state;
    static const struct {
        const char *text, *problems;
    } cases[] = {
        {"keep: 1\n", "f.yaml:1:7: keep: expected a mapping (key: value), found a single value\n"},
        {"keep:\n  lisen: a\n",
         "f.yaml:2:3: keep.lisen: unknown key \"lisen\"; did you mean listen?\n"},
        {"keep: {keps: []}\n",
         "f.yaml:1:8: keep.keps: unknown key \"keps\"; did you mean keeps?\n"},
        {"keep: {listen: [], lease: 'a/b'}\n",
         "f.yaml:1:16: keep.listen: the list is empty; remove the key to get the default\n"
         "f.yaml:1:27: keep.lease: \"a/b\" is not the name of a keep; write at most 63 letters, "
         "digits, \"-\", \"_\" or \".\", with a letter or digit at both ends\n"},
        {"keep: {operators: /absent}\n",
         "f.yaml:1:19: keep.operators: \"/absent\" cannot be read: No "
         "such file or directory; write an htpasswd "
         "file, or anyone\n"},
        {"keep:\n  kubeconfig: /absent\n",
         "f.yaml:2:15: keep.kubeconfig: \"/absent\" cannot be read: No such file or directory\n"},
        {"keep: {refresh: 1ms}\n",
         "f.yaml:1:17: keep.refresh: \"1ms\" is too small; the minimum is 1s\n"},
        {"keep: {keeps: {}}\n",
         "f.yaml:1:15: keep.keeps: expected a list; write for example - {name: jupyter, images: "
         "[{image: docker.io/library/python:3.12}]}\n"},
        {"keep: {keeps: [{name: a, images: [{image: b}]}, {name: a, images: [{image: b}]}]}\n",
         "f.yaml:1:49: keep.keeps[1]: the name \"a\" appears twice; first as keep.keeps[0]\n"},
        {"keep: {keeps: [{images: [{image: b}]}]}\n",
         "f.yaml:1:16: keep.keeps[0]: name is missing; write for example name: jupyter\n"},
        {"keep: {keeps: [{name: -a, images: [{image: b}]}]}\n",
         "f.yaml:1:23: keep.keeps[0].name: \"-a\" is not the name of a keep; write at most 63 "
         "letters, "
         "digits, \"-\", \"_\" or \".\", with a letter or digit at both ends\n"},
        {"keep: {keeps: [{name: a}]}\n",
         "f.yaml:1:16: keep.keeps[0]: images is missing; write for example images: [{image: "
         "docker.io/library/python:3.12}]\n"},
        {KEEP("nodes: {labels: [x]}"),
         "f.yaml:1:64: keep.keeps[0].nodes.labels: expected a mapping; "
         "write for example {pool: user}\n"},
        {KEEP("nodes: {labels: {a: [x]}}"),
         "f.yaml:1:68: keep.keeps[0].nodes.labels.a: expected a string, found a list\n"},
        {KEEP("nodes: {tolerations: [{value: x}]}"),
         "f.yaml:1:70: keep.keeps[0].nodes.tolerations[0]: key is missing; without a key, write "
         "operator: Exists\n"},
        {KEEP("nodes: {tolerations: [{key: x, effect: None}]}"),
         "f.yaml:1:87: keep.keeps[0].nodes.tolerations[0].effect: \"None\" is not one of "
         "NoSchedule, "
         "PreferNoSchedule, NoExecute\n"},
        {KEEP("pull: {by: name}"),
         "f.yaml:1:59: keep.keeps[0].pull.by: \"name\" is not one of tag, digest\n"},
        {KEEP("pull: {disk: 101%}"),
         "f.yaml:1:61: keep.keeps[0].pull.disk: \"101%\" is too large; the maximum is 100%\n"},
        {KEEP("pull: {nodes_at_once: 0}"),
         "f.yaml:1:70: keep.keeps[0].pull.nodes_at_once: \"0\" is too small; the minimum is 1\n"},
        {IMAGE("image: b, repository: c.d/e"), "f.yaml:1:35: keep.keeps[0].images[0]: an entry "
                                               "needs either repository or image; write for "
                                               "example image: docker.io/library/python:3.12\n"},
        {IMAGE("repository: c/d, tags: {newest: 1}"),
         "f.yaml:1:48: keep.keeps[0].images[0].repository: \"c/d\" is not a repository; write "
         "HOST/NAME "
         "without a tag, for example ghcr.io/org/app\n"},
        {IMAGE("repository: c.d/e"),
         "f.yaml:1:35: keep.keeps[0].images[0]: a repository needs either rubin or tags, which say "
         "which of its images are kept; write for example tags: {matching: \"v*\", newest: 3}\n"},
        {IMAGE("repository: c.d/e, tags: {order: age}"),
         "f.yaml:1:69: keep.keeps[0].images[0].tags.order: \"age\" is not one of version, "
         "uploaded, "
         "name\n"},
        {IMAGE("repository: c.d/e, rubin: {cycle: x}"),
         "f.yaml:1:70: keep.keeps[0].images[0].rubin.cycle: \"x\" is not a whole number; write for "
         "example 4\n"},
        {IMAGE("repository: c.d/e, rubin: {filter: {weekly: {cutoff_date: May}}}"),
         "f.yaml:1:94: keep.keeps[0].images[0].rubin.filter.weekly.cutoff_date: \"May\" is not a "
         "date; "
         "write for example 2024-05-01\n"},
        {IMAGE("repository: c.d/e, tags: {newest: 1}, filter: {weekly: {number: 1}}"),
         "f.yaml:1:82: keep.keeps[0].images[0].filter: filter is for rubin; tags has newest and "
         "newer_than\n"},
        {IMAGE("image: b, tags: {newest: 1}"),
         "f.yaml:1:35: keep.keeps[0].images[0]: rubin and tags choose among the images of a "
         "repository; write repository in place of image\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_refused(bench, cases[i].text, cases[i].problems);
}

static void test_more_than_a_hundred_keeps_are_refused(void **state) {
    struct bench *bench = *state;
    struct buffer text = {0};
    buffer_append_string(&text, "keep:\n  keeps:\n");
    for (int i = 0; i < 100; i++)
        buffer_printf(&text, "    - {name: k%d, images: [{image: a}]}\n", i);
    assert_int_equal(load(bench, text.bytes)->keep.keep_count, 100);
    buffer_append_string(&text, "    - {name: k100, images: [{image: a}]}\n");
    assert_refused(bench, text.bytes,
                   "f.yaml:3:5: keep.keeps: 101 keeps are too many; the most is 100\n");
    buffer_finish(&text);
}

static void test_a_variable_overrides_the_file_and_a_flag_overrides_both(void **state) {
    struct bench *bench = *state;
    static const char *const environment[] = {"HOME=/home/u",
                                              "TARN_KEEP_LISTEN=127.0.0.1:1,127.0.0.1:2",
                                              "TARN_KEEP_REFRESH=2m",
                                              "TARN_KEEP_LEASE=one",
                                              "TARN_KEEP_NUBLADO=lab",
                                              "TARN_KEEP_PORT=tcp://10.0.0.1:80",
                                              "TARN_KEEP_SERVICE_HOST=10.0.0.1",
                                              "TARN_FALLBACK_KEEP_MACHINES=/m",
                                              "TARN_KEEP_NAMESPACE=of-variable",
                                              "TARN_KEEP_OPERATORS=anyone",
                                              "TARN_KEEP_PREFIX=c",
                                              NULL};
    bench->environment = environment;
    give_flags(bench, "--refresh=3m", "--namespace=of-flag");
    const struct config *config =
        load(bench, "keep: {refresh: 1m, lease: other, namespace: of-file, prefix: p}\n");
    const struct keep_settings *keep = &config->keep;
    assert_string_equal(keep->listen[0], "127.0.0.1:1");
    assert_string_equal(keep->listen[1], "127.0.0.1:2");
    assert_null(keep->listen[2]);
    assert_int_equal(keep->refresh_ms, 180000);
    assert_string_equal(keep->lease, "one");
    assert_string_equal(keep->nublado, "lab");
    assert_string_equal(keep->namespace, "of-flag");
    assert_string_equal(keep->operators, "anyone");
    assert_string_equal(keep->prefix, "c");
    assert_string_equal(keep->machines, "/m");
    assert_null(config->warnings); /* of a Service's variables */
}

static void test_mistakes_in_flags_and_variables_name_them(void **state) {
    struct bench *bench = *state;
    static const char *const environment[] = {"HOME=/home/u", "TARN_KEEP_REFRESH=1ms", NULL};
    bench->environment = environment;
    assert_refused(bench, "", "TARN_KEEP_REFRESH: \"1ms\" is too small; the minimum is 1s\n");
    static const char *const nothing[] = {"HOME=/home/u", NULL};
    bench->environment = nothing;
    give_flags(bench, "--operators=/absent");
    assert_refused(bench, "",
                   "--operators: \"/absent\" cannot be read: No such file or directory; write an "
                   "htpasswd file, "
                   "or anyone\n");
    give_flags(bench, "--prefix=a/b");
    assert_refused(bench, "",
                   "--prefix: \"a/b\" is not one part of a path; write for example "
                   "cachemachine\n");
}

static const struct upstream_settings *of_keep(const struct config *config, const char *host) {
    for (size_t i = 0; i < config->keep_upstream_count; i++) {
        if (strcmp(config->keep_upstreams[i].host, host) == 0)
            return &config->keep_upstreams[i];
    }
    fail_msg("no upstream for %s", host);
    return NULL;
}

static void test_hosts_that_no_upstream_names_have_their_credentials(void **state) {
    struct bench *bench = *state;
    const char *file = write_file(bench, "docker.json", "{}");
    char text[400];
    snprintf(text, sizeof text,
             "keep: {docker_config: %s}\n"
             "upstreams: [{host: a.example}, {host: b.example, credentials: anonymous}]\n",
             file);
    const struct config *config = load(bench, text);
    const struct credential_source *docker = of_keep(config, "*.*.*")->credentials;
    assert_string_equal(credential_source_name(docker), "docker");
    assert_ptr_equal(of_keep(config, "*.*")->credentials, docker);
    assert_ptr_equal(of_keep(config, "a.example")->credentials, docker);
    assert_string_equal(credential_source_name(of_keep(config, "b.example")->credentials),
                        "anonymous");
    assert_string_equal(credential_source_name(of_keep(config, "*.pkg.dev")->credentials),
                        "google");
    /* tarn serve has its own. */
    assert_ptr_not_equal(upstream(config, "a.example")->credentials, docker);
    assert_int_equal(config->upstream_count, 2);
    assert_ptr_equal(of_keep(config, "a.example"), &config->keep_upstreams[0]);
    assert_ptr_equal(of_keep(config, "docker.io")->credentials, docker);
    /* What an upstream says stays. */
    config = load(bench, "upstreams: [{host: '*.pkg.dev', credentials: anonymous}]\n");
    assert_string_equal(credential_source_name(of_keep(config, "*.pkg.dev")->credentials),
                        "anonymous");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_bench(test_every_setting_is_read),
        with_bench(test_images_are_named_as_nodes_name_them),
        with_bench(test_without_a_section_there_are_defaults),
        with_bench(test_mistakes_are_told_with_their_place),
        with_bench(test_more_than_a_hundred_keeps_are_refused),
        with_bench(test_a_variable_overrides_the_file_and_a_flag_overrides_both),
        with_bench(test_mistakes_in_flags_and_variables_name_them),
        with_bench(test_hosts_that_no_upstream_names_have_their_credentials),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
