/* Whole images: in the background, pulled at once when they cannot stream, and by what an earlier
 * start has read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "spans/world.h"

static struct spans_image_state look(struct spans_image *image) {
    struct spans_image_state state;
    spans_image_look(image, &state);
    return state;
}

static void test_the_rest_comes_in_the_background_and_is_verified(void **state) {
    struct world *world = *state;
    struct error error = {0};
    world->settings.background = UINT64_C(1) << 30;
    struct spans_image *image = world_image(world);
    const struct digest digest = *spans_image_digest(image);
    world_wait(look(image).state == SPANS_COMPLETE);
    world_wait(look(image).complete >= 0);
    spans_image_release(image);
    atomic_store(&world->tarns[0].is_out, true);
    world_open(world);
    image = spans_image_restore(world->spans, &digest, WORLD_IMAGE, NULL, &error);
    assert_non_null(image);
    assert_int_equal(look(image).state, SPANS_COMPLETE);
    world_read_all(world, image, 0);
    world_read_all(world, image, 1);
    spans_image_release(image);
}

static void test_the_background_keeps_to_its_rate(void **state) {
    struct world *world = *state;
    world->settings.background = 1 << 20;
    struct spans_image *image = world_image(world);
    world_wait(atomic_load(&world->tarns[0].sent) > 0);
    uint64_t before = atomic_load(&world->tarns[0].sent);
    sleep(2);
    /* Twice a second's bytes, and one request that began before. */
    assert_true(atomic_load(&world->tarns[0].sent) - before <= (2 << 20) + (3 << 20));
    spans_image_release(image);
}

static void test_without_background_nothing_is_fetched_that_nobody_reads(void **state) {
    struct world *world = *state;
    struct spans_image *image = world_image(world);
    sleep(3);
    assert_int_equal(atomic_load(&world->tarns[0].ranges), 0);
    spans_image_release(image);
}

static void test_reading_everything_completes_an_image_without_background(void **state) {
    struct world *world = *state;
    struct spans_image *image = world_image(world);
    for (size_t i = 0; i < WORLD_LAYERS; i++)
        world_read_all(world, image, i);
    world_wait(look(image).state == SPANS_COMPLETE);
    spans_image_release(image);
}

static void test_an_index_that_lies_is_found_by_the_diff_id(void **state) {
    struct world *world = *state;
    /* All says that the layer has this diff ID, but the bytes of its spans are others. */
    struct world_layer *layer = &world->layers[1], was = *layer;
    struct buffer index = {0};
    struct error error = {0};
    struct layer_span span = {.kind = SPAN_PLAIN};
    struct layer_spans spans = {.list = &span, .count = 1};
    struct layer_facts facts = layer->opened.facts;
    struct tree *tree = layer_index_tree(&layer->opened, &error);
    span.in_length = span.out_length = (uint32_t)facts.tar_size;
    facts.blob_size = facts.tar_size;
    struct buffer blob = {0};
    buffer_append(&blob, layer->tar.bytes, layer->tar.length);
    blob.bytes[1000] ^= 1;
    struct digest digest;
    digest_of(DIGEST_SHA256, blob.bytes, blob.length, &digest);
    memcpy(span.sha256, digest.bytes, 32);
    assert_true(layer_index_write(&facts, &spans, tree, &index, &error));
    tree_free(tree);
    layer->index = index;
    layer->blob = blob;
    struct spans_image *image = world_image(world);
    world_read_all(world, image, 0);
    char bytes[10];
    assert_true(spans_image_read(image, 2, 0, bytes, sizeof bytes, NULL, &error));
    world_wait(look(image).state == SPANS_BAD);
    assert_false(spans_image_read(image, 2, 0, bytes, sizeof bytes, NULL, &error));
    assert_int_equal(error.kind, ERROR_CORRUPT);
    assert_true(world_read(world, image, 0, 0, 100, &error));
    spans_image_release(image);
    /* The next opening asks for everything again. */
    layer->index = was.index;
    layer->blob = was.blob;
    image = world_image(world);
    world_read_all(world, image, 1);
    spans_image_release(image);
    buffer_finish(&index);
    buffer_finish(&blob);
}

static void test_what_cannot_stream_is_pulled_whole(void **state) {
    struct world *world = *state;
    struct error error = {0};
    strcpy(world->tarns[0].refusal, "small");
    struct spans_image *image = world_image(world);
    assert_string_equal(spans_image_whole_reason(image), "small");
    assert_int_equal(look(image).state, SPANS_WHOLE);
    assert_int_equal(atomic_load(&world->tarns[0].ranges), WORLD_LAYERS);
    char *bytes = malloc(world->tree.length);
    assert_true(spans_image_read(image, 0, 0, bytes, world->tree.length, NULL, &error));
    assert_int_equal(memcmp(bytes, world->tree.bytes, world->tree.length), 0);
    free(bytes);
    for (size_t i = 0; i < WORLD_LAYERS; i++)
        world_read_all(world, image, i);
    const struct digest digest = *spans_image_digest(image);
    spans_image_release(image);
    atomic_store(&world->tarns[0].is_out, true);
    world_open(world);
    image = spans_image_restore(world->spans, &digest, WORLD_IMAGE, NULL, &error);
    assert_non_null(image);
    assert_string_equal(spans_image_whole_reason(image), "small");
    world_read_all(world, image, 0);
    spans_image_release(image);
}

static void test_a_whole_layer_that_is_cut_goes_on_where_it_was(void **state) {
    struct world *world = *state;
    world->from[1] = world->tarns[1].url;
    strcpy(world->tarns[0].refusal, "off");
    strcpy(world->tarns[1].refusal, "off");
    world_open(world);
    atomic_store(&world->tarns[0].mood, WORLD_CUT);
    struct spans_image *image = world_image(world);
    world_read_all(world, image, 0);
    world_read_all(world, image, 1);
    spans_image_release(image);
}

static void test_a_whole_layer_with_wrong_bytes_is_refused(void **state) {
    struct world *world = *state;
    struct error error = {0};
    strcpy(world->tarns[0].refusal, "small");
    atomic_store(&world->tarns[0].mood, WORLD_WRONG);
    world_open(world);
    assert_null(spans_image_open(world->spans, WORLD_IMAGE, NULL, NULL, NULL, &error));
    assert_true(error.kind == ERROR_CORRUPT || error.kind == ERROR_INVALID);
    assert_null(spans_image_restore(world->spans, &world->digest, WORLD_IMAGE, NULL, &error));
}

static void test_a_start_is_recorded_and_fetched_ahead_by_the_next(void **state) {
    struct world *world = *state;
    struct error error = {0};
    world->settings.trace = true;
    struct spans_image *image = world_image(world);
    assert_false(look(image).traced);
    assert_true(world_read(world, image, 0, world_span(world, 0, 4), 100, &error));
    assert_true(world_read(world, image, 0, world_span(world, 0, 1), 100, &error));
    assert_true(world_read(world, image, 1, 0, 100, &error));
    spans_image_release(image);
    world_wait(atomic_load(&world->tarns[0].posts) == 1);
    world_close(world);
    world->root[strlen(world->root) - 1] = '_'; /* another node */
    unsigned before = atomic_load(&world->tarns[0].ranges);
    image = world_image(world);
    assert_true(look(image).traced);
    world_wait(atomic_load(&world->tarns[0].ranges) == before + 3);
    atomic_store(&world->tarns[0].mood, WORLD_REFUSES);
    atomic_store(&world->tarns[0].status, 503);
    world_wait(look(image).fetched > world->layers[1].blob.length / 2);
    usleep(300000);
    assert_true(world_read(world, image, 0, world_span(world, 0, 4), 100, &error));
    assert_true(world_read(world, image, 0, world_span(world, 0, 1), 100, &error));
    assert_true(world_read(world, image, 1, 0, 100, &error));
    assert_int_equal(look(image).waits, 0);
    spans_image_release(image);
}

static void test_a_trace_is_posted_when_the_start_is_over(void **state) {
    struct world *world = *state;
    struct error error = {0};
    world->settings.trace = true;
    world->settings.trace_time_ms = 300;
    struct spans_image *image = world_image(world);
    assert_true(world_read(world, image, 0, 0, 100, &error));
    world_wait(atomic_load(&world->tarns[0].posts) == 1);
    spans_image_release(image);
    assert_non_null(strstr(world->tarns[0].trace, "\"offset\":0,"));
}

static void test_a_trace_is_posted_also_when_all_is_closed_at_once(void **state) {
    struct world *world = *state;
    struct error error = {0};
    world->settings.trace = true;
    struct spans_image *image = world_image(world);
    assert_true(world_read(world, image, 0, 0, 100, &error));
    spans_image_release(image);
    world_close(world);
    assert_int_equal(atomic_load(&world->tarns[0].posts), 1);
}

int main(void) {
#define WORLD(test) cmocka_unit_test_setup_teardown(test, world_set_up, world_tear_down)
    const struct CMUnitTest tests[] = {
        WORLD(test_the_rest_comes_in_the_background_and_is_verified),
        WORLD(test_the_background_keeps_to_its_rate),
        WORLD(test_without_background_nothing_is_fetched_that_nobody_reads),
        WORLD(test_reading_everything_completes_an_image_without_background),
        WORLD(test_an_index_that_lies_is_found_by_the_diff_id),
        WORLD(test_what_cannot_stream_is_pulled_whole),
        WORLD(test_a_whole_layer_that_is_cut_goes_on_where_it_was),
        WORLD(test_a_whole_layer_with_wrong_bytes_is_refused),
        WORLD(test_a_start_is_recorded_and_fetched_ahead_by_the_next),
        WORLD(test_a_trace_is_posted_when_the_start_is_over),
        WORLD(test_a_trace_is_posted_also_when_all_is_closed_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
