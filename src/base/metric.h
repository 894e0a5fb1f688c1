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
 *
 * A histogram counts durations by length: its metric has a cell for each bucket and one for the sum
 * in each stripe, so that an observation is two additions without a lock: 8 to 10 ns, where a
 * counter takes 2 to 3 (two busy cores).
 */
#ifndef BASE_METRIC_H
#define BASE_METRIC_H

#include <stdatomic.h>
#include <stdint.h>
#include "base/buffer.h"

enum metric_type {
    METRIC_COUNTER,
    METRIC_GAUGE,
    METRIC_HISTOGRAM,       /* of durations; metric_observe() alone changes it */
    METRIC_LONG_HISTOGRAM,  /* of durations from 1 s to 1 h; metric_observe_long() changes it */
    METRIC_SECONDS_COUNTER, /* its value is in microseconds and is shown in seconds; metric_set() */
    METRIC_SECONDS_GAUGE,   /* the same */
};

enum {
    METRIC_STRIPES = 8,       /* a power of two */
    METRIC_STRIPE_CELLS = 64, /* of one stripe, beside each other: a stripe shares no cache line */
    METRIC_BOUNDS = 19,       /* of a histogram's buckets */
    METRIC_BUCKETS = METRIC_BOUNDS + 1, /* the last one has no bound */
};

/* The upper bounds of the buckets in microseconds, 100 us to 1000 s, rising. */
extern const int64_t metric_bounds_us[METRIC_BOUNDS];

/* Those of a METRIC_LONG_HISTOGRAM, 1 s to 1 h. */
extern const int64_t metric_long_bounds_us[METRIC_BOUNDS];

/* The name and the help of the counter of all that was refused or cut because somebody had its
 * share, with the label `reason`; for the rooms that refuse. */
#define METRIC_REFUSED "tarn_refused_total"
#define METRIC_REFUSED_HELP                                                                        \
    "Requests and connections that were refused or cut to protect others, by reason."

struct metric {
    _Atomic int64_t *cells; /* the cell in the first stripe; see metric_add() for the others */
    unsigned stripes_mask;  /* METRIC_STRIPES - 1, or 0: it has one stripe, because it is set */
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

/* Lets metric_write() name a family before it has a metric, so that whoever reads the metrics
 * learns that it exists. `name` and `help` as above. */
void metric_declare(enum metric_type type, const char *name, const char *help);

/* The calling thread's stripe, 1 to METRIC_STRIPES; 0 until metric_take_stripe() has chosen one. */
extern _Thread_local unsigned metric_stripe;
unsigned metric_take_stripe(void);

/* The metric's first cell in the calling thread's stripe. */
static inline _Atomic int64_t *metric_own_cells(const struct metric *metric) {
    unsigned stripe = metric_stripe ? metric_stripe : metric_take_stripe();
    return &metric->cells[(stripe & metric->stripes_mask) * METRIC_STRIPE_CELLS];
}

/* For counters and gauges. */
static inline void metric_add(struct metric *metric, int64_t amount) {
    atomic_fetch_add_explicit(metric_own_cells(metric), amount, memory_order_relaxed);
}

static inline void metric_observe_by(struct metric *metric, const int64_t *bounds_us,
                                     int64_t duration_us) {
    _Atomic int64_t *cells = metric_own_cells(metric);
    unsigned bucket = 0;
    while (bucket < METRIC_BOUNDS && duration_us > bounds_us[bucket])
        bucket++;
    atomic_fetch_add_explicit(&cells[bucket], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&cells[METRIC_BUCKETS], duration_us, memory_order_relaxed);
}

/* For histograms: counts a duration. A request that takes long pays for the longer search. */
static inline void metric_observe(struct metric *metric, int64_t duration_us) {
    metric_observe_by(metric, metric_bounds_us, duration_us);
}
static inline void metric_observe_long(struct metric *metric, int64_t duration_us) {
    metric_observe_by(metric, metric_long_bounds_us, duration_us);
}

/* For gauges and counters of seconds only. */
static inline void metric_set(struct metric *metric, int64_t value) {
    atomic_store_explicit(metric->cells, value, memory_order_relaxed);
}

/* What was added by all threads. What a thread adds meanwhile may be missing. Takes no lock. Not
 * for histograms. */
int64_t metric_value(const struct metric *metric);

/* What a histogram has counted. */
struct metric_durations {
    int64_t buckets[METRIC_BUCKETS]; /* observations of each bucket alone, not of those below it */
    int64_t count;                   /* all of them */
    int64_t sum_us;
};
/* As metric_value(), for a histogram. */
void metric_durations(const struct metric *metric, struct metric_durations *out);

/* Appends all metrics. Metrics of one name stand together below one HELP and one TYPE line. */
void metric_write(struct buffer *out);

#endif
