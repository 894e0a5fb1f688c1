/*
 * The process's metrics, in Prometheus' text format (exposition format 0.0.4).
 *
 * A metric is made once for each combination of labels and lives as long as the process. Asking
 * again for the same name and labels gives the same metric. Finding a metric takes a lock, so that
 * frequent callers keep the pointer. Any thread may call these functions.
 *
 * A counter has a cell in each of METRIC_STRIPES stripes of memory. A thread adds to its own stripe
 * only, so that threads on several processors do not wait for each other's cache lines. Reading
 * adds the cells up. A gauge has one cell.
 */
#ifndef BASE_METRIC_H
#define BASE_METRIC_H

#include <stdatomic.h>
#include <stdint.h>
#include "base/buffer.h"

enum metric_type { METRIC_COUNTER, METRIC_GAUGE };

enum {
    METRIC_STRIPES = 8,      /* a power of two */
    METRIC_STRIPE_CELLS = 64 /* of one stripe, beside each other: a stripe shares no cache line */
};

/* The name and the help of the counter of all that was refused or cut because somebody had its
 * share, with the label `reason`; for the rooms that refuse. */
#define METRIC_REFUSED "tarn_refused_total"
#define METRIC_REFUSED_HELP                                                                        \
    "Requests and connections that were refused or cut to protect others, by reason."

struct metric {
    _Atomic int64_t *cells; /* the cell in the first stripe; see metric_add() for the others */
    unsigned stripes_mask;  /* METRIC_STRIPES - 1, or 0 for a gauge */
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

/* The calling thread's stripe, 1 to METRIC_STRIPES; 0 until metric_take_stripe() has chosen one. */
extern _Thread_local unsigned metric_stripe;
unsigned metric_take_stripe(void);

static inline void metric_add(struct metric *metric, int64_t amount) {
    unsigned stripe = metric_stripe ? metric_stripe : metric_take_stripe();
    atomic_fetch_add_explicit(&metric->cells[(stripe & metric->stripes_mask) * METRIC_STRIPE_CELLS],
                              amount, memory_order_relaxed);
}

/* For gauges only. */
static inline void metric_set(struct metric *metric, int64_t value) {
    atomic_store_explicit(metric->cells, value, memory_order_relaxed);
}

/* What was added by all threads. What a thread adds meanwhile may be missing. */
int64_t metric_value(const struct metric *metric);

/* Appends all metrics. Metrics of one name stand together below one HELP and one TYPE line. */
void metric_write(struct buffer *out);

#endif
