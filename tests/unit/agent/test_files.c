/* The file of mounts, the table of mounts, and the removal of what was written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/buffer.h"
#include "base/json.h"
#include "node/agent/mount_file.h"
#include "node/agent/mountinfo.h"
#include "node/agent/removal.h"

static int setup(void **state) {
    static char folder[32];
    snprintf(folder, sizeof folder, "/tmp/tarn-agent-XXXXXX");
    *state = mkdtemp(folder);
    return *state ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *walk) {
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

static int teardown(void **state) {
    return nftw(*state, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void make(const char *folder, const char *name, const char *content) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (!content) {
        assert_int_equal(mkdir(path, 0700), 0);
        return;
    }
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(content, file);
    fclose(file);
}

static bool is_there(const char *folder, const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

static void test_the_file_gives_back_what_was_saved(void **state) {
    struct mount_record record, read;
    struct error error = {0};
    json_t *root;
    assert_true(mount_file_read(*state, &root, &error));
    assert_null(root); /* there is none yet */
    assert_true(mount_record_init(&record, "/a b", "host/name:1", "0123abc", "token"));
    record.number = 7;
    json_t *list = json_array();
    json_array_append_new(list, mount_record_write(&record));
    assert_true(mount_file_save(*state, list, json_object(), &error));
    assert_true(mount_file_read(*state, &root, &error));
    assert_true(mount_record_read(json_array_get(json_object_get(root, "mounts"), 0), &read));
    assert_string_equal(read.folder, "/a b");
    assert_string_equal(read.image, "host/name:1");
    assert_string_equal(read.layer, "0123abc");
    assert_string_equal(read.token, "token");
    assert_int_equal(read.number, 7);
    mount_record_finish(&read);
    mount_record_finish(&record);
    json_decref(root);
}

static void test_a_damaged_file_is_an_error_and_no_empty_one(void **state) {
    static const char *const damaged[] = {"", "{", "[]", "{\"version\": 2}", "null", "\xff"};
    for (size_t i = 0; i < sizeof damaged / sizeof *damaged; i++) {
        struct error error = {0};
        json_t *root;
        make(*state, "mounts.json", damaged[i]);
        assert_false(mount_file_read(*state, &root, &error));
        assert_non_null(strstr(error.text, "mounts.json"));
        assert_null(root);
    }
    struct mount_record record;
    json_t *relative = json_pack("{s:s, s:s}", "dir", "x", "image", "y");
    assert_false(mount_record_read(relative, &record));
    assert_false(mount_record_read(NULL, &record));
    json_decref(relative);
}

static void test_the_root_is_a_mount(void **state) {
    struct mountinfo mountinfo;
    (void)state;
    assert_true(mountinfo_read(&mountinfo, NULL));
    const struct mountinfo_entry *root = mountinfo_find(&mountinfo, "/");
    assert_true(!root || (strchr(root->device, ':') && *root->type));
    assert_true(mountinfo.count > 0);
    assert_null(mountinfo_find(&mountinfo, "/no such folder"));
    mountinfo_finish(&mountinfo);
}

static void test_a_layer_goes_with_all_that_is_in_it_however_deep(void **state) {
    enum { DEPTH = 3000 };
    make(*state, "writable", NULL);
    make(*state, "writable/gone", NULL);
    make(*state, "writable/stays", NULL);
    make(*state, "writable/stays/f", "kept");
    make(*state, "writable/gone/f", "x");
    char path[64];
    snprintf(path, sizeof path, "%s/writable/gone", (const char *)*state);
    int folder = open(path, O_RDONLY | O_DIRECTORY);
    for (int i = 0; i < DEPTH; i++) {
        assert_int_equal(mkdirat(folder, "d", 0700), 0);
        int next = openat(folder, "d", O_RDONLY | O_DIRECTORY);
        assert_true(next >= 0);
        close(folder);
        folder = next;
    }
    close(folder);
    symlink("/etc", path); /* exists: no effect */
    removal_of_layer(*state, "gone");
    assert_false(is_there(*state, "writable/gone"));
    assert_true(is_there(*state, "writable/stays/f"));
    const char *const none[] = {NULL};
    removal_of_others(*state, none);
    assert_false(is_there(*state, "writable/stays"));
    snprintf(path, sizeof path, "%s/writable", (const char *)*state);
    assert_int_equal(rmdir(path), 0); /* it is empty */
}

#define with_folder(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        with_folder(test_the_file_gives_back_what_was_saved),
        with_folder(test_a_damaged_file_is_an_error_and_no_empty_one),
        with_folder(test_the_root_is_a_mount),
        with_folder(test_a_layer_goes_with_all_that_is_in_it_however_deep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
