/* The files for containerd and for Podman, their mark, and what containerd's own file names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "node/mark.h"
#include "node/render.h"
#include "node/watch.h"

static const struct mirror_registry hub = {
    .host = "docker.io",
    .url = "https://registry-1.docker.io",
};

static void assert_hosts_toml(const struct mirror_settings *settings,
                              const struct mirror_registry *registry, const char *expected) {
    cleanup_buffer struct buffer out = {0};
    assert_true(render_hosts_toml(settings, registry, &out));
    assert_string_equal(out.bytes, expected);
}

static void test_hosts_toml_names_the_registry_as_its_server(void **state) {
    (void)state;
    const struct mirror_settings settings = {.url = "http://127.0.0.1:5000"};
    assert_hosts_toml(&settings, &hub,
                      "server = \"https://registry-1.docker.io\"\n\n"
                      "[host.\"http://127.0.0.1:5000\"]\n"
                      "  capabilities = [\"pull\", \"resolve\"]\n");
    assert_hosts_toml(&settings, NULL,
                      "[host.\"http://127.0.0.1:5000\"]\n"
                      "  capabilities = [\"pull\", \"resolve\"]\n");
}

static void test_hosts_toml_has_authorities_and_the_timeout(void **state) {
    (void)state;
    const struct mirror_settings settings = {
        .url = "https://tarn", .ca_file = "/a \"b\"\\c.pem", .dial_timeout_ms = 90000};
    const struct mirror_registry registry = {.host = "a", .url = "https://a/", .ca_file = "/a.pem"};
    assert_hosts_toml(&settings, &registry,
                      "server = \"https://a\"\nca = \"/a.pem\"\n\n[host.\"https://tarn\"]\n"
                      "  capabilities = [\"pull\", \"resolve\"]\n"
                      "  ca = \"/a \\\"b\\\"\\\\c.pem\"\n  dial_timeout = \"1m30s\"\n");
}

static void test_a_prefix_is_part_of_the_server(void **state) {
    (void)state;
    static const struct {
        const char *url, *prefix, *server;
    } cases[] = {
        {"https://h", "p/q", "server = \"https://h/v2/p/q\"\noverride_path = true\n\n"},
        {"https://h/v2/", "p", "server = \"https://h/v2/p\"\noverride_path = true\n\n"},
        {"https://h/v2/p", NULL, "server = \"https://h/v2/p\"\noverride_path = true\n\n"},
        {"https://h/v2", NULL, "server = \"https://h/v2\"\n\n"},
        {"https://h/x", NULL, "server = \"https://h/x\"\n\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct mirror_settings settings = {.url = "http://t"};
        const struct mirror_registry registry = {
            .host = "a", .url = cases[i].url, .prefix = cases[i].prefix};
        cleanup_buffer struct buffer out = {0};
        assert_true(render_hosts_toml(&settings, &registry, &out));
        assert_true(text_starts(text_of(out.bytes), cases[i].server));
    }
}

static void test_registries_conf_says_where_each_registry_is(void **state) {
    (void)state;
    static const struct {
        struct mirror_registry registry;
        const char *location;
    } cases[] = {
        {{"docker.io", "https://registry-1.docker.io", NULL, NULL}, "location = \"docker.io\"\n"},
        {{"a:5000", "https://a:5000/", NULL, NULL}, "location = \"a:5000\"\n"},
        {{"a", "http://b:1", NULL, NULL}, "location = \"b:1\"\ninsecure = true\n"},
        {{"a", "https://a", "p", NULL}, "location = \"a/p\"\n"},
        {{"a", "https://b/v2/p", NULL, NULL}, "location = \"b/p\"\n"},
        {{"a", "https://b/v2", NULL, NULL}, "location = \"b\"\n"},
        {{"a", "https://b/no/api", NULL, NULL}, "location = \"a\"\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct mirror_settings settings = {
            .url = "https://t", .registries = &cases[i].registry, .registry_count = 1};
        cleanup_buffer struct buffer out = {0}, expected = {0};
        assert_true(render_registries_conf(&settings, &out));
        buffer_printf(&expected,
                      "[[registry]]\nprefix = \"%s\"\n%s[[registry.mirror]]\nlocation = \"t/%s\"\n",
                      cases[i].registry.host, cases[i].location, cases[i].registry.host);
        assert_string_equal(out.bytes, expected.bytes);
    }
}

static void test_registries_are_taken_out_of_the_file(void **state) {
    (void)state;
    const struct mirror_registry all[] = {{"a", "https://a", NULL, NULL},
                                          {"b", "https://b", NULL, NULL},
                                          {"c", "https://c", "p", NULL}};
    const struct mirror_settings three = {
        .url = "http://t", .registries = all, .registry_count = 3};
    const struct mirror_settings last = {
        .url = "http://t", .registries = all + 2, .registry_count = 1};
    const struct mirror_settings first = {
        .url = "http://t", .registries = all, .registry_count = 2};
    cleanup_buffer struct buffer file = {0}, rest = {0}, expected = {0}, none = {0};
    assert_true(render_registries_conf(&three, &file));
    assert_true(render_registries_conf(&last, &expected));
    assert_true(render_without_listed(&first, text_of(file.bytes), &rest));
    assert_string_equal(rest.bytes, expected.bytes);
    assert_true(render_without_listed(&three, text_of(file.bytes), &none));
    assert_int_equal(none.length, 0);
}

/* ---- the mark ---- */

static void test_a_mark_tells_what_was_written(void **state) {
    (void)state;
    cleanup_buffer struct buffer file = {0};
    cleanup_json json_t *folders = json_pack("[s, s]", "/etc", "/etc/docker");
    struct mark mark;
    assert_true(mark_write("http://t:5000", folders, text_of("body\n"), &file));
    assert_int_equal(mark_read((struct text){file.bytes, file.length}, &mark), MARK_FOUND);
    assert_string_equal(mark.url, "http://t:5000");
    assert_true(json_equal(mark.folders, folders));
    mark_finish(&mark);
    assert_true(text_ends(text_of(file.bytes), "}\nbody\n"));
}

static void test_any_change_behind_the_mark_is_seen(void **state) {
    (void)state;
    cleanup_buffer struct buffer file = {0};
    cleanup_json json_t *folders = json_array();
    struct mark mark;
    assert_true(mark_write("http://t", folders, text_of("body\n"), &file));
    const char *body = strstr(file.bytes, "\nbody") + 1;
    for (size_t at = (size_t)(body - file.bytes); at < file.length; at++) {
        file.bytes[at] ^= 1;
        assert_int_equal(mark_read((struct text){file.bytes, file.length}, &mark), MARK_EDITED);
        mark_finish(&mark);
        assert_int_equal(mark_read((struct text){file.bytes, at}, &mark), MARK_EDITED);
        mark_finish(&mark);
        file.bytes[at] ^= 1;
    }
    buffer_append_string(&file, "#");
    assert_int_equal(mark_read((struct text){file.bytes, file.length}, &mark), MARK_EDITED);
    mark_finish(&mark);
}

static void test_a_file_without_the_mark_is_somebody_else_s(void **state) {
    (void)state;
    static const char *const files[] = {"", "\n", "server = \"https://a\"\n", "# tarn-mirror {}\n"};
    struct mark mark;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        assert_int_equal(mark_read(text_of(files[i]), &mark), MARK_MISSING);
        mark_finish(&mark);
    }
}

/* ---- the watch's decision ---- */

static void test_three_failures_in_a_row_take_the_mirror_out(void **state) {
    (void)state;
    struct watch_verdict verdict = {0};
    static const struct {
        bool is_ready;
        enum watch_state state;
    } answers[] = {
        {false, WATCH_UNDECIDED}, {false, WATCH_UNDECIDED}, {true, WATCH_IN_PLACE},
        {false, WATCH_IN_PLACE},  {false, WATCH_IN_PLACE},  {true, WATCH_IN_PLACE},
        {false, WATCH_IN_PLACE},  {false, WATCH_IN_PLACE},  {false, WATCH_TAKEN_OUT},
        {false, WATCH_TAKEN_OUT}, {true, WATCH_IN_PLACE},
    };
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        watch_judge(&verdict, answers[i].is_ready);
        assert_int_equal(verdict.state, answers[i].state);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hosts_toml_names_the_registry_as_its_server),
        cmocka_unit_test(test_hosts_toml_has_authorities_and_the_timeout),
        cmocka_unit_test(test_a_prefix_is_part_of_the_server),
        cmocka_unit_test(test_registries_conf_says_where_each_registry_is),
        cmocka_unit_test(test_registries_are_taken_out_of_the_file),
        cmocka_unit_test(test_a_mark_tells_what_was_written),
        cmocka_unit_test(test_any_change_behind_the_mark_is_seen),
        cmocka_unit_test(test_a_file_without_the_mark_is_somebody_else_s),
        cmocka_unit_test(test_three_failures_in_a_row_take_the_mirror_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
