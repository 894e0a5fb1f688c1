/* Writes the plots of each range of time. The choice between the ranges is made by the style. */
#include "registry/page/timeline.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/cleanup.h"
#include "base/units.h"
#include "registry/page/html.h"
#include "registry/page/plot.h"

_Static_assert((int)PLOT_STEPS >= (int)HISTORY_HOUR_STEPS &&
                   (int)PLOT_STEPS >= (int)HISTORY_DAY_STEPS &&
                   (int)PLOT_STEPS >= (int)HISTORY_MONTH_STEPS,
               "a plot has a place for each step");

static const struct {
    const char *id, *name, *words, *begin;
} ranges[HISTORY_RANGES] = {
    {"hour", "Hour", "in the last hour", "1 h ago"},
    {"day", "Day", "in the last 24 hours", "24 h ago"},
    {"month", "30 days", "in the last 30 days", "30 days ago"},
};

/* One plot with at most two lines. */
struct chart {
    struct plot_line lines[PLOT_SERIES];
    struct history_figures steps[PLOT_STEPS]; /* the oldest first */
    unsigned count;
    enum history_range range;
    const struct history_figures *total;
};

/* ---- what is plotted ---- */

/* The least of 1, 2, 5, 10, 20, 50 … that is not less than the value. */
static double round_up(double value) {
    double power = value > 0 ? pow(10, floor(log10(value))) : 1;
    return value <= power       ? power
           : value <= 2 * power ? 2 * power
           : value <= 5 * power ? 5 * power
                                : 10 * power;
}

/* Sets the heights of lines whose values stand there, and returns what the top stands for. */
static double scale(struct chart *chart) {
    double most = 0;
    for (unsigned line = 0; line < PLOT_SERIES; line++) {
        for (unsigned i = 0; i < chart->count; i++)
            most = fmax(most, chart->lines[line].heights[i]);
    }
    const double top = round_up(most);
    for (unsigned line = 0; line < PLOT_SERIES; line++) {
        for (unsigned i = 0; i < chart->count; i++)
            chart->lines[line].heights[i] /= top;
    }
    return top;
}

static void begin_figure(struct buffer *out, const char *heading, const char *top) {
    buffer_printf(out, "<figure><figcaption><h4>%s</h4><span class=\"most\">%s</span></figcaption>",
                  heading, top);
}

static void end_figure(struct buffer *out, const struct chart *chart, const char *key_a,
                       const char *key_b) {
    buffer_printf(out,
                  "<p class=\"axis\"><span>%s</span><span>now</span></p><p class=\"key\"><span "
                  "class=\"key-%s\">%s</span>",
                  ranges[chart->range].begin, chart->lines[0].class, key_a);
    if (key_b)
        buffer_printf(out, " <span class=\"key-%s\">%s</span>", chart->lines[1].class, key_b);
    buffer_append_string(out, "</p></figure>");
}

static void write_requests(struct chart *chart, struct buffer *out) {
    char label[160], top[48];
    chart->lines[0] = (struct plot_line){.class = "a", .is_area = true};
    chart->lines[1] = (struct plot_line){.class = "b"};
    for (unsigned i = 0; i < chart->count; i++) {
        chart->lines[0].heights[i] = (double)chart->steps[i].requests;
        chart->lines[1].heights[i] = (double)chart->steps[i].misses;
    }
    const double most = scale(chart);
    const double per_minute = most * 60 / (double)history_step_s(chart->range);
    snprintf(top, sizeof top, per_minute < 10 ? "%.2g a minute" : "%.0f a minute", per_minute);
    snprintf(label, sizeof label, "%llu requests %s, of which %llu needed a registry",
             (unsigned long long)chart->total->requests, ranges[chart->range].words,
             (unsigned long long)chart->total->misses);
    begin_figure(out, "Requests", top);
    plot_write(out, label, chart->lines, 2, chart->count);
    end_figure(out, chart, "all", "needed a registry");
}

static void write_ratio(struct chart *chart, struct buffer *out) {
    char label[160];
    const struct history_figures *total = chart->total;
    const double answered = (double)(total->hits + total->misses);
    chart->lines[0] = (struct plot_line){.class = "a"};
    for (unsigned i = 0; i < chart->count; i++) {
        const double all = (double)(chart->steps[i].hits + chart->steps[i].misses);
        chart->lines[0].heights[i] = all > 0 ? (double)chart->steps[i].hits / all : -1;
    }
    if (answered > 0)
        snprintf(label, sizeof label, "Hit ratio %s: %.1f %%", ranges[chart->range].words,
                 100 * (double)total->hits / answered);
    else
        snprintf(label, sizeof label, "Hit ratio: no requests %s", ranges[chart->range].words);
    begin_figure(out, "Hit ratio", "100 %");
    plot_write(out, label, chart->lines, 1, chart->count);
    end_figure(out, chart, "answered from the cache", NULL);
}

static void write_bytes(struct chart *chart, struct buffer *out) {
    char label[200], top[40], size[24], pushed[24], pulled[24];
    chart->lines[0] = (struct plot_line){.class = "a", .is_area = true};
    chart->lines[1] = (struct plot_line){.class = "b"};
    for (unsigned i = 0; i < chart->count; i++) {
        chart->lines[0].heights[i] = (double)chart->steps[i].pushed;
        chart->lines[1].heights[i] = (double)chart->steps[i].pulled;
    }
    const double most = scale(chart);
    units_format_size((uint64_t)(most / (double)history_step_s(chart->range)), size, sizeof size);
    snprintf(top, sizeof top, "%s/s", size);
    units_format_size(chart->total->pushed, pushed, sizeof pushed);
    units_format_size(chart->total->pulled, pulled, sizeof pulled);
    snprintf(label, sizeof label, "%s sent to clients %s, %s fetched from registries", pushed,
             ranges[chart->range].words, pulled);
    begin_figure(out, "Bytes", top);
    plot_write(out, label, chart->lines, 2, chart->count);
    end_figure(out, chart, "to clients", "from registries");
}

/* ---- times to the first byte ---- */

static void format_us(double us, char *out, size_t size) {
    if (us < 0)
        snprintf(out, size, "unknown");
    else if (us < 1e6)
        snprintf(out, size, us < 1e4 ? "%.1f ms" : "%.0f ms", us / 1e3);
    else
        snprintf(out, size, "%.1f s", us / 1e6);
}

/* 0.1 ms is at the bottom and 10 s at the top, each power of ten as high as the others. */
static double height_of_us(double us) {
    return us < 0 ? -1 : fmax(0, log10(fmax(us, 1) / 100) / 5);
}

static void write_first_bytes(struct chart *chart, struct buffer *out) {
    static const char *const classes[HISTORY_SOURCES] = {"a", "b"};
    char label[200], median[HISTORY_SOURCES][24], late[HISTORY_SOURCES][24],
        key[HISTORY_SOURCES][80];
    for (enum history_source source = 0; source < HISTORY_SOURCES; source++) {
        chart->lines[source] = (struct plot_line){.class = classes[source]};
        for (unsigned i = 0; i < chart->count; i++)
            chart->lines[source].heights[i] =
                height_of_us(history_quantile_us(chart->steps[i].first_byte[source], 0.5));
        const uint64_t *buckets = chart->total->first_byte[source];
        format_us(history_quantile_us(buckets, 0.5), median[source], sizeof *median);
        format_us(history_quantile_us(buckets, 0.95), late[source], sizeof *late);
        snprintf(key[source], sizeof *key, "%s: %s, 95 %% within %s",
                 source == HISTORY_CACHED ? "cached" : "fetched", median[source], late[source]);
    }
    snprintf(label, sizeof label,
             "Time to the first byte %s, half of the responses within: cached %s, fetched %s",
             ranges[chart->range].words, median[HISTORY_CACHED], median[HISTORY_FETCHED]);
    begin_figure(out, "First byte, median", "10 s");
    plot_write(out, label, chart->lines, HISTORY_SOURCES, chart->count);
    end_figure(out, chart, key[HISTORY_CACHED], key[HISTORY_FETCHED]);
}

/* ---- all of it ---- */

static void write_summary(struct buffer *out, const struct history_figures *total,
                          const char *words) {
    buffer_append_string(out, "<p>");
    html_number(out, total->requests);
    buffer_printf(out, " requests %s, ", words);
    html_percent(out, total->hits, total->hits + total->misses);
    buffer_append_string(out, " hits; ");
    html_size(out, total->pushed);
    buffer_append_string(out, " sent, ");
    html_size(out, total->pulled);
    buffer_append_string(out, " fetched, ");
    html_size(out, total->pushed > total->pulled ? total->pushed - total->pulled : 0);
    buffer_append_string(out, " saved; ");
    html_number(out, total->errors);
    buffer_append_string(out, total->errors == 1 ? " error.</p>" : " errors.</p>");
}

void timeline_write(struct buffer *out, const struct history *history,
                    const struct history_figures totals[HISTORY_RANGES], int64_t now_s) {
    cleanup_free struct chart *chart = calloc(1, sizeof *chart);
    if (!chart) {
        out->failed = true;
        return;
    }
    buffer_append_string(out, "<fieldset class=\"ranges\"><legend class=\"unseen\">Range of "
                              "time</legend>");
    for (enum history_range range = 0; range < HISTORY_RANGES; range++)
        buffer_printf(out,
                      "<input type=\"radio\" name=\"range\" id=\"range-%s\"%s><label "
                      "for=\"range-%s\">%s</label>",
                      ranges[range].id, range ? "" : " checked", ranges[range].id,
                      ranges[range].name);
    for (enum history_range range = 0; range < HISTORY_RANGES; range++) {
        *chart = (struct chart){.range = range, .total = &totals[range]};
        chart->count = history_step_count(range);
        for (unsigned i = 0; i < chart->count; i++)
            chart->steps[i] = history_at(history, range, now_s, chart->count - 1 - i);
        buffer_printf(out, "<div class=\"range range-%s\"><h3 class=\"unseen\">%s</h3>",
                      ranges[range].id, ranges[range].name);
        write_summary(out, chart->total, ranges[range].words);
        buffer_append_string(out, "<div class=\"plots\">");
        write_requests(chart, out);
        write_ratio(chart, out);
        write_bytes(chart, out);
        if (history_quantile_us(chart->total->first_byte[HISTORY_CACHED], 0.5) >= 0 ||
            history_quantile_us(chart->total->first_byte[HISTORY_FETCHED], 0.5) >= 0)
            write_first_bytes(chart, out);
        buffer_append_string(out, "</div></div>");
    }
    buffer_append_string(out, "</fieldset>");
}
