/* The members of a line of the response to an order: reading them, and printing them for people. */
#include "cmd/order_line.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include "base/clock.h"
#include "base/json.h"
#include "base/units.h"

bool order_line_is_last(const json_t *line) {
    return json_is_true(json_object_get(line, "done"));
}

uint64_t order_line_number(const json_t *line, const char *member) {
    json_int_t number = json_integer_value(json_object_get(line, member));
    return number > 0 ? (uint64_t)number : 0;
}

void order_line_print_whole(const json_t *line) {
    json_dumpf(line, stdout, JSON_COMPACT);
}

void order_line_print(json_t *line) {
    json_object_del(line, "done");
    order_line_print_whole(line);
}

void order_line_format_size(const json_t *line, const char *member,
                            char out[static ORDER_LINE_SIZE]) {
    units_format_size(order_line_number(line, member), out, ORDER_LINE_SIZE);
}

void order_line_format_blobs(const json_t *line, char out[static ORDER_LINE_SIZE]) {
    uint64_t blobs = order_line_number(line, "blobs");
    snprintf(out, ORDER_LINE_SIZE, "%" PRIu64 " blob%s", blobs, blobs == 1 ? "" : "s");
}

void order_line_format_age(const json_t *line, const char *member,
                           char out[static ORDER_LINE_SIZE]) {
    static const struct {
        int64_t seconds;
        const char *name;
    } units[] = {{365 * 86400, "year"}, {30 * 86400, "month"}, {7 * 86400, "week"},
                 {86400, "day"},        {3600, "hour"},        {60, "minute"}};
    struct tm parts = {0};
    if (!strptime(json_member_text(line, member), "%Y-%m-%dT%H:%M:%SZ", &parts)) {
        snprintf(out, ORDER_LINE_SIZE, "-");
        return;
    }
    int64_t age_s = clock_wall_s() - (int64_t)timegm(&parts);
    snprintf(out, ORDER_LINE_SIZE, "just now");
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        int64_t count = age_s / units[i].seconds;
        if (count < 1)
            continue;
        snprintf(out, ORDER_LINE_SIZE, "%lld %s%s ago", (long long)count, units[i].name,
                 count > 1 ? "s" : "");
        return;
    }
}
