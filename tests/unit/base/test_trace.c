/* traceparent and tracestate: which values count, and which threads work for it. */
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

static void test_right_entries_of_the_state_are_joined(void **state) {
    (void)state;
    char joined[TRACE_STATE_SIZE] = "";
    assert_true(trace_add_state(text_of(" rojo=00f067aa0ba902b7 ,\t, congo=t61 a~!"), joined));
    assert_string_equal(joined, "rojo=00f067aa0ba902b7,congo=t61 a~!");
    assert_true(trace_add_state(text_of("0fw@dt-x=a/b:c,a_-*/9= x"), joined));
    assert_string_equal(joined, "rojo=00f067aa0ba902b7,congo=t61 a~!,0fw@dt-x=a/b:c,a_-*/9= x");
    assert_true(trace_add_state(text_of(""), joined));
}

static void test_a_wrong_entry_makes_the_state_none(void **state) {
    (void)state;
    static const char *const wrong[] = {
        "a",          "=b",       "a=",     "A=b",
        "1=b",        "a=b=c",    "a b=c",  "a=\x01",
        "a=\xc3\xa9", "a@=b",     "@a=b",   "a@1=b",
        "a@b@c=d",    "a=b;\"c=", "a=\x7f", "a@abcdefghijklmno=b",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char joined[TRACE_STATE_SIZE] = "right=1";
        if (trace_add_state(text_of(wrong[i]), joined) || joined[0])
            fail_msg("\"%s\" was taken", wrong[i]);
    }
    char joined[TRACE_STATE_SIZE] = "", many[200] = "";
    for (int i = 0; i < 33; i++)
        strcat(many, "a=b,");
    assert_false(trace_add_state(text_of(many), joined));
}

static void test_entries_that_do_not_fit_are_left_out_from_the_right(void **state) {
    (void)state;
    char joined[TRACE_STATE_SIZE] = "", value[1000] = "a=";
    memset(value + 2, 'x', 250);
    strcat(value, ",b=");
    memset(value + strlen(value), 'y', 255);
    strcat(value, ",c=d");
    assert_true(trace_add_state(text_of(value), joined));
    *strrchr(value, ',') = '\0';
    assert_int_equal(strlen(joined), 252 + 1 + 257);
    assert_string_equal(joined, value);
    char none[TRACE_STATE_SIZE] = "", long_value[300] = "a=";
    memset(long_value + 2, 'x', 257);
    assert_false(trace_add_state(text_of(long_value), none));
}

static void copy_current(void *argument) {
    memcpy(argument, trace_current(), sizeof(struct trace));
}

static void test_a_new_thread_works_for_the_trace_of_the_thread_that_starts_it(void **state) {
    (void)state;
    const struct trace trace = {.parent = PARENT, .state = "a=b"}, only_state = {.state = "a=b"};
    struct trace seen = {0}, later = {.parent = "x", .state = "y"};
    pthread_t thread;
    assert_string_equal(trace_current()->parent, "");
    trace_set(&trace);
    assert_true(thread_start("traced", THREAD_STACK, copy_current, &seen, &thread, NULL));
    pthread_join(thread, NULL);
    assert_string_equal(seen.parent, PARENT);
    assert_string_equal(seen.state, "a=b");
    trace_set(&only_state);
    assert_string_equal(trace_current()->state, "");
    trace_set(NULL);
    assert_true(thread_start("untraced", THREAD_STACK, copy_current, &later, &thread, NULL));
    pthread_join(thread, NULL);
    assert_string_equal(later.parent, "");
    assert_string_equal(later.state, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_right_parent_is_read),
        cmocka_unit_test(test_a_later_version_is_passed_on_as_this_one),
        cmocka_unit_test(test_a_wrong_parent_is_none),
        cmocka_unit_test(test_right_entries_of_the_state_are_joined),
        cmocka_unit_test(test_a_wrong_entry_makes_the_state_none),
        cmocka_unit_test(test_entries_that_do_not_fit_are_left_out_from_the_right),
        cmocka_unit_test(test_a_new_thread_works_for_the_trace_of_the_thread_that_starts_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
