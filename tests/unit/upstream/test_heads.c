/* Locations that refuse HEAD: what a refusal says, and how long it is remembered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include "upstream/heads.h"

enum { NOW = 1000 };

static void test_a_sure_refusal_is_remembered_for_ten_minutes(void **state) {
    (void)state;
    struct heads heads = {0};
    assert_false(heads_are_refused(&heads, NOW));
    heads_refused(&heads, true, NOW);
    assert_true(heads_are_refused(&heads, NOW));
    assert_true(heads_are_refused(&heads, NOW + HEADS_FORGET_MS - 1));
    assert_false(heads_are_refused(&heads, NOW + HEADS_FORGET_MS));
}

static void test_an_unsure_refusal_counts_when_it_comes_twice_in_a_row(void **state) {
    (void)state;
    struct heads heads = {0};
    heads_refused(&heads, false, NOW);
    assert_false(heads_are_refused(&heads, NOW));
    heads_answered(&heads);
    heads_refused(&heads, false, NOW);
    assert_false(heads_are_refused(&heads, NOW));
    heads_refused(&heads, false, NOW);
    assert_true(heads_are_refused(&heads, NOW));
    heads_refused(&heads, false, NOW + HEADS_FORGET_MS);
    assert_false(heads_are_refused(&heads, NOW + HEADS_FORGET_MS));
}

/* What one failure of a HEAD says. */
struct verdict {
    enum error_kind kind;
    int status;
    bool reached;
    enum head_refusal means;
};

static void test_a_failure_is_judged_by_its_kind_and_its_status(void **state) {
    (void)state;
    static const struct verdict verdicts[] = {
        {ERROR_UNAVAILABLE, 400, false, HEAD_NOT_OFFERED},
        {ERROR_UNAVAILABLE, 405, false, HEAD_NOT_OFFERED},
        {ERROR_UNAVAILABLE, 406, false, HEAD_NOT_OFFERED},
        {ERROR_UNAVAILABLE, 501, false, HEAD_NOT_OFFERED},
        {ERROR_DENIED, 403, true, HEAD_NOT_OFFERED}, /* a store, where the registry led */
        {ERROR_DENIED, 401, false, HEAD_DOUBTFUL},
        {ERROR_DENIED, 403, false, HEAD_DOUBTFUL},
        {ERROR_NOT_FOUND, 404, false, HEAD_DOUBTFUL},
        {ERROR_UNAVAILABLE, 500, false, HEAD_DOUBTFUL},
        {ERROR_UNAVAILABLE, 502, false, HEAD_DOUBTFUL},
        {ERROR_UNAVAILABLE, 508, false, HEAD_DOUBTFUL},
        {ERROR_UNAVAILABLE, 520, false, HEAD_DOUBTFUL},
        {ERROR_UNAVAILABLE, 0, true, HEAD_DOUBTFUL}, /* cut */
        {ERROR_UNAVAILABLE, 0, false, HEAD_FAILED},  /* no connection */
        {ERROR_UNAVAILABLE, 408, false, HEAD_FAILED},
        {ERROR_UNAVAILABLE, 503, false, HEAD_FAILED},
        {ERROR_UNAVAILABLE, 504, false, HEAD_FAILED},
        {ERROR_DENIED, 0, false, HEAD_FAILED}, /* the token service, or an address */
        {ERROR_RATE_LIMITED, 429, false, HEAD_FAILED},
        {ERROR_TIMEOUT, 0, false, HEAD_FAILED},
        {ERROR_BUSY, 0, false, HEAD_FAILED},
        {ERROR_CLOSED, 0, false, HEAD_FAILED},
        {ERROR_MEMORY, 0, false, HEAD_FAILED},
    };
    for (size_t i = 0; i < sizeof verdicts / sizeof *verdicts; i++) {
        const struct verdict *one = &verdicts[i];
        const struct error error = {
            .kind = one->kind, .status = one->status, .reached = one->reached};
        assert_int_equal(upstream_judge_head(&error), one->means);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_sure_refusal_is_remembered_for_ten_minutes),
        cmocka_unit_test(test_an_unsure_refusal_counts_when_it_comes_twice_in_a_row),
        cmocka_unit_test(test_a_failure_is_judged_by_its_kind_and_its_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
