/* Metrics in Prometheus' text format. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "base/metric.h"

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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_metrics_of_one_name_stand_under_one_heading),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
