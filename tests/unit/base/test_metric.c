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

static void observe(void *argument) {
    (void)argument;
    struct metric *metric =
        metric_get(METRIC_HISTOGRAM, "test_seconds", "Durations.", "type=\"blob\"");
    for (int i = 0; i < ADDED; i++) {
        metric_observe(metric, 100); /* a bound belongs to its bucket */
        metric_observe(metric, 101);
        metric_observe(metric, INT64_C(5000000000)); /* longer than every bound */
    }
}

static void test_a_histogram_counts_durations_by_length(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_true(thread_start("observer", THREAD_STACK, observe, NULL, &threads[i], NULL));
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    struct metric_durations durations;
    metric_durations(metric_get(METRIC_HISTOGRAM, "test_seconds", "Durations.", "type=\"blob\""),
                     &durations);
    const int64_t each = THREADS * ADDED;
    assert_int_equal(durations.count, 3 * each);
    assert_int_equal(durations.buckets[0], each);
    assert_int_equal(durations.buckets[1], each);
    assert_int_equal(durations.buckets[METRIC_BUCKETS - 1], each);
    assert_int_equal(durations.sum_us, each * INT64_C(5000000201));
}

static void assert_written(const struct buffer *text, const char *line) {
    if (!strstr(text->bytes, line))
        fail_msg("%s is not in:\n%s", line, text->bytes);
}

static void test_durations_are_written_in_seconds_and_buckets_include_those_below(void **state) {
    (void)state;
    cleanup_buffer struct buffer out = {0};
    struct metric *metric = metric_get(METRIC_HISTOGRAM, "test_wait_seconds", "Waits.", "");
    metric_observe(metric, 100);
    metric_observe(metric, 2500);
    metric_observe(metric, 1500000);
    metric_set(metric_get(METRIC_SECONDS_GAUGE, "test_start_seconds", "Start.", ""), -1500001);
    metric_set(metric_get(METRIC_SECONDS_COUNTER, "test_cpu_seconds_total", "CPU.", ""), 7);
    metric_declare(METRIC_GAUGE, "test_unknown_yet", "Declared.");
    metric_write(&out);
    assert_written(&out, "# TYPE test_wait_seconds histogram\n"
                         "test_wait_seconds_bucket{le=\"0.0001\"} 1\n"
                         "test_wait_seconds_bucket{le=\"0.00025\"} 1\n");
    assert_written(&out, "test_wait_seconds_bucket{le=\"0.0025\"} 2\n");
    assert_written(&out, "test_wait_seconds_bucket{le=\"1\"} 2\n"
                         "test_wait_seconds_bucket{le=\"2.5\"} 3\n");
    assert_written(&out, "test_wait_seconds_bucket{le=\"1000\"} 3\n"
                         "test_wait_seconds_bucket{le=\"+Inf\"} 3\n"
                         "test_wait_seconds_sum 1.502600\n"
                         "test_wait_seconds_count 3\n");
    assert_written(&out, "# TYPE test_start_seconds gauge\ntest_start_seconds -1.500001\n");
    assert_written(&out,
                   "# TYPE test_cpu_seconds_total counter\ntest_cpu_seconds_total 0.000007\n");
    assert_written(&out, "# HELP test_unknown_yet Declared.\n# TYPE test_unknown_yet gauge\n");
}

static void test_a_long_histogram_tells_minutes_apart_up_to_an_hour(void **state) {
    (void)state;
    cleanup_buffer struct buffer out = {0};
    struct metric *metric = metric_get(METRIC_LONG_HISTOGRAM, "test_pull_seconds", "Pulls.", "");
    metric_observe_long(metric, 999999);
    metric_observe_long(metric, INT64_C(1300) * 1000000);
    metric_observe_long(metric, INT64_C(3600) * 1000000);
    metric_observe_long(metric, INT64_C(3601) * 1000000);
    metric_write(&out);
    assert_written(&out, "# TYPE test_pull_seconds histogram\n"
                         "test_pull_seconds_bucket{le=\"1\"} 1\n");
    assert_written(&out, "test_pull_seconds_bucket{le=\"1200\"} 1\n"
                         "test_pull_seconds_bucket{le=\"1800\"} 2\n"
                         "test_pull_seconds_bucket{le=\"3600\"} 3\n"
                         "test_pull_seconds_bucket{le=\"+Inf\"} 4\n");
    for (unsigned i = 1; i < METRIC_BOUNDS; i++)
        assert_true(metric_long_bounds_us[i] > metric_long_bounds_us[i - 1]);
}

static void test_a_histogram_touches_no_other_metric(void **state) {
    (void)state;
    char labels[32];
    for (int i = 0; i < 10; i++) {
        snprintf(labels, sizeof labels, "number=\"%d\"", i);
        metric_add(metric_get(METRIC_COUNTER, "test_beside_total", "Beside.", labels), 1);
        struct metric *metric = metric_get(METRIC_HISTOGRAM, "test_beside_seconds", "B.", labels);
        for (unsigned bucket = 0; bucket < METRIC_BOUNDS; bucket++)
            metric_observe(metric, metric_bounds_us[bucket]);
    }
    for (int i = 0; i < 10; i++) {
        struct metric_durations durations;
        snprintf(labels, sizeof labels, "number=\"%d\"", i);
        assert_int_equal(
            metric_value(metric_get(METRIC_COUNTER, "test_beside_total", "Beside.", labels)), 1);
        metric_durations(metric_get(METRIC_HISTOGRAM, "test_beside_seconds", "B.", labels),
                         &durations);
        assert_int_equal(durations.count, METRIC_BOUNDS);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_metrics_of_one_name_stand_under_one_heading),
        cmocka_unit_test(test_what_threads_add_is_added_up),
        cmocka_unit_test(test_metrics_do_not_touch_each_others_values),
        cmocka_unit_test(test_a_histogram_counts_durations_by_length),
        cmocka_unit_test(test_durations_are_written_in_seconds_and_buckets_include_those_below),
        cmocka_unit_test(test_a_long_histogram_tells_minutes_apart_up_to_an_hour),
        cmocka_unit_test(test_a_histogram_touches_no_other_metric),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
