/* What a fetcher does after its request failed: every row of the table in retry.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "cache/flight/retry.h"

/* A range in the middle of a blob of known size failed. */
static const struct retry_facts a_range = {.start = 100, .size_known = true, .size = 1000};

/* What follows from the failure before any place has answered, for a fetcher that is alone, and for
 * one beside others. */
static void assert_actions(struct retry_facts facts, enum retry_action unanswered,
                           enum retry_action alone, enum retry_action with_others) {
    facts.fetchers = 1;
    facts.answered = false;
    assert_int_equal(retry_decide(retry_classify(&facts), retry_phase(&facts)), unanswered);
    facts.fetchers = 2;
    assert_int_equal(retry_decide(retry_classify(&facts), retry_phase(&facts)), unanswered);
    facts.answered = true;
    assert_int_equal(retry_decide(retry_classify(&facts), retry_phase(&facts)), with_others);
    facts.fetchers = 1;
    assert_int_equal(retry_decide(retry_classify(&facts), retry_phase(&facts)), alone);
}

static void assert_always(const struct retry_facts *facts, enum retry_action action) {
    assert_actions(*facts, action, action, action);
}

static bool counts(const struct retry_facts *facts) {
    return retry_counts(retry_classify(facts));
}

static void test_our_own_fault_ends_the_flight(void **state) {
    (void)state;
    struct retry_facts facts = a_range;
    facts.failure = PLACE_OWN_FAULT;
    assert_always(&facts, RETRY_END_FLIGHT);
    assert_false(counts(&facts));
}

static void test_every_failure_ends_the_flight_while_tarn_stops(void **state) {
    (void)state;
    struct retry_facts facts = a_range;
    facts.stopping = true;
    for (int failure = PLACE_OWN_FAULT; failure <= PLACE_UNAVAILABLE; failure++) {
        facts.failure = (enum place_failure)failure;
        assert_always(&facts, RETRY_END_FLIGHT);
    }
}

static void test_a_span_that_was_taken_back_is_planned_again(void **state) {
    (void)state;
    struct retry_facts facts = a_range;
    facts.failure = PLACE_CLOSED;
    assert_always(&facts, RETRY_PLAN);
    assert_false(counts(&facts));
}

static void test_a_range_outside_of_the_blob_is_planned_again(void **state) {
    (void)state;
    struct retry_facts facts = a_range;
    facts.failure = PLACE_NO_RANGE;
    facts.start = facts.size;
    assert_always(&facts, RETRY_PLAN);
    assert_false(counts(&facts));
    facts = a_range;
    facts.failure = PLACE_NO_RANGE;
    facts.suffix = true; /* of an empty blob */
    assert_always(&facts, RETRY_PLAN);
}

static void test_a_refused_range_of_the_blob_means_one_plain_stream(void **state) {
    (void)state;
    struct retry_facts facts = a_range;
    facts.failure = PLACE_NO_RANGE;
    assert_always(&facts, RETRY_PLAIN);
    assert_false(counts(&facts));
    facts.size_known = false;
    facts.suffix = true;
    assert_always(&facts, RETRY_PLAIN);
}

static void test_a_416_to_a_request_without_a_range_is_a_fault_like_any_other(void **state) {
    (void)state;
    const struct retry_facts facts = {.failure = PLACE_NO_RANGE, .plain = true};
    assert_actions(facts, RETRY_ELSEWHERE, RETRY_LATER, RETRY_LATER);
    assert_true(counts(&facts));
}

static void test_ranges_that_contradict_each_other_mean_one_plain_stream(void **state) {
    (void)state;
    struct retry_facts facts = a_range;
    facts.failure = PLACE_WRONG;
    assert_always(&facts, RETRY_PLAIN);
    assert_true(counts(&facts));
}

static void test_a_wrong_plain_stream_starts_over(void **state) {
    (void)state;
    const struct retry_facts facts = {.failure = PLACE_WRONG, .plain = true};
    assert_always(&facts, RETRY_START_OVER);
    assert_true(counts(&facts));
}

static void test_a_place_that_refuses_is_left(void **state) {
    (void)state;
    struct retry_facts facts = a_range;
    facts.failure = PLACE_REFUSED;
    assert_always(&facts, RETRY_ELSEWHERE);
    assert_true(counts(&facts));
}

static void test_a_place_that_wants_fewer_requests_gets_fewer_or_later_ones(void **state) {
    (void)state;
    struct retry_facts facts = a_range;
    facts.failure = PLACE_RATE_LIMITED;
    assert_actions(facts, RETRY_ELSEWHERE, RETRY_LATER, RETRY_END_FETCHER);
    assert_true(counts(&facts));
}

static void test_a_place_that_fails_is_tried_again_once_it_has_answered(void **state) {
    (void)state;
    struct retry_facts facts = a_range;
    facts.failure = PLACE_UNAVAILABLE;
    assert_actions(facts, RETRY_ELSEWHERE, RETRY_LATER, RETRY_LATER);
    assert_true(counts(&facts));
}

static void test_waits_double_up_to_five_seconds(void **state) {
    (void)state;
    static const int64_t expected[] = {100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000};
    for (unsigned failures = 1; failures <= 9; failures++) {
        for (int i = 0; i < 20; i++) { /* the half of it, and a random part of the whole */
            int64_t wait_ms = retry_wait_ms(failures, 0), whole = expected[failures - 1];
            assert_in_range(wait_ms, whole / 2, whole / 2 + whole);
        }
    }
}

static void test_a_place_says_how_long_to_wait(void **state) {
    (void)state;
    assert_int_equal(retry_wait_ms(1, 30), 30000);
    assert_in_range(retry_wait_ms(9, 1), 2500, 7500);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_our_own_fault_ends_the_flight),
        cmocka_unit_test(test_every_failure_ends_the_flight_while_tarn_stops),
        cmocka_unit_test(test_a_span_that_was_taken_back_is_planned_again),
        cmocka_unit_test(test_a_range_outside_of_the_blob_is_planned_again),
        cmocka_unit_test(test_a_refused_range_of_the_blob_means_one_plain_stream),
        cmocka_unit_test(test_a_416_to_a_request_without_a_range_is_a_fault_like_any_other),
        cmocka_unit_test(test_ranges_that_contradict_each_other_mean_one_plain_stream),
        cmocka_unit_test(test_a_wrong_plain_stream_starts_over),
        cmocka_unit_test(test_a_place_that_refuses_is_left),
        cmocka_unit_test(test_a_place_that_wants_fewer_requests_gets_fewer_or_later_ones),
        cmocka_unit_test(test_a_place_that_fails_is_tried_again_once_it_has_answered),
        cmocka_unit_test(test_waits_double_up_to_five_seconds),
        cmocka_unit_test(test_a_place_says_how_long_to_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
