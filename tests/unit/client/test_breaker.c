/* When a location may be asked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "client/breaker.h"

enum { FAILURES = 5, SPAN_MS = 1000, FIRST_PAUSE_MS = 1000, MOST_PAUSE_MS = 30000 };
enum { FIRST = 1000000 }; /* any time */

static const struct breaker_rule rule = {FAILURES, SPAN_MS, FIRST_PAUSE_MS, MOST_PAUSE_MS};

/* One request that takes no time. The result is whether it could ask. */
static bool ask(struct breaker *breaker, int64_t now_ms, enum breaker_outcome outcome,
                enum breaker_change *change) {
    struct breaker_pass pass;
    *change = BREAKER_STAYS;
    if (!breaker_enter(breaker, now_ms, false, &pass))
        return false;
    *change = breaker_leave(breaker, &pass, outcome, now_ms);
    return true;
}

/* Opens the breaker; the result is when. */
static int64_t open_breaker(struct breaker *breaker) {
    enum breaker_change change;
    int64_t now = FIRST;
    breaker_init(breaker, &rule);
    for (int i = 0; i < FAILURES; i++, now += SPAN_MS)
        assert_true(ask(breaker, now, BREAKER_FAILED, &change));
    assert_int_equal(change, BREAKER_OPENS);
    assert_true(breaker_is_open(breaker));
    return now - SPAN_MS;
}

static void test_it_opens_after_five_failures_in_a_row_and_a_second(void **state) {
    (void)state;
    struct breaker breaker;
    enum breaker_change change;
    breaker_init(&breaker, &rule);
    for (int i = 0; i < 100; i++) { /* many at the same moment, as while a registry restarts */
        assert_true(ask(&breaker, FIRST + i, BREAKER_FAILED, &change));
        assert_int_equal(change, BREAKER_STAYS);
    }
    assert_true(ask(&breaker, FIRST + SPAN_MS, BREAKER_FAILED, &change));
    assert_int_equal(change, BREAKER_OPENS);
    assert_false(ask(&breaker, FIRST + SPAN_MS, BREAKER_FAILED, &change));
    assert_in_range(breaker_wait_s(&breaker, FIRST + SPAN_MS), 1, 2);
    breaker_finish(&breaker);
}

static void test_a_silence_counts_from_its_beginning(void **state) {
    (void)state;
    struct breaker breaker;
    struct breaker_pass passes[FAILURES];
    breaker_init(&breaker, &rule);
    for (int i = 0; i < FAILURES; i++)
        assert_true(breaker_enter(&breaker, FIRST, false, &passes[i]));
    enum breaker_change change = BREAKER_STAYS;
    for (int i = 0; i < FAILURES; i++) {
        assert_int_equal(change, BREAKER_STAYS);
        change = breaker_leave(&breaker, &passes[i], BREAKER_FAILED, FIRST + 25000);
    }
    assert_int_equal(change, BREAKER_OPENS);
    breaker_finish(&breaker);
}

static void test_a_response_between_failures_keeps_it_closed(void **state) {
    (void)state;
    struct breaker breaker;
    enum breaker_change change;
    breaker_init(&breaker, &rule);
    for (int i = 0; i < 10 * FAILURES; i++) {
        bool responds = i % FAILURES == FAILURES - 1;
        assert_true(ask(&breaker, FIRST + i * SPAN_MS,
                        responds ? BREAKER_RESPONDED : BREAKER_FAILED, &change));
        assert_int_equal(change, BREAKER_STAYS);
    }
    for (int i = 0; i < 100; i++) { /* who was cancelled says nothing */
        assert_true(ask(&breaker, FIRST + i * SPAN_MS, BREAKER_UNKNOWN, &change));
        assert_int_equal(change, BREAKER_STAYS);
    }
    breaker_finish(&breaker);
}

static void test_one_probe_at_a_time_goes_out(void **state) {
    (void)state;
    struct breaker breaker;
    enum breaker_change change;
    struct breaker_pass probe, other;
    int64_t now = open_breaker(&breaker);
    assert_false(breaker_enter(&breaker, now + FIRST_PAUSE_MS - 1, false, &probe));
    now += 2 * FIRST_PAUSE_MS;
    assert_true(breaker_enter(&breaker, now, false, &probe));
    assert_true(probe.is_probe);
    assert_false(breaker_enter(&breaker, now + 20000, false, &other)); /* a silent probe */
    assert_true(breaker_wait_s(&breaker, now) >= 1);
    /* One that was cancelled leaves its place to the next. */
    assert_int_equal(breaker_leave(&breaker, &probe, BREAKER_UNKNOWN, now), BREAKER_STAYS);
    assert_true(breaker_enter(&breaker, now, false, &probe));
    assert_int_equal(breaker_leave(&breaker, &probe, BREAKER_RESPONDED, now), BREAKER_CLOSES);
    assert_true(ask(&breaker, now, BREAKER_FAILED, &change));
    assert_true(ask(&breaker, now, BREAKER_RESPONDED, &change));
    assert_int_equal(change, BREAKER_STAYS);
    breaker_finish(&breaker);
}

static void test_the_pauses_grow_to_half_a_minute(void **state) {
    (void)state;
    struct breaker breaker;
    enum breaker_change change;
    int64_t now = open_breaker(&breaker), pause = FIRST_PAUSE_MS;
    for (int probes = 0; probes < 12; probes++) {
        int64_t began = now;
        while (!ask(&breaker, now, BREAKER_FAILED, &change))
            now += 10;
        assert_true(now - began >= pause);
        assert_true(now - began <= pause + pause / 4 + 10);
        assert_true(now - began <= MOST_PAUSE_MS);
        pause = 2 * pause < MOST_PAUSE_MS * 4 / 5 ? 2 * pause : MOST_PAUSE_MS * 4 / 5;
    }
    breaker_finish(&breaker);
}

static void test_who_insists_asks_and_closes_it(void **state) {
    (void)state;
    struct breaker breaker;
    struct breaker_pass pass;
    int64_t now = open_breaker(&breaker);
    assert_true(breaker_enter(&breaker, now, true, &pass));
    assert_false(pass.is_probe);
    assert_int_equal(breaker_leave(&breaker, &pass, BREAKER_FAILED, now), BREAKER_STAYS);
    assert_true(breaker_enter(&breaker, now, true, &pass));
    assert_int_equal(breaker_leave(&breaker, &pass, BREAKER_RESPONDED, now), BREAKER_CLOSES);
    assert_false(breaker_is_open(&breaker));
    breaker_finish(&breaker);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_opens_after_five_failures_in_a_row_and_a_second),
        cmocka_unit_test(test_a_silence_counts_from_its_beginning),
        cmocka_unit_test(test_a_response_between_failures_keeps_it_closed),
        cmocka_unit_test(test_one_probe_at_a_time_goes_out),
        cmocka_unit_test(test_the_pauses_grow_to_half_a_minute),
        cmocka_unit_test(test_who_insists_asks_and_closes_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
