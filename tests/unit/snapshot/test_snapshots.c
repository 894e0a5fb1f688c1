/* The snapshotter's rules, its mounts, what a crash leaves, and remote layers. */
#include "snapshot/bench.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "base/file.h"

#define CHAIN_1 "sha256:1"
#define CHAIN_2 "sha256:2"
#define CHAIN_3 "sha256:3"

static void assert_kind_is(const struct error *error, enum error_kind kind) {
    if (error->kind != kind)
        fail_msg("%s: %s", error_kind_name(error->kind), error->text);
}

/* How many folders of snapshots there are. */
static unsigned count_folders(const struct bench *bench) {
    cleanup_directory DIR *folder = opendir(bench->root);
    unsigned count = 0;
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder));)
        count += entry->d_type == DT_DIR && entry->d_name[0] != '.';
    return count;
}

/* ---- rules ---- */

static void test_outcomes_are_those_of_the_overlay_snapshotter(void **state) {
    struct bench *bench = *state;
    struct error error = {0};
    assert_int_equal(bench_prepare(bench, "a", "none", "", &error), SNAPSHOTS_FAILED);
    assert_kind_is(&error, ERROR_NOT_FOUND);
    assert_int_equal(bench_prepare(bench, "a", "", "", &error), SNAPSHOTS_DONE);
    assert_int_equal(bench_prepare(bench, "a", "", "", &error), SNAPSHOTS_EXISTS);
    assert_int_equal(bench_prepare(bench, "b", "a", "", &error), SNAPSHOTS_FAILED);
    assert_kind_is(&error, ERROR_INVALID);
    assert_int_equal(bench_commit(bench, "layer", "b", "", &error), SNAPSHOTS_FAILED);
    assert_kind_is(&error, ERROR_NOT_FOUND);
    assert_int_equal(bench_commit(bench, "layer", "a", "", &error), SNAPSHOTS_DONE);
    assert_int_equal(bench_kind(bench, "a"), 0);
    assert_int_equal(bench_kind(bench, "layer"), ENTRY_COMMITTED);
    assert_int_equal(bench_commit(bench, "other", "layer", "", &error), SNAPSHOTS_PRECONDITION);
    assert_int_equal(bench_prepare(bench, "c", "layer", "", &error), SNAPSHOTS_DONE);
    assert_int_equal(bench_commit(bench, "layer", "c", "", &error), SNAPSHOTS_EXISTS);
    assert_int_equal(snapshots_remove(bench->snapshots, "layer", &error), SNAPSHOTS_PRECONDITION);
    assert_int_equal(snapshots_remove(bench->snapshots, "c", &error), SNAPSHOTS_DONE);
    assert_int_equal(snapshots_remove(bench->snapshots, "c", &error), SNAPSHOTS_FAILED);
    assert_kind_is(&error, ERROR_NOT_FOUND);
    assert_int_equal(snapshots_remove(bench->snapshots, "layer", &error), SNAPSHOTS_DONE);
    assert_int_equal(count_folders(bench), 0);
}

static void test_a_view_cannot_be_committed_and_a_committed_one_cannot_be_mounted(void **state) {
    struct bench *bench = *state;
    cleanup_snapshots_mount struct snapshots_mount mount = {0};
    cleanup_json json_t *labels = json_object();
    const struct snapshots_request request = {.key = "v", .parent = "layer", .labels = labels};
    struct error error = {0};
    bench_layer(bench, "layer", "");
    assert_int_equal(snapshots_prepare(bench->snapshots, ENTRY_VIEW, &request, &mount, &error),
                     SNAPSHOTS_DONE);
    assert_int_equal(bench_commit(bench, "other", "v", "", &error), SNAPSHOTS_PRECONDITION);
    snapshots_mount_finish(&mount);
    assert_int_equal(snapshots_mounts(bench->snapshots, "layer", NULL, &mount, &error),
                     SNAPSHOTS_PRECONDITION);
    assert_int_equal(snapshots_mounts(bench->snapshots, "none", NULL, &mount, &error),
                     SNAPSHOTS_FAILED);
    assert_kind_is(&error, ERROR_NOT_FOUND);
}

static void test_a_snapshot_without_a_parent_may_get_one_when_it_is_committed(void **state) {
    struct bench *bench = *state;
    struct error error = {0};
    char mounts[1024];
    bench_layer(bench, "low", "");
    assert_int_equal(bench_prepare(bench, "a", "", "", &error), SNAPSHOTS_DONE);
    assert_int_equal(bench_commit(bench, "high", "a", "none", &error), SNAPSHOTS_FAILED);
    assert_kind_is(&error, ERROR_NOT_FOUND);
    assert_int_equal(bench_commit(bench, "high", "a", "low", &error), SNAPSHOTS_DONE);
    assert_int_equal(snapshots_remove(bench->snapshots, "low", &error), SNAPSHOTS_PRECONDITION);
    assert_int_equal(bench_prepare(bench, "b", "high", "", &error), SNAPSHOTS_DONE);
    assert_int_equal(bench_commit(bench, "c", "b", "low", &error), SNAPSHOTS_FAILED);
    assert_kind_is(&error, ERROR_INVALID);
    bench_mounts(bench, "b", mounts, sizeof mounts);
    assert_non_null(strstr(mounts, "/2/fs:"));
    bench_reopen(bench);
    assert_int_equal(snapshots_remove(bench->snapshots, "low", &error), SNAPSHOTS_PRECONDITION);
}

static void test_mounts_are_a_bind_mount_or_an_overlay(void **state) {
    struct bench *bench = *state;
    struct error error = {0};
    char mounts[1024], expected[1024];
    assert_int_equal(bench_prepare(bench, "first", "", "", &error), SNAPSHOTS_DONE);
    bench_mounts(bench, "first", mounts, sizeof mounts);
    snprintf(expected, sizeof expected, "bind %s/1/fs rw rbind", bench->root);
    assert_string_equal(mounts, expected);
    assert_int_equal(bench_commit(bench, "low", "first", "", &error), SNAPSHOTS_DONE);
    bench_layer(bench, "high", "low");
    assert_int_equal(bench_prepare(bench, "run", "high", "", &error), SNAPSHOTS_DONE);
    bench_mounts(bench, "run", mounts, sizeof mounts);
    snprintf(expected, sizeof expected,
             "upperdir=%s/3/fs workdir=%s/3/work lowerdir=%s/2/fs:%s/1/fs", bench->root,
             bench->root, bench->root, bench->root);
    assert_non_null(strstr(mounts, expected));
    assert_int_equal(strncmp(mounts, "overlay overlay", 15), 0);
}

static void test_a_folder_belongs_to_whom_its_parent_belongs(void **state) {
    struct bench *bench = *state;
    struct error error = {0};
    char path[BENCH_PATH];
    struct stat status;
    if (geteuid() != 0)
        skip();
    bench_layer(bench, "low", "");
    bench_path(bench, "1/fs", path);
    assert_int_equal(chown(path, 1234, 5678), 0);
    assert_int_equal(bench_prepare(bench, "run", "low", "", &error), SNAPSHOTS_DONE);
    bench_path(bench, "2/fs", path);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_uid, 1234);
    assert_int_equal(status.st_gid, 5678);
    assert_int_equal(status.st_mode & 07777, 0755);
}

static void test_usage_counts_a_file_with_two_names_once(void **state) {
    struct bench *bench = *state;
    struct error error = {0};
    static const char bytes[40000] = "x";
    char path[BENCH_PATH], other[BENCH_PATH];
    uint64_t size = 0, inodes = 0, before = 0;
    assert_int_equal(bench_prepare(bench, "a", "", "", &error), SNAPSHOTS_DONE);
    assert_int_equal(snapshots_usage(bench->snapshots, "a", &before, &inodes, &error),
                     SNAPSHOTS_DONE);
    assert_int_equal(inodes, 1);
    bench_write(bench, "1/fs/one", bytes, sizeof bytes);
    bench_path(bench, "1/fs/one", path);
    bench_path(bench, "1/fs/two", other);
    assert_int_equal(link(path, other), 0);
    bench_path(bench, "1/fs/below", path);
    assert_int_equal(mkdir(path, 0755), 0);
    assert_int_equal(snapshots_usage(bench->snapshots, "a", &size, &inodes, &error),
                     SNAPSHOTS_DONE);
    assert_int_equal(inodes, 3);
    assert_in_range(size - before, sizeof bytes, 3 * sizeof bytes);
    assert_int_equal(bench_commit(bench, "layer", "a", "", &error), SNAPSHOTS_DONE);
    bench_write(bench, "1/fs/three", bytes, sizeof bytes);
    uint64_t committed = 0;
    bench_reopen(bench);
    assert_int_equal(snapshots_usage(bench->snapshots, "layer", &committed, &inodes, &error),
                     SNAPSHOTS_DONE);
    assert_int_equal(committed, size);
    assert_int_equal(snapshots_usage(bench->snapshots, "none", &size, &inodes, &error),
                     SNAPSHOTS_FAILED);
    assert_kind_is(&error, ERROR_NOT_FOUND);
}

static void append_name(void *context, const struct entry *entry) {
    cleanup_free char *labels = json_dumps(entry->labels, JSON_SORT_KEYS | JSON_COMPACT);
    buffer_printf(context, "%s%s ", entry->name, labels);
}

static void test_labels_are_replaced_or_changed_one_by_one(void **state) {
    struct bench *bench = *state;
    struct error error = {0};
    cleanup_json json_t *labels = json_pack("{s:s,s:s}", "a", "1", "b", "2");
    cleanup_json json_t *more = json_pack("{s:s,s:s}", "b", "3", "c", "4");
    const char *const one[] = {"labels.b", "labels.a"}, *const wrong[] = {"name"};
    cleanup_buffer struct buffer shown = {0};
    bench_layer(bench, "layer", "");
    assert_int_equal(
        snapshots_update(bench->snapshots, "layer", labels, NULL, 0, append_name, &shown, &error),
        SNAPSHOTS_DONE);
    assert_int_equal(
        snapshots_update(bench->snapshots, "layer", more, one, 2, append_name, &shown, &error),
        SNAPSHOTS_DONE);
    assert_int_equal(
        snapshots_update(bench->snapshots, "layer", more, wrong, 1, append_name, &shown, &error),
        SNAPSHOTS_FAILED);
    assert_kind_is(&error, ERROR_INVALID);
    assert_int_equal(
        snapshots_update(bench->snapshots, "none", more, NULL, 0, append_name, &shown, &error),
        SNAPSHOTS_FAILED);
    assert_kind_is(&error, ERROR_NOT_FOUND);
    bench_reopen(bench);
    snapshots_stat(bench->snapshots, "layer", append_name, &shown, &error);
    assert_string_equal(shown.bytes, "layer{\"a\":\"1\",\"b\":\"2\"} layer{\"b\":\"3\"} "
                                     "layer{\"b\":\"3\"} ");
}

/* ---- crashes ---- */

static void test_folders_of_no_snapshot_are_deleted_and_their_numbers_not_used(void **state) {
    struct bench *bench = *state;
    struct error error = {0};
    char path[BENCH_PATH];
    bench_layer(bench, "layer", "");
    bench_path(bench, "7", path);
    assert_int_equal(mkdir(path, 0700), 0);
    bench_path(bench, "gone-3", path);
    assert_int_equal(mkdir(path, 0700), 0);
    bench_write(bench, "gone-3/file", "x", 1);
    bench_write(bench, "7/file", "x", 1);
    snapshots_cleanup(bench->snapshots);
    assert_false(bench_exists(bench, "7"));
    assert_false(bench_exists(bench, "gone-3"));
    assert_true(bench_exists(bench, "1/fs"));
    assert_int_equal(bench_prepare(bench, "a", "layer", "", &error), SNAPSHOTS_DONE);
    assert_true(bench_exists(bench, "8/fs"));
}

static void test_a_deep_tree_is_deleted(void **state) {
    struct bench *bench = *state;
    struct error error = {0};
    char path[BENCH_PATH];
    assert_int_equal(bench_prepare(bench, "a", "", "", &error), SNAPSHOTS_DONE);
    bench_path(bench, "1/fs", path);
    int at = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (int depth = 0; depth < 400; depth++) {
        static const char name[] = "a-folder-with-a-name-of-fifty-bytes-so-that-paths-are-long";
        assert_int_equal(mkdirat(at, name, 0755), 0);
        int below = openat(at, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
        assert_true(below >= 0);
        close(at);
        at = below;
    }
    close(at);
    uint64_t size, inodes;
    assert_int_equal(snapshots_usage(bench->snapshots, "a", &size, &inodes, &error),
                     SNAPSHOTS_DONE);
    assert_int_equal(snapshots_remove(bench->snapshots, "a", &error), SNAPSHOTS_DONE);
    assert_int_equal(count_folders(bench), 0);
}

static void test_half_a_record_is_cut_off_and_damage_is_not_passed_over(void **state) {
    struct bench *bench = *state;
    struct error error = {0};
    char path[BENCH_PATH];
    size_t length = 0;
    bench_layer(bench, "layer", "");
    bench_path(bench, "records", path);
    cleanup_free char *records = file_read_small(path, 1 << 20, 0, &length, NULL, &error);
    assert_non_null(records);
    const size_t second = (size_t)(strchr(records, '\n') - records) + 1;
    assert_true(second < length);
    for (size_t cut = second + 1; cut < length; cut += 13) {
        snapshots_close(take(bench->snapshots));
        bench_write(bench, "records", records, cut);
        bench_reopen(bench);
        assert_int_equal(bench_kind(bench, "layer"), 0);
        assert_int_equal(bench_kind(bench, "making"), ENTRY_ACTIVE);
        assert_int_equal(bench_commit(bench, "other", "making", "", &error), SNAPSHOTS_DONE);
        bench_reopen(bench);
        assert_int_equal(bench_kind(bench, "other"), ENTRY_COMMITTED);
        char folder[BENCH_PATH];
        bench_path(bench, "1", folder);
        if (!bench_exists(bench, "1/fs"))
            mkdir(folder, 0700);
    }
    snapshots_close(take(bench->snapshots));
    records[3] ^= 1;
    bench_write(bench, "records", records, length);
    const struct snapshots_settings settings = {.root = bench->root};
    assert_null(snapshots_open(&settings, &error));
    assert_kind_is(&error, ERROR_CORRUPT);
    assert_non_null(strstr(error.text, "byte 0"));
}

/* Makes and removes snapshots, and writes a byte for each that is committed, until it is killed. */
static void churn(struct bench *bench, int told) {
    struct error error;
    for (unsigned number = 0;; number++) {
        char name[32];
        snprintf(name, sizeof name, "layer-%u", number);
        if (bench_prepare(bench, "churn", "base", "", &error) != SNAPSHOTS_DONE ||
            bench_commit(bench, name, "churn", "", &error) != SNAPSHOTS_DONE ||
            write(told, "x", 1) != 1)
            _exit(1);
        if (number % 3 == 2) {
            snprintf(name, sizeof name, "layer-%u", number - 1);
            if (snapshots_remove(bench->snapshots, name, &error) != SNAPSHOTS_DONE)
                _exit(1);
        }
    }
}

/* Kills a process that changes snapshots. Returns how many it has said are committed. */
static unsigned kill_while_busy(struct bench *bench, unsigned at_least) {
    int told[2];
    unsigned committed = 0;
    char byte;
    assert_int_equal(pipe(told), 0);
    snapshots_close(take(bench->snapshots));
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        bench_reopen(bench);
        churn(bench, told[1]);
    }
    close(told[1]);
    while (committed < at_least && read(told[0], &byte, 1) == 1)
        committed++;
    kill(child, SIGKILL);
    while (read(told[0], &byte, 1) == 1)
        committed++;
    close(told[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    return committed;
}

static void test_no_committed_snapshot_is_lost_when_the_process_is_killed(void **state) {
    struct bench *bench = *state;
    bench_layer(bench, "base", "");
    for (unsigned round = 0; round < 10; round++) {
        struct error error;
        unsigned committed = kill_while_busy(bench, 5 + 3 * round);
        unsigned there = 1; /* "base" */
        bench_reopen(bench);
        for (unsigned number = 0; number < committed + 1; number++) {
            char name[32];
            snprintf(name, sizeof name, "layer-%u", number);
            bool is_there = bench_kind(bench, name) == ENTRY_COMMITTED;
            /* The last of those that are removed may be there still. */
            bool was_removed = number % 3 == 1;
            if (number < committed && !was_removed)
                assert_true(is_there);
            there += is_there;
            if (is_there)
                assert_int_equal(snapshots_remove(bench->snapshots, name, &error), SNAPSHOTS_DONE);
            there -= is_there;
        }
        if (bench_kind(bench, "churn"))
            assert_int_equal(snapshots_remove(bench->snapshots, "churn", &error), SNAPSHOTS_DONE);
        assert_int_equal(count_folders(bench), there);
    }
}

static void test_the_records_are_written_anew_before_they_are_many(void **state) {
    struct bench *bench = *state;
    struct error error = {0};
    cleanup_json json_t *labels = json_object();
    char path[BENCH_PATH], value[4000];
    struct stat status;
    memset(value, 'v', sizeof value);
    json_object_set_new(labels, "label", json_stringn(value, sizeof value));
    bench_layer(bench, "low", "");
    bench_layer(bench, "high", "low");
    for (int i = 0; i < 600; i++)
        assert_int_equal(snapshots_update(bench->snapshots, "low", labels, NULL, 0, append_name,
                                          &(struct buffer){.limit = 1}, &error),
                         SNAPSHOTS_DONE);
    bench_path(bench, "records", path);
    assert_int_equal(stat(path, &status), 0);
    assert_in_range(status.st_size, 1, 1200000);
    bench_layer(bench, "top", "high");
    bench_reopen(bench);
    assert_int_equal(bench_kind(bench, "top"), ENTRY_COMMITTED);
    assert_int_equal(snapshots_remove(bench->snapshots, "low", &error), SNAPSHOTS_PRECONDITION);
    assert_int_equal(snapshots_remove(bench->snapshots, "top", &error), SNAPSHOTS_DONE);
    assert_int_equal(snapshots_remove(bench->snapshots, "high", &error), SNAPSHOTS_DONE);
    assert_int_equal(snapshots_remove(bench->snapshots, "low", &error), SNAPSHOTS_DONE);
}

static void test_a_root_is_of_one_process_and_of_a_form_that_overlayfs_takes(void **state) {
    struct bench *bench = *state;
    struct error error = {0};
    const struct snapshots_settings same = {.root = bench->root}, colon = {.root = "/tmp/a:b"},
                                    relative = {.root = "tmp"};
    assert_null(snapshots_open(&same, &error));
    assert_kind_is(&error, ERROR_BUSY);
    assert_null(snapshots_open(&colon, &error));
    assert_kind_is(&error, ERROR_INVALID);
    assert_null(snapshots_open(&relative, &error));
    assert_kind_is(&error, ERROR_INVALID);
}

/* ---- remote layers ---- */

static void test_layers_that_stream_exist_only_for_those_who_ask_by_label(void **state) {
    struct bench *bench = *state;
    struct error error = {0};
    char mounts[1024], expected[1024];
    bench->streaming = 2;
    assert_int_equal(bench_prepare(bench, "plain", "", "", &error), SNAPSHOTS_DONE);
    assert_int_equal(bench->finds, 0);
    assert_int_equal(bench_prepare(bench, "a", "", CHAIN_1, &error), SNAPSHOTS_EXISTS);
    assert_int_equal(bench_kind(bench, "a"), 0);
    assert_int_equal(bench_kind(bench, CHAIN_1), ENTRY_COMMITTED);
    assert_int_equal(bench_prepare(bench, "b", CHAIN_1, CHAIN_2, &error), SNAPSHOTS_EXISTS);
    /* The third does not stream, so it is unpacked above the others, which are mounted for it. */
    assert_int_equal(bench_count_mounts(bench), 0);
    assert_int_equal(bench_prepare(bench, "c", CHAIN_2, CHAIN_3, &error), SNAPSHOTS_DONE);
    assert_int_equal(bench_count_mounts(bench), 1);
    assert_int_equal(bench->mounted_layers[0], 2);
    bench_mounts(bench, "c", mounts, sizeof mounts);
    snprintf(expected, sizeof expected, "upperdir=%s/4/fs workdir=%s/4/work lowerdir=%s/3/fs",
             bench->root, bench->root, bench->root);
    assert_non_null(strstr(mounts, expected));
    /* What is unpacked above is not remote, and nothing remote stands above it. */
    assert_int_equal(bench_commit(bench, CHAIN_3, "c", "", &error), SNAPSHOTS_DONE);
    bench->streaming = 9;
    unsigned finds = bench->finds;
    assert_int_equal(bench_prepare(bench, "d", CHAIN_3, "sha256:4", &error), SNAPSHOTS_DONE);
    assert_int_equal(bench->finds, finds);
    bench_mounts(bench, "d", mounts, sizeof mounts);
    snprintf(expected, sizeof expected, "lowerdir=%s/4/fs:%s/3/fs", bench->root, bench->root);
    assert_non_null(strstr(mounts, expected));
    assert_int_equal(bench_count_mounts(bench), 1);
}

static void test_the_same_layers_are_looked_for_once(void **state) {
    struct bench *bench = *state;
    struct error error = {0};
    bench->streaming = 1;
    assert_int_equal(bench_prepare(bench, "a", "", CHAIN_1, &error), SNAPSHOTS_EXISTS);
    assert_int_equal(bench_prepare(bench, "b", "", CHAIN_1, &error), SNAPSHOTS_EXISTS);
    bench_reopen(bench);
    assert_int_equal(bench_prepare(bench, "c", "", CHAIN_1, &error), SNAPSHOTS_EXISTS);
    assert_int_equal(bench->finds, 1);
    /* Above another parent the same chain is another snapshot. */
    bench_layer(bench, CHAIN_2, "");
    assert_int_equal(bench_prepare(bench, "d", CHAIN_1, CHAIN_2, &error), SNAPSHOTS_DONE);
    bench->streaming = 2;
    assert_int_equal(bench_prepare(bench, "e", CHAIN_1, CHAIN_2, &error), SNAPSHOTS_EXISTS);
    assert_int_equal(bench_kind(bench, CHAIN_2 "@4"), ENTRY_COMMITTED);
}

static void test_an_image_that_does_not_fit_onto_the_parent_is_not_taken(void **state) {
    struct bench *bench = *state;
    struct error error = {0};
    bench->streaming = 3;
    assert_int_equal(bench_prepare(bench, "a", "", CHAIN_1, &error), SNAPSHOTS_EXISTS);
    assert_int_equal(bench_prepare(bench, "b", CHAIN_1, CHAIN_3, &error), SNAPSHOTS_DONE);
    assert_int_equal(bench_prepare(bench, "c", "", CHAIN_2, &error), SNAPSHOTS_DONE);
}

static void test_a_snapshot_is_not_made_above_layers_that_cannot_be_mounted(void **state) {
    struct bench *bench = *state;
    struct error error = {0};
    bench->streaming = 1;
    assert_int_equal(bench_prepare(bench, "a", "", CHAIN_1, &error), SNAPSHOTS_EXISTS);
    bench->refuse_mounts = true;
    assert_int_equal(bench_prepare(bench, "run", CHAIN_1, "", &error), SNAPSHOTS_FAILED);
    assert_kind_is(&error, ERROR_UNAVAILABLE);
    assert_int_equal(bench_kind(bench, "run"), 0);
    bench_open(bench, false);
    assert_int_equal(bench_prepare(bench, "run", CHAIN_1, "", &error), SNAPSHOTS_FAILED);
    assert_kind_is(&error, ERROR_UNAVAILABLE);
    bench->refuse_mounts = false;
    bench_reopen(bench);
    assert_int_equal(bench_prepare(bench, "run", CHAIN_1, "", &error), SNAPSHOTS_DONE);
    assert_int_equal(bench_count_mounts(bench), 1);
}

static void test_what_active_snapshots_stand_on_is_mounted_again_at_the_start(void **state) {
    struct bench *bench = *state;
    struct error error = {0};
    bench->streaming = 2;
    assert_int_equal(bench_prepare(bench, "a", "", CHAIN_1, &error), SNAPSHOTS_EXISTS);
    assert_int_equal(bench_prepare(bench, "b", CHAIN_1, CHAIN_2, &error), SNAPSHOTS_EXISTS);
    bench_reopen(bench);
    assert_int_equal(bench->mount_calls, 0);
    assert_int_equal(bench_prepare(bench, "run", CHAIN_2, "", &error), SNAPSHOTS_DONE);
    assert_int_equal(bench_prepare(bench, "also", CHAIN_2, "", &error), SNAPSHOTS_DONE);
    assert_int_equal(bench->mount_calls, 1);
    bench_reopen(bench);
    assert_int_equal(bench->mount_calls, 2);
    assert_int_equal(snapshots_remove(bench->snapshots, "run", &error), SNAPSHOTS_DONE);
    assert_int_equal(snapshots_remove(bench->snapshots, "also", &error), SNAPSHOTS_DONE);
    assert_int_equal(bench_count_mounts(bench), 1);
    assert_int_equal(snapshots_remove(bench->snapshots, CHAIN_1, &error), SNAPSHOTS_PRECONDITION);
    assert_int_equal(snapshots_remove(bench->snapshots, CHAIN_2, &error), SNAPSHOTS_DONE);
    assert_int_equal(bench_count_mounts(bench), 0);
    assert_int_equal(snapshots_remove(bench->snapshots, CHAIN_1, &error), SNAPSHOTS_DONE);
    assert_int_equal(count_folders(bench), 0);
}

static void test_a_whole_image_is_mounted_at_once(void **state) {
    struct bench *bench = *state;
    struct error error = {0};
    bench->streaming = bench->whole = 2;
    assert_int_equal(bench_prepare(bench, "a", "", CHAIN_1, &error), SNAPSHOTS_EXISTS);
    assert_int_equal(bench_count_mounts(bench), 0);
    assert_int_equal(bench_prepare(bench, "b", CHAIN_1, CHAIN_2, &error), SNAPSHOTS_EXISTS);
    assert_int_equal(bench_count_mounts(bench), 1);
    assert_int_equal(bench_prepare(bench, "run", CHAIN_2, "", &error), SNAPSHOTS_DONE);
    assert_int_equal(bench->mount_calls, 1);
}

static void test_a_folder_that_is_mounted_still_is_deleted_later(void **state) {
    struct bench *bench = *state;
    struct error error = {0};
    bench->streaming = bench->whole = 1;
    assert_int_equal(bench_prepare(bench, "a", "", CHAIN_1, &error), SNAPSHOTS_EXISTS);
    bench->refuse_unmounts = true;
    assert_int_equal(snapshots_remove(bench->snapshots, CHAIN_1, &error), SNAPSHOTS_DONE);
    assert_int_equal(bench_kind(bench, CHAIN_1), 0);
    snapshots_cleanup(bench->snapshots);
    assert_true(bench_exists(bench, "1/fs"));
    bench_reopen(bench);
    assert_true(bench_exists(bench, "1/fs"));
    bench->refuse_unmounts = false;
    snapshots_cleanup(bench->snapshots);
    assert_int_equal(count_folders(bench), 0);
    assert_int_equal(bench_count_mounts(bench), 0);
}

/* A prepare on a thread of its own. */
struct preparing {
    struct bench *bench;
    const char *key, *chain;
    atomic_bool stop;
    enum snapshots_outcome outcome;
    struct error error;
};

static void *run_prepare(void *argument) {
    struct preparing *preparing = argument;
    cleanup_snapshots_mount struct snapshots_mount mount = {0};
    cleanup_json json_t *labels =
        json_pack("{s:s}", "containerd.io/snapshot.ref", preparing->chain);
    const struct snapshots_request request = {
        .key = preparing->key, .parent = "", .labels = labels, .stop = &preparing->stop};
    preparing->outcome = snapshots_prepare(preparing->bench->snapshots, ENTRY_ACTIVE, &request,
                                           &mount, &preparing->error);
    return NULL;
}

static void await_finding(struct bench *bench, unsigned finding) {
    lock_acquire(&bench->images_lock);
    while (bench->finding != finding)
        condition_wait(&bench->found, &bench->images_lock);
    lock_release(&bench->images_lock);
}

static void set_hold(struct bench *bench, bool hold) {
    lock_acquire(&bench->images_lock);
    bench->hold = hold;
    condition_broadcast(&bench->found);
    lock_release(&bench->images_lock);
}

static void test_a_search_holds_up_nobody_else_and_is_shared(void **state) {
    struct bench *bench = *state;
    struct preparing asks[3] = {{.bench = bench, .key = "a", .chain = CHAIN_1},
                                {.bench = bench, .key = "b", .chain = CHAIN_1},
                                {.bench = bench, .key = "c", .chain = CHAIN_1}};
    pthread_t threads[3];
    struct error error = {0};
    bench->streaming = 1;
    bench->hold = true;
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_prepare, &asks[i]), 0);
    await_finding(bench, 1);
    bench_layer(bench, "layer", "");
    assert_int_equal(snapshots_remove(bench->snapshots, "layer", &error), SNAPSHOTS_DONE);
    set_hold(bench, false);
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(asks[i].outcome, SNAPSHOTS_EXISTS);
    }
    assert_int_equal(bench->finds, 1);
}

static void test_nothing_is_made_for_a_client_that_has_gone(void **state) {
    struct bench *bench = *state;
    struct preparing ask = {.bench = bench, .key = "a", .chain = CHAIN_1};
    pthread_t thread;
    bench->hold = true;
    assert_int_equal(pthread_create(&thread, NULL, run_prepare, &ask), 0);
    await_finding(bench, 1);
    atomic_store(&ask.stop, true);
    pthread_join(thread, NULL);
    assert_int_equal(ask.outcome, SNAPSHOTS_FAILED);
    assert_kind_is(&ask.error, ERROR_CLOSED);
    assert_int_equal(bench_kind(bench, "a"), 0);
    assert_int_equal(count_folders(bench), 0);
}

/* ---- many threads ---- */

static void *churn_alone(void *argument) {
    struct preparing *preparing = argument;
    struct bench *bench = preparing->bench;
    for (int i = 0; i < 20; i++) {
        struct error error = {0};
        char name[64];
        uint64_t size, inodes;
        snprintf(name, sizeof name, "%s-%d", preparing->key, i);
        assert_int_equal(bench_prepare(bench, preparing->key, "low", "", &error), SNAPSHOTS_DONE);
        assert_int_equal(bench_commit(bench, name, preparing->key, "", &error), SNAPSHOTS_DONE);
        snapshots_cleanup(bench->snapshots);
        assert_int_equal(snapshots_usage(bench->snapshots, name, &size, &inodes, &error),
                         SNAPSHOTS_DONE);
        if (i % 2)
            assert_int_equal(snapshots_remove(bench->snapshots, name, &error), SNAPSHOTS_DONE);
    }
    return NULL;
}

static void test_many_threads_may_call_at_the_same_time(void **state) {
    struct bench *bench = *state;
    struct preparing workers[4] = {{.key = "a"}, {.key = "b"}, {.key = "c"}, {.key = "d"}};
    pthread_t threads[4];
    bench_layer(bench, "low", "");
    for (int i = 0; i < 4; i++) {
        workers[i].bench = bench;
        assert_int_equal(pthread_create(&threads[i], NULL, churn_alone, &workers[i]), 0);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(count_folders(bench), 1 + 4 * 10);
    bench_reopen(bench);
    assert_int_equal(count_folders(bench), 1 + 4 * 10);
}

#define BENCH(test) cmocka_unit_test_setup_teardown(test, bench_setup, bench_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        BENCH(test_outcomes_are_those_of_the_overlay_snapshotter),
        BENCH(test_a_view_cannot_be_committed_and_a_committed_one_cannot_be_mounted),
        BENCH(test_a_snapshot_without_a_parent_may_get_one_when_it_is_committed),
        BENCH(test_mounts_are_a_bind_mount_or_an_overlay),
        BENCH(test_a_folder_belongs_to_whom_its_parent_belongs),
        BENCH(test_usage_counts_a_file_with_two_names_once),
        BENCH(test_labels_are_replaced_or_changed_one_by_one),
        BENCH(test_folders_of_no_snapshot_are_deleted_and_their_numbers_not_used),
        BENCH(test_a_deep_tree_is_deleted),
        BENCH(test_half_a_record_is_cut_off_and_damage_is_not_passed_over),
        BENCH(test_no_committed_snapshot_is_lost_when_the_process_is_killed),
        BENCH(test_the_records_are_written_anew_before_they_are_many),
        BENCH(test_a_root_is_of_one_process_and_of_a_form_that_overlayfs_takes),
        BENCH(test_layers_that_stream_exist_only_for_those_who_ask_by_label),
        BENCH(test_the_same_layers_are_looked_for_once),
        BENCH(test_an_image_that_does_not_fit_onto_the_parent_is_not_taken),
        BENCH(test_a_snapshot_is_not_made_above_layers_that_cannot_be_mounted),
        BENCH(test_what_active_snapshots_stand_on_is_mounted_again_at_the_start),
        BENCH(test_a_whole_image_is_mounted_at_once),
        BENCH(test_a_folder_that_is_mounted_still_is_deleted_later),
        BENCH(test_a_search_holds_up_nobody_else_and_is_shared),
        BENCH(test_nothing_is_made_for_a_client_that_has_gone),
        BENCH(test_many_threads_may_call_at_the_same_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
