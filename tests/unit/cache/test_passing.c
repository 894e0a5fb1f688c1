/* Blobs that pass through because they cannot be kept, with several readers of different speeds:
 * regression tests for faults that were found. Also run under ThreadSanitizer. */
#include "cache_world.h"

#include <sys/wait.h>
#include "cache/cache_private.h"
#include "cache/flight/flight_private.h"
#include "store/blobs.h"
#include "store/partials.h"
#include "store/usage.h"

enum { MIB = 1 << 20, BLOB_SIZE = 100 * MIB, CACHE_SIZE = 8 * MIB };

/* ---- readers that all join the same transfer ---- */

struct follower {
    struct world *world;
    struct blob_range range;
    struct cache_blob blob;
    uint64_t at, end;
    int pause_ms;
    bool opened, right;
    struct error error;
    _Atomic uint64_t got; /* the same as `at`, for other threads to read */
    atomic_bool done;
};

static void *open_follower(void *argument) {
    struct follower *follower = argument;
    struct world *world = follower->world;
    follower->opened =
        cache_blob_open(world->cache, CALLER(fake_repository(&world->upstream, "app")),
                        &world->digest, &follower->range, &follower->blob, &follower->error);
    return NULL;
}

static void open_all(struct world *world, struct follower *followers, int count) {
    pthread_t threads[8];
    world->upstream.hold = true;
    for (int i = 0; i < count; i++) {
        followers[i].world = world;
        followers[i].right = true;
        pthread_create(&threads[i], NULL, open_follower, &followers[i]);
        wait_until(world_readers(world) == (unsigned)i + 1);
    }
    world->upstream.hold = false;
    for (int i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
        assert_true(followers[i].opened);
    }
}

static void want(struct follower *follower, uint64_t first, uint64_t end, bool whole) {
    follower->at = first;
    follower->got = first;
    follower->end = end;
    cache_blob_want(&follower->blob, first, end, whole);
}

static void *read_on(void *argument) {
    struct follower *follower = argument;
    unsigned char *bytes = malloc(MIB);
    uint64_t upto;
    while (follower->at < follower->end &&
           cache_blob_wait(&follower->blob, follower->at, &upto, NULL, &follower->error) &&
           upto > follower->at) {
        upto = upto < follower->end ? upto : follower->end;
        uint64_t step = upto - follower->at < MIB ? upto - follower->at : MIB;
        ssize_t length = pread(follower->blob.fd, bytes, step, (off_t)follower->at);
        if (length <= 0)
            break;
        follower->right &= memcmp(bytes, follower->world->blob + follower->at, (size_t)length) == 0;
        follower->at += (uint64_t)length;
        follower->got = follower->at;
        if (follower->pause_ms)
            clock_sleep_ms(follower->pause_ms);
    }
    follower->done = true;
    free(bytes);
    return NULL;
}

static void assert_had_all(const struct follower *follower) {
    assert_string_equal(follower->error.text, "");
    assert_int_equal(follower->at, follower->end);
    assert_true(follower->right);
}

/* ---- the tests ---- */

static void test_parallel_ranges_all_get_theirs(void **state) {
    struct world *world = *state;
    struct follower followers[4] = {0};
    pthread_t threads[4];
    const uint64_t part = 25 * MIB;
    world_reopen(world, CACHE_SIZE);
    for (uint64_t i = 0; i < 4; i++)
        followers[i].range = (struct blob_range){
            .kind = BLOB_FROM_TO, .first = i * part, .last = (i + 1) * part - 1};
    open_all(world, followers, 4);
    for (uint64_t i = 0; i < 4; i++) {
        followers[i].pause_ms = i == 3 ? 60 : 5;
        want(&followers[i], i * part, (i + 1) * part, false);
    }
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, read_on, &followers[i]);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 4; i++)
        assert_had_all(&followers[i]);
    assert_false(
        space_is_unreadable(&world->cache->upkeep->space)); /* nothing is wrong with the disk */
    for (int i = 0; i < 4; i++)
        cache_blob_close(&followers[i].blob);
}

static void test_a_reader_that_stands_still_stops_no_other_range(void **state) {
    struct world *world = *state;
    struct follower followers[2] = {0};
    uint64_t end;
    world_reopen(world, CACHE_SIZE);
    followers[0].range =
        (struct blob_range){.kind = BLOB_FROM_TO, .first = 0, .last = 60 * MIB - 1};
    followers[1].range =
        (struct blob_range){.kind = BLOB_FROM_TO, .first = 70 * MIB, .last = 90 * MIB - 1};
    open_all(world, followers, 2);
    want(&followers[0], 0, 60 * MIB, false);
    assert_true(cache_blob_wait(&followers[0].blob, 0, &end, NULL, &followers[0].error));
    wait_until(atomic_load(&world->cache->flights->held) >
               15 * MIB); /* as much as a flight may hold for it */
    want(&followers[1], 70 * MIB, 90 * MIB, false);
    read_on(&followers[1]);
    assert_had_all(&followers[1]);
    cache_blob_close(&followers[0].blob);
    cache_blob_close(&followers[1].blob);
}

/* A slow reader that falls behind goes on in another transfer. It may have the last bytes only if
 * the first transfer turns out right as well. */
static void slow_and_fast(struct world *world, struct follower *slow, struct follower *fast) {
    pthread_t thread;
    struct follower followers[2] = {0};
    open_all(world, followers, 2);
    *slow = followers[0];
    *fast = followers[1];
    want(slow, 0, BLOB_SIZE, true);
    slow->end = MIB;
    read_on(slow);
    want(fast, 0, BLOB_SIZE, true);
    fast->pause_ms = 5;
    pthread_create(&thread, NULL, read_on, fast);
    wait_until(fast->got >= 80 * MIB || fast->done);
    world->upstream.wrong_first = false;
    slow->end = BLOB_SIZE;
    read_on(slow);
    pthread_join(thread, NULL);
    cache_blob_close(&slow->blob);
    cache_blob_close(&fast->blob);
}

static void test_a_reader_that_falls_behind_gets_the_blob_from_another_transfer(void **state) {
    struct world *world = *state;
    struct follower slow, fast;
    world_reopen(world, CACHE_SIZE);
    slow_and_fast(world, &slow, &fast);
    assert_had_all(&fast);
    assert_had_all(&slow);
}

static void
test_a_reader_that_falls_behind_gets_no_whole_body_if_the_first_part_was_wrong(void **state) {
    struct world *world = *state;
    struct follower slow, fast;
    world_reopen(world, CACHE_SIZE);
    world->upstream.wrong_first = true;
    slow_and_fast(world, &slow, &fast);
    assert_false(slow.right); /* it got the wrong byte */
    assert_true(slow.at < BLOB_SIZE);
    assert_true(fast.at < BLOB_SIZE);
}

static void test_a_reader_that_has_not_said_what_it_wants_holds_no_memory(void **state) {
    struct world *world = *state;
    struct follower followers[2] = {0};
    pthread_t thread;
    int64_t most = 0;
    world_reopen(world, CACHE_SIZE);
    open_all(world, followers, 2);
    want(&followers[1], 0, BLOB_SIZE, true);
    pthread_create(&thread, NULL, read_on, &followers[1]);
    while (!followers[1].done) {
        int64_t held = world->cache->flights->held;
        most = held > most ? held : most;
        clock_sleep_ms(1);
    }
    pthread_join(thread, NULL);
    assert_had_all(&followers[1]);
    assert_true(most <= 66 * MIB);
    cache_blob_close(&followers[0].blob);
    cache_blob_close(&followers[1].blob);
}

static void test_a_stream_cut_after_dropped_bytes_leaves_no_hole(void **state) {
    struct world *world = *state;
    world_reopen(world, CACHE_SIZE);
    world->upstream.no_ranges = true;
    world->upstream.cuts = 1;
    world->upstream.cut_at = 9000 * 4096; /* at the end of a page */
    world->upstream.pace = 100000;
    struct client client = world_read_whole(world);
    assert_whole(&client);
}

static void test_a_blob_that_readers_still_read_is_not_evicted(void **state) {
    struct world *world = *state;
    struct follower reader[1] = {0};
    struct store_blob evicted;
    open_all(world, reader, 1);
    want(reader, 0, BLOB_SIZE, true);
    struct client client = world_read_whole(world);
    assert_whole(&client);
    assert_true(world_has_blob_soon(world));
    assert_true(cache_blob_settle(&reader->blob, &reader->error)); /* the flight has ended */
    assert_false(store_evict(world->store, INT64_MAX, &evicted, NULL));
    read_on(reader);
    assert_had_all(reader);
    cache_blob_close(&reader->blob);
    assert_true(store_evict(world->store, INT64_MAX, &evicted, NULL));
}

static void test_bytes_of_a_killed_process_are_no_part_of_a_blob_of_unknown_size(void **state) {
    struct world *world = *state;
    uint64_t size;
    int status;
    world_close(world);
    pid_t child = fork();
    if (child == 0) {
        struct store *store = store_open(world->root, NULL);
        struct partial *partial = store ? store_partial_open(store, &world->digest, NULL) : NULL;
        bool ok = partial && ftruncate(partial_fd(partial), BLOB_SIZE + 10 * MIB) == 0;
        _exit(ok ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    world_open(world);
    world->upstream.no_ranges = world->upstream.no_length = true;
    struct client client = world_read_whole(world);
    assert_whole(&client);
    assert_true(world_has_blob_soon(world));
    assert_true(store_blob_has(world->store, &world->digest, &size));
    assert_int_equal(size, BLOB_SIZE);
}

static void test_a_blob_that_was_shortened_meanwhile_is_no_hit(void **state) {
    struct world *world = *state;
    char hex[DIGEST_STRING_SIZE], path[256];
    uint64_t size;
    struct client client = world_read_whole(world);
    assert_whole(&client);
    assert_true(world_has_blob_soon(world));
    world_close(world); /* after the driver has settled the link */
    digest_format(&world->digest, hex);
    snprintf(path, sizeof path, "%s/blobs/sha256/%.2s/%s", world->root, hex + 7, hex + 7);
    assert_int_equal(truncate(path, BLOB_SIZE - 5), 0);
    world_open(world);
    enum cache_outcome outcome;
    struct error error = {0};
    assert_true(cache_blob_stat(world->cache, CALLER(fake_repository(&world->upstream, "app")),
                                &world->digest, &size, &outcome, &error));
    assert_int_equal(size, BLOB_SIZE);
    client = world_read_whole(world);
    assert_whole(&client);
    assert_int_equal(client.outcome, CACHE_MISS);
}

static int set_up(void **state) {
    struct world *world = world_new("/tmp", BLOB_SIZE);
    world_open(world);
    *state = world;
    return 0;
}

#define large_world_test(name) cmocka_unit_test_setup_teardown(name, set_up, world_tear_down)

int main(void) {
    log_configure(LOG_ERROR + 1, LOG_TEXT);
    const struct CMUnitTest tests[] = {
        large_world_test(test_parallel_ranges_all_get_theirs),
        large_world_test(test_a_reader_that_stands_still_stops_no_other_range),
        large_world_test(test_a_reader_that_falls_behind_gets_the_blob_from_another_transfer),
        large_world_test(
            test_a_reader_that_falls_behind_gets_no_whole_body_if_the_first_part_was_wrong),
        large_world_test(test_a_reader_that_has_not_said_what_it_wants_holds_no_memory),
        large_world_test(test_a_stream_cut_after_dropped_bytes_leaves_no_hole),
        large_world_test(test_a_blob_that_readers_still_read_is_not_evicted),
        large_world_test(test_bytes_of_a_killed_process_are_no_part_of_a_blob_of_unknown_size),
        large_world_test(test_a_blob_that_was_shortened_meanwhile_is_no_hit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
