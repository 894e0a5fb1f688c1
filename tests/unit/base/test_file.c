/* Small files and whole reads and writes, also where calls are interrupted, cut short or fail. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/cleanup.h"
#include "base/file.h"

/* ---- the system's reads and writes, which the linker hands to these ---- */

static struct {
    bool piecewise;    /* one byte a call, and every second call is interrupted */
    int failing;       /* errno of the call that fails; 0: none */
    unsigned fails_at; /* which call that is, counted from 1 */
    bool writes_nothing;
    unsigned calls;
} disturbed;

/* How much of `length` the call may do: 0 with errno set when it fails. */
static size_t allowed(size_t length) {
    disturbed.calls++;
    if (disturbed.failing && disturbed.calls == disturbed.fails_at) {
        errno = disturbed.failing;
        return 0;
    }
    if (!disturbed.piecewise)
        return length;
    if (disturbed.calls % 2) {
        errno = EINTR;
        return 0;
    }
    return 1;
}

#define WRAPPED(result, name, ...)                                                                 \
    result __real_##name(__VA_ARGS__);                                                             \
    result __wrap_##name(__VA_ARGS__);                                                             \
    result __wrap_##name(__VA_ARGS__)

WRAPPED(ssize_t, read, int fd, void *bytes, size_t length) {
    size_t may = allowed(length);
    return may ? __real_read(fd, bytes, may) : -1;
}

WRAPPED(ssize_t, pread64, int fd, void *bytes, size_t length, off_t offset) {
    size_t may = allowed(length);
    return may ? __real_pread64(fd, bytes, may, offset) : -1;
}

WRAPPED(ssize_t, write, int fd, const void *bytes, size_t length) {
    if (disturbed.writes_nothing)
        return 0;
    size_t may = allowed(length);
    return may ? __real_write(fd, bytes, may) : -1;
}

WRAPPED(ssize_t, pwrite64, int fd, const void *bytes, size_t length, off_t offset) {
    size_t may = allowed(length);
    return may ? __real_pwrite64(fd, bytes, may, offset) : -1;
}

/* ---- a folder ---- */

struct folder {
    char path[64], file[80];
};

static int set_up(void **state) {
    static struct folder folder;
    strcpy(folder.path, "/tmp/tarn-test-file-XXXXXX");
    if (!mkdtemp(folder.path))
        return -1;
    snprintf(folder.file, sizeof folder.file, "%s/file", folder.path);
    memset(&disturbed, 0, sizeof disturbed);
    *state = &folder;
    return 0;
}

static int tear_down(void **state) {
    const struct folder *folder = *state;
    memset(&disturbed, 0, sizeof disturbed);
    unlink(folder->file);
    return rmdir(folder->path);
}

static void put(const struct folder *folder, const void *bytes, size_t length) {
    cleanup_close int fd = open(folder->file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_true(file_write_all(fd, bytes, length, NULL));
}

/* ---- small files ---- */

static void test_a_small_file_is_read_whole(void **state) {
    const struct folder *folder = *state;
    size_t length = 0;
    struct stat status;
    put(folder, "a\0b\n", 4);
    cleanup_free char *bytes =
        file_read_small(folder->file, 4, FILE_REGULAR, &length, &status, NULL);
    assert_non_null(bytes);
    assert_int_equal(length, 4);
    assert_memory_equal(bytes, "a\0b\n", 5);
    assert_int_equal(status.st_size, 4);
    assert_true(S_ISREG(status.st_mode));
}

static void test_an_empty_file_is_empty(void **state) {
    const struct folder *folder = *state;
    size_t length = 9;
    put(folder, "", 0);
    cleanup_free char *bytes = file_read_small(folder->file, 0, FILE_TEXT, &length, NULL, NULL);
    assert_string_equal(bytes, "");
    assert_int_equal(length, 0);
}

static void test_an_interrupted_read_goes_on(void **state) {
    const struct folder *folder = *state;
    put(folder, "abc", 3);
    disturbed.piecewise = true;
    cleanup_free char *bytes = file_read_small(folder->file, 10, FILE_TEXT, NULL, NULL, NULL);
    assert_string_equal(bytes, "abc");
}

static void assert_refused(const char *path, size_t limit, unsigned rules, enum error_kind kind,
                           const char *text) {
    struct error error = {0};
    assert_null(file_read_small(path, limit, rules, NULL, NULL, &error));
    assert_int_equal(error.kind, kind);
    assert_string_equal(error.text, text);
    assert_null(file_read_small(path, limit, rules, NULL, NULL, NULL));
}

static void test_what_breaks_a_rule_is_refused(void **state) {
    const struct folder *folder = *state;
    put(folder, "a\0b\n", 4);
    assert_refused(folder->file, 3, FILE_ANY, ERROR_INVALID, "is longer than 3 bytes");
    assert_refused(folder->file, 4, FILE_TEXT, ERROR_INVALID, "holds a NUL byte");
    assert_refused("/dev/null", 4, FILE_REGULAR, ERROR_INVALID, "is no regular file");
}

static void test_a_pipe_in_the_files_place_is_not_waited_for(void **state) {
    const struct folder *folder = *state;
    assert_int_equal(mkfifo(folder->file, 0600), 0);
    assert_refused(folder->file, 4, FILE_REGULAR, ERROR_INVALID, "is no regular file");
}

static void test_a_pipe_may_be_read_where_it_is_allowed(void **state) {
    (void)state;
    int ends[2];
    char path[64];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_true(file_write_all(ends[1], "piped", 5, NULL));
    close(ends[1]);
    snprintf(path, sizeof path, "/dev/fd/%d", ends[0]);
    cleanup_free char *bytes = file_read_small(path, 10, FILE_TEXT, NULL, NULL, NULL);
    assert_string_equal(bytes, "piped");
    close(ends[0]);
}

static void test_a_file_that_is_not_there_is_told_from_one_that_cannot_be_read(void **state) {
    const struct folder *folder = *state;
    char path[128];
    assert_refused(folder->file, 4, FILE_ANY, ERROR_NOT_FOUND,
                   "cannot be read: No such file or directory");
    put(folder, "abc", 3);
    snprintf(path, sizeof path, "%s/below", folder->file);
    assert_refused(path, 4, FILE_ANY, ERROR_NOT_FOUND, "cannot be read: Not a directory");
    assert_refused(folder->path, 4, FILE_ANY, ERROR_IO, "cannot be read: Is a directory");
    disturbed.failing = EIO;
    disturbed.fails_at = disturbed.calls + 1;
    struct error error = {0};
    assert_null(file_read_small(folder->file, 4, FILE_ANY, NULL, NULL, &error));
    assert_int_equal(error.kind, ERROR_IO);
}

/* ---- descriptors ---- */

static void test_bytes_are_read_from_an_offset_as_far_as_the_file_goes(void **state) {
    const struct folder *folder = *state;
    char bytes[8] = "";
    put(folder, "0123456789", 10);
    cleanup_close int fd = open(folder->file, O_RDONLY | O_CLOEXEC);
    disturbed.piecewise = true;
    assert_int_equal(file_read_at(fd, bytes, 4, 3), 4);
    assert_memory_equal(bytes, "3456", 4);
    assert_int_equal(file_read_at(fd, bytes, 4, 8), 2);
    assert_int_equal(file_read_at(fd, bytes, 4, 10), 0);
    disturbed.failing = EIO;
    disturbed.fails_at = disturbed.calls + 3;
    assert_int_equal(file_read_at(fd, bytes, 4, 3), -1);
    assert_int_equal(errno, EIO);
}

static void test_a_file_that_ends_too_soon_is_an_error_where_all_is_wanted(void **state) {
    const struct folder *folder = *state;
    char bytes[8] = "";
    struct error error = {0};
    put(folder, "0123456789", 10);
    cleanup_close int fd = open(folder->file, O_RDONLY | O_CLOEXEC);
    assert_true(file_read_all_at(fd, bytes, 4, 6, &error));
    assert_memory_equal(bytes, "6789", 4);
    assert_false(file_read_all_at(fd, bytes, 4, 8, &error));
    assert_int_equal(error.kind, ERROR_IO);
    assert_string_equal(error.text, "ends at byte 10, before byte 12");
    assert_false(file_read_all_at(-1, bytes, 4, 8, &error));
    assert_string_equal(error.text, "cannot be read: Bad file descriptor");
}

static void test_all_is_written_however_often_a_write_is_cut_short(void **state) {
    const struct folder *folder = *state;
    char bytes[16] = "";
    cleanup_close int fd = open(folder->file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    disturbed.piecewise = true;
    assert_true(file_write_all(fd, "01234567", 8, NULL));
    assert_true(file_write_all_at(fd, "abc", 3, 2, NULL));
    assert_true(file_write_all(fd, "", 0, NULL));
    assert_int_equal(file_read_at(fd, bytes, sizeof bytes, 0), 8);
    assert_string_equal(bytes, "01abc567");
}

static void test_a_write_that_fails_says_why(void **state) {
    const struct folder *folder = *state;
    struct error error = {0};
    cleanup_close int fd = open(folder->file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    disturbed.failing = ENOSPC;
    disturbed.fails_at = 1;
    assert_false(file_write_all(fd, "abc", 3, &error));
    assert_int_equal(errno, ENOSPC);
    assert_int_equal(error.kind, ERROR_NO_SPACE);
    disturbed.fails_at = 2;
    assert_false(file_write_all_at(fd, "abc", 3, 0, &error));
    assert_int_equal(error.kind, ERROR_NO_SPACE);
    disturbed.writes_nothing = true;
    assert_false(file_write_all(fd, "abc", 3, &error));
    assert_int_equal(error.kind, ERROR_IO);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_a_small_file_is_read_whole),
        TEST(test_an_empty_file_is_empty),
        TEST(test_an_interrupted_read_goes_on),
        TEST(test_what_breaks_a_rule_is_refused),
        TEST(test_a_pipe_in_the_files_place_is_not_waited_for),
        TEST(test_a_pipe_may_be_read_where_it_is_allowed),
        TEST(test_a_file_that_is_not_there_is_told_from_one_that_cannot_be_read),
        TEST(test_bytes_are_read_from_an_offset_as_far_as_the_file_goes),
        TEST(test_a_file_that_ends_too_soon_is_an_error_where_all_is_wanted),
        TEST(test_all_is_written_however_often_a_write_is_cut_short),
        TEST(test_a_write_that_fails_says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
