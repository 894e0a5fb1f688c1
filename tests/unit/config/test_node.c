/* The configuration of tarn node. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include "config/config.h"

static struct config *load(const char *text, char *const *environment, struct buffer *problems) {
    return config_node_parse(text_of(text), "n.yaml", NULL, environment, problems);
}

static void test_an_empty_file_gives_the_defaults(void **state) {
    static const char *const empty[] = {"", "# nothing\n", "---\n", "{}\n"};
    (void)state;
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++) {
        struct buffer problems = {0};
        struct config *config = load(empty[i], NULL, &problems);
        assert_non_null(config);
        assert_string_equal(config->node.run, "/run/tarn");
        assert_string_equal(config->node.spans.root, "/var/lib/tarn-node");
        assert_string_equal(config->node.spans.from[0], "http://127.0.0.1:5000");
        assert_null(config->node.spans.from[1]);
        assert_string_equal(config->node.listen[0], "127.0.0.1:5001");
        assert_int_equal(config->node.spans.background, 32 << 20);
        assert_int_equal(config->node.spans.wait_ms, 300000);
        assert_true(config->node.spans.trace);
        assert_int_equal(config->node.spans.trace_time_ms, 60000);
        assert_int_equal(config->node.spans.upstream_count, 0);
        assert_int_equal(config->confine, CONFIG_CONFINE_AUTO);
        assert_null(config->warnings);
        config_free(config);
        buffer_finish(&problems);
    }
}

static void test_a_variable_overrides_the_file_and_others_do_not_count(void **state) {
    char wait[] = "TARN_NODE_WAIT=7s", other[] = "TARN_WAIT=x", unknown[] = "TARN_NODE_WAITT=1",
         service[] = "TARN_NODE_SERVICE_HOST=1", root[] = "TARN_ROOT=/x";
    char *const environment[] = {wait, other, unknown, service, root, NULL};
    struct buffer problems = {0};
    (void)state;
    struct config *config = load("wait: 1s\nfrom: [https://a.test, https://b.test]\n"
                                 "upstreams:\n- host: ghcr.io\n",
                                 environment, &problems);
    assert_non_null(config);
    assert_int_equal(config->node.spans.wait_ms, 7000);
    assert_string_equal(config->node.spans.from[1], "https://b.test");
    assert_string_equal(config->node.spans.root, "/var/lib/tarn-node");
    assert_int_equal(config->node.spans.upstream_count, 1);
    assert_string_equal(config->node.spans.upstreams[0].host, "ghcr.io");
    assert_non_null(config->warnings);
    assert_non_null(strstr(config->warnings[0], "TARN_NODE_WAIT?"));
    assert_null(config->warnings[1]);
    config_free(config);
    buffer_finish(&problems);
}

static void test_a_mistake_says_where_it_is(void **state) {
    static const struct {
        const char *text, *problem;
    } mistakes[] = {
        {"max_size: 1\n", "n.yaml:1: max_size: unknown key"},
        {"warm: []\n", "n.yaml:1: warm: unknown key"},
        {"a: 1\nwait: 0\n", "n.yaml:2: wait: "},
        {"upstreams: 1\n", "n.yaml:1: upstreams: expected a list"},
        {"upstreams:\n- url: https://x\n", "n.yaml:2: upstreams[0]: host is missing"},
        {"listen: x\n", "n.yaml:1: listen"},
        {"- a\n", "n.yaml:1: "},
    };
    (void)state;
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        struct buffer problems = {0};
        assert_null(load(mistakes[i].text, NULL, &problems));
        assert_non_null(strstr(problems.bytes, mistakes[i].problem));
        buffer_finish(&problems);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_empty_file_gives_the_defaults),
        cmocka_unit_test(test_a_variable_overrides_the_file_and_others_do_not_count),
        cmocka_unit_test(test_a_mistake_says_where_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
