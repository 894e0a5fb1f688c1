/* The limits of cache/: which blobs are evicted, which stay, and which pass through because they
 * cannot be kept. Also run under ThreadSanitizer. */
#include "cache_world.h"

#include "base/metric.h"
#include "store/blobs.h"
#include "store/records.h"
#include "store/usage.h"

enum { BLOB_SIZE = WORLD_BLOB_SIZE };

static bool is_scanned(struct world *world) {
    struct store_usage usage;
    store_usage(world->store, &usage);
    return usage.complete;
}

/* Starts the upkeep and waits until all blobs are known. */
static void start_upkeep(struct world *world) {
    struct error error = {0};
    assert_true(upkeep_start(world->upkeep, &error));
    wait_until(is_scanned(world));
}

static struct digest put(struct world *world, unsigned seed, size_t length) {
    struct digest digest;
    unsigned char *bytes = malloc(length);
    struct error error = {0};
    memset(bytes, (int)seed, length);
    assert_true(digest_of(DIGEST_SHA256, bytes, length, &digest));
    assert_true(store_blob_put(world->store, &digest, bytes, length, &error));
    free(bytes);
    return digest;
}

static bool has(struct world *world, const struct digest *digest) {
    uint64_t size;
    return store_blob_has(world->store, digest, &size);
}

static uint64_t stored_bytes(struct world *world) {
    struct store_usage usage;
    store_usage(world->store, &usage);
    return usage.bytes;
}

/* ---- space ---- */

static void test_the_least_recently_used_blob_is_evicted_for_a_new_one(void **state) {
    struct world *world = *state;
    world_reopen(world, BLOB_SIZE + (5 << 20));
    start_upkeep(world);
    struct digest first = put(world, 1, 2 << 20), second = put(world, 2, 2 << 20),
                  third = put(world, 3, 2 << 20);
    store_blob_touch(world->store, &first); /* used again: the second is the oldest now */
    struct client client = world_read_whole(world);
    assert_whole(&client);
    assert_true(world_has_blob_soon(world));
    assert_false(has(world, &second));
    assert_true(has(world, &first));
    assert_true(has(world, &third));
    assert_true(stored_bytes(world) <= world->max_size);
}

/* Reads the blob once more. True: it was kept. (A client that comes while the first transfer is
 * ending shares the bytes that this transfer holds in memory, and then nothing is kept.) */
static bool reads_and_keeps(struct world *world) {
    struct client client = world_read_whole(world);
    assert_whole(&client);
    return world_has_blob(world);
}

static void test_a_blob_being_read_is_not_evicted(void **state) {
    struct world *world = *state;
    uint64_t size;
    world_reopen(world, BLOB_SIZE + (1 << 20));
    start_upkeep(world);
    struct digest other = put(world, 1, 2 << 20);
    int fd = store_blob_open(world->store, &other, &size, NULL);
    assert_true(fd >= 0);
    struct client client =
        world_read_whole(world); /* no space for it while the other blob is open */
    assert_whole(&client);
    assert_true(has(world, &other));
    store_blob_close(world->store, &other, fd);
    assert_false(world_has_blob(world));
    wait_until(reads_and_keeps(world));
    assert_false(has(world, &other));
}

static bool is_degraded(void) {
    return metric_value(metric_get(METRIC_GAUGE, "tarn_store_degraded", "", "")) == 1;
}

static void test_a_cache_full_of_evictable_blobs_is_not_degraded(void **state) {
    struct world *world = *state;
    const struct reference tag = {.tag = "v1"};
    struct cache_result result;
    struct error error = {0};
    uint64_t size;
    world_reopen(world, BLOB_SIZE + (1 << 20));
    start_upkeep(world);
    struct digest other = put(world, 1, 2 << 20);
    int fd = store_blob_open(world->store, &other, &size, NULL);
    struct client client = world_read_whole(world);
    assert_whole(&client);
    assert_true(is_degraded());
    store_blob_close(world->store, &other, fd);
    /* The manifest is kept. The blob that was not kept would have space now, because the other blob
     * may be evicted. */
    assert_true(cache_manifest(world->cache, CALLER(fake_repository(&world->upstream, "app")), &tag,
                               false, &result, &error));
    document_release(result.document);
    cache_settle(world->cache);
    assert_true(has(world, &other));
    assert_false(is_degraded());
}

static void test_pinned_blobs_stay_and_new_ones_pass_through(void **state) {
    static const char *const pins[] = {"fake.test/keep", NULL};
    struct world *world = *state;
    struct error error = {0};
    world_close(world);
    world->pin = pins;
    world->max_size = BLOB_SIZE + (1 << 20);
    world_open(world);
    struct digest kept = put(world, 1, 2 << 20);
    assert_true(store_link_blob(world->store, &fake_repository(&world->upstream, "keep")->name,
                                &kept, &error));
    start_upkeep(world);
    struct store_blob blob;
    wait_until(store_blob_find(world->store, &kept, &blob) && blob.pinned);
    struct client client = world_read_whole(world);
    assert_whole(&client);
    assert_true(has(world, &kept));
    assert_false(world_has_blob(world));
}

static void test_over_the_limit_after_a_restart_is_brought_under_it(void **state) {
    struct world *world = *state;
    for (unsigned i = 0; i < 10; i++)
        put(world, i, 1 << 20);
    world_reopen(world, (4 << 20) + (256 << 10)); /* the directories count as well */
    start_upkeep(world);
    wait_until(stored_bytes(world) <= world->max_size);
    assert_int_equal(stored_bytes(world), 4 << 20);
}

/* ---- passing through ---- */

static void test_a_blob_larger_than_the_cache_passes_through(void **state) {
    struct world *world = *state;
    struct client clients[4];
    pthread_t threads[4];
    world_reopen(world, 8 << 20);
    start_upkeep(world);
    struct digest other = put(world, 1, 1 << 20);
    for (int i = 0; i < 4; i++) {
        clients[i] = (struct client){.world = world};
        pthread_create(&threads[i], NULL, client_read, &clients[i]);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 4; i++)
        assert_whole(&clients[i]);
    assert_false(world_has_blob(world));
    assert_true(has(world, &other)); /* nothing is evicted for a blob that cannot be kept */
}

static void test_ranges_of_a_blob_that_passes_through(void **state) {
    struct world *world = *state;
    world_reopen(world, 8 << 20);
    for (int i = 0; i < 3; i++) {
        struct client client = {.world = world,
                                .range = range_of((uint64_t)i * (7 << 20) + 5, 3 << 20)};
        client_read(&client);
        assert_string_equal(client.error.text, "");
        assert_true(client.complete && client.right);
    }
    /* Only the ranges are fetched, and the bytes that were on their way when each range ended. */
    assert_true(world->upstream.blob_bytes < 3 * (8 << 20));
}

static void test_wrong_bytes_that_pass_through_never_reach_a_client_whole(void **state) {
    struct world *world = *state;
    world_reopen(world, 8 << 20);
    world->upstream.wrong_bytes = true;
    struct client client = world_read_whole(world);
    assert_false(client.complete);
    assert_true(client.got < BLOB_SIZE);
    assert_int_equal(client.error.kind, ERROR_CORRUPT);
}

static void test_passing_through_survives_cuts_with_and_without_ranges(void **state) {
    struct world *world = *state;
    world_reopen(world, 8 << 20);
    for (int i = 0; i < 2; i++) {
        world->upstream.no_ranges = i == 1;
        world->upstream.cuts = 2;
        struct client client = world_read_whole(world);
        assert_whole(&client);
    }
}

static void test_an_unknown_length_passes_through(void **state) {
    struct world *world = *state;
    world_reopen(world, 8 << 20);
    world->upstream.no_ranges = true;
    world->upstream.no_length = true;
    struct client client = world_read_whole(world);
    assert_whole(&client);
    assert_false(world_has_blob(world));
}

static void
test_a_slow_reader_slows_a_blob_that_passes_through_and_holds_little_memory(void **state) {
    struct world *world = *state;
    struct cache_blob blob;
    struct error error = {0};
    const struct blob_range range = {.kind = BLOB_WHOLE};
    uint64_t end;
    unsigned char byte;
    world_reopen(world, 8 << 20);
    assert_true(cache_blob_open(world->cache, CALLER(fake_repository(&world->upstream, "app")),
                                &world->digest, &range, &blob, &error));
    cache_blob_want(&blob, 0, blob.size, true);
    assert_true(cache_blob_wait(&blob, 0, &end, NULL, &error));
    for (uint64_t before = UINT64_MAX; before != world->upstream.blob_bytes;) {
        before = world->upstream.blob_bytes;
        clock_sleep_ms(300); /* there is no event for "nothing arrives any more" */
    }
    assert_true(world->upstream.blob_bytes < BLOB_SIZE); /* the upstream waits for the reader */
    for (uint64_t at = 0; at < BLOB_SIZE; at = end) {
        assert_true(cache_blob_wait(&blob, at, &end, NULL, &error));
        assert_int_equal(pread(blob.fd, &byte, 1, (off_t)at), 1);
        assert_int_equal(byte, world->blob[at]);
    }
    cache_blob_close(&blob);
}

static void test_a_transfer_that_passes_through_ends_with_its_last_reader(void **state) {
    struct world *world = *state;
    struct cache_blob blob;
    struct error error = {0};
    const struct blob_range range = {.kind = BLOB_WHOLE};
    uint64_t end;
    world_reopen(world, 8 << 20);
    world->upstream.pause_ms = 1;
    assert_true(cache_blob_open(world->cache, CALLER(fake_repository(&world->upstream, "app")),
                                &world->digest, &range, &blob, &error));
    cache_blob_want(&blob, 0, blob.size, true);
    assert_true(cache_blob_wait(&blob, 0, &end, NULL, &error));
    cache_blob_close(&blob);
    wait_until(!world_has_flight(world));
    assert_true(world->upstream.blob_bytes < BLOB_SIZE);
}

int main(void) {
    log_configure(LOG_ERROR + 1, LOG_TEXT);
    const struct CMUnitTest tests[] = {
        world_test(test_the_least_recently_used_blob_is_evicted_for_a_new_one),
        world_test(test_a_blob_being_read_is_not_evicted),
        world_test(test_a_cache_full_of_evictable_blobs_is_not_degraded),
        world_test(test_pinned_blobs_stay_and_new_ones_pass_through),
        world_test(test_over_the_limit_after_a_restart_is_brought_under_it),
        world_test(test_a_blob_larger_than_the_cache_passes_through),
        world_test(test_ranges_of_a_blob_that_passes_through),
        world_test(test_wrong_bytes_that_pass_through_never_reach_a_client_whole),
        world_test(test_passing_through_survives_cuts_with_and_without_ranges),
        world_test(test_an_unknown_length_passes_through),
        world_test(test_a_slow_reader_slows_a_blob_that_passes_through_and_holds_little_memory),
        world_test(test_a_transfer_that_passes_through_ends_with_its_last_reader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
