/* What containerd's configuration says about the folder of hosts.toml files, on each kind of node.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <limits.h>
#include <sys/stat.h>
#include "node/bench.h"
#include "node/containerd.h"
#include "node/mirror.h"

#define ETC   "/etc/containerd"
#define CERTS ETC "/certs.d"
#define K3S   "/var/lib/rancher/k3s/agent/etc/containerd"
#define OLD   "[plugins.\"io.containerd.grpc.v1.cri\".registry]\n"
#define NEW   "[plugins.\"io.containerd.cri.v1.images\".registry]\n"
#define NAMED "  config_path = \"" CERTS "\"\n"

static int make_node(void **state) {
    (void)state;
    return node_make();
}

static int delete_node(void **state) {
    (void)state;
    return node_delete();
}

static struct mirror_containerd found;

static void check(const char *certs_dir, enum mirror_read state) {
    const struct mirror_settings settings = {.folder = node, .certs_dir = certs_dir};
    mirror_check_containerd(&settings, &found);
    if (found.state != state)
        fail_msg("state %d, not %d: %s", found.state, state, found.why);
}

static void assert_says(const char *text, const char *part) {
    if (!strstr(text, part))
        fail_msg("\"%s\" has no \"%s\"", text, part);
}

/* ---- one file ---- */

static void test_the_folder_is_found_in_each_version_of_the_file(void **state) {
    (void)state;
    static const char *const reads[] = {
        "version = 2\n" OLD NAMED,
        "version = 3\n" NEW NAMED,
        OLD NAMED "[x]\ny = 1\n",
        "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\r\n"
        "  config_path='" CERTS "/' # y\r\n",
        "version = 4\n" NEW NAMED,
        "[plugins.cri.registry]\n" NAMED,
        "version = 1\n[plugins]\n  [plugins.cri]\n    [plugins.cri.registry]\n" NAMED,
        " version=2\n [ plugins . \"io.containerd.grpc.v1.cri\" . registry ] # x\n\n\t" NAMED,
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nregistry.config_path = '" CERTS
        "'\n",
        "version = 2\n[plugins]\n\"io.containerd.grpc.v1.cri\" = { registry = { config_path = "
        "\"\"\"" CERTS "\"\"\" } }\n",
        "plugins.\"io.containerd.cri.v1.images\".registry.config_path = '" CERTS "'\nversion = 3\n",
        "version = 2\n" OLD "  config_path = \"" CERTS ":/etc/docker/certs.d\"\n",
        "version = 2\n" OLD "  config_path = \"" ETC "\\u002fcerts.d\"\n",
    };
    static const char *const does_not[] = {
        "",
        "version = 2\n",
        "config_path = \"" CERTS "\"",
        "version = 2\n" OLD "# " NAMED,
        "version = 2\n" OLD "  config_path = \"" CERTS "/x\"\n",
        "version = 2\n" OLD "  config_path = \"\"\n",
        "version = 2\n" OLD "  config_path = '''\n" CERTS "\n'''\n",
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors]\n" NAMED,
        "version = 2\n[plugins.\"io.containerd.transfer.v1.local\"]\n" NAMED,
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\n" NAMED,
        "version = 3\n" OLD NAMED,
        "version = 1\n" NEW NAMED,
        "version = 2\nx = '''\n" OLD NAMED "'''\n",
    };
    for (size_t i = 0; i < sizeof reads / sizeof *reads; i++) {
        put(ETC "/config.toml", reads[i]);
        check(CERTS, MIRROR_READ);
        assert_string_equal(found.advice, "");
    }
    for (size_t i = 0; i < sizeof does_not / sizeof *does_not; i++) {
        put(ETC "/config.toml", does_not[i]);
        check(CERTS, MIRROR_NOT_READ);
        assert_says(found.why, "config_path");
        assert_says(found.advice, ".registry]\n" NAMED);
    }
}

static void test_the_lines_fit_the_version(void **state) {
    (void)state;
    put(ETC "/config.toml", "version = 2\n");
    check(CERTS, MIRROR_NOT_READ);
    assert_says(found.advice, "# in " ETC "/config.toml");
    assert_says(found.advice, OLD NAMED);
    assert_null(strstr(found.advice, NEW));
    put(ETC "/config.toml", "version = 3\n");
    check(CERTS, MIRROR_NOT_READ);
    assert_says(found.advice, NEW NAMED);
    assert_null(strstr(found.advice, OLD));
    put(ETC "/config.toml", "root = '/x'\n");
    check("/c \"d\"", MIRROR_NOT_READ);
    assert_says(found.advice, OLD "  config_path = \"/c \\\"d\\\"\"\n");
    assert_says(found.advice, NEW "  config_path = \"/c \\\"d\\\"\"\n");
}

static void test_another_folder_is_named_in_the_reason(void **state) {
    (void)state;
    put(ETC "/config.toml", "version = 2\n" OLD "config_path = '/other'\n");
    check(CERTS, MIRROR_NOT_READ);
    assert_says(found.why, "is /other: choose that folder by --certs-dir");
    put(ETC "/config.toml", "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry."
                            "mirrors.\"docker.io\"]\nendpoint = ['http://a']\n");
    check(CERTS, MIRROR_NOT_READ);
    assert_says(found.why, "registry.mirrors: remove these");
    put(ETC "/config.toml", "version = 3\n" NEW "config_path = '" CERTS ":/etc/docker/certs.d'\n");
    check(CERTS, MIRROR_READ);
    assert_says(found.why, "several folders");
}

static void test_what_cannot_be_read_is_unknown(void **state) {
    (void)state;
    check(CERTS, MIRROR_READ_UNKNOWN);
    assert_says(found.why, "is not in");
    assert_says(found.advice, OLD NAMED);
    put(ETC "/config.toml", "version = 2\nnot toml\n");
    check(CERTS, MIRROR_READ_UNKNOWN);
    assert_says(found.why, "config.toml: line 2: ");
    assert_string_equal(found.advice, "");
    const struct mirror_settings nowhere = {.folder = "/no/such/folder", .certs_dir = CERTS};
    mirror_check_containerd(&nowhere, &found);
    assert_int_equal(found.state, MIRROR_READ_UNKNOWN);
    assert_says(found.why, "/no/such/folder");
}

/* ---- several files ---- */

static void test_imports_count(void **state) {
    (void)state;
    put(ETC "/config.toml", "version = 2\nimports = ['/etc/containerd/conf.d/*.toml', 'gone']\n");
    check(CERTS, MIRROR_NOT_READ);
    put(ETC "/conf.d/b.toml", "version = 2\n" OLD NAMED);
    check(CERTS, MIRROR_READ);
    put(ETC "/conf.d/c.toml", OLD "config_path = '/other'\n");
    check(CERTS, MIRROR_NOT_READ);
    put(ETC "/conf.d/d.toml.off", OLD NAMED);
    check(CERTS, MIRROR_NOT_READ);
    put(ETC "/conf.d/d.toml", "imports = ['../last.toml', '../config.toml']\n");
    put(ETC "/last.toml", "version = 2\n" OLD NAMED);
    check(CERTS, MIRROR_READ);
}

static void test_a_later_file_replaces_a_plugin_of_version_2_and_adds_to_version_3(void **state) {
    (void)state;
    put(ETC "/config.toml", "version = 2\nimports = ['more.toml']\n" OLD NAMED);
    put(ETC "/more.toml", "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nx = 1\n");
    check(CERTS, MIRROR_NOT_READ);
    put(ETC "/more.toml", "version = 2\n[plugins.\"io.containerd.gc.v1.scheduler\"]\nx = 1\n");
    check(CERTS, MIRROR_READ);
    put(ETC "/config.toml", "version = 3\nimports = ['more.toml']\n" NEW NAMED);
    put(ETC "/more.toml", "version = 3\n[plugins.\"io.containerd.cri.v1.images\"]\nx = 1\n");
    check(CERTS, MIRROR_READ);
}

static void test_imports_are_limited(void **state) {
    (void)state;
    char path[100];
    put(ETC "/config.toml", "version = 2\nimports = ['conf.d/*', 'config.toml']\n" OLD NAMED);
    check(CERTS, MIRROR_READ);
    for (int i = 0; i < 64; i++) {
        snprintf(path, sizeof path, ETC "/conf.d/%d", i);
        put(path, "x = 1\n");
    }
    check(CERTS, MIRROR_READ_UNKNOWN);
    assert_says(found.why, "more than 64 files");
}

/* ---- where it is ---- */

static void test_drop_ins_count_without_a_main_file(void **state) {
    (void)state;
    put(ETC "/conf.d/a.toml", "version = 3\n" NEW NAMED);
    check(CERTS, MIRROR_READ);
}

static void test_the_file_beside_the_folder_comes_first(void **state) {
    (void)state;
    put(ETC "/config.toml", "version = 2\n" OLD NAMED);
    put("/opt/c/config.toml", "version = 2\n" OLD "config_path = '/opt/c/certs.d'\n");
    check("/opt/c/certs.d/", MIRROR_READ);
    check(CERTS, MIRROR_READ);
    check("/certs.d", MIRROR_NOT_READ);
    struct mirror_settings settings = {
        .folder = node, .certs_dir = CERTS, .containerd_config = "/opt/c/config.toml"};
    mirror_check_containerd(&settings, &found);
    assert_int_equal(found.state, MIRROR_NOT_READ);
    settings.containerd_config = "/opt/none.toml";
    mirror_check_containerd(&settings, &found);
    assert_int_equal(found.state, MIRROR_READ_UNKNOWN);
}

static void test_k3s_has_its_own_folder_and_templates(void **state) {
    (void)state;
    static const char template[] =
        "# {{ .Comment }}\nversion = 3\nroot = \"{{ .Root }}\"\n{{- if .Foo }}\r\n"
        "[plugins.'io.containerd.cri.v1.images'.registry]\n  x = {{ printf \"%q\" .X }}\n{{ end "
        "}}\n";
    put(K3S "/config-v3.toml.tmpl", "{{ template \"base\" . }}\n[x]\ny = 1\n");
    check(K3S "/certs.d", MIRROR_READ_UNKNOWN);
    assert_says(found.why, "k3s");
    put(K3S "/config-v3.toml.tmpl", template);
    check(K3S "/certs.d", MIRROR_NOT_READ);
    assert_says(found.advice, "# in " K3S "/config-v3.toml.tmpl");
    put(K3S "/config.toml", "version = 3\n" NEW "config_path = \"" K3S "/certs.d\"\n");
    check(K3S "/certs.d", MIRROR_READ);
    check(CERTS, MIRROR_NOT_READ);
    assert_says(found.why, "choose that folder by --certs-dir");
    put(K3S "/config.toml", "version = 2\n");
    check(K3S "/certs.d", MIRROR_NOT_READ);
    assert_says(found.advice, "# in " K3S "/config.toml.tmpl");
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_node, delete_node)
    const struct CMUnitTest tests[] = {
        TEST(test_the_folder_is_found_in_each_version_of_the_file),
        TEST(test_the_lines_fit_the_version),
        TEST(test_another_folder_is_named_in_the_reason),
        TEST(test_what_cannot_be_read_is_unknown),
        TEST(test_imports_count),
        TEST(test_a_later_file_replaces_a_plugin_of_version_2_and_adds_to_version_3),
        TEST(test_imports_are_limited),
        TEST(test_drop_ins_count_without_a_main_file),
        TEST(test_the_file_beside_the_folder_comes_first),
        TEST(test_k3s_has_its_own_folder_and_templates),
    };
#undef TEST
    return cmocka_run_group_tests_name("containerd", tests, NULL, NULL);
}
