/* Metrics in Prometheus' text format. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>
#include "base/metric.h"
#include "base/thread.h"

static void test_metrics_of_one_name_stand_under_one_heading(void **state) {
    (void)state;
    cleanup_buffer struct buffer out = {0};
    metric_add(metric_get(METRIC_COUNTER, "test_hits_total", "Hits.", "type=\"blob\""), 2);
    metric_set(metric_get(METRIC_GAUGE, "test_bytes", "Bytes.", ""), -5);
    metric_add(metric_get(METRIC_COUNTER, "test_hits_total", "Hits.", "type=\"manifest\""), 1);
    metric_add(metric_get(METRIC_COUNTER, "test_hits_total", "Hits.", "type=\"blob\""), 1);
    metric_write(&out);
    assert_string_equal(out.bytes, "# HELP test_hits_total Hits.\n"
                                   "# TYPE test_hits_total counter\n"
                                   "test_hits_total{type=\"blob\"} 3\n"
                                   "test_hits_total{type=\"manifest\"} 1\n"
                                   "# HELP test_bytes Bytes.\n"
                                   "# TYPE test_bytes gauge\n"
                                   "test_bytes -5\n");
}

enum { THREADS = 2 * METRIC_STRIPES + 1, ADDED = 1000, MANY = 3 * METRIC_STRIPE_CELLS };

static void add(void *argument) {
    (void)argument;
    for (int i = 0; i < ADDED; i++) {
        metric_add(metric_get(METRIC_COUNTER, "test_added_total", "Added.", ""), 2);
        metric_add(metric_get(METRIC_GAUGE, "test_level", "Level.", ""), -1);
    }
}

static void test_what_threads_add_is_added_up(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_true(thread_start("adder", THREAD_STACK, add, NULL, &threads[i], NULL));
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(metric_value(metric_get(METRIC_COUNTER, "test_added_total", "Added.", "")),
                     2 * THREADS * ADDED);
    assert_int_equal(metric_value(metric_get(METRIC_GAUGE, "test_level", "Level.", "")),
                     -THREADS * ADDED);
}

static void add_to_each(void *argument) {
    (void)argument;
    char labels[32];
    for (int i = 0; i < MANY; i++) {
        snprintf(labels, sizeof labels, "number=\"%d\"", i);
        metric_add(metric_get(METRIC_COUNTER, "test_many_total", "Many.", labels), i);
    }
}

static void test_metrics_do_not_touch_each_others_values(void **state) {
    (void)state;
    pthread_t threads[METRIC_STRIPES];
    for (int i = 0; i < METRIC_STRIPES; i++)
        assert_true(thread_start("adder", THREAD_STACK, add_to_each, NULL, &threads[i], NULL));
    for (int i = 0; i < METRIC_STRIPES; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < MANY; i++) {
        char labels[32];
        snprintf(labels, sizeof labels, "number=\"%d\"", i);
        assert_int_equal(
            metric_value(metric_get(METRIC_COUNTER, "test_many_total", "Many.", labels)),
            METRIC_STRIPES * i);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_metrics_of_one_name_stand_under_one_heading),
        cmocka_unit_test(test_what_threads_add_is_added_up),
        cmocka_unit_test(test_metrics_do_not_touch_each_others_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
