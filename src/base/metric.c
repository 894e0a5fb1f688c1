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

/* The first of a new metric's cells; NULL when out of memory. */
static _Atomic int64_t *take_cells(void) REQUIRES(families_lock) {
    if (!last_block || last_block_used == METRIC_STRIPE_CELLS) {
        struct block *block = aligned_alloc(CACHE_LINE, sizeof *block);
        if (!block)
            return NULL;
        memset(block, 0, sizeof *block);
        last_block = block;
        last_block_used = 0;
    }
    return &last_block->cells[last_block_used++];
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
    series->metric.cells = series->labels ? take_cells() : NULL;
    series->metric.stripes_mask = type == METRIC_COUNTER ? METRIC_STRIPES - 1 : 0;
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
    static _Atomic int64_t unseen_cell;
    static struct metric unseen = {.cells = &unseen_cell}; /* not shown, because memory is out */
    lock_acquire(&families_lock);
    struct family *family = find_or_add_family(type, name, help);
    struct series *series = family ? find_or_add_series(family, labels) : NULL;
    lock_release(&families_lock);
    return series ? &series->metric : &unseen;
}

int64_t metric_value(const struct metric *metric) {
    int64_t sum = 0;
    for (unsigned stripe = 0; stripe <= metric->stripes_mask; stripe++)
        sum += atomic_load_explicit(&metric->cells[stripe * METRIC_STRIPE_CELLS],
                                    memory_order_relaxed);
    return sum;
}

void metric_write(struct buffer *out) {
    lock_acquire(&families_lock);
    for (struct family *family = families; family; family = family->next) {
        buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n", family->name, family->help, family->name,
                      family->type == METRIC_COUNTER ? "counter" : "gauge");
        for (struct series *series = family->first; series; series = series->next) {
            const char *open = *series->labels ? "{" : "", *close = *series->labels ? "}" : "";
            buffer_printf(out, "%s%s%s%s %lld\n", family->name, open, series->labels, close,
                          (long long)metric_value(&series->metric));
        }
    }
    lock_release(&families_lock);
}
