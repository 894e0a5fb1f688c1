/* Sources that give wrong bytes, none, or not in time: reads wait, go on elsewhere, or fail, and
 * never give other bytes than those of the image. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "spans/world.h"

/* Also asks the second tarn. */
static void use_both(struct world *world) {
    world->from[1] = world->tarns[1].url;
}

static void test_a_span_that_is_wrong_everywhere_fails_alone_and_is_asked_for_again(void **state) {
    struct world *world = *state;
    struct spans_image *image = world_image(world);
    struct error error = {0};
    const struct layer_span *span = &world->layers[0].opened.spans[2];
    atomic_store(&world->tarns[0].wrong_from, span->in + span->in_length / 2);
    atomic_store(&world->tarns[0].mood, WORLD_WRONG);
    int64_t began_ms = clock_ms();
    assert_false(world_read(world, image, 0, span->out + 5, 10, &error));
    assert_int_equal(error.kind, ERROR_CORRUPT);
    assert_true(clock_ms() - began_ms < 10000);
    assert_true(world_read(world, image, 0, world_span(world, 0, 1), 10, &error));
    assert_true(world_read(world, image, 0, world_span(world, 0, 4), 10, &error));
    unsigned before = atomic_load(&world->tarns[0].ranges);
    assert_false(world_read(world, image, 0, span->out + 5, 10, &error));
    assert_true(atomic_load(&world->tarns[0].ranges) > before);
    atomic_store(&world->tarns[0].mood, WORLD_GOOD);
    assert_true(world_read(world, image, 0, span->out + 5, 10, &error));
    spans_image_release(image);
}

static void test_a_wrong_span_comes_from_the_next_source(void **state) {
    struct world *world = *state;
    use_both(world);
    struct spans_image *image = world_image(world);
    atomic_store(&world->tarns[0].mood, WORLD_WRONG);
    for (size_t i = 0; i < WORLD_LAYERS; i++)
        world_read_all(world, image, i);
    assert_true(atomic_load(&world->tarns[1].ranges) > 0);
    spans_image_release(image);
}

/* What a source does while it does not answer. */
static const struct fault {
    enum world_mood mood;
    int status;
} faults[] = {
    {WORLD_REFUSES, 401}, {WORLD_REFUSES, 403}, {WORLD_REFUSES, 404}, {WORLD_REFUSES, 410},
    {WORLD_REFUSES, 416}, {WORLD_REFUSES, 429}, {WORLD_REFUSES, 500}, {WORLD_REFUSES, 502},
    {WORLD_REFUSES, 503}, {WORLD_REFUSES, 504}, {WORLD_CUT, 0},       {WORLD_WHOLE, 0},
    {WORLD_SHORT, 0},
};

/* Spans in an order in which nothing is fetched ahead of a read. */
static const size_t apart[WORLD_SPANS] = {0, 2, 4, 1, 3, 5};

static void fail_with(struct world_tarn *tarn, const struct fault *fault) {
    atomic_store(&tarn->status, fault->status);
    atomic_store(&tarn->mood, (int)fault->mood);
}

static void test_a_source_that_fails_is_passed_over(void **state) {
    struct world *world = *state;
    use_both(world);
    struct spans_image *image = world_image(world);
    struct error error = {0};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        fail_with(&world->tarns[0], &faults[i]);
        size_t span = apart[i % WORLD_SPANS];
        if (span == 0 && i) { /* all are here: another root */
            spans_image_release(image);
            world_close(world);
            char *end = world->root + strlen(world->root) - 1;
            *end = (char)('a' + i);
            fail_with(&world->tarns[0], &(struct fault){WORLD_GOOD, 0});
            image = world_image(world);
            fail_with(&world->tarns[0], &faults[i]);
        }
        if (!world_read(world, image, 0, world_span(world, 0, span), 100, &error))
            fail_msg("status %d, mood %d: %s", faults[i].status, faults[i].mood, error.text);
    }
    assert_true(atomic_load(&world->tarns[1].ranges) >= sizeof faults / sizeof *faults);
    spans_image_release(image);
}

struct waiting {
    pthread_t thread;
    struct world *world;
    struct spans_image *image;
    uint64_t offset;
    atomic_bool ended;
    bool ok;
    struct error error;
    atomic_bool stop;
};

static void *wait_for_bytes(void *context) {
    struct waiting *waiting = context;
    char bytes[100];
    waiting->ok = spans_image_read(waiting->image, 1, waiting->offset, bytes, sizeof bytes,
                                   &waiting->stop, &waiting->error);
    if (waiting->ok)
        waiting->ok =
            memcmp(bytes, waiting->world->layers[0].tar.bytes + waiting->offset, sizeof bytes) == 0;
    atomic_store(&waiting->ended, true);
    return NULL;
}

static void begin_waiting(struct waiting *waiting, struct world *world, struct spans_image *image,
                          size_t span) {
    *waiting =
        (struct waiting){.world = world, .image = image, .offset = world_span(world, 0, span) + 3};
    pthread_create(&waiting->thread, NULL, wait_for_bytes, waiting);
}

static void test_reads_wait_while_no_source_answers_and_then_go_on(void **state) {
    struct world *world = *state;
    struct spans_image *image = world_image(world);
    for (size_t i = 0; i < 6; i++) {
        struct waiting waiting;
        static const size_t chosen[] = {0, 2, 5, 8, 10, 11}; /* of the faults */
        unsigned before = atomic_load(&world->tarns[0].ranges);
        fail_with(&world->tarns[0], &faults[chosen[i]]);
        begin_waiting(&waiting, world, image, apart[i]);
        world_wait(atomic_load(&world->tarns[0].ranges) >= before + 2);
        assert_false(atomic_load(&waiting.ended));
        atomic_store(&world->tarns[0].mood, WORLD_GOOD);
        pthread_join(waiting.thread, NULL);
        assert_string_equal(waiting.error.text, "");
        assert_true(waiting.ok);
    }
    spans_image_release(image);
}

static void test_reads_fail_when_the_wait_is_over(void **state) {
    struct world *world = *state;
    world->settings.wait_ms = 700;
    struct spans_image *image = world_image(world);
    struct error error = {0};
    static const struct fault *const chosen[] = {&faults[0], &faults[5], &faults[8]};
    for (size_t i = 0; i < 3; i++) {
        fail_with(&world->tarns[0], chosen[i]);
        int64_t began_ms = clock_ms();
        assert_false(world_read(world, image, 0, 0, 100, &error));
        assert_int_equal(error.kind, ERROR_TIMEOUT);
        assert_true(clock_ms() - began_ms >= 700);
    }
    atomic_store(&world->tarns[0].is_out, true);
    assert_false(world_read(world, image, 0, 0, 100, &error));
    assert_int_equal(error.kind, ERROR_TIMEOUT);
    atomic_store(&world->tarns[0].is_out, false);
    atomic_store(&world->tarns[0].mood, WORLD_GOOD);
    assert_true(world_read(world, image, 0, 0, 100, &error));
    spans_image_release(image);
}

static void test_a_silent_source_is_given_up_and_asked_again(void **state) {
    struct world *world = *state;
    use_both(world);
    struct spans_image *image = world_image(world);
    struct error error = {0};
    atomic_store(&world->tarns[0].mood, WORLD_SILENT);
    int64_t began_ms = clock_ms();
    assert_true(world_read(world, image, 0, 0, 100, &error));
    int64_t took_ms = clock_ms() - began_ms;
    assert_true(took_ms >= 4500 && took_ms < 9000);
    /* It is asked last for a while, so that not every span waits for it. */
    began_ms = clock_ms();
    assert_true(world_read(world, image, 0, world_span(world, 0, 3), 100, &error));
    assert_true(clock_ms() - began_ms < 2500);
    spans_image_release(image);
}

static void test_a_reader_that_is_stopped_leaves_at_once(void **state) {
    struct world *world = *state;
    struct spans_image *image = world_image(world);
    struct waiting waiting;
    atomic_store(&world->tarns[0].hold, 1);
    begin_waiting(&waiting, world, image, 0);
    world_wait(atomic_load(&world->tarns[0].ranges) == 1);
    int64_t began_ms = clock_ms();
    atomic_store(&waiting.stop, true);
    pthread_join(waiting.thread, NULL);
    assert_false(waiting.ok);
    assert_int_equal(waiting.error.kind, ERROR_CLOSED);
    assert_true(clock_ms() - began_ms < 2000);
    atomic_store(&world->tarns[0].hold, 0);
    spans_image_release(image);
}

static void test_closing_ends_while_a_source_is_silent(void **state) {
    struct world *world = *state;
    struct spans_image *image = world_image(world);
    struct waiting waiting;
    atomic_store(&world->tarns[0].mood, WORLD_SILENT);
    begin_waiting(&waiting, world, image, 0);
    world_wait(atomic_load(&world->tarns[0].ranges) == 1);
    atomic_store(&waiting.stop, true);
    pthread_join(waiting.thread, NULL);
    spans_image_release(image);
    int64_t began_ms = clock_ms();
    world_close(world);
    assert_true(clock_ms() - began_ms < 5000);
}

static void test_an_image_is_opened_from_the_tarn_that_answers(void **state) {
    struct world *world = *state;
    use_both(world);
    atomic_store(&world->tarns[0].is_out, true);
    struct spans_image *image = world_image(world);
    world_read_all(world, image, 1);
    spans_image_release(image);
}

static void test_trees_come_from_no_other_machine_in_the_clear(void **state) {
    struct world *world = *state;
    struct error error = {0};
    world->from[0] = "http://tarn.example:5000";
    assert_null(spans_open(&world->settings, &error));
    assert_int_equal(error.kind, ERROR_INVALID);
    world->from[0] = world->tarns[0].url;
    world_open(world);
    assert_null(spans_image_open(world->spans, WORLD_IMAGE, NULL, "http://10.1.2.3", NULL, &error));
    assert_int_equal(error.kind, ERROR_INVALID);
}

static void test_damage_on_the_disk_is_fetched_anew(void **state) {
    struct world *world = *state;
    struct spans_image *image = world_image(world);
    world_read_all(world, image, 0);
    spans_image_release(image);
    world_close(world);
    char command[400], digest[DIGEST_STRING_SIZE];
    digest_format(&world->layers[0].digest, digest);
    snprintf(
        command, sizeof command,
        "printf broken | dd of=%s/layers/sha256-%s/spans conv=notrunc bs=1 seek=100 2>/dev/null",
        world->root, digest + 7);
    assert_int_equal(system(command), 0);
    unsigned before = atomic_load(&world->tarns[0].ranges);
    image = world_image(world);
    world_read_all(world, image, 0);
    assert_int_equal(atomic_load(&world->tarns[0].ranges), before + 1);
    spans_image_release(image);
}

int main(void) {
#define WORLD(test) cmocka_unit_test_setup_teardown(test, world_set_up, world_tear_down)
    const struct CMUnitTest tests[] = {
        WORLD(test_a_span_that_is_wrong_everywhere_fails_alone_and_is_asked_for_again),
        WORLD(test_a_wrong_span_comes_from_the_next_source),
        WORLD(test_a_source_that_fails_is_passed_over),
        WORLD(test_reads_wait_while_no_source_answers_and_then_go_on),
        WORLD(test_reads_fail_when_the_wait_is_over),
        WORLD(test_a_silent_source_is_given_up_and_asked_again),
        WORLD(test_a_reader_that_is_stopped_leaves_at_once),
        WORLD(test_closing_ends_while_a_source_is_silent),
        WORLD(test_an_image_is_opened_from_the_tarn_that_answers),
        WORLD(test_trees_come_from_no_other_machine_in_the_clear),
        WORLD(test_damage_on_the_disk_is_fetched_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
