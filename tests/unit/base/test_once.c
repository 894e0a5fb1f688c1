/* Many threads ask for one thing: which of them asks, and which of them share the outcome. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/clock.h"
#include "base/once.h"
#include "base/thread.h"

enum { CROWD = 8, NAMES = 3, ROUNDS = 200 };

/* One thing, and threads that take one turn each. */
struct bench {
    struct lock lock;
    struct condition ended, changed;
    struct once once;
    unsigned waiting; /* threads that are in once_take_turn() or past it: all wait while one asks */
};

struct caller {
    struct bench *bench;
    bool renew;
    int64_t deadline_ms;
    pthread_t thread;
    enum once_turn turn;
    bool failed;
};

static void take_turn(void *argument) {
    struct caller *caller = argument;
    struct bench *bench = caller->bench;
    lock_acquire(&bench->lock);
    bench->waiting++;
    condition_signal(&bench->changed);
    caller->turn = once_take_turn(&bench->once, &bench->ended, &bench->lock, caller->renew,
                                  caller->deadline_ms);
    caller->failed = once_failed(&bench->once, NULL);
    if (caller->turn == ONCE_ASK)
        once_publish(&bench->once, &bench->ended, NULL);
    lock_release(&bench->lock);
}

static void start_caller(struct caller *caller) {
    assert_true(
        thread_start("test-caller", THREAD_STACK, take_turn, caller, &caller->thread, NULL));
}

/* Returns when `count` threads wait for the request under way, with the lock held. */
static void await_callers(struct bench *bench, unsigned count) ACQUIRE(bench->lock) {
    lock_acquire(&bench->lock);
    while (bench->waiting < count)
        condition_wait(&bench->changed, &bench->lock);
}

/* This thread asks, with or without renewal. */
static void begin(struct bench *bench, bool renew) {
    lock_acquire(&bench->lock);
    assert_int_equal(once_take_turn(&bench->once, &bench->ended, &bench->lock, renew, INT64_MAX),
                     ONCE_ASK);
    lock_release(&bench->lock);
}

static void bench_init(struct bench *bench) {
    *bench = (struct bench){0};
    lock_init(&bench->lock);
    condition_init(&bench->ended);
    condition_init(&bench->changed);
}

static void bench_finish(struct bench *bench) {
    condition_finish(&bench->changed);
    condition_finish(&bench->ended);
    lock_finish(&bench->lock);
}

/* A request of this thread ends with `failure` while one caller waits. Returns what the caller got.
 */
static struct caller outcome_for(bool asker_renews, bool caller_renews, int64_t deadline_ms,
                                 enum error_kind failure) {
    struct bench bench;
    bench_init(&bench);
    struct caller caller = {.bench = &bench, .renew = caller_renews, .deadline_ms = deadline_ms};
    begin(&bench, asker_renews);
    start_caller(&caller);
    await_callers(&bench, 1);
    once_publish(&bench.once, &bench.ended, &(struct error){.kind = failure});
    lock_release(&bench.lock);
    pthread_join(caller.thread, NULL);
    bench_finish(&bench);
    return caller;
}

static void test_a_crowd_shares_one_outcome(void **state) {
    (void)state;
    struct bench bench;
    struct caller callers[CROWD];
    bench_init(&bench);
    begin(&bench, false);
    for (unsigned i = 0; i < CROWD; i++) {
        callers[i] = (struct caller){.bench = &bench, .deadline_ms = INT64_MAX};
        start_caller(&callers[i]);
    }
    await_callers(&bench, CROWD);
    struct error failure = {.kind = ERROR_DENIED, .text = "no"}, seen = {0};
    once_publish(&bench.once, &bench.ended, &failure);
    assert_true(once_failed(&bench.once, &seen));
    assert_string_equal(seen.text, "no");
    assert_int_equal(bench.once.outcomes, 1);
    assert_true(bench.once.ended_ms >= bench.once.began_ms);
    lock_release(&bench.lock);
    for (unsigned i = 0; i < CROWD; i++) {
        pthread_join(callers[i].thread, NULL);
        assert_int_equal(callers[i].turn, ONCE_SHARED);
        assert_true(callers[i].failed);
    }
    assert_int_equal(bench.once.outcomes, 1);
    bench_finish(&bench);
}

static void test_a_success_follows_a_failure(void **state) {
    (void)state;
    struct bench bench;
    struct error error = {.kind = ERROR_IO};
    bench_init(&bench);
    assert_false(once_failed(&bench.once, &error));
    begin(&bench, false);
    lock_acquire(&bench.lock);
    once_publish(&bench.once, &bench.ended, &error);
    lock_release(&bench.lock);
    assert_true(once_failed(&bench.once, &error));
    begin(&bench, true); /* an earlier outcome is not shared: the next caller asks */
    lock_acquire(&bench.lock);
    assert_true(bench.once.renewing);
    once_publish(&bench.once, &bench.ended, NULL);
    lock_release(&bench.lock);
    assert_false(once_failed(&bench.once, &error));
    bench_finish(&bench);
}

static void test_a_renewal_does_not_share_an_older_request(void **state) {
    (void)state;
    assert_int_equal(outcome_for(false, true, INT64_MAX, ERROR_NONE).turn, ONCE_LOOK);
    assert_int_equal(outcome_for(false, true, INT64_MAX, ERROR_DENIED).turn, ONCE_LOOK);
    assert_int_equal(outcome_for(true, true, INT64_MAX, ERROR_NONE).turn, ONCE_SHARED);
    assert_int_equal(outcome_for(true, false, INT64_MAX, ERROR_NONE).turn, ONCE_SHARED);
}

static void test_the_askers_deadline_is_not_the_waiting_callers(void **state) {
    (void)state;
    int64_t later_ms = clock_ms() + 300000;
    assert_int_equal(outcome_for(false, false, later_ms, ERROR_TIMEOUT).turn, ONCE_LOOK);
    assert_int_equal(outcome_for(false, false, later_ms, ERROR_DENIED).turn, ONCE_SHARED);
    assert_int_equal(outcome_for(false, false, later_ms, ERROR_NONE).turn, ONCE_SHARED);
    /* Without a deadline the timeout is that of the source, and it is shared. */
    struct caller patient = outcome_for(false, false, INT64_MAX, ERROR_TIMEOUT);
    assert_int_equal(patient.turn, ONCE_SHARED);
    assert_true(patient.failed);
}

static void test_a_cancelled_request_is_not_shared(void **state) {
    (void)state;
    assert_int_equal(outcome_for(false, false, INT64_MAX, ERROR_CLOSED).turn, ONCE_LOOK);
    assert_int_equal(outcome_for(true, true, clock_ms() + 60000, ERROR_CLOSED).turn, ONCE_LOOK);
}

static void test_a_caller_whose_deadline_comes_first_is_late(void **state) {
    (void)state;
    struct bench bench;
    bench_init(&bench);
    begin(&bench, false);
    int64_t deadline_ms = clock_ms() + 20;
    lock_acquire(&bench.lock);
    assert_int_equal(once_take_turn(&bench.once, &bench.ended, &bench.lock, false, deadline_ms),
                     ONCE_LATE);
    assert_true(clock_ms() >= deadline_ms);
    assert_int_equal(once_take_turn(&bench.once, &bench.ended, &bench.lock, false, deadline_ms),
                     ONCE_LATE);
    assert_true(bench.once.asking);
    once_publish(&bench.once, &bench.ended, NULL);
    /* A caller that need not wait is not late. */
    assert_int_equal(once_take_turn(&bench.once, &bench.ended, &bench.lock, false, deadline_ms),
                     ONCE_ASK);
    once_publish(&bench.once, &bench.ended, NULL);
    lock_release(&bench.lock);
    bench_finish(&bench);
}

static void test_an_outcome_is_seen_though_the_next_request_has_begun(void **state) {
    (void)state;
    struct bench bench;
    bench_init(&bench);
    struct caller caller = {.bench = &bench, .deadline_ms = INT64_MAX};
    begin(&bench, false);
    start_caller(&caller);
    await_callers(&bench, 1);
    once_publish(&bench.once, &bench.ended, NULL);
    assert_int_equal(once_take_turn(&bench.once, &bench.ended, &bench.lock, true, INT64_MAX),
                     ONCE_ASK); /* before the caller runs */
    lock_release(&bench.lock);
    pthread_join(caller.thread, NULL);
    assert_int_equal(caller.turn, ONCE_SHARED);
    lock_acquire(&bench.lock);
    assert_true(bench.once.asking);
    once_publish(&bench.once, &bench.ended, NULL);
    lock_release(&bench.lock);
    bench_finish(&bench);
}

/* ---- tables ---- */

struct word {
    struct once_entry entry;
    char *value;
    unsigned fetched;
    bool fetching;
};

static unsigned wiped;

static void word_wipe(struct once_entry *entry) {
    free(((struct word *)entry)->value);
    wiped++;
}

static void words_init(struct once_table *words, size_t limit) {
    wiped = 0;
    once_table_init(words, sizeof(struct word), &(struct once_bounds){.entries = limit}, word_wipe);
}

static struct word *enter(struct once_table *words, const char *key) {
    lock_acquire(&words->entries_lock);
    struct word *word = (struct word *)once_table_enter(words, key);
    assert_non_null(word);
    lock_release(&words->entries_lock);
    return word;
}

static void leave(struct once_table *words, struct word *word) {
    lock_acquire(&words->entries_lock);
    once_table_leave(words, &word->entry);
    lock_release(&words->entries_lock);
}

static void test_a_key_keeps_its_entry(void **state) {
    (void)state;
    struct once_table words;
    words_init(&words, 2);
    struct word *first = enter(&words, "first");
    assert_null(first->value);
    assert_non_null(first->value = strdup("kept"));
    leave(&words, first);
    struct word *second = enter(&words, "second");
    assert_ptr_not_equal(first, second);
    assert_ptr_equal(enter(&words, "first"), first);
    assert_string_equal(first->value, "kept");
    assert_string_equal(first->entry.key, "first");
    leave(&words, first);
    leave(&words, second);
    assert_int_equal(wiped, 0);
    once_table_finish(&words);
    assert_int_equal(wiped, 2);
}

static void test_a_full_table_forgets_the_entry_that_was_entered_longest_ago(void **state) {
    (void)state;
    struct once_table words;
    words_init(&words, 2);
    struct word *held = enter(&words, "held"), *old = enter(&words, "old");
    leave(&words, old);
    leave(&words, held);
    held->entry.entered_ms = 1;
    old->entry.entered_ms = 2;
    held = enter(&words, "held"); /* used: the entry stays, and it was entered last */
    struct word *third = enter(&words, "third");
    assert_int_equal(wiped, 1);
    assert_ptr_equal(enter(&words, "held"), held);
    leave(&words, held);
    struct word *fourth = enter(&words, "fourth"); /* all are used: the table grows */
    assert_int_equal(wiped, 1);
    assert_int_equal(HASH_COUNT(words.entries), 3);
    leave(&words, held);
    leave(&words, third);
    leave(&words, fourth);
    once_table_finish(&words);
    assert_int_equal(wiped, 4);
}

static size_t bytes_of(const struct once_table *table) {
    size_t bytes = 0;
    for (struct once_entry *entry = table->entries; entry; entry = entry->hh.next)
        bytes += entry->bytes;
    return bytes;
}

static void weigh(struct once_table *words, struct word *word, size_t held) {
    lock_acquire(&words->entries_lock);
    once_table_weigh(words, &word->entry, held);
    lock_release(&words->entries_lock);
}

static void test_a_table_is_bounded_in_bytes(void **state) {
    (void)state;
    struct once_table words;
    wiped = 0;
    once_table_init(&words, sizeof(struct word),
                    &(struct once_bounds){.entries = 100, .bytes = 20000}, word_wipe);
    for (unsigned i = 0; i < 50; i++) {
        char key[16];
        snprintf(key, sizeof key, "word %u", i);
        struct word *word = enter(&words, key);
        word->entry.entered_ms = i;
        weigh(&words, word, 4000);
        leave(&words, word);
        assert_true(words.bytes <= 20000);
        assert_int_equal(words.bytes, bytes_of(&words));
    }
    assert_in_range(HASH_COUNT(words.entries), 3, 5);
    struct word *last = enter(&words, "word 49"); /* it is one of those that stayed */
    assert_true(last->entry.bytes > 4000);
    weigh(&words, last, 30000); /* in use: it stays, and all others go */
    assert_int_equal(HASH_COUNT(words.entries), 1);
    weigh(&words, last, 10);
    leave(&words, last);
    once_table_finish(&words);
    assert_int_equal(words.bytes, 0);
}

static void test_tables_share_a_pot(void **state) {
    (void)state;
    struct once_pot pot = {.limit = 100000};
    struct once_table tables[20];
    wiped = 0;
    for (unsigned t = 0; t < 20; t++)
        once_table_init(
            &tables[t], sizeof(struct word),
            &(struct once_bounds){.entries = 1000, .bytes = 60000, .pot = &pot, .share = 4000},
            word_wipe);
    for (unsigned i = 0; i < 2000; i++) {
        char key[16];
        snprintf(key, sizeof key, "word %u", i / 20);
        struct word *word = enter(&tables[i % 20], key);
        weigh(&tables[i % 20], word, 1500);
        leave(&tables[i % 20], word);
        assert_true(pot.bytes <= 100000 + 20 * 4000);
    }
    for (unsigned t = 0; t < 20; t++) {
        assert_true(HASH_COUNT(tables[t].entries) >= 1); /* each has its share */
        once_table_finish(&tables[t]);
    }
    assert_int_equal(pot.bytes, 0);
}

/* Uses the table again and again: some values are thrown away at once, some requests fail, some
 * callers renew. */
static void use_words(void *argument) {
    struct once_table *words = argument;
    for (unsigned round = 0; round < ROUNDS; round++) {
        char key[16];
        snprintf(key, sizeof key, "word %u", round % NAMES);
        bool renew = round % 7 == 0, fails = round % 11 == 0;
        lock_acquire(&words->entries_lock);
        struct word *word = (struct word *)once_table_enter(words, key);
        assert_non_null(word);
        enum once_turn turn = ONCE_LOOK;
        while ((renew || !word->value) && turn == ONCE_LOOK)
            turn = once_take_turn(&word->entry.once, &words->ended, &words->entries_lock, renew,
                                  INT64_MAX);
        if (turn == ONCE_ASK) {
            assert_false(word->fetching);
            word->fetching = true;
            lock_release(&words->entries_lock);
            char *value = fails ? NULL : strdup(key);
            lock_acquire(&words->entries_lock);
            assert_true(word->fetching);
            word->fetching = false;
            word->fetched++;
            free(word->value);
            word->value = value;
            once_publish(&word->entry.once, &words->ended,
                         &(struct error){.kind = fails ? ERROR_UNAVAILABLE : ERROR_NONE});
        }
        if (word->value)
            assert_string_equal(word->value, key);
        once_table_leave(words, &word->entry);
        lock_release(&words->entries_lock);
    }
}

static void test_one_thread_at_a_time_asks_for_a_key(void **state) {
    (void)state;
    struct once_table words;
    pthread_t threads[CROWD];
    words_init(&words, NAMES - 1); /* so that entries come and go */
    for (unsigned i = 0; i < CROWD; i++)
        assert_true(thread_start("test-words", THREAD_STACK, use_words, &words, &threads[i], NULL));
    for (unsigned i = 0; i < CROWD; i++)
        pthread_join(threads[i], NULL);
    assert_in_range(HASH_COUNT(words.entries), 1, NAMES);
    once_table_finish(&words);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_crowd_shares_one_outcome),
        cmocka_unit_test(test_a_success_follows_a_failure),
        cmocka_unit_test(test_a_renewal_does_not_share_an_older_request),
        cmocka_unit_test(test_the_askers_deadline_is_not_the_waiting_callers),
        cmocka_unit_test(test_a_cancelled_request_is_not_shared),
        cmocka_unit_test(test_a_caller_whose_deadline_comes_first_is_late),
        cmocka_unit_test(test_an_outcome_is_seen_though_the_next_request_has_begun),
        cmocka_unit_test(test_a_key_keeps_its_entry),
        cmocka_unit_test(test_a_full_table_forgets_the_entry_that_was_entered_longest_ago),
        cmocka_unit_test(test_a_table_is_bounded_in_bytes),
        cmocka_unit_test(test_tables_share_a_pot),
        cmocka_unit_test(test_one_thread_at_a_time_asks_for_a_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
