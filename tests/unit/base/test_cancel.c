/* When work is cancelled, and which error it gets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "base/cancel.h"
#include "base/clock.h"

static bool say(void *context) {
    return *(const bool *)context;
}

static void test_without_a_reason_to_end_work_goes_on(void **state) {
    (void)state;
    struct error error = {0};
    assert_true(cancel_check(NULL, &error));
    assert_true(cancel_check(&(struct cancel){0}, &error));
    assert_int_equal(error.kind, ERROR_NONE);
}

static void test_work_ends_when_it_is_stopped_or_not_wanted(void **state) {
    (void)state;
    atomic_bool stop = false;
    bool wanted = true;
    struct error error = {0};
    const struct cancel cancel = {.stop = &stop, .is_wanted = say, .context = &wanted};
    assert_true(cancel_check(&cancel, &error));
    wanted = false;
    assert_false(cancel_check(&cancel, &error));
    assert_int_equal(error.kind, ERROR_CLOSED);
    assert_string_equal(error.text, "the client left");
    atomic_store(&stop, true);
    assert_false(cancel_check(&cancel, &error));
    assert_int_equal(error.kind, ERROR_CLOSED);
    assert_string_equal(error.text, "tarn is stopping");
    wanted = true;
    assert_false(cancel_check(&cancel, NULL));
}

static bool count_down(void *context) {
    return --*(int *)context > 0;
}

static void test_a_sleep_ends_when_nobody_wants_the_work_any_more(void **state) {
    (void)state;
    int looks = 2;
    struct error error = {0};
    const struct cancel cancel = {.is_wanted = count_down, .context = &looks};
    assert_false(cancel_sleep(&cancel, clock_ms() + 3600000, &error));
    assert_int_equal(error.kind, ERROR_CLOSED);
    int64_t until_ms = clock_ms() + 20;
    assert_true(cancel_sleep(NULL, until_ms, &error));
    assert_true(clock_ms() >= until_ms);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_a_reason_to_end_work_goes_on),
        cmocka_unit_test(test_work_ends_when_it_is_stopped_or_not_wanted),
        cmocka_unit_test(test_a_sleep_ends_when_nobody_wants_the_work_any_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
