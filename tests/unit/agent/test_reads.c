/* A real FUSE file system that answers from memory: what the kernel gets, over a change of workers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/thread.h"
#include "node/agent/fuse.h"
#include "node/agent/reads.h"

enum { NUMBER = 7, FILES = 2, SIZE = 3 << 20, SLOW = 1, FAILING_OFFSET = 2 << 20 };

struct world {
    char folder[32];
    struct fuse fuse;
    struct reads_source source;
    struct reads *reads;
    atomic_bool is_open; /* slow reads may go on */
    atomic_uint waiting, failures;
};

static unsigned char byte_at(uint64_t offset) {
    return (unsigned char)(offset * 131 + offset / 4096);
}

static bool give_size(void *context, uint32_t number, uint32_t file, uint64_t *size) {
    (void)context;
    *size = SIZE;
    return number == NUMBER && file < FILES;
}

/* File 0 is there; each read of file 1 waits until the world is open. */
static enum reads_outcome give_bytes(void *context, const struct reads_read *read, void *out) {
    struct world *world = context;
    unsigned char *bytes = out;
    if (read->file == SLOW && !read->may_wait)
        return READS_MUST_WAIT;
    atomic_fetch_add(&world->waiting, read->file == SLOW);
    while (read->file == SLOW && !atomic_load(&world->is_open) && !atomic_load(read->stop))
        clock_sleep_ms(1);
    atomic_fetch_sub(&world->waiting, read->file == SLOW);
    if (read->file == SLOW && !atomic_load(&world->is_open))
        return READS_FAILED;
    if (atomic_load(&world->failures) && read->offset >= FAILING_OFFSET)
        return READS_FAILED;
    for (size_t i = 0; i < read->length; i++)
        bytes[i] = byte_at(read->offset + i);
    return READS_DONE;
}

static int setup(void **state) {
    struct world *world = calloc(1, sizeof *world);
    struct error error = {0};
    if (!world)
        return -1;
    *state = world;
    snprintf(world->folder, sizeof world->folder, "/tmp/tarn-reads-XXXXXX");
    world->source = (struct reads_source){give_size, give_bytes, world};
    if (!mkdtemp(world->folder))
        return -1;
    if (fuse_open(&world->fuse, world->folder, &error))
        world->reads = reads_start(&world->fuse, &world->source, &error);
    return 0; /* a test that needs it skips without it */
}

static int teardown(void **state) {
    struct world *world = *state;
    atomic_store(&world->is_open, true);
    umount2(world->folder, MNT_DETACH);
    reads_free(world->reads);
    fuse_close(&world->fuse);
    rmdir(world->folder);
    free(world);
    return 0;
}

static void path_of(const struct world *world, const char *name, char out[static 64]) {
    snprintf(out, 64, "%s/%d/%s", world->folder, NUMBER, name);
}

static int open_file(const struct world *world, const char *name) {
    char path[64];
    path_of(world, name, path);
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* Whether all bytes of the file are right. */
static bool is_right(int fd) {
    unsigned char *bytes = malloc(SIZE);
    bool right = bytes && pread(fd, bytes, SIZE, 0) == SIZE;
    for (size_t i = 0; right && i < SIZE; i++)
        right = bytes[i] == byte_at(i);
    free(bytes);
    return right;
}

#define need_fuse(world)                                                                           \
    do {                                                                                           \
        if (!(world)->reads)                                                                       \
            skip(); /* only root has it */                                                         \
    } while (0)

static void test_a_file_has_its_size_and_its_bytes(void **state) {
    struct world *world = *state;
    need_fuse(world);
    int fd = open_file(world, "0");
    struct stat status;
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &status), 0);
    assert_int_equal(status.st_size, SIZE);
    assert_true(S_ISREG(status.st_mode));
    assert_true(is_right(fd));
    close(fd);
}

static void test_nothing_else_is_there(void **state) {
    struct world *world = *state;
    need_fuse(world);
    static const char *const names[] = {
        "2", "00", "x", "-1", "99999999999", "0 ", "18446744073709551616"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_int_equal(open_file(world, names[i]), -1);
        assert_int_equal(errno, ENOENT);
    }
    char path[64];
    snprintf(path, sizeof path, "%s/%d", world->folder, NUMBER + 1);
    assert_int_equal(access(path, F_OK), -1);
    path_of(world, "0", path);
    assert_int_equal(open(path, O_WRONLY), -1);
    assert_int_equal(errno, EROFS);
}

static void test_a_read_that_fails_is_an_error_and_no_short_read(void **state) {
    struct world *world = *state;
    need_fuse(world);
    char byte;
    int fd = open_file(world, "0");
    assert_true(fd >= 0);
    posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    atomic_store(&world->failures, 1);
    assert_int_equal(pread(fd, &byte, 1, 0), 1);
    assert_int_equal(pread(fd, &byte, 1, FAILING_OFFSET), -1);
    assert_int_equal(errno, EIO);
    atomic_store(&world->failures, 0);
    assert_true(is_right(fd));
    close(fd);
}

struct reader {
    struct world *world;
    pthread_t thread;
    bool right;
};

static void read_slowly(void *context) {
    struct reader *reader = context;
    int fd = open_file(reader->world, "1");
    reader->right = fd >= 0 && is_right(fd);
    close(fd);
}

static void await_waiting(struct world *world) {
    for (int i = 0; i < 10000 && !atomic_load(&world->waiting); i++)
        clock_sleep_ms(1);
    assert_true(atomic_load(&world->waiting) > 0);
}

static void test_reads_that_wait_stop_no_others(void **state) {
    struct world *world = *state;
    need_fuse(world);
    enum { READERS = 4 * FUSE_CHANNELS };
    struct reader readers[READERS];
    for (size_t i = 0; i < READERS; i++) {
        readers[i] = (struct reader){.world = world};
        assert_true(thread_start("reader", THREAD_STACK, read_slowly, &readers[i],
                                 &readers[i].thread, NULL));
    }
    await_waiting(world);
    int fd = open_file(world, "0");
    assert_true(is_right(fd));
    close(fd);
    atomic_store(&world->is_open, true);
    for (size_t i = 0; i < READERS; i++) {
        pthread_join(readers[i].thread, NULL);
        assert_true(readers[i].right);
    }
}

static void test_another_worker_answers_what_the_first_has_received(void **state) {
    struct world *world = *state;
    need_fuse(world);
    struct reader reader = {.world = world};
    assert_true(thread_start("reader", THREAD_STACK, read_slowly, &reader, &reader.thread, NULL));
    await_waiting(world);
    reads_free(world->reads); /* the read is received, and not answered */
    atomic_store(&world->is_open, true);
    if (!fuse_resend(&world->fuse)) { /* before Linux 6.9 */
        fuse_close(&world->fuse);
        world->reads = NULL;
        pthread_join(reader.thread, NULL);
        skip();
    }
    world->reads = reads_start(&world->fuse, &world->source, NULL);
    assert_non_null(world->reads);
    pthread_join(reader.thread, NULL);
    assert_true(reader.right);
}

static void test_without_a_channel_reads_end_with_an_error(void **state) {
    struct world *world = *state;
    need_fuse(world);
    struct reader reader = {.world = world};
    assert_true(thread_start("reader", THREAD_STACK, read_slowly, &reader, &reader.thread, NULL));
    await_waiting(world);
    reads_free(world->reads);
    world->reads = NULL;
    fuse_close(&world->fuse);
    pthread_join(reader.thread, NULL);
    assert_false(reader.right);
}

#define with_world(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        with_world(test_a_file_has_its_size_and_its_bytes),
        with_world(test_nothing_else_is_there),
        with_world(test_a_read_that_fails_is_an_error_and_no_short_read),
        with_world(test_reads_that_wait_stop_no_others),
        with_world(test_another_worker_answers_what_the_first_has_received),
        with_world(test_without_a_channel_reads_end_with_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
