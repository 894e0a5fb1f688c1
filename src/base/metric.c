/* The process's metrics: families of series in two lists that only grow, and their cells. */
#include "base/metric.h"

#include <stdlib.h>
#include "base/lock.h"

struct series {
    struct metric metric; /* first: a metric's address is its series' address */
    char *labels;
    struct series *next;
};

struct family {
    enum metric_type type;
    const char *name, *help;
    struct series *first;
    struct family *next;
};

enum { CACHE_LINE = 64 };

/* The cells of METRIC_STRIPE_CELLS metrics, stripe by stripe. */
struct block {
    _Alignas(CACHE_LINE) _Atomic int64_t cells[METRIC_STRIPES * METRIC_STRIPE_CELLS];
};

enum { HISTOGRAM_CELLS = METRIC_BUCKETS + 1 }; /* the last one is the sum */

const int64_t metric_bounds_us[METRIC_BOUNDS] = {
    100,    250,    500,     1000,    2500,    5000,     10000,    25000,     50000,     100000,
    250000, 500000, 1000000, 2500000, 5000000, 10000000, 30000000, 100000000, 1000000000};

static struct lock families_lock = LOCK_INITIALIZER; /* guards the lists and blocks, not values */
static struct family *families GUARDED_BY(families_lock);
static struct block *
    last_block GUARDED_BY(families_lock); /* where the next metric gets its cells */
static unsigned last_block_used GUARDED_BY(families_lock); /* cells of a stripe */

_Thread_local unsigned metric_stripe;

/* Threads get the stripes in turn. */
unsigned metric_take_stripe(void) {
    static _Atomic unsigned taken;
    metric_stripe = 1 + atomic_fetch_add_explicit(&taken, 1, memory_order_relaxed) % METRIC_STRIPES;
    return metric_stripe;
}

/* The first of a new metric's cells, `count` beside each other; NULL when out of memory. */
static _Atomic int64_t *take_cells(unsigned count) REQUIRES(families_lock) {
    if (!last_block || last_block_used + count > METRIC_STRIPE_CELLS) {
        struct block *block = aligned_alloc(CACHE_LINE, sizeof *block);
        if (!block)
            return NULL;
        memset(block, 0, sizeof *block);
        last_block = block;
        last_block_used = 0;
    }
    last_block_used += count;
    return &last_block->cells[last_block_used - count];
}

static struct family *find_or_add_family(enum metric_type type, const char *name, const char *help)
    REQUIRES(families_lock) {
    struct family **slot = &families;
    for (; *slot; slot = &(*slot)->next) {
        if (strcmp((*slot)->name, name) == 0)
            return *slot;
    }
    struct family *family = calloc(1, sizeof *family);
    if (family) {
        *family = (struct family){.type = type, .name = name, .help = help};
        *slot = family;
    }
    return family;
}

/* NULL when out of memory. */
static struct series *make_series(enum metric_type type, const char *labels)
    REQUIRES(families_lock) {
    struct series *series = calloc(1, sizeof *series);
    if (!series)
        return NULL;
    series->labels = strdup(labels);
    const bool is_added_to = type == METRIC_COUNTER || type == METRIC_HISTOGRAM;
    const unsigned count = type == METRIC_HISTOGRAM ? HISTOGRAM_CELLS : 1;
    series->metric.cells = series->labels ? take_cells(count) : NULL;
    series->metric.stripes_mask = is_added_to ? METRIC_STRIPES - 1 : 0;
    if (series->metric.cells)
        return series;
    free(series->labels);
    free(series);
    return NULL;
}

static struct series *find_or_add_series(struct family *family, const char *labels)
    REQUIRES(families_lock) {
    struct series **slot = &family->first;
    for (; *slot; slot = &(*slot)->next) {
        if (strcmp((*slot)->labels, labels) == 0)
            return *slot;
    }
    return *slot = make_series(family->type, labels);
}

struct metric *metric_get(enum metric_type type, const char *name, const char *help,
                          const char *labels) {
    static _Atomic int64_t unseen_cells[HISTOGRAM_CELLS];
    static struct metric unseen = {.cells = unseen_cells}; /* not shown, because memory is out */
    lock_acquire(&families_lock);
    struct family *family = find_or_add_family(type, name, help);
    struct series *series = family ? find_or_add_series(family, labels) : NULL;
    lock_release(&families_lock);
    return series ? &series->metric : &unseen;
}

void metric_declare(enum metric_type type, const char *name, const char *help) {
    lock_acquire(&families_lock);
    find_or_add_family(type, name, help);
    lock_release(&families_lock);
}

/* ---- reading ---- */

static int64_t sum_of_cell(const struct metric *metric, unsigned cell) {
    int64_t sum = 0;
    for (unsigned stripe = 0; stripe <= metric->stripes_mask; stripe++)
        sum += atomic_load_explicit(&metric->cells[stripe * METRIC_STRIPE_CELLS + cell],
                                    memory_order_relaxed);
    return sum;
}

int64_t metric_value(const struct metric *metric) {
    return sum_of_cell(metric, 0);
}

void metric_durations(const struct metric *metric, struct metric_durations *out) {
    out->count = 0;
    for (unsigned bucket = 0; bucket < METRIC_BUCKETS; bucket++) {
        out->buckets[bucket] = sum_of_cell(metric, bucket);
        out->count += out->buckets[bucket];
    }
    out->sum_us = sum_of_cell(metric, METRIC_BUCKETS);
}

/* ---- writing ---- */

static const char *type_name(enum metric_type type) {
    switch (type) {
    case METRIC_COUNTER:
    case METRIC_SECONDS_COUNTER:
        return "counter";
    case METRIC_HISTOGRAM:
        return "histogram";
    case METRIC_GAUGE:
    case METRIC_SECONDS_GAUGE:
        break;
    }
    return "gauge";
}

/* Microseconds as seconds, exactly. */
static void write_seconds(struct buffer *out, int64_t us) {
    uint64_t size = us < 0 ? -(uint64_t)us : (uint64_t)us;
    buffer_printf(out, "%s%llu.%06llu\n", us < 0 ? "-" : "", (unsigned long long)(size / 1000000),
                  (unsigned long long)(size % 1000000));
}

static void write_value(struct buffer *out, const struct family *family,
                        const struct series *series) {
    const char *open = *series->labels ? "{" : "", *close = *series->labels ? "}" : "";
    const int64_t value = metric_value(&series->metric);
    buffer_printf(out, "%s%s%s%s ", family->name, open, series->labels, close);
    if (family->type == METRIC_SECONDS_COUNTER || family->type == METRIC_SECONDS_GAUGE)
        write_seconds(out, value);
    else
        buffer_printf(out, "%lld\n", (long long)value);
}

static void write_histogram(struct buffer *out, const struct family *family,
                            const struct series *series) {
    struct metric_durations durations;
    metric_durations(&series->metric, &durations);
    const char *labels = series->labels, *comma = *labels ? "," : "";
    const char *open = *labels ? "{" : "", *close = *labels ? "}" : "";
    long long below = 0;
    for (unsigned i = 0; i < METRIC_BOUNDS; i++) {
        below += durations.buckets[i];
        buffer_printf(out, "%s_bucket{%s%sle=\"%g\"} %lld\n", family->name, labels, comma,
                      (double)metric_bounds_us[i] / 1e6, below);
    }
    buffer_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %lld\n", family->name, labels, comma,
                  (long long)durations.count);
    buffer_printf(out, "%s_sum%s%s%s ", family->name, open, labels, close);
    write_seconds(out, durations.sum_us);
    buffer_printf(out, "%s_count%s%s%s %lld\n", family->name, open, labels, close,
                  (long long)durations.count);
}

void metric_write(struct buffer *out) {
    lock_acquire(&families_lock);
    for (struct family *family = families; family; family = family->next) {
        buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n", family->name, family->help, family->name,
                      type_name(family->type));
        for (struct series *series = family->first; series; series = series->next) {
            if (family->type == METRIC_HISTOGRAM)
                write_histogram(out, family, series);
            else
                write_value(out, family, series);
        }
    }
    lock_release(&families_lock);
}
