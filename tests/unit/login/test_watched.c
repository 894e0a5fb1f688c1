/* A file of the operator's whose file system hangs: the reads are this test's. */
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
#include "base/thread.h"
#include "login/watched.h"

struct owner {
    atomic_uint references;
    atomic_uint reads; /* that have begun */
    atomic_bool hangs; /* while set, a read does not return */
    atomic_uint taken; /* reads that have ended */
    atomic_bool *freed;
    struct watched file;
};

static void hold(void *owner) {
    atomic_fetch_add(&((struct owner *)owner)->references, 1);
}

static void release(void *argument) {
    struct owner *owner = argument;
    if (atomic_fetch_sub(&owner->references, 1) > 1)
        return;
    watched_finish(&owner->file);
    atomic_bool *freed = owner->freed;
    free(owner);
    atomic_store(freed, true);
}

static bool read_file(void *argument, const char *path, struct stat *identity,
                      struct error *error) {
    struct owner *owner = argument;
    (void)error;
    atomic_fetch_add(&owner->reads, 1);
    while (atomic_load(&owner->hangs))
        clock_sleep_ms(1);
    assert_int_equal(stat(path, identity), 0);
    atomic_fetch_add(&owner->taken, 1);
    return true;
}

static void forget(void *owner) {
    (void)owner;
    fail();
}

static char path[64];
static atomic_bool freed;

static void write_file(const char *content) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(content, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static struct owner *owner_new(bool hangs) {
    struct owner *owner = calloc(1, sizeof *owner);
    assert_non_null(owner);
    atomic_init(&owner->references, 1);
    atomic_store(&owner->hangs, hangs);
    atomic_store(&freed, false);
    owner->freed = &freed;
    return owner;
}

static bool begin(struct owner *owner, struct error *error) {
    const struct watched_use use = {"passwords", read_file, forget, hold, release, owner};
    return watched_init(&owner->file, path, &use, error);
}

static void becomes_freed(void) {
    for (int tries = 0; tries < 15000 && !atomic_load(&freed); tries++)
        clock_sleep_ms(2);
    assert_true(atomic_load(&freed));
}

static int set_up(void **state) {
    (void)state;
    snprintf(path, sizeof path, "/tmp/tarn-watched-XXXXXX");
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int tear_down(void **state) {
    (void)state;
    return unlink(path);
}

static void test_a_file_that_hangs_holds_no_thread_of_a_caller(void **state) {
    (void)state;
    struct owner *owner = owner_new(false);
    struct error error = {0};
    assert_true(begin(owner, &error));
    assert_int_equal(owner->taken, 1);
    atomic_store(&owner->hangs, true);
    write_file("changed");
    watched_look_now(&owner->file); /* ends although the read does not */
    assert_int_equal(owner->reads, 2);
    assert_int_equal(owner->taken, 1);
    int64_t began = clock_ms();
    for (int i = 0; i < 1000; i++)
        watched_look_now(&owner->file); /* nobody else waits, and no other read begins */
    assert_true(clock_ms() - began < 2000);
    assert_int_equal(owner->reads, 2);
    atomic_store(&owner->hangs, false);
    for (int tries = 0; tries < 15000 && atomic_load(&owner->file.is_looking); tries++)
        clock_sleep_ms(2);
    assert_int_equal(owner->taken, 2); /* the change counts when the file system is back */
    write_file("changed once more");
    watched_look_now(&owner->file);
    assert_int_equal(owner->taken, 3);
    release(owner);
    becomes_freed();
}

static void test_an_owner_ends_while_its_file_hangs(void **state) {
    (void)state;
    struct owner *owner = owner_new(false);
    struct error error = {0};
    assert_true(begin(owner, &error));
    atomic_store(&owner->hangs, true);
    write_file("changed");
    watched_look_now(&owner->file);
    hold(owner); /* to end the read later */
    release(owner);
    assert_false(atomic_load(&freed));
    atomic_store(&owner->hangs, false);
    release(owner);
    becomes_freed(); /* the thread that hung was the last */
}

static void test_a_first_read_that_hangs_is_a_timeout(void **state) {
    (void)state;
    struct owner *owner = owner_new(true);
    struct error error = {0};
    assert_false(begin(owner, &error));
    assert_int_equal(error.kind, ERROR_TIMEOUT);
    assert_non_null(strstr(error.text, path));
    atomic_store(&owner->hangs, false);
    release(owner);
    becomes_freed();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_file_that_hangs_holds_no_thread_of_a_caller, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_an_owner_ends_while_its_file_hangs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_first_read_that_hangs_is_a_timeout, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
