/* Reads of an image's files: right bytes, each fetched once, kept over a restart, and bounded. */
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
#include "spans/world.h"

static void test_reads_give_the_bytes_of_the_archive(void **state) {
    struct world *world = *state;
    struct spans_image *image = world_image(world);
    assert_int_equal(spans_image_files(image), 1 + WORLD_LAYERS);
    for (size_t i = 0; i < WORLD_LAYERS; i++)
        world_read_all(world, image, i);
    spans_image_release(image);
}

static void test_the_first_file_is_the_tree_and_zeros_stand_behind_the_ends(void **state) {
    struct world *world = *state;
    struct spans_image *image = world_image(world);
    struct error error = {0};
    for (size_t file = 0; file <= WORLD_LAYERS; file++) {
        const struct buffer *is = file ? &world->layers[file - 1].tar : &world->tree;
        uint64_t size = spans_image_file_size(image, file);
        assert_true(size >= is->length && size < is->length + 4096 && size % 4096 == 0);
        char *bytes = malloc(size);
        assert_true(spans_image_read(image, file, 0, bytes, size, NULL, &error));
        assert_int_equal(memcmp(bytes, is->bytes, is->length), 0);
        for (size_t i = is->length; i < size; i++)
            assert_int_equal(bytes[i], 0);
        assert_false(spans_image_read(image, file, size - 1, bytes, 2, NULL, &error));
        assert_int_equal(error.kind, ERROR_RANGE);
        free(bytes);
    }
    spans_image_release(image);
}

static void test_only_the_spans_that_are_read_are_fetched(void **state) {
    struct world *world = *state;
    struct spans_image *image = world_image(world);
    struct error error = {0};
    const struct layer_span *span = &world->layers[0].opened.spans[3];
    assert_true(world_read(world, image, 0, span->out + 10, 100, &error));
    assert_true(world_read(world, image, 0, span->out + 1000, 100, &error));
    assert_int_equal(atomic_load(&world->tarns[0].ranges), 1);
    assert_int_equal(atomic_load(&world->tarns[0].sent), span->in_length);
    struct spans_image_state look;
    spans_image_look(image, &look);
    assert_int_equal(look.state, SPANS_STREAMING);
    assert_int_equal(look.waits, 1);
    assert_true(look.first_read >= 0 && look.complete < 0 && look.wait_p50 > 0);
    assert_int_equal(look.bytes, world->layers[0].blob.length + world->layers[1].blob.length);
    assert_true(look.fetched > span->in_length);
    spans_image_release(image);
}

struct reader {
    pthread_t thread;
    struct world *world;
    struct spans_image *image;
    uint64_t offset;
    bool ok;
};

static void *read_one(void *context) {
    struct reader *reader = context;
    reader->ok = world_read(reader->world, reader->image, 0, reader->offset, 5000, NULL);
    return NULL;
}

static void test_many_readers_of_a_span_cost_one_fetch(void **state) {
    struct world *world = *state;
    struct spans_image *image = world_image(world);
    struct reader readers[16];
    atomic_store(&world->tarns[0].hold, 1);
    for (size_t i = 0; i < 16; i++) {
        readers[i] = (struct reader){
            .world = world, .image = image, .offset = world_span(world, 0, 2) + i * 7000};
        pthread_create(&readers[i].thread, NULL, read_one, &readers[i]);
    }
    world_wait(atomic_load(&world->tarns[0].ranges) > 0);
    usleep(50000); /* a second request would come now */
    atomic_store(&world->tarns[0].hold, 0);
    for (size_t i = 0; i < 16; i++) {
        pthread_join(readers[i].thread, NULL);
        assert_true(readers[i].ok);
    }
    assert_int_equal(atomic_load(&world->tarns[0].ranges), 1);
    spans_image_release(image);
}

static void test_another_process_reads_without_a_network(void **state) {
    struct world *world = *state;
    struct spans_image *image = world_image(world);
    struct error error = {0};
    for (size_t i = 0; i < WORLD_LAYERS; i++)
        world_read_all(world, image, i);
    const struct digest digest = *spans_image_digest(image);
    spans_image_release(image);
    atomic_store(&world->tarns[0].is_out, true);
    world_open(world);
    unsigned before = atomic_load(&world->tarns[0].ranges);
    image = spans_image_restore(world->spans, &digest, WORLD_IMAGE, NULL, &error);
    assert_string_equal(error.text, "");
    assert_non_null(image);
    for (size_t i = 0; i < WORLD_LAYERS; i++)
        world_read_all(world, image, i);
    assert_int_equal(atomic_load(&world->tarns[0].ranges), before);
    spans_image_release(image);
}

static void test_an_image_named_by_its_digest_opens_without_a_network(void **state) {
    struct world *world = *state;
    struct error error = {0};
    char name[300], digest[DIGEST_STRING_SIZE];
    snprintf(name, sizeof name, "fake.test/org/app@%s", digest_format(&world->digest, digest));
    struct spans_image *image = world_image(world);
    world_read_all(world, image, 1);
    spans_image_release(image);
    world_open(world);
    atomic_store(&world->tarns[0].is_out, true);
    image = spans_image_open(world->spans, name, NULL, NULL, NULL, &error);
    assert_string_equal(error.text, "");
    assert_non_null(image);
    world_read_all(world, image, 1);
    spans_image_release(image);
    assert_null(spans_image_open(world->spans, WORLD_IMAGE, NULL, NULL, NULL, &error));
    assert_int_equal(error.kind, ERROR_UNAVAILABLE);
}

/* The image named by its digest, and the chain IDs of its layers. */
static void name_layers(const struct world *world, char image[static 256],
                        struct digest chains[static 2]) {
    char digest[DIGEST_STRING_SIZE], low[DIGEST_STRING_SIZE], high[DIGEST_STRING_SIZE];
    char both[2 * DIGEST_STRING_SIZE];
    snprintf(image, 256, "fake.test/org/app@%s", digest_format(&world->digest, digest));
    chains[0] = world->layers[0].diff_id;
    snprintf(both, sizeof both, "%s %s", digest_format(&world->layers[0].diff_id, low),
             digest_format(&world->layers[1].diff_id, high));
    assert_true(digest_of(DIGEST_SHA256, both, strlen(both), &chains[1]));
}

static void test_the_lowest_layers_are_found_by_their_chain_id(void **state) {
    struct world *world = *state;
    struct digest chains[2];
    char image[256];
    size_t layers = 0;
    bool is_whole = true;
    struct error error = {0};
    name_layers(world, image, chains);
    world_open(world);
    assert_true(
        spans_image_find(world->spans, image, &chains[0], NULL, &layers, &is_whole, &error));
    assert_int_equal(layers, 1);
    assert_false(is_whole);
    /* What was found once is known without a network. */
    atomic_store(&world->tarns[0].is_out, true);
    world_open(world);
    assert_true(
        spans_image_find(world->spans, image, &chains[0], NULL, &layers, &is_whole, &error));
    atomic_store(&world->tarns[0].is_out, false);
    assert_true(
        spans_image_find(world->spans, image, &chains[1], NULL, &layers, &is_whole, &error));
    assert_int_equal(layers, 2);
    assert_true(is_whole);
    assert_false(
        spans_image_find(world->spans, image, &world->digest, NULL, &layers, &is_whole, &error));
    assert_int_equal(error.kind, ERROR_NOT_FOUND);
    assert_int_equal(atomic_load(&world->tarns[0].ranges), 0);
}

static void test_nothing_of_an_image_that_cannot_stream_is_found_or_pulled(void **state) {
    struct world *world = *state;
    struct digest chains[2];
    char image[256];
    size_t layers = 0;
    bool is_whole;
    struct error error = {0};
    name_layers(world, image, chains);
    strcpy(world->tarns[0].refusal, "small");
    world_open(world);
    assert_false(
        spans_image_find(world->spans, image, &chains[0], NULL, &layers, &is_whole, &error));
    assert_false(spans_image_find(world->spans, WORLD_IMAGE, &chains[0], NULL, &layers, &is_whole,
                                  &error)); /* a tag may change */
    assert_null(spans_image_open_lowest(world->spans, image, 1, NULL, &error));
    assert_int_equal(atomic_load(&world->tarns[0].ranges), 0);
}

static void test_the_lowest_layers_open_as_an_image_of_their_own(void **state) {
    struct world *world = *state;
    struct digest chains[2];
    char name[256];
    struct error error = {0};
    name_layers(world, name, chains);
    world_open(world);
    struct spans_image *image = spans_image_open_lowest(world->spans, name, 1, NULL, &error);
    assert_string_equal(error.text, "");
    assert_int_equal(spans_image_files(image), 2);
    assert_true(digest_equal(spans_image_digest(image), &chains[0]));
    world_read_all(world, image, 0);
    struct spans_image *again = spans_image_open_lowest(world->spans, name, 1, NULL, &error);
    assert_ptr_equal(again, image);
    spans_image_release(again);
    spans_image_release(image);
    assert_null(spans_image_open_lowest(world->spans, name, 3, NULL, &error));
    assert_int_equal(error.kind, ERROR_NOT_FOUND);
    image = spans_image_open_lowest(world->spans, name, 2, NULL, &error);
    assert_true(digest_equal(spans_image_digest(image), &world->digest));
    assert_int_equal(spans_image_files(image), 3);
    spans_image_release(image);
    atomic_store(&world->tarns[0].is_out, true);
    world_open(world);
    image = spans_image_restore(world->spans, &chains[0], name, NULL, &error);
    assert_non_null(image);
    world_read_all(world, image, 0);
    spans_image_release(image);
}

static void test_what_the_root_does_not_have_is_not_restored(void **state) {
    struct world *world = *state;
    struct error error = {0};
    world_open(world);
    assert_null(spans_image_restore(world->spans, &world->digest, WORLD_IMAGE, NULL, &error));
    assert_int_equal(error.kind, ERROR_NOT_FOUND);
    assert_int_equal(world->tarns[0].server->count, 0);
}

static void test_the_disk_stays_within_its_limit_and_reads_stay_right(void **state) {
    struct world *world = *state;
    world->settings.cache_size = 8 << 20;
    struct spans_image *image = world_image(world);
    for (unsigned round = 0; round < 2; round++)
        for (size_t i = 0; i < WORLD_LAYERS; i++) {
            world_read_all(world, image, i);
            assert_true(world_disk(world) <= (8 << 20) + (1 << 20));
        }
    spans_image_release(image);
}

int main(void) {
#define WORLD(test) cmocka_unit_test_setup_teardown(test, world_set_up, world_tear_down)
    const struct CMUnitTest tests[] = {
        WORLD(test_reads_give_the_bytes_of_the_archive),
        WORLD(test_the_first_file_is_the_tree_and_zeros_stand_behind_the_ends),
        WORLD(test_only_the_spans_that_are_read_are_fetched),
        WORLD(test_many_readers_of_a_span_cost_one_fetch),
        WORLD(test_another_process_reads_without_a_network),
        WORLD(test_an_image_named_by_its_digest_opens_without_a_network),
        WORLD(test_the_lowest_layers_are_found_by_their_chain_id),
        WORLD(test_nothing_of_an_image_that_cannot_stream_is_found_or_pulled),
        WORLD(test_the_lowest_layers_open_as_an_image_of_their_own),
        WORLD(test_what_the_root_does_not_have_is_not_restored),
        WORLD(test_the_disk_stays_within_its_limit_and_reads_stay_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
