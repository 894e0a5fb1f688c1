/* Memory that runs out, and a disk that fails, while an image is opened and read: each call ends
 * with a sentence or gives the right bytes, nothing leaks, and the next one works again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "memory_faults.h"
#include "spans/world.h"

/* ---- a disk that fails ---- */

static atomic_int write_errno; /* of every write to the disk; 0: it works */
static atomic_int read_errno;

ssize_t __real_pwrite64(int fd, const void *bytes, size_t length, off_t offset);
ssize_t __wrap_pwrite64(int fd, const void *bytes, size_t length, off_t offset);
ssize_t __wrap_pwrite64(int fd, const void *bytes, size_t length, off_t offset) {
    errno = atomic_load(&write_errno);
    return errno ? -1 : __real_pwrite64(fd, bytes, length, offset);
}

ssize_t __real_pread64(int fd, void *bytes, size_t length, off_t offset);
ssize_t __wrap_pread64(int fd, void *bytes, size_t length, off_t offset);
ssize_t __wrap_pread64(int fd, void *bytes, size_t length, off_t offset) {
    errno = atomic_load(&read_errno);
    return errno ? -1 : __real_pread64(fd, bytes, length, offset);
}

static void test_reads_stay_right_on_a_disk_that_takes_nothing(void **state) {
    struct world *world = *state;
    struct spans_image *image = world_image(world);
    static const int numbers[] = {ENOSPC, EIO, EDQUOT};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        atomic_store(&write_errno, numbers[i]);
        world_read_all(world, image, 1);
    }
    atomic_store(&write_errno, 0);
    world_read_all(world, image, 1);
    unsigned before = atomic_load(&world->tarns[0].ranges);
    world_read_all(world, image, 1);
    assert_true(atomic_load(&world->tarns[0].ranges) <= before + 1);
    spans_image_release(image);
}

static void test_what_the_disk_does_not_give_back_is_fetched_again(void **state) {
    struct world *world = *state;
    struct spans_image *image = world_image(world);
    struct spans_image_state look = {0};
    world_read_all(world, image, 0);
    world_read_all(world, image, 1);
    world_wait((spans_image_look(image, &look), look.state == SPANS_COMPLETE)); /* on the disk */
    unsigned before = atomic_load(&world->tarns[0].ranges);
    atomic_store(&read_errno, EIO);
    world_read_all(world, image, 1);
    atomic_store(&read_errno, 0);
    assert_true(atomic_load(&world->tarns[0].ranges) > before);
    world_read_all(world, image, 1);
    spans_image_release(image);
}

/* ---- memory that runs out ---- */

/* Opens the image and reads of both layers. Whatever fails has said why. */
static void use(struct world *world) {
    struct error error = {0};
    world->spans = spans_open(&world->settings, &error);
    if (!world->spans) {
        assert_int_not_equal(error.kind, ERROR_NONE);
        return;
    }
    struct spans_image *image =
        spans_image_open(world->spans, WORLD_IMAGE, "linux/amd64", NULL, NULL, &error);
    assert_true(image || error.kind != ERROR_NONE);
    for (size_t i = 0; image && i < WORLD_LAYERS; i++) {
        static char bytes[1000];
        memset(bytes, 0x55, sizeof bytes);
        struct error why = {0};
        bool ok = spans_image_read(image, i + 1, 5000, bytes, sizeof bytes, NULL, &why);
        if (ok)
            assert_int_equal(memcmp(bytes, world->layers[i].tar.bytes + 5000, sizeof bytes), 0);
        else
            assert_int_not_equal(why.kind, ERROR_NONE);
    }
    spans_image_release(image);
    world_close(world);
}

/* Fails each allocation with TARN_FAULTS, else the first ones, and then ever fewer. */
static void run_faults(struct world *world) {
    long at = 0;
    bool failed;
    world->settings.wait_ms = 2000;
    do {
        world_serve_apart(world);
        memory_faults_set(at);
        use(world);
        failed = memory_faults_failed();
        memory_faults_set(-1);
        at += getenv("TARN_FAULTS") ? 1 : 1 + at / 16;
    } while (failed);
    assert_true(at > 30); /* so many allocations there are at least */
    world_serve_apart(world);
    struct spans_image *image = world_image(world);
    world_read_all(world, image, 1);
    spans_image_release(image);
}

static void test_memory_may_run_out_at_any_allocation(void **state) {
    run_faults(*state);
}

static void test_memory_may_run_out_while_an_image_is_pulled_whole(void **state) {
    struct world *world = *state;
    strcpy(world->tarns[0].refusal, "small");
    run_faults(world);
}

int main(void) {
#define WORLD(test) cmocka_unit_test_setup_teardown(test, world_set_up, world_tear_down)
    const struct CMUnitTest tests[] = {
        WORLD(test_memory_may_run_out_at_any_allocation),
        WORLD(test_memory_may_run_out_while_an_image_is_pulled_whole),
        WORLD(test_reads_stay_right_on_a_disk_that_takes_nothing),
        WORLD(test_what_the_disk_does_not_give_back_is_fetched_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
