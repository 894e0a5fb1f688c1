/*
 * What happened in the last hour (by minute), day (by 10 minutes) and 30 days (by 4 hours): three
 * rings of fixed size. A step of time in which tarn did not run is empty.
 *
 * One thread at a time for each history.
 */
#ifndef PAGE_HISTORY_H
#define PAGE_HISTORY_H

#include <stdbool.h>
#include <stdint.h>
#include "base/buffer.h"
#include "base/metric.h"
#include "base/text.h"

enum history_range { HISTORY_HOUR, HISTORY_DAY, HISTORY_MONTH, HISTORY_RANGES };

enum {
    HISTORY_HOUR_STEPS = 60,
    HISTORY_DAY_STEPS = 144,
    HISTORY_MONTH_STEPS = 180,
    HISTORY_STEPS = HISTORY_HOUR_STEPS + HISTORY_DAY_STEPS + HISTORY_MONTH_STEPS,
    HISTORY_BUCKETS = METRIC_BUCKETS, /* of times to the first byte */
};

/* Where the response came from: for the times to the first byte. */
enum history_source { HISTORY_CACHED, HISTORY_FETCHED, HISTORY_SOURCES };

/* What happened in a step of time, or since the start. */
struct history_figures {
    uint64_t requests, hits, misses, errors;
    uint64_t pushed, pulled; /* bytes to clients, and from upstreams */
    uint64_t first_byte[HISTORY_SOURCES][HISTORY_BUCKETS];
};

/* Adds `more` to `sum`. */
void history_sum(struct history_figures *sum, const struct history_figures *more);
/* What came between two states of the same counters. */
struct history_figures history_difference(const struct history_figures *before,
                                          const struct history_figures *after);

/* The time in which a share of the responses had their first byte, in microseconds, interpolated
 * within its bucket; -1: there was no response. */
double history_quantile_us(const uint64_t buckets[HISTORY_BUCKETS], double share);

struct history { /* zeroed is empty */
    struct history_step {
        uint32_t index; /* of the step since 1970; 0: empty */
        struct history_figures figures;
    } steps[HISTORY_STEPS];
};

/* Adds what happened now; wall seconds. */
void history_add(struct history *history, int64_t now_s, const struct history_figures *figures);

unsigned history_step_count(enum history_range range);
int64_t history_step_s(enum history_range range);
/* The figures of the step that was `ago` steps before now, 0 for the present one; zeroes when
 * nothing is known of it. */
struct history_figures history_at(const struct history *history, enum history_range range,
                                  int64_t now_s, unsigned ago);
/* All steps of a range together. */
struct history_figures history_total(const struct history *history, enum history_range range,
                                     int64_t now_s);

/* ---- for the file ---- */

size_t history_length(void); /* bytes that history_write() appends */
void history_write(const struct history *history, struct buffer *out);
/* Takes history_length() bytes off `rest`. Steps after `now_s` are dropped. */
void history_read(struct history *history, struct text *rest, int64_t now_s);

#endif
