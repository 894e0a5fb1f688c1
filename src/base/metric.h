/*
 * The process's metrics, in Prometheus' text format (exposition format 0.0.4).
 *
 * A metric is made once for each combination of labels and lives as long as the process; asking
 * again for the same name and labels gives the same one. Adding is one atomic operation, without a
 * lock; finding one takes a lock, so keep the pointer where it is used often.
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
 * `name` and `help` must outlive the process (string literals). `labels` is the inside of the
 * braces, as `type="blob",upstream="docker.io"`, or ""; values must be escaped already and must
 * come from a small fixed set, never from a client. Never NULL: out of memory gives a metric that
 * is counted but not shown.
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

/* Appends all metrics, those of one name together under one HELP and TYPE. */
void metric_write(struct buffer *out);

#endif
