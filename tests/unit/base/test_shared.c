/* A value that is exchanged while threads read it. Also run under ThreadSanitizer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include "base/shared.h"

enum { READERS = 4, EXCHANGES = 2000 };

struct number {
    struct shared_value value; /* the first member */
    int at, copy;              /* equal, until the value is freed */
};

static int freed;

static struct shared_value *number_new(int at) {
    struct number *number = calloc(1, sizeof *number);
    assert_non_null(number);
    number->at = number->copy = at;
    return &number->value;
}

static void number_free(struct shared_value *value) {
    struct number *number = (struct number *)value;
    number->at = -1;
    freed++;
    free(number);
}

static void test_a_held_value_outlives_its_exchange(void **state) {
    (void)state;
    struct shared shared;
    freed = 0;
    shared_init(&shared, number_new(1));
    struct shared_value *first = shared_hold(&shared), *again = shared_hold(&shared);
    assert_ptr_equal(first, again);
    shared_exchange(&shared, number_new(2));
    shared_exchange(&shared, number_new(3));
    shared_sweep(&shared, number_free);
    assert_int_equal(freed, 1); /* the second one, which nobody held */
    assert_int_equal(((struct number *)first)->at, 1);
    struct shared_value *now = shared_hold(&shared);
    assert_int_equal(((struct number *)now)->at, 3);
    shared_release(first);
    shared_sweep(&shared, number_free);
    assert_int_equal(freed, 1);
    shared_release(again);
    shared_sweep(&shared, number_free);
    assert_int_equal(freed, 2);
    shared_release(now);
    shared_finish(&shared, number_free);
    assert_int_equal(freed, 3);
}

struct reading {
    struct shared *shared;
    atomic_bool *ends;
    bool torn, backwards;
};

static void *read_on(void *argument) {
    struct reading *reading = argument;
    int last = 0;
    while (!atomic_load(reading->ends)) {
        struct number *number = (struct number *)shared_hold(reading->shared);
        reading->torn = reading->torn || number->at != number->copy;
        reading->backwards = reading->backwards || number->at < last;
        last = number->at;
        shared_release(&number->value);
    }
    return NULL;
}

static void test_readers_see_whole_values_and_never_an_earlier_one(void **state) {
    (void)state;
    struct shared shared;
    atomic_bool ends = false;
    pthread_t threads[READERS];
    struct reading readings[READERS];
    freed = 0;
    shared_init(&shared, number_new(0));
    for (int i = 0; i < READERS; i++) {
        readings[i] = (struct reading){.shared = &shared, .ends = &ends};
        assert_int_equal(pthread_create(&threads[i], NULL, read_on, &readings[i]), 0);
    }
    for (int i = 1; i <= EXCHANGES; i++) {
        shared_exchange(&shared, number_new(i));
        shared_sweep(&shared, number_free);
    }
    atomic_store(&ends, true);
    for (int i = 0; i < READERS; i++) {
        pthread_join(threads[i], NULL);
        assert_false(readings[i].torn);
        assert_false(readings[i].backwards);
    }
    shared_finish(&shared, number_free);
    assert_int_equal(freed, EXCHANGES + 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_held_value_outlives_its_exchange),
        cmocka_unit_test(test_readers_see_whole_values_and_never_an_earlier_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
