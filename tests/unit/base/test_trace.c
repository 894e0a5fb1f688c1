/* traceparent: which values count, and which threads work for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "base/thread.h"
#include "base/trace.h"

#define ID     "4bf92f3577b34da6a3ce929d0e0e4736"
#define PARENT "00-" ID "-00f067aa0ba902b7-01"

static void test_a_right_parent_is_read(void **state) {
    (void)state;
    char parent[TRACE_PARENT_SIZE];
    assert_true(trace_parse(text_of(PARENT), parent));
    assert_string_equal(parent, PARENT);
    assert_true(text_is(trace_id(parent), ID));
}

static void test_a_later_version_is_passed_on_as_this_one(void **state) {
    (void)state;
    char parent[TRACE_PARENT_SIZE];
    assert_true(trace_parse(text_of("fe-" ID "-00f067aa0ba902b7-01"), parent));
    assert_string_equal(parent, PARENT);
    assert_true(trace_parse(text_of("01-" ID "-00f067aa0ba902b7-01-what-comes-later"), parent));
    assert_string_equal(parent, PARENT);
}

static void test_a_wrong_parent_is_none(void **state) {
    (void)state;
    static const char *const wrong[] = {
        "",
        "00",
        "00-" ID "-00f067aa0ba902b7-0",
        "00-" ID "-00f067aa0ba902b7-011",
        "00-" ID "-00f067aa0ba902b7-01-",
        "00-" ID "-00f067aa0ba902b7-01-more",
        "01-" ID "-00f067aa0ba902b7-01more",
        "ff-" ID "-00f067aa0ba902b7-01",
        "0F-" ID "-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-" ID "-0000000000000000-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-" ID "-00f067aa0ba902b7-0g",
        "00_" ID "-00f067aa0ba902b7-01",
        "00-" ID "_00f067aa0ba902b7-01",
        "00-" ID "-00f067aa0ba902b7_01",
        " 0-" ID "-00f067aa0ba902b7-01",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char parent[TRACE_PARENT_SIZE] = "left over";
        if (trace_parse(text_of(wrong[i]), parent) || parent[0])
            fail_msg("\"%s\" was taken", wrong[i]);
        assert_int_equal(trace_id(parent).length, 0);
    }
    char parent[TRACE_PARENT_SIZE];
    assert_false(trace_parse((struct text){NULL, 0}, parent));
}

static void copy_current(void *argument) {
    strcpy(argument, trace_current());
}

static void test_a_new_thread_works_for_the_trace_of_the_thread_that_starts_it(void **state) {
    (void)state;
    char seen[TRACE_PARENT_SIZE] = "", later[TRACE_PARENT_SIZE] = "x";
    pthread_t thread;
    assert_string_equal(trace_current(), "");
    trace_set(PARENT);
    assert_true(thread_start("traced", THREAD_STACK, copy_current, seen, &thread, NULL));
    pthread_join(thread, NULL);
    assert_string_equal(seen, PARENT);
    trace_set("");
    assert_true(thread_start("untraced", THREAD_STACK, copy_current, later, &thread, NULL));
    pthread_join(thread, NULL);
    assert_string_equal(later, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_right_parent_is_read),
        cmocka_unit_test(test_a_later_version_is_passed_on_as_this_one),
        cmocka_unit_test(test_a_wrong_parent_is_none),
        cmocka_unit_test(test_a_new_thread_works_for_the_trace_of_the_thread_that_starts_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
