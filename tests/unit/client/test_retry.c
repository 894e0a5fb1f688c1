/* The one rule of trying again: every cell of the table in retry.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "client/retry.h"

/* The rows of the table, in the order of the header: one request, no answer yet, one connection,
 * several. */
static const struct {
    enum retry_failure failure;
    enum retry_action actions[RETRY_PHASES];
    bool counts;
} rows[] = {
    {FAILURE_OWN_FAULT, {RETRY_GIVE_UP, RETRY_GIVE_UP, RETRY_GIVE_UP, RETRY_GIVE_UP}, false},
    {FAILURE_UNWANTED, {RETRY_GIVE_UP, RETRY_GIVE_UP, RETRY_GIVE_UP, RETRY_GIVE_UP}, false},
    {FAILURE_TAKEN_BACK, {RETRY_GIVE_UP, RETRY_NOW, RETRY_NOW, RETRY_NOW}, false},
    {FAILURE_OUTSIDE, {RETRY_GIVE_UP, RETRY_NOW, RETRY_NOW, RETRY_NOW}, false},
    {FAILURE_NO_RANGES, {RETRY_GIVE_UP, RETRY_PLAIN, RETRY_PLAIN, RETRY_PLAIN}, false},
    {FAILURE_WRONG_RANGES, {RETRY_GIVE_UP, RETRY_PLAIN, RETRY_PLAIN, RETRY_PLAIN}, true},
    {FAILURE_WRONG_STREAM,
     {RETRY_GIVE_UP, RETRY_START_OVER, RETRY_START_OVER, RETRY_START_OVER},
     true},
    {FAILURE_REFUSED, {RETRY_GIVE_UP, RETRY_ELSEWHERE, RETRY_ELSEWHERE, RETRY_ELSEWHERE}, true},
    {FAILURE_RATE_LIMITED, {RETRY_GIVE_UP, RETRY_ELSEWHERE, RETRY_LATER, RETRY_FEWER}, true},
    {FAILURE_OVERLOADED, {RETRY_LATER, RETRY_ELSEWHERE, RETRY_LATER, RETRY_FEWER}, true},
    {FAILURE_LASTING, {RETRY_GIVE_UP, RETRY_ELSEWHERE, RETRY_LATER, RETRY_LATER}, true},
    {FAILURE_UNAVAILABLE, {RETRY_LATER, RETRY_ELSEWHERE, RETRY_LATER, RETRY_LATER}, true},
};
enum { ROWS = sizeof rows / sizeof *rows };

static void test_every_cell_of_the_table(void **state) {
    (void)state;
    assert_int_equal(ROWS, RETRY_FAILURES);
    for (size_t i = 0; i < ROWS; i++) {
        assert_int_equal(rows[i].failure, i);
        for (int phase = 0; phase < RETRY_PHASES; phase++)
            assert_int_equal(retry_decide(rows[i].failure, (enum retry_phase)phase, 0),
                             rows[i].actions[phase]);
        assert_int_equal(retry_counts(rows[i].failure), rows[i].counts);
    }
}

static void test_nothing_is_tried_at_once_for_ever(void **state) {
    (void)state;
    for (size_t i = 0; i < ROWS; i++) {
        for (int phase = 0; phase < RETRY_PHASES; phase++) {
            enum retry_action first = rows[i].actions[phase];
            assert_int_equal(
                retry_decide(rows[i].failure, (enum retry_phase)phase, RETRY_AT_ONCE - 1), first);
            assert_int_equal(retry_decide(rows[i].failure, (enum retry_phase)phase, RETRY_AT_ONCE),
                             first == RETRY_NOW ? RETRY_LATER : first);
        }
    }
}

static void test_every_kind_of_error_has_its_row(void **state) {
    (void)state;
    static const struct {
        enum error_kind kind;
        bool lasting;
        enum retry_failure failure;
        int status;
    } kinds[] = {
        {ERROR_INVALID, false, FAILURE_OWN_FAULT},
        {ERROR_NO_SPACE, false, FAILURE_OWN_FAULT},
        {ERROR_IO, false, FAILURE_OWN_FAULT},
        {ERROR_FILES, false, FAILURE_OWN_FAULT},
        {ERROR_MEMORY, false, FAILURE_OWN_FAULT},
        {ERROR_CLOSED, false, FAILURE_UNWANTED},
        {ERROR_RANGE, false, FAILURE_NO_RANGES},
        {ERROR_CORRUPT, false, FAILURE_WRONG_RANGES},
        {ERROR_NOT_FOUND, false, FAILURE_REFUSED},
        {ERROR_DENIED, false, FAILURE_REFUSED},
        {ERROR_RATE_LIMITED, false, FAILURE_RATE_LIMITED},
        {ERROR_UNAVAILABLE, true, FAILURE_LASTING},
        {ERROR_UNAVAILABLE, false, FAILURE_UNAVAILABLE},
        {ERROR_UNAVAILABLE, false, FAILURE_UNAVAILABLE, 500},
        {ERROR_UNAVAILABLE, false, FAILURE_OVERLOADED, 503},
        {ERROR_TIMEOUT, false, FAILURE_UNAVAILABLE},
        {ERROR_BUSY, false, FAILURE_UNAVAILABLE},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const struct error error = {
            .kind = kinds[i].kind, .status = kinds[i].status, .lasting = kinds[i].lasting};
        assert_int_equal(retry_classify(&error), kinds[i].failure);
    }
}

static void test_a_refused_range_means_what_is_known_of_the_content(void **state) {
    (void)state;
    const struct retry_range within = {.start = 999, .size_known = true, .size = 1000},
                             beyond = {.start = 1000, .size_known = true, .size = 1000},
                             unknown = {.start = 1000},
                             suffix = {.suffix = true, .size_known = true, .size = 0},
                             suffix_unknown = {.suffix = true},
                             plain = {.plain = true, .size_known = true, .size = 1000};
    assert_int_equal(retry_refine(FAILURE_NO_RANGES, &within), FAILURE_NO_RANGES);
    assert_int_equal(retry_refine(FAILURE_NO_RANGES, &beyond), FAILURE_OUTSIDE);
    assert_int_equal(retry_refine(FAILURE_NO_RANGES, &unknown), FAILURE_NO_RANGES);
    assert_int_equal(retry_refine(FAILURE_NO_RANGES, &suffix), FAILURE_OUTSIDE);
    assert_int_equal(retry_refine(FAILURE_NO_RANGES, &suffix_unknown), FAILURE_NO_RANGES);
    assert_int_equal(retry_refine(FAILURE_NO_RANGES, &plain), FAILURE_LASTING);
    assert_int_equal(retry_refine(FAILURE_WRONG_RANGES, &within), FAILURE_WRONG_RANGES);
    assert_int_equal(retry_refine(FAILURE_WRONG_RANGES, &plain), FAILURE_WRONG_STREAM);
    for (int failure = 0; failure < RETRY_FAILURES; failure++) {
        if (failure != FAILURE_NO_RANGES && failure != FAILURE_WRONG_RANGES)
            assert_int_equal(retry_refine((enum retry_failure)failure, &within), failure);
    }
}

static void test_waits_double_up_to_five_seconds(void **state) {
    (void)state;
    static const int64_t expected[] = {100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000};
    for (unsigned failures = 1; failures <= 9; failures++) {
        for (int i = 0; i < 20; i++) { /* the half of it, and a random part of the whole */
            int64_t wait_ms = retry_wait_ms(failures, 0, 1000, 1000000);
            int64_t whole = expected[failures - 1];
            assert_in_range(wait_ms, whole / 2, whole / 2 + whole);
            assert_in_range(retry_backoff_ms(failures), whole / 2, whole / 2 + whole);
        }
    }
}

static void test_the_other_side_says_how_long_to_wait(void **state) {
    (void)state;
    assert_int_equal(retry_wait_ms(1, 30, 0, 60000), 30000);
    assert_in_range(retry_wait_ms(9, 1, 0, 60000), 2500, 7500);
}

static void test_a_wait_beyond_the_patience_is_giving_up(void **state) {
    (void)state;
    assert_int_equal(retry_wait_ms(1, 30, 5000, 35001), 30000);
    assert_int_equal(retry_wait_ms(1, 30, 5000, 35000), -1);
    assert_int_equal(retry_wait_ms(1, 3600, 0, 120000), -1);
    assert_int_equal(retry_wait_ms(1, 0, 5000, 5000), -1);
    assert_int_equal(retry_wait_ms(1, 0, 5000, 4000), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_cell_of_the_table),
        cmocka_unit_test(test_nothing_is_tried_at_once_for_ever),
        cmocka_unit_test(test_every_kind_of_error_has_its_row),
        cmocka_unit_test(test_a_refused_range_means_what_is_known_of_the_content),
        cmocka_unit_test(test_waits_double_up_to_five_seconds),
        cmocka_unit_test(test_the_other_side_says_how_long_to_wait),
        cmocka_unit_test(test_a_wait_beyond_the_patience_is_giving_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
