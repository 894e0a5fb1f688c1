/*
 * The hashing of a blob under way: in order, each byte once, by one thread at a time, and without
 * reading back what arrives in order. Also run under ThreadSanitizer.
 */
#include "base/file.h"
#include "cache/flight/flight_private.h"
#include "cache_world.h"

enum { BLOB_SIZE = WORLD_BLOB_SIZE, MIB = 1 << 20 };

/* ---- what the flight does ---- */

static _Atomic uint64_t bytes_read, bytes_written, bytes_hashed;
static _Atomic uint64_t writable;  /* writes beyond so many bytes fail */
static atomic_uint hashing;        /* threads that hash now */
static _Atomic bool hashed_wrong;  /* two at once, or bytes that were not next, or not written */
static atomic_int pause_ms;        /* how much longer each hash takes */
static _Atomic bool hold_hash;     /* while set, no hash ends */
static atomic_int late_ms;         /* how late threads wake up */
static const unsigned char *bytes; /* of the blob; NULL: other hashes are being made */

bool __real_file_read_all_at(int fd, void *out, size_t length, uint64_t offset,
                             struct error *error);
bool __wrap_file_read_all_at(int fd, void *out, size_t length, uint64_t offset,
                             struct error *error);
bool __wrap_file_read_all_at(int fd, void *out, size_t length, uint64_t offset,
                             struct error *error) {
    bytes_read += length;
    return __real_file_read_all_at(fd, out, length, offset, error);
}

bool __real_file_write_all_at(int fd, const void *from, size_t length, uint64_t offset,
                              struct error *error);
bool __wrap_file_write_all_at(int fd, const void *from, size_t length, uint64_t offset,
                              struct error *error);
bool __wrap_file_write_all_at(int fd, const void *from, size_t length, uint64_t offset,
                              struct error *error) {
    if (bytes_written + length > writable)
        return error_set(error, ERROR_IO, "the test's disk fails");
    if (!__real_file_write_all_at(fd, from, length, offset, error))
        return false;
    bytes_written += length;
    return true;
}

void __real_digest_hash_update(struct digest_hash *hash, const void *from, size_t length);
void __wrap_digest_hash_update(struct digest_hash *hash, const void *from, size_t length);
void __wrap_digest_hash_update(struct digest_hash *hash, const void *from, size_t length) {
    if (bytes) {
        bool is_next = bytes_hashed + length <= bytes_written &&
                       memcmp(from, bytes + bytes_hashed, length) == 0;
        if (atomic_fetch_add(&hashing, 1) > 0 || !is_next)
            hashed_wrong = true;
    }
    __real_digest_hash_update(hash, from, length);
    if (pause_ms)
        clock_sleep_ms(pause_ms);
    while (hold_hash)
        clock_sleep_ms(1);
    if (bytes) {
        bytes_hashed += length;
        hashing--;
    }
}

void __real_condition_wait(struct condition *condition, struct lock *lock) REQUIRES(*lock);
void __wrap_condition_wait(struct condition *condition, struct lock *lock) REQUIRES(*lock);
void __wrap_condition_wait(struct condition *condition, struct lock *lock) {
    __real_condition_wait(condition, lock);
    if (late_ms) {
        lock_release(lock);
        clock_sleep_ms(late_ms);
        lock_acquire(lock);
    }
}

static int set_up(void **state) {
    bytes = NULL;
    writable = UINT64_MAX;
    world_set_up(state);
    struct world *world = *state;
    bytes_read = bytes_written = bytes_hashed = 0;
    hashed_wrong = false;
    pause_ms = late_ms = 0;
    hold_hash = false;
    bytes = world->blob;
    return 0;
}

static int tear_down(void **state) {
    world_tear_down(state);
    return 0;
}

static void assert_hashed_whole(struct world *world) {
    assert_true(world_has_blob_soon(world));
    assert_false(hashed_wrong);
    assert_int_equal(bytes_hashed, BLOB_SIZE);
}

/* ---- in order ---- */

static void test_bytes_that_come_singly_are_hashed_without_reading_them_back(void **state) {
    struct world *world = *state;
    world->upstream.settings.connections = 1;
    world->upstream.pace = 50000; /* after each of them upstream is idle */
    struct client client = world_read_whole(world);
    assert_whole(&client);
    assert_hashed_whole(world);
    assert_int_equal(bytes_read, 0);
}

static void test_bytes_that_come_at_once_are_hashed_without_reading_them_back(void **state) {
    struct world *world = *state;
    world->upstream.no_ranges = true;
    world->upstream.pace = 3 * MIB;
    struct client client = world_read_whole(world);
    assert_whole(&client);
    assert_hashed_whole(world);
    assert_int_equal(bytes_read, 0);
}

static void test_a_stream_of_unknown_length_is_not_read_back(void **state) {
    struct world *world = *state;
    world->upstream.no_ranges = world->upstream.no_length = true;
    world->upstream.pace = MIB + 1;
    struct client client = world_read_whole(world);
    assert_whole(&client);
    assert_hashed_whole(world);
    assert_int_equal(bytes_read, 0);
}

static void test_a_sha512_digest_is_checked_as_well(void **state) {
    struct world *world = *state;
    bytes = NULL;
    assert_true(digest_of(DIGEST_SHA512, world->blob, BLOB_SIZE, &world->digest));
    bytes = world->blob;
    struct client client = world_read_whole(world);
    assert_whole(&client);
    assert_hashed_whole(world);
}

/* ---- out of order ---- */

static void test_bytes_before_their_turn_are_read_back_once_it_comes(void **state) {
    struct world *world = *state;
    world->upstream.settings.connections = 1;
    struct client client = {.world = world, .range = range_of(10 * MIB, 4 * MIB)};
    client_read(&client);
    assert_true(client.complete && client.right);
    struct client whole = world_read_whole(world);
    assert_whole(&whole);
    assert_hashed_whole(world);
    assert_true(bytes_read >= 4 * MIB);
}

static void test_a_range_does_not_wait_for_the_hash_of_all_before_it(void **state) {
    struct world *world = *state;
    world->upstream.no_ranges = true;
    world->upstream.pace = 3 * MIB;
    pause_ms = 50; /* 5 s for the whole blob */
    struct client client = {.world = world, .range = range_of(20 * MIB, MIB)};
    client_read(&client);
    assert_true(client.complete && client.right);
    assert_true(bytes_hashed < 10 * MIB);
    pause_ms = 0;
    assert_hashed_whole(world);
}

static void test_fetchers_that_meet_hash_each_byte_once(void **state) {
    struct world *world = *state;
    static const uint64_t paces[] = {10000, 64 << 10, MIB};
    world->upstream.settings.connections = 8;
    for (size_t i = 0; i < sizeof paces / sizeof *paces; i++) {
        world->upstream.pace = paces[i];
        world->upstream.cuts = 4; /* so that spans also end in the middle of a write */
        struct client clients[2] = {
            {.world = world},
            {.world = world, .range = range_of(20 * MIB, MIB)},
        };
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, client_read, &clients[1]), 0);
        client_read(&clients[0]);
        pthread_join(thread, NULL);
        assert_whole(&clients[0]);
        assert_true(clients[1].complete && clients[1].right);
        assert_hashed_whole(world);
        world_close(world);
        world_empty(world);
        world_open(world);
        bytes_written = bytes_hashed = 0;
    }
}

static void *write_first_bytes(void *argument) {
    struct flight *flight = argument;
    struct portion portion = {.bytes = (const char *)bytes, .end = 10};
    lock_acquire(&flight->state_lock);
    extents_add(&flight->body.present, 0, 10);
    hashing_claim(&flight->hashing, &flight->body, 0);
    flight_hash_written(flight, &portion, false);
    lock_release(&flight->state_lock);
    return NULL;
}

static void test_the_end_of_a_turn_leaves_what_another_fetcher_claimed(void **state) {
    struct world *world = *state;
    static struct flights flights;
    struct flight *flight = calloc(1, sizeof *flight);
    pthread_t thread;
    assert_non_null(flight);
    flight->flights = &flights;
    lock_init(&flight->state_lock);
    condition_init(&flight->changed);
    condition_init(&flight->driven);
    body_init(&flight->body, &flights.held);
    hashing_init(&flight->hashing);
    flight->hashing.hash = digest_hash_new(DIGEST_SHA256);
    bytes_written = 20;
    hold_hash = true;
    assert_int_equal(pthread_create(&thread, NULL, write_first_bytes, flight), 0);
    wait_until(hashing > 0);
    lock_acquire(&flight->state_lock);
    assert_true(extents_add(&flight->body.present, 10, 20));
    hashing_claim(&flight->hashing, &flight->body, 10);
    lock_release(&flight->state_lock);
    hold_hash = false;
    pthread_join(thread, NULL);
    lock_acquire(&flight->state_lock);
    assert_int_equal(flight->body.hashed, 10);
    assert_true(hashing_is_taken(&flight->hashing, &flight->body)); /* the driver must wait */
    struct portion portion = {.bytes = (const char *)world->blob + 10, .start = 10, .end = 20};
    assert_false(flight_hash_written(flight, &portion, false));
    assert_int_equal(flight->body.hashed, 20);
    lock_release(&flight->state_lock);
    assert_false(hashed_wrong);
    hashing_finish(&flight->hashing);
    body_finish(&flight->body);
    lock_finish(&flight->state_lock);
    condition_finish(&flight->changed);
    condition_finish(&flight->driven);
    free(flight);
}

/* A fetcher that hashes its last bytes, the one that brings the next, and the driver, in whatever
 * order they wake up. */
static void test_threads_that_wake_up_late_hash_nothing_twice(void **state) {
    struct world *world = *state;
    world->upstream.settings.connections = 8;
    world->upstream.pace = MIB;
    pause_ms = 1;
    late_ms = 4;
    struct client client = world_read_whole(world);
    assert_whole(&client);
    assert_hashed_whole(world);
}

/* ---- faults ---- */

static void test_bytes_that_could_not_be_written_are_neither_sent_nor_hashed(void **state) {
    struct world *world = *state;
    world->upstream.no_ranges = true;
    world->upstream.pace = MIB;
    writable = 5 * MIB + 1000;
    struct client client = world_read_whole(world);
    assert_false(client.complete);
    assert_true(client.right ||
                !client.opened); /* the flight may fail before the client opens it */
    assert_int_equal(client.error.kind, ERROR_IO);
    assert_true(client.got <= writable);
    assert_true(bytes_hashed <= writable);
    assert_false(hashed_wrong);
    writable = UINT64_MAX;
}

static void test_wrong_bytes_in_a_buffer_that_was_handed_over_reach_nobody_whole(void **state) {
    struct world *world = *state;
    bytes = NULL;
    world->upstream.wrong_first = true;
    world->upstream.no_ranges = true;
    world->upstream.pace = MIB;
    struct client client = world_read_whole(world);
    assert_false(client.complete);
    assert_true(client.got < BLOB_SIZE);
    assert_int_equal(client.error.kind, ERROR_CORRUPT);
    assert_false(world_has_blob(world));
}

#define hashing_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    log_configure(LOG_ERROR + 1, LOG_TEXT);
    const struct CMUnitTest tests[] = {
        hashing_test(test_bytes_that_come_singly_are_hashed_without_reading_them_back),
        hashing_test(test_bytes_that_come_at_once_are_hashed_without_reading_them_back),
        hashing_test(test_a_stream_of_unknown_length_is_not_read_back),
        hashing_test(test_a_sha512_digest_is_checked_as_well),
        hashing_test(test_bytes_before_their_turn_are_read_back_once_it_comes),
        hashing_test(test_a_range_does_not_wait_for_the_hash_of_all_before_it),
        hashing_test(test_fetchers_that_meet_hash_each_byte_once),
        hashing_test(test_the_end_of_a_turn_leaves_what_another_fetcher_claimed),
        hashing_test(test_threads_that_wake_up_late_hash_nothing_twice),
        hashing_test(test_bytes_that_could_not_be_written_are_neither_sent_nor_hashed),
        hashing_test(test_wrong_bytes_in_a_buffer_that_was_handed_over_reach_nobody_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
