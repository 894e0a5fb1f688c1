/* Who hashes the next bytes of a blob under way, step by step. Also run under ThreadSanitizer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include "base/clock.h"
#include "cache/flight/flight_private.h"

enum { PIECE = 1000 };

static atomic_bool gate; /* while it is set, no hash makes progress */

void __real_digest_hash_update(struct digest_hash *hash, const void *from, size_t length);
void __wrap_digest_hash_update(struct digest_hash *hash, const void *from, size_t length);
void __wrap_digest_hash_update(struct digest_hash *hash, const void *from, size_t length) {
    while (gate)
        clock_sleep_ms(1);
    __real_digest_hash_update(hash, from, length);
}

/* A fetcher has written the bytes from `start` on: as record_piece() of fetch.c. */
static void record(struct flight *flight, uint64_t start) {
    lock_acquire(&flight->state_lock);
    assert_true(body_record(&flight->body, -1, start, start + PIECE));
    hashing_claim(&flight->hashing, &flight->body, start);
    lock_release(&flight->state_lock);
}

/* … and lets them be hashed. */
static bool hash_written(struct flight *flight, uint64_t start, char *buffer, bool more_waits) {
    static const char zeros[PIECE];
    struct portion portion = {buffer, buffer ? buffer : zeros, start, start + PIECE};
    lock_acquire(&flight->state_lock);
    bool handed = flight_hash_written(flight, &portion, more_waits);
    lock_release(&flight->state_lock);
    return handed;
}

static void *hash_first_piece(void *argument) {
    hash_written(argument, 0, NULL, false);
    return NULL;
}

static bool is_busy(struct flight *flight) {
    lock_acquire(&flight->state_lock);
    bool busy = flight->hashing.busy;
    lock_release(&flight->state_lock);
    return busy;
}

/* One fetcher hashes the first piece. Meanwhile another one hands the second piece over and claims
 * the third. If the first fetcher took that claim away at its end, the driver would read the third
 * piece back, and both would hash it. */
static void test_a_claim_is_not_lost_when_an_earlier_turn_ends(void **state) {
    (void)state;
    static struct flights flights;
    struct flight *flight = calloc(1, sizeof *flight);
    struct error error = {0};
    pthread_t thread;
    char *buffer = calloc(1, FLIGHT_BUFFER);
    assert_non_null(flight);
    assert_non_null(buffer);
    flight->flights = &flights;
    flight->state = FLIGHT_MOVING;
    lock_init(&flight->state_lock);
    condition_init(&flight->changed);
    condition_init(&flight->driven);
    body_init(&flight->body, &flights.held);
    hashing_init(&flight->hashing);
    flight->hashing.hash = digest_hash_new(DIGEST_SHA256);
    assert_non_null(flight->hashing.hash);

    gate = true;
    record(flight, 0);
    assert_int_equal(pthread_create(&thread, NULL, hash_first_piece, flight), 0);
    while (!is_busy(flight))
        clock_sleep_ms(1);
    record(flight, PIECE);
    assert_true(hash_written(flight, PIECE, buffer, true));
    record(flight, 2 * PIECE);
    gate = false;
    pthread_join(thread, NULL);

    lock_acquire(&flight->state_lock);
    assert_true(flight_hash_next(flight, &error)); /* the driver takes what was handed over */
    assert_int_equal(flight->body.hashed, 2 * PIECE);
    assert_true(hashing_is_taken(&flight->hashing, &flight->body));
    lock_release(&flight->state_lock);
    hash_written(flight, 2 * PIECE, NULL, false);
    assert_int_equal(flight->body.hashed, 3 * PIECE);

    hashing_finish(&flight->hashing);
    body_finish(&flight->body);
    condition_finish(&flight->changed);
    condition_finish(&flight->driven);
    lock_finish(&flight->state_lock);
    free(flight);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_claim_is_not_lost_when_an_earlier_turn_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
