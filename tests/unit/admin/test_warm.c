/* Warming an image through a cache, by one caller and by several at once. Also run under
 * ThreadSanitizer. */
#include "admin/image_world.h"
#include "admin/warm.h"

/* ---- a caller ---- */

/* Warms the image and gathers what is reported of its two parts. */
struct caller {
    struct image_world *image;
    struct warmer *warmer;
    bool (*is_wanted)(void *context); /* the context is the world */
    /* What it got: */
    bool ok;
    struct warm_result result;
    struct error error;
    struct warm_part manifest, layer; /* as last reported; without `error` */
    bool layer_has_error;
    unsigned layer_reports;
};

static void take_part(void *context, const struct warm_part *part) {
    struct caller *caller = context;
    bool is_layer = strcmp(part->role, "layer") == 0;
    assert_true(is_layer || strcmp(part->role, "manifest") == 0);
    struct warm_part *last = is_layer ? &caller->layer : &caller->manifest;
    *last = *part;
    last->error = NULL;
    if (is_layer) {
        caller->layer_reports++;
        caller->layer_has_error = part->error != NULL;
    }
}

static bool is_wanted(void *context) {
    const struct caller *caller = context;
    return !caller->is_wanted || caller->is_wanted(caller->image->world);
}

static void *call(void *argument) {
    struct caller *caller = argument;
    const struct warm_request request = {
        .image = IMAGE, .on_part = take_part, .is_wanted = is_wanted, .context = caller};
    caller->ok = warm_image(caller->warmer, &request, &caller->result, &caller->error);
    return NULL;
}

static struct warmer warmer_of(struct image_world *image) {
    return (struct warmer){.cache = image->world->cache, .upstreams = &image->upstreams};
}

static void assert_warmed(const struct caller *caller) {
    const struct image_world *image = caller->image;
    assert_string_equal(caller->error.text, "");
    assert_true(caller->ok);
    assert_int_equal(caller->manifest.state, WARM_CACHED);
    assert_int_equal(caller->manifest.bytes, image->size - WORLD_BLOB_SIZE);
    assert_true(digest_equal(&caller->manifest.digest, &image->world->upstream.manifest_digest));
    assert_int_equal(caller->layer.state, WARM_CACHED);
    assert_int_equal(caller->layer.bytes, WORLD_BLOB_SIZE);
    assert_int_equal(caller->layer.size, WORLD_BLOB_SIZE);
    assert_true(digest_equal(&caller->layer.digest, &image->world->digest));
    assert_true(caller->layer_reports >= 2); /* when it became known, and when it was cached */
    assert_int_equal(caller->result.bytes_fetched + caller->result.bytes_cached, image->size);
}

/* ---- tests ---- */

static void test_an_image_is_brought_in_once(void **state) {
    struct image_world *image = *state;
    struct warmer warmer = warmer_of(image);
    struct caller first = {.image = image, .warmer = &warmer};
    call(&first);
    assert_warmed(&first);
    assert_false(first.manifest.was_cached);
    assert_false(first.layer.was_cached);
    assert_int_equal(first.result.bytes_fetched, image->size);
    assert_true(world_has_blob_soon(image->world));

    struct caller second = {.image = image, .warmer = &warmer};
    call(&second);
    assert_warmed(&second);
    assert_true(second.manifest.was_cached);
    assert_true(second.layer.was_cached);
    assert_int_equal(second.result.bytes_cached, image->size);
    assert_int_equal(image->world->upstream.gets, 1);
    assert_int_equal(image->world->upstream.blob_bytes, WORLD_BLOB_SIZE);
}

static void test_four_callers_cause_one_transfer(void **state) {
    struct image_world *image = *state;
    struct upstream *upstream = &image->world->upstream;
    struct warmer warmer = warmer_of(image);
    struct caller callers[4];
    pthread_t threads[4];
    upstream->hold = true;
    for (int i = 0; i < 4; i++) {
        callers[i] = (struct caller){.image = image, .warmer = &warmer};
        assert_int_equal(pthread_create(&threads[i], NULL, call, &callers[i]), 0);
    }
    wait_until(world_readers(image->world) == 4);
    upstream->hold = false;
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 4; i++) {
        assert_warmed(&callers[i]);
        assert_false(callers[i].layer.was_cached);
    }
    assert_int_equal(upstream->gets, 1);
    assert_int_equal(upstream->blob_bytes, WORLD_BLOB_SIZE);
}

static void test_progress_is_reported(void **state) {
    struct image_world *image = *state;
    struct warmer warmer = warmer_of(image);
    struct caller caller = {.image = image, .warmer = &warmer};
    image->world->upstream.pause_ms = 4; /* 96 steps for each of four connections */
    call(&caller);
    assert_warmed(&caller);
    assert_true(caller.layer_reports >= 3);
}

static void test_a_failed_blob_is_reported(void **state) {
    struct image_world *image = *state;
    struct warmer warmer = warmer_of(image);
    struct caller caller = {.image = image, .warmer = &warmer};
    image->world->upstream.wrong_bytes = true;
    call(&caller);
    assert_false(caller.ok);
    assert_int_equal(caller.error.kind, ERROR_CORRUPT);
    assert_int_equal(caller.manifest.state, WARM_CACHED);
    assert_int_equal(caller.layer.state, WARM_FAILED);
    assert_true(caller.layer_has_error);
    assert_false(world_has_blob(image->world));
}

static bool is_never_wanted(void *context) {
    (void)context;
    return false;
}

static void test_what_nobody_wants_is_not_begun(void **state) {
    struct image_world *image = *state;
    struct warmer warmer = warmer_of(image);
    struct caller caller = {.image = image, .warmer = &warmer, .is_wanted = is_never_wanted};
    call(&caller);
    assert_false(caller.ok);
    assert_int_equal(caller.error.kind, ERROR_CLOSED);
    assert_int_equal(image->world->upstream.gets, 0);
}

static bool is_wanted_before_the_blob(void *context) {
    const struct world *world = context;
    return world->upstream.blob_bytes == 0;
}

static void test_the_transfer_goes_on_when_its_caller_leaves(void **state) {
    struct image_world *image = *state;
    struct warmer warmer = warmer_of(image);
    struct caller caller = {
        .image = image, .warmer = &warmer, .is_wanted = is_wanted_before_the_blob};
    image->world->upstream.pause_ms = 20; /* the transfer takes 2 s */
    call(&caller);
    assert_false(caller.ok);
    assert_int_equal(caller.error.kind, ERROR_CLOSED);
    assert_int_equal(caller.layer.state, WARM_FETCHING);
    wait_until(world_has_blob(image->world));
}

static void test_stopping_ends_a_call(void **state) {
    struct image_world *image = *state;
    struct warmer warmer = warmer_of(image);
    struct caller caller = {.image = image, .warmer = &warmer};
    pthread_t thread;
    image->world->upstream.pause_ms = 20;
    assert_int_equal(pthread_create(&thread, NULL, call, &caller), 0);
    wait_until(image->world->upstream.blob_bytes > 0);
    atomic_store(&warmer.stopping, true);
    pthread_join(thread, NULL);
    assert_false(caller.ok);
    assert_int_equal(caller.error.kind, ERROR_CLOSED);
}

int main(void) {
    log_configure(LOG_ERROR + 1, LOG_TEXT);
    const struct CMUnitTest tests[] = {
        image_test(test_an_image_is_brought_in_once),
        image_test(test_four_callers_cause_one_transfer),
        image_test(test_progress_is_reported),
        image_test(test_a_failed_blob_is_reported),
        image_test(test_what_nobody_wants_is_not_begun),
        image_test(test_the_transfer_goes_on_when_its_caller_leaves),
        image_test(test_stopping_ends_a_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
