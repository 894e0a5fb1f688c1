/* When work is cancelled, and which error it gets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "base/cancel.h"

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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_a_reason_to_end_work_goes_on),
        cmocka_unit_test(test_work_ends_when_it_is_stopped_or_not_wanted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
