/* The process's metrics: families of series in two lists that only grow. */
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

static struct lock families_lock = LOCK_INITIALIZER; /* guards both lists, not the values */
static struct family *families GUARDED_BY(families_lock);

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

static struct series *find_or_add_series(struct family *family, const char *labels)
    REQUIRES(families_lock) {
    struct series **slot = &family->first;
    for (; *slot; slot = &(*slot)->next) {
        if (strcmp((*slot)->labels, labels) == 0)
            return *slot;
    }
    struct series *series = calloc(1, sizeof *series);
    if (series && !(series->labels = strdup(labels))) {
        free(series);
        series = NULL;
    }
    if (series)
        *slot = series;
    return series;
}

struct metric *metric_get(enum metric_type type, const char *name, const char *help,
                          const char *labels) {
    static struct metric unseen; /* counted but not shown: memory is out */
    lock_acquire(&families_lock);
    struct family *family = find_or_add_family(type, name, help);
    struct series *series = family ? find_or_add_series(family, labels) : NULL;
    lock_release(&families_lock);
    return series ? &series->metric : &unseen;
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
