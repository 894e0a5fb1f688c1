/* A share binds only while more than half of the pot is taken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/pot.h"

static void test_a_share_binds_only_while_more_than_half_is_taken(void **state) {
    (void)state;
    struct pot pot;
    pot_init(&pot, 10);
    unsigned held = 0;
    for (; pot_may_take(&pot, held, 2); held++)
        pot_take(&pot);
    assert_int_equal(held, 6); /* one more than half, and all of them a single neighbour's */
    assert_true(pot_is_scarce(&pot));
    for (unsigned others = 0; others < 2; others++) {
        assert_true(pot_may_take(&pot, others, 2));
        pot_take(&pot);
    }
    assert_false(pot_may_take(&pot, 2, 2));
    for (; pot_is_scarce(&pot); held--)
        pot_give_back(&pot);
    assert_int_equal(held, 3);
    assert_true(pot_may_take(&pot, held, 2));
}

static void test_one_that_is_counted_already_may_stay_where_it_could_come(void **state) {
    (void)state;
    struct pot pot;
    pot_init(&pot, 10);
    for (unsigned held = 0; held < 10; held++) {
        bool may_take = pot_may_take(&pot, held, 2);
        pot_take(&pot);
        assert_true(may_take == pot_may_keep(&pot, held, 2));
    }
    assert_true(pot_may_keep(&pot, 1, 2));
}

static void test_all_of_a_pot_can_be_taken_and_no_more(void **state) {
    (void)state;
    struct pot pot;
    pot_init(&pot, 3);
    for (int i = 0; i < 3; i++) {
        assert_false(pot_is_empty(&pot));
        assert_true(pot_take_if_left(&pot));
    }
    assert_true(pot_is_empty(&pot));
    assert_false(pot_take_if_left(&pot));
    pot_give_back(&pot);
    assert_true(pot_take_if_left(&pot));
}

static void test_a_small_pot_still_has_shares(void **state) {
    (void)state;
    struct pot pot;
    pot_init(&pot, 1);
    assert_true(pot_may_take(&pot, 0, 1));
    pot_take(&pot);
    assert_true(pot_is_scarce(&pot));
    assert_false(pot_may_take(&pot, 1, 1));
    assert_true(pot_may_take(&pot, 0, 1));
    assert_int_equal(pot_share(&pot, 50), 1);
}

static void test_a_percentage_of_a_pot_is_rounded_down_to_at_least_one(void **state) {
    (void)state;
    struct pot pot;
    pot_init(&pot, 2048);
    assert_int_equal(pot_share(&pot, 50), 1024);
    assert_int_equal(pot_share(&pot, 100), 2048);
    assert_int_equal(pot_share(&pot, 1), 20);
    pot_init(&pot, UINT32_MAX);
    assert_int_equal(pot_share(&pot, 50), UINT32_MAX / 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_share_binds_only_while_more_than_half_is_taken),
        cmocka_unit_test(test_one_that_is_counted_already_may_stay_where_it_could_come),
        cmocka_unit_test(test_all_of_a_pot_can_be_taken_and_no_more),
        cmocka_unit_test(test_a_small_pot_still_has_shares),
        cmocka_unit_test(test_a_percentage_of_a_pot_is_rounded_down_to_at_least_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
