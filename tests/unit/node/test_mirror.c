/* The mirror on a node's files: refused files, links, and crashes between any two steps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "node/bench.h"
#include "node/mirror.h"
#include "node/tree.h"

/* ---- the calls that a crash may come before ---- */

static int steps_left = -1; /* the process ends when none is left; -1: never */

static void take_step(void) {
    if (steps_left == 0)
        _exit(9);
    steps_left -= steps_left > 0;
}

int __real_renameat(int from, const char *old, int to, const char *new);
int __wrap_renameat(int from, const char *old, int to, const char *new);
int __wrap_renameat(int from, const char *old, int to, const char *new) {
    take_step();
    return __real_renameat(from, old, to, new);
}

int __real_unlinkat(int folder, const char *name, int flags);
int __wrap_unlinkat(int folder, const char *name, int flags);
int __wrap_unlinkat(int folder, const char *name, int flags) {
    take_step();
    return __real_unlinkat(folder, name, flags);
}

int __real_mkdirat(int folder, const char *name, mode_t mode);
int __wrap_mkdirat(int folder, const char *name, mode_t mode);
int __wrap_mkdirat(int folder, const char *name, mode_t mode) {
    take_step();
    return __real_mkdirat(folder, name, mode);
}

int __wrap_fsync(int fd);
int __wrap_fsync(int fd) {
    (void)fd;
    return 0; /* the tests do not cut the power */
}

/* The clock goes on by pauses alone. */
static int64_t now_ms;

int64_t __wrap_clock_ms(void);
int64_t __wrap_clock_ms(void) {
    return now_ms;
}

void __wrap_clock_sleep_ms(int64_t ms);
void __wrap_clock_sleep_ms(int64_t ms) {
    now_ms += ms;
}

/* ---- a node ---- */

static struct buffer seen; /* what look_at() has found */
static bool files_only;
static struct error error;

static size_t registry_count = 2;

static int make_node(void **state) {
    (void)state;
    steps_left = -1;
    registry_count = 2;
    return node_make();
}

static int delete_node(void **state) {
    (void)state;
    buffer_finish(&seen);
    return node_delete();
}

static int look_at(const char *path, const struct stat *status, int type, struct FTW *ftw) {
    (void)ftw;
    if (type == FTW_D && files_only)
        return 0;
    buffer_printf(&seen, "%s %o ", path, status->st_mode);
    cleanup_free char *bytes =
        type == FTW_F ? file_read_small(path, 1 << 20, FILE_REGULAR, NULL, NULL, NULL) : NULL;
    buffer_printf(&seen, "%s\n", bytes ? bytes : "");
    return 0;
}

static int compare_lines(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* All that is below the node's folder, as a text on the heap. */
static char *look(void) {
    char *lines[1000];
    size_t count = 0;
    buffer_clear(&seen);
    assert_int_equal(nftw(node, look_at, 16, FTW_PHYS), 0);
    cleanup_buffer struct buffer sorted = {0};
    for (char *rest = seen.bytes, *line; rest && count < 1000 && (line = strsep(&rest, "\n"));)
        lines[count++] = line;
    qsort(lines, count, sizeof *lines, compare_lines);
    for (size_t i = 0; i < count; i++)
        buffer_printf(&sorted, "%s\n", lines[i]);
    return take(sorted.bytes);
}

static const struct mirror_registry registries[] = {
    {"docker.io", "https://registry-1.docker.io", NULL, NULL},
    {"ghcr.io", "https://ghcr.io", NULL, NULL},
};

static struct mirror_settings settings(void) {
    return (struct mirror_settings){
        .url = "http://10.0.0.1:5000",
        .engines = MIRROR_CONTAINERD | MIRROR_DOCKER | MIRROR_CONTAINERS,
        .folder = node,
        .certs_dir = MIRROR_CERTS_DIR,
        .registries = registries,
        .registry_count = registry_count,
        .has_default = true,
        .has_docker = true,
    };
}

static void install(void) {
    const struct mirror_settings wanted = settings();
    error_clear(&error);
    if (!mirror_install(&wanted, &error))
        fail_msg("%s", error.text);
}

static void uninstall(void) {
    const struct mirror_settings wanted = settings();
    error_clear(&error);
    if (!mirror_remove(&wanted, &error))
        fail_msg("%s", error.text);
}

/* Calls `run` in a process that ends before its step number `steps`. True: it came to its end. */
static bool crash(void (*run)(void), int steps) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        steps_left = steps;
        run();
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 9);
    return WEXITSTATUS(status) == 0;
}

/* ---- crashes ---- */

/* Files of two nodes. */
static const char *const nodes[][2] = {
    {MIRROR_CERTS_DIR "/docker.io/", NULL},
    {MIRROR_DOCKER_FILE, "{\n \"debug\" : true }\n"},
};
enum { NODES = sizeof nodes / sizeof *nodes };

static void try_crashes_of_install(bool install_again) {
    for (int steps = 0;; steps++) {
        cleanup_free char *before = look();
        bool done = crash(install, steps);
        if (install_again)
            install();
        uninstall();
        cleanup_free char *after = look();
        assert_string_equal(after, before);
        if (done) {
            assert_true(steps > 10);
            return;
        }
    }
}

static void test_after_a_crash_of_install_remove_leaves_the_node_as_it_was(void **state) {
    for (size_t i = 0; i < NODES; i++) {
        put(nodes[i][0], nodes[i][1]);
        registry_count = 1;
        try_crashes_of_install(false);
        try_crashes_of_install(true);
        delete_node(state);
        make_node(state);
    }
}

static void test_after_a_crash_of_install_the_next_one_ends_it(void **state) {
    (void)state;
    registry_count = 1;
    put(MIRROR_DOCKER_FILE, "{}");
    install();
    cleanup_free char *wanted = look();
    uninstall();
    for (int steps = 0, done = 0; !done; steps++) {
        done = crash(install, steps);
        install();
        cleanup_free char *after = look();
        assert_string_equal(after, wanted);
        uninstall();
    }
}

/* If the crash comes between the last file and its folder, an empty folder stays. */
static void test_after_a_crash_of_remove_the_next_one_ends_it(void **state) {
    (void)state;
    registry_count = 1;
    put(MIRROR_DOCKER_FILE, "{\"debug\": true}");
    files_only = true;
    cleanup_free char *before = look();
    for (int steps = 0, done = 0; !done; steps++) {
        install();
        done = crash(uninstall, steps);
        uninstall();
        cleanup_free char *after = look();
        assert_string_equal(after, before);
    }
    files_only = false;
}

static void install_other(void) {
    struct mirror_settings other = settings();
    other.url = "https://other";
    assert_true(mirror_install(&other, &error));
}

static void test_after_a_crash_of_a_change_of_the_url_nothing_of_either_is_left(void **state) {
    (void)state;
    registry_count = 1;
    put(MIRROR_DOCKER_FILE, "{\"debug\": true}");
    cleanup_free char *before = look();
    for (int steps = 0, done = 0; !done; steps++) {
        install();
        done = crash(install_other, steps);
        install();
        uninstall();
        cleanup_free char *after = look();
        assert_string_equal(after, before);
    }
}

/* ---- what is somebody else's ---- */

static char refused[PATH_MAX];
static unsigned changes, writes;

static void record_change(void *context, const struct mirror_change *change) {
    (void)context;
    if (change->action == MIRROR_REFUSE)
        snprintf(refused, sizeof refused, "%s", change->path + strlen(node));
    changes++;
    writes += change->action == MIRROR_WRITE;
}

static void assert_refused(const char *path) {
    struct mirror_settings wanted = settings();
    wanted.on_change = record_change;
    *refused = '\0';
    cleanup_free char *before = look();
    assert_false(mirror_install(&wanted, &error));
    assert_int_equal(error.kind, ERROR_INVALID);
    assert_string_equal(refused, path);
    cleanup_free char *after = look();
    assert_string_equal(after, before);
}

static void test_a_file_of_somebody_else_stops_the_installation(void **state) {
    static const char *const files[][2] = {
        {MIRROR_CERTS_DIR "/ghcr.io/hosts.toml", "server = \"https://ghcr.io\"\n"},
        {MIRROR_CERTS_DIR "/_default/hosts.toml", ""},
        {MIRROR_CONTAINERS_FILE, "\n"},
        {MIRROR_DOCKER_FILE, "no JSON"},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        put(files[i][0], files[i][1]);
        assert_refused(files[i][0]);
        delete_node(state);
        make_node(state);
    }
}

static void test_the_watch_s_installation_skips_only_that_file(void **state) {
    (void)state;
    struct mirror_settings wanted = settings();
    wanted.on_change = record_change;
    wanted.skip_refused = true;
    put(MIRROR_CERTS_DIR "/ghcr.io/hosts.toml", "mine");
    writes = 0;
    assert_true(mirror_install(&wanted, &error));
    assert_int_equal(writes, 5); /* two hosts.toml, tarn.conf, the record, daemon.json */
    assert_string_equal(refused, MIRROR_CERTS_DIR "/ghcr.io/hosts.toml");
    assert_true(mirror_remove(&wanted, &error));
}

static void test_a_refused_daemon_json_is_reported_once_and_left_alone(void **state) {
    (void)state;
    struct mirror_settings wanted = settings();
    wanted.on_change = record_change;
    wanted.skip_refused = true;
    put(MIRROR_DOCKER_FILE, "no JSON");
    writes = changes = 0;
    assert_true(mirror_install(&wanted, &error));
    assert_int_equal(writes, 4); /* three hosts.toml, tarn.conf */
    assert_int_equal(changes, 5);
    assert_string_equal(refused, MIRROR_DOCKER_FILE);
}

static void test_what_is_no_regular_file_is_refused(void **state) {
    char full[PATH_MAX];
    for (int kind = 0; kind < 3; kind++) {
        put(MIRROR_CERTS_DIR "/ghcr.io/", NULL);
        snprintf(full, sizeof full, "%s" MIRROR_CERTS_DIR "/ghcr.io/hosts.toml", node);
        assert_int_equal(kind == 0   ? mkfifo(full, 0644)
                         : kind == 1 ? mkdir(full, 0755)
                                     : symlink("/no/such/file", full),
                         0);
        assert_refused(MIRROR_CERTS_DIR "/ghcr.io/hosts.toml");
        delete_node(state);
        make_node(state);
    }
}

static void test_a_broken_record_stops_everything(void **state) {
    (void)state;
    put(MIRROR_DOCKER_RECORD, "{}");
    const struct mirror_settings wanted = settings();
    assert_false(mirror_install(&wanted, &error));
    assert_non_null(strstr(error.text, MIRROR_DOCKER_RECORD));
}

static void test_a_lock_of_another_process_is_not_waited_for_without_end(void **state) {
    (void)state;
    const struct mirror_settings wanted = settings();
    int fd = open(node, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    int64_t begin = now_ms;
    assert_false(mirror_install(&wanted, &error));
    assert_int_equal(error.kind, ERROR_TIMEOUT);
    assert_in_range(now_ms - begin, 10000, 11000);
    close(fd);
    install();
}

/* ---- the tree ---- */

static void link_to(const char *path, const char *target) {
    char full[PATH_MAX];
    snprintf(full, sizeof full, "%s%s", node, path);
    assert_int_equal(symlink(target, full), 0);
}

/* Writes through `path`, and expects the bytes in the file `real`. */
static void assert_leads_to(const struct tree *tree, const char *path, const char *real) {
    char full[PATH_MAX];
    snprintf(full, sizeof full, "%s%s", node, real);
    if (!tree_write(tree, path, TREE_FOLLOW, text_of("x"), NULL, &error))
        fail_msg("%s", error.text);
    cleanup_free char *bytes = file_read_small(full, 10, FILE_ANY, NULL, NULL, &error);
    assert_non_null(bytes);
    assert_string_equal(bytes, "x");
    assert_true(tree_delete(tree, path, TREE_FOLLOW, &error));
    assert_int_equal(access(full, F_OK), -1);
}

static void test_links_stay_below_the_tree_s_folder(void **state) {
    (void)state;
    cleanup_tree struct tree tree = {.fd = -1};
    put("/a/b/", NULL);
    link_to("/absolute", "/a/b");
    link_to("/up", "../../../../../../a");
    link_to("/a/b/up", "../../a/./b/..");
    link_to("/chain", "up/b/../../absolute");
    link_to("/new", "/a/c/d");
    link_to("/file", "/../../a/b/file");
    assert_true(tree_open(&tree, node, &error));
    assert_leads_to(&tree, "/absolute/f", "/a/b/f");
    assert_leads_to(&tree, "/up/f", "/a/f");
    assert_leads_to(&tree, "/a/b/up/f", "/a/f");
    assert_leads_to(&tree, "/chain/f", "/a/b/f");
    assert_leads_to(&tree, "/../../f", "/f");
    assert_leads_to(&tree, "/file", "/a/b/file");
    assert_leads_to(&tree, "/new/f", "/a/c/d/f");
}

static void test_a_circle_of_links_is_an_error(void **state) {
    (void)state;
    cleanup_tree struct tree tree = {.fd = -1};
    link_to("/a", "b");
    link_to("/b", "/a");
    assert_true(tree_open(&tree, node, &error));
    assert_false(tree_write(&tree, "/a/f", TREE_FOLLOW, text_of("x"), NULL, &error));
    assert_false(tree_write(&tree, "/a", TREE_FOLLOW, text_of("x"), NULL, &error));
    assert_null(tree_read(&tree, "/a", TREE_FOLLOW, NULL, NULL, &error));
    assert_int_not_equal(error.kind, ERROR_NOT_FOUND);
}

static void test_a_way_through_a_missing_folder_does_not_lead_up(void **state) {
    (void)state;
    cleanup_tree struct tree tree = {.fd = -1};
    link_to("/a", "missing/../f");
    assert_true(tree_open(&tree, node, &error));
    assert_false(tree_write(&tree, "/a", TREE_FOLLOW, text_of("x"), NULL, &error));
    assert_false(tree_write(&tree, "/no/../f", TREE_FOLLOW, text_of("x"), NULL, &error));
}

static void test_modes_do_not_depend_on_the_umask(void **state) {
    (void)state;
    cleanup_tree struct tree tree = {.fd = -1};
    struct stat status;
    mode_t old = umask(0077);
    assert_true(tree_open(&tree, node, &error));
    assert_true(tree_write(&tree, "/a/b/f", TREE_NO_FOLLOW, text_of("x"), NULL, &error));
    umask(old);
    assert_int_equal(fstatat(tree.fd, "a/b", &status, 0), 0);
    assert_int_equal(status.st_mode & 07777, 0755);
    assert_int_equal(fstatat(tree.fd, "a/b/f", &status, 0), 0);
    assert_int_equal(status.st_mode & 07777, 0644);
    assert_int_equal(fchmodat(tree.fd, "a/b/f", 0604, 0), 0);
    assert_int_equal(fstatat(tree.fd, "a/b/f", &status, 0), 0);
    assert_true(tree_write(&tree, "/a/b/f", TREE_NO_FOLLOW, text_of("y"), &status, &error));
    assert_int_equal(fstatat(tree.fd, "a/b/f", &status, 0), 0);
    assert_int_equal(status.st_mode & 07777, 0604);
}

static void test_urls(void **state) {
    (void)state;
    static const char *const good[][2] = {
        {"http://127.0.0.1:5000", "http://127.0.0.1:5000"},
        {"HTTP://Tarn:5000/", "http://tarn:5000"},
        {"https://tarn:443", "https://tarn"},
        {"http://[::1]:5000", "http://[::1]:5000"},
    };
    static const char *const bad[] = {
        "",
        "tarn:5000",
        "ftp://tarn",
        "http://",
        "http://u:p@tarn",
        "http://tarn/v2",
        "http://tarn?x=1",
        "http://tarn/#x",
    };
    char url[64];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(mirror_url(good[i][0], url, sizeof url, &error));
        assert_string_equal(url, good[i][1]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(mirror_url(bad[i], url, sizeof url, &error));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_node, delete_node)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_after_a_crash_of_install_remove_leaves_the_node_as_it_was),
        TEST(test_after_a_crash_of_install_the_next_one_ends_it),
        TEST(test_after_a_crash_of_remove_the_next_one_ends_it),
        TEST(test_after_a_crash_of_a_change_of_the_url_nothing_of_either_is_left),
        TEST(test_a_file_of_somebody_else_stops_the_installation),
        TEST(test_the_watch_s_installation_skips_only_that_file),
        TEST(test_a_refused_daemon_json_is_reported_once_and_left_alone),
        TEST(test_what_is_no_regular_file_is_refused),
        TEST(test_a_broken_record_stops_everything),
        TEST(test_a_lock_of_another_process_is_not_waited_for_without_end),
        TEST(test_links_stay_below_the_tree_s_folder),
        TEST(test_a_circle_of_links_is_an_error),
        TEST(test_a_way_through_a_missing_folder_does_not_lead_up),
        TEST(test_modes_do_not_depend_on_the_umask),
        cmocka_unit_test(test_urls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
