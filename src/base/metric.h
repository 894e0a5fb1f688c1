/*
 * The process's metrics, in Prometheus' text format (exposition format 0.0.4).
 *
 * A metric is made once for each combination of labels and lives as long as the process. Asking
 * again for the same name and labels gives the same metric. Adding is one atomic operation without
 * a lock. Finding a metric takes a lock, so that frequent callers keep the pointer. Any thread may
 * call these functions.
 */
#ifndef BASE_METRIC_H
#define BASE_METRIC_H

#include <stdatomic.h>
#include <stdint.h>
#include "base/buffer.h"

enum metric_type { METRIC_COUNTER, METRIC_GAUGE };

struct metric {
    _Atomic int64_t value;
};

/*
 * `name` and `help` are string literals, because they are used as long as the process lives.
 * `labels` is the text between the braces, for example `type="blob",upstream="docker.io"`, or "".
 * The labels' values are escaped already and come from a small fixed set, never from a client,
 * because no metric is ever freed. Never NULL: when memory is out, the metric is counted but not
 * shown.
 */
struct metric *metric_get(enum metric_type type, const char *name, const char *help,
                          const char *labels);

static inline void metric_add(struct metric *metric, int64_t amount) {
    atomic_fetch_add_explicit(&metric->value, amount, memory_order_relaxed);
}

static inline void metric_set(struct metric *metric, int64_t value) {
    atomic_store_explicit(&metric->value, value, memory_order_relaxed);
}

static inline int64_t metric_value(struct metric *metric) {
    return atomic_load_explicit(&metric->value, memory_order_relaxed);
}

/* Appends all metrics. Metrics of one name stand together below one HELP and one TYPE line. */
void metric_write(struct buffer *out);

#endif
