/*
 * The process's metrics: families of series in lists that only grow, and their cells.
 *
 * Readers follow the lists without a lock, so that nobody who counts ever waits for a thread that
 * writes all metrics. An entry is complete before a list leads to it.
 */
#include "base/metric.h"

#include <stdlib.h>
#include "base/lock.h"

struct series {
    struct metric metric; /* first: a metric's address is its series' address */
    char *labels;
    _Atomic(struct series *) next;
};

struct family {
    enum metric_type type;
    const char *name, *help;
    _Atomic(struct series *) first;
    _Atomic(struct family *) next;
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
/* The same in seconds, as the metrics show them. */
static const char *const bounds_s[METRIC_BOUNDS] = {
    "0.0001", "0.00025", "0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1",
    "0.25",   "0.5",     "1",      "2.5",   "5",      "10",    "30",   "100",   "1000"};

#define SECONDS(count) ((count)*INT64_C(1000000))
const int64_t metric_long_bounds_us[METRIC_BOUNDS] = {
    SECONDS(1),   SECONDS(2),    SECONDS(3),    SECONDS(5),   SECONDS(10),
    SECONDS(15),  SECONDS(20),   SECONDS(30),   SECONDS(45),  SECONDS(60),
    SECONDS(90),  SECONDS(120),  SECONDS(180),  SECONDS(300), SECONDS(450),
    SECONDS(600), SECONDS(1200), SECONDS(1800), SECONDS(3600)};
#undef SECONDS
static const char *const long_bounds_s[METRIC_BOUNDS] = {
    "1",  "2",   "3",   "5",   "10",  "15",  "20",   "30",   "45",  "60",
    "90", "120", "180", "300", "450", "600", "1200", "1800", "3600"};

static struct lock families_lock = LOCK_INITIALIZER; /* held to add to the lists and blocks */
static _Atomic(struct family *) families;
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

/* Where the list leads to the family of that name, or ends. */
static _Atomic(struct family *) *find_family(const char *name) {
    _Atomic(struct family *) *slot = &families;
    const struct family *family;
    while ((family = atomic_load(slot)) && strcmp(family->name, name) != 0)
        slot = &atomic_load(slot)->next;
    return slot;
}

static _Atomic(struct series *) *find_series(struct family *family, const char *labels) {
    _Atomic(struct series *) *slot = &family->first;
    const struct series *series;
    while ((series = atomic_load(slot)) && strcmp(series->labels, labels) != 0)
        slot = &atomic_load(slot)->next;
    return slot;
}

static struct family *find_or_add_family(enum metric_type type, const char *name, const char *help)
    REQUIRES(families_lock) {
    _Atomic(struct family *) *slot = find_family(name);
    if (atomic_load(slot))
        return atomic_load(slot);
    struct family *family = calloc(1, sizeof *family);
    if (family) {
        *family = (struct family){.type = type, .name = name, .help = help};
        atomic_store(slot, family);
    }
    return family;
}

static bool is_histogram(enum metric_type type) {
    return type == METRIC_HISTOGRAM || type == METRIC_LONG_HISTOGRAM;
}

/* NULL when out of memory. */
static struct series *make_series(enum metric_type type, const char *labels)
    REQUIRES(families_lock) {
    struct series *series = calloc(1, sizeof *series);
    if (!series)
        return NULL;
    series->labels = strdup(labels);
    const bool is_added_to = type == METRIC_COUNTER || is_histogram(type);
    const unsigned count = is_histogram(type) ? HISTOGRAM_CELLS : 1;
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
    _Atomic(struct series *) *slot = find_series(family, labels);
    if (!atomic_load(slot))
        atomic_store(slot, make_series(family->type, labels));
    return atomic_load(slot);
}

static struct series *add_series(enum metric_type type, const char *name, const char *help,
                                 const char *labels) {
    lock_acquire(&families_lock);
    struct family *family = find_or_add_family(type, name, help);
    struct series *series = family ? find_or_add_series(family, labels) : NULL;
    lock_release(&families_lock);
    return series;
}

struct metric *metric_get(enum metric_type type, const char *name, const char *help,
                          const char *labels) {
    static _Atomic int64_t unseen_cells[HISTOGRAM_CELLS];
    static struct metric unseen = {.cells = unseen_cells}; /* not shown, because memory is out */
    struct family *family = atomic_load(find_family(name));
    struct series *series = family ? atomic_load(find_series(family, labels)) : NULL;
    if (!series)
        series = add_series(type, name, help, labels);
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
    case METRIC_LONG_HISTOGRAM:
        return "histogram";
    case METRIC_GAUGE:
    case METRIC_SECONDS_GAUGE:
        break;
    }
    return "gauge";
}

/* Microseconds as seconds, exactly. */
static void write_seconds(struct buffer *out, int64_t us) {
    const uint64_t size = us < 0 ? -(uint64_t)us : (uint64_t)us;
    char part[] = ".000000\n";
    uint64_t rest = size % 1000000;
    for (int i = 6; i > 0; i--, rest /= 10)
        part[i] = (char)('0' + rest % 10);
    buffer_append(out, "-", us < 0);
    buffer_append_number(out, (int64_t)(size / 1000000));
    buffer_append(out, part, sizeof part - 1);
}

static void write_strings(struct buffer *out, const char *const *strings) {
    for (; *strings; strings++)
        buffer_append_string(out, *strings);
}
/* Appends one string after the other. printf() would take most of the time that a page of metrics
 * takes, and event loops write it. */
#define WRITE(out, ...) write_strings(out, (const char *const[]){__VA_ARGS__, NULL})

static void write_count(struct buffer *out, int64_t count) {
    buffer_append_number(out, count);
    buffer_append(out, "\n", 1);
}

static void write_value(struct buffer *out, const struct family *family,
                        const struct series *series) {
    const char *open = *series->labels ? "{" : "", *close = *series->labels ? "} " : " ";
    const int64_t value = metric_value(&series->metric);
    WRITE(out, family->name, open, series->labels, close);
    if (family->type == METRIC_SECONDS_COUNTER || family->type == METRIC_SECONDS_GAUGE)
        write_seconds(out, value);
    else
        write_count(out, value);
}

static void write_histogram(struct buffer *out, const struct family *family,
                            const struct series *series) {
    const char *const *bounds = family->type == METRIC_HISTOGRAM ? bounds_s : long_bounds_s;
    struct metric_durations durations;
    metric_durations(&series->metric, &durations);
    const char *labels = series->labels, *comma = *labels ? "," : "";
    const char *open = *labels ? "{" : "", *close = *labels ? "} " : " ";
    int64_t below = 0;
    for (unsigned i = 0; i < METRIC_BOUNDS; i++) {
        below += durations.buckets[i];
        WRITE(out, family->name, "_bucket{", labels, comma, "le=\"", bounds[i], "\"} ");
        write_count(out, below);
    }
    WRITE(out, family->name, "_bucket{", labels, comma, "le=\"+Inf\"} ");
    write_count(out, durations.count);
    WRITE(out, family->name, "_sum", open, labels, close);
    write_seconds(out, durations.sum_us);
    WRITE(out, family->name, "_count", open, labels, close);
    write_count(out, durations.count);
}

void metric_write(struct buffer *out) {
    const struct family *family = atomic_load(&families);
    for (; family; family = atomic_load(&family->next)) {
        WRITE(out, "# HELP ", family->name, " ", family->help, "\n# TYPE ", family->name, " ",
              type_name(family->type), "\n");
        const struct series *series = atomic_load(&family->first);
        for (; series; series = atomic_load(&series->next)) {
            if (is_histogram(family->type))
                write_histogram(out, family, series);
            else
                write_value(out, family, series);
        }
    }
}
