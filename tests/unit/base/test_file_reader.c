/* Files whose file system hangs: the linker hands the reads to this test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/clock.h"
#include "base/file.h"
#include "base/file_reader.h"
#include "base/thread.h"

enum { LIMIT = 1000, CROWD = 8, LONG_MS = 60000 };

/* While set, reads of files whose name ends in "hung" do not return. */
static atomic_bool hangs;
static atomic_uint reads;

char *__wrap_file_read_small(const char *path, size_t limit, unsigned rules, size_t *length,
                             struct stat *status, struct error *error);
char *__wrap_file_read_small(const char *path, size_t limit, unsigned rules, size_t *length,
                             struct stat *status, struct error *error) {
    (void)status;
    reads++;
    assert_int_equal(limit, LIMIT);
    assert_int_equal(rules, FILE_REGULAR);
    size_t size = strlen(path);
    while (strcmp(path + size - 4, "hung") == 0 && atomic_load(&hangs))
        clock_sleep_ms(1);
    if (strcmp(path, "/absent") == 0) {
        error_set(error, ERROR_NOT_FOUND, "no such file");
        return NULL;
    }
    *length = size;
    return strdup(path);
}

static int set_up(void **state) {
    atomic_store(&hangs, false);
    atomic_store(&reads, 0);
    *state = file_reader_new();
    return *state ? 0 : -1;
}

static int tear_down(void **state) {
    file_reader_free(*state);
    return 0;
}

static void assert_read(struct file_reader *reader, const char *path) {
    size_t length = 0;
    char *bytes = file_reader_read(reader, path, LIMIT, LONG_MS, &length, NULL, NULL);
    assert_non_null(bytes);
    assert_string_equal(bytes, path);
    assert_int_equal(length, strlen(path));
    free(bytes);
}

static void test_a_file_is_read_anew_each_time(void **state) {
    assert_read(*state, "/etc/ca.pem");
    assert_read(*state, "/etc/ca.pem");
    assert_int_equal(reads, 2);
}

static void test_a_failure_has_its_reason(void **state) {
    struct error error = {0};
    size_t length;
    assert_null(file_reader_read(*state, "/absent", LIMIT, LONG_MS, &length, NULL, &error));
    assert_int_equal(error.kind, ERROR_NOT_FOUND);
}

static void test_nobody_waits_longer_than_it_wants_for_a_file_that_hangs(void **state) {
    struct file_reader *reader = *state;
    struct error error = {0};
    size_t length;
    atomic_store(&hangs, true);
    int64_t began = clock_ms();
    assert_null(file_reader_read(reader, "/nfs/hung", LIMIT, 50, &length, NULL, &error));
    assert_int_equal(error.kind, ERROR_TIMEOUT);
    assert_true(clock_ms() - began >= 50);
    /* Whoever comes later fails at once, and has no thread that hangs, too. */
    for (int i = 0; i < 100; i++)
        assert_null(file_reader_read(reader, "/nfs/hung", LIMIT, 50, &length, NULL, &error));
    assert_int_equal(reads, 1);
    assert_read(reader, "/etc/ca.pem"); /* no other file waits for it */
    atomic_store(&hangs, false);
    char *bytes;
    while (!(bytes = file_reader_read(reader, "/nfs/hung", LIMIT, 50, &length, NULL, &error)))
        clock_sleep_ms(1); /* as soon as it answers, it is read again */
    free(bytes);
}

struct waiter {
    struct file_reader *reader;
    pthread_t thread;
    bool read;
};

static void wait_for_file(void *argument) {
    struct waiter *waiter = argument;
    size_t length;
    char *bytes =
        file_reader_read(waiter->reader, "/nfs/hung", LIMIT, LONG_MS, &length, NULL, NULL);
    waiter->read = bytes && strcmp(bytes, "/nfs/hung") == 0;
    free(bytes);
}

static void test_a_look_says_what_stat_says(void **state) {
    struct stat status, expected;
    struct error error = {0};
    assert_int_equal(stat("/proc/self/exe", &expected), 0);
    assert_true(file_reader_look(*state, "/proc/self/exe", LONG_MS, &status, &error));
    assert_int_equal(status.st_ino, expected.st_ino);
    assert_int_equal(status.st_size, expected.st_size);
    assert_false(file_reader_look(*state, "/no/such/file", LONG_MS, &status, &error));
    assert_int_equal(error.kind, ERROR_NOT_FOUND);
    assert_string_equal(error.text, "No such file or directory");
    assert_int_equal(reads, 0);
}

static void test_the_size_of_a_file_system_is_what_statvfs_says(void **state) {
    struct statvfs space, expected;
    struct error error = {0};
    assert_int_equal(statvfs("/", &expected), 0);
    assert_true(file_reader_space(*state, "/", LONG_MS, &space, &error));
    assert_int_equal(space.f_blocks, expected.f_blocks);
    assert_int_equal(space.f_frsize, expected.f_frsize);
    assert_false(file_reader_space(*state, "/no/such/folder", LONG_MS, &space, &error));
    assert_int_equal(error.kind, ERROR_NOT_FOUND);
    assert_false(file_reader_space(*state, "/proc/self/exe/x", LONG_MS, &space, &error));
    assert_int_equal(error.kind, ERROR_IO);
    assert_string_equal(error.text, "Not a directory");
}

static void test_a_crowd_reads_once(void **state) {
    struct waiter waiters[CROWD];
    atomic_store(&hangs, true);
    for (int i = 0; i < CROWD; i++) {
        waiters[i] = (struct waiter){.reader = *state};
        assert_true(thread_start("test-waiter", THREAD_STACK, wait_for_file, &waiters[i],
                                 &waiters[i].thread, NULL));
    }
    while (reads == 0)
        clock_sleep_ms(1);
    assert_int_equal(reads, 1);
    atomic_store(&hangs, false);
    for (int i = 0; i < CROWD; i++) {
        pthread_join(waiters[i].thread, NULL);
        assert_true(waiters[i].read);
    }
}

static void test_a_thread_that_hangs_outlives_the_reader(void **state) {
    (void)state;
    size_t length;
    struct file_reader *reader = file_reader_new();
    atomic_store(&hangs, true);
    assert_null(file_reader_read(reader, "/nfs/hung", LIMIT, 1, &length, NULL, NULL));
    file_reader_free(reader);
    atomic_store(&hangs, false); /* the sanitizer sees whether the thread frees everything */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_file_is_read_anew_each_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_failure_has_its_reason, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_nobody_waits_longer_than_it_wants_for_a_file_that_hangs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_look_says_what_stat_says, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_size_of_a_file_system_is_what_statvfs_says, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_crowd_reads_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_thread_that_hangs_outlives_the_reader, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
