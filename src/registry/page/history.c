/* The rings of the page's plots. */
#include "registry/page/history.h"

#include "registry/page/saved.h"

static const struct {
    unsigned first, count; /* steps */
    int64_t step_s;
} ranges[HISTORY_RANGES] = {
    {0, HISTORY_HOUR_STEPS, 60},
    {HISTORY_HOUR_STEPS, HISTORY_DAY_STEPS, 600},
    {HISTORY_HOUR_STEPS + HISTORY_DAY_STEPS, HISTORY_MONTH_STEPS, 4 * 3600},
};

/* ---- figures ---- */

/* All figures are uint64_t, so that they are also an array of them. */
enum { FIGURES = sizeof(struct history_figures) / sizeof(uint64_t) };
_Static_assert(sizeof(struct history_figures) ==
                   (6 + HISTORY_SOURCES * HISTORY_BUCKETS) * sizeof(uint64_t),
               "nothing but numbers");

void history_sum(struct history_figures *sum, const struct history_figures *more) {
    uint64_t *to = (uint64_t *)sum;
    const uint64_t *from = (const uint64_t *)more;
    for (size_t i = 0; i < FIGURES; i++)
        to[i] += from[i];
}

struct history_figures history_difference(const struct history_figures *before,
                                          const struct history_figures *after) {
    struct history_figures difference;
    uint64_t *to = (uint64_t *)&difference;
    const uint64_t *old = (const uint64_t *)before, *new = (const uint64_t *)after;
    for (size_t i = 0; i < FIGURES; i++)
        to[i] = new[i] > old[i] ? new[i] - old[i] : 0;
    return difference;
}

double history_quantile_us(const uint64_t buckets[HISTORY_BUCKETS], double share) {
    double all = 0, before = 0;
    for (size_t i = 0; i < HISTORY_BUCKETS; i++)
        all += (double)buckets[i];
    if (all <= 0)
        return -1;
    for (size_t i = 0; i < HISTORY_BUCKETS - 1; i++) {
        const double count = (double)buckets[i];
        if (count > 0 && before + count >= share * all) {
            const double low = i ? (double)metric_bounds_us[i - 1] : 0;
            return low + ((double)metric_bounds_us[i] - low) * (share * all - before) / count;
        }
        before += count;
    }
    return (double)metric_bounds_us[HISTORY_BUCKETS - 2];
}

/* ---- the rings ---- */

static uint32_t index_of(enum history_range range, int64_t now_s) {
    return now_s > 0 ? (uint32_t)(now_s / ranges[range].step_s) : 0;
}

static struct history_step *step_at(const struct history *history, enum history_range range,
                                    uint32_t index) {
    return (struct history_step *)&history
        ->steps[ranges[range].first + index % ranges[range].count];
}

void history_add(struct history *history, int64_t now_s, const struct history_figures *figures) {
    for (enum history_range range = 0; range < HISTORY_RANGES; range++) {
        const uint32_t index = index_of(range, now_s);
        struct history_step *step = step_at(history, range, index);
        if (step->index != index)
            *step = (struct history_step){.index = index};
        history_sum(&step->figures, figures);
    }
}

unsigned history_step_count(enum history_range range) {
    return ranges[range].count;
}

int64_t history_step_s(enum history_range range) {
    return ranges[range].step_s;
}

struct history_figures history_at(const struct history *history, enum history_range range,
                                  int64_t now_s, unsigned ago) {
    const uint32_t now = index_of(range, now_s);
    if (ago >= ranges[range].count || ago >= now)
        return (struct history_figures){0};
    const struct history_step *step = step_at(history, range, now - ago);
    return step->index == now - ago ? step->figures : (struct history_figures){0};
}

struct history_figures history_total(const struct history *history, enum history_range range,
                                     int64_t now_s) {
    struct history_figures total = {0};
    for (unsigned ago = 0; ago < ranges[range].count; ago++) {
        const struct history_figures figures = history_at(history, range, now_s, ago);
        history_sum(&total, &figures);
    }
    return total;
}

/* ---- the file ---- */

/* A count of a step is kept in 32 bits, and only the bytes in 64. */
static bool is_bytes(size_t figure) {
    return figure == 4 || figure == 5;
}

size_t history_length(void) {
    return HISTORY_STEPS * (4 + (FIGURES - 2) * 4 + 2 * 8);
}

void history_write(const struct history *history, struct buffer *out) {
    for (size_t i = 0; i < HISTORY_STEPS; i++) {
        const uint64_t *figures = (const uint64_t *)&history->steps[i].figures;
        saved_put_u32(out, history->steps[i].index);
        for (size_t figure = 0; figure < FIGURES; figure++) {
            if (is_bytes(figure))
                saved_put_u64(out, figures[figure]);
            else
                saved_put_u32(out, figures[figure] < UINT32_MAX ? (uint32_t)figures[figure]
                                                                : UINT32_MAX);
        }
    }
}

void history_read(struct history *history, struct text *rest, int64_t now_s) {
    for (enum history_range range = 0; range < HISTORY_RANGES; range++) {
        for (unsigned i = 0; i < ranges[range].count; i++) {
            struct history_step *step = &history->steps[ranges[range].first + i];
            uint64_t *figures = (uint64_t *)&step->figures;
            step->index = saved_take_u32(rest);
            for (size_t figure = 0; figure < FIGURES; figure++)
                figures[figure] = is_bytes(figure) ? saved_take_u64(rest) : saved_take_u32(rest);
            if (step->index > index_of(range, now_s) ||
                step_at(history, range, step->index) != step)
                *step = (struct history_step){0};
        }
    }
}
