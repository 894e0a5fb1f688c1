/* Durations in Go's notation: time.ParseDuration, and yaml.v2 for numbers. */
#include "config/go_duration.h"

#include <math.h>
#include <stddef.h>

static const struct unit {
    const char *name;
    long double ns;
} units[] = {
    {"ns", 1},    {"us", 1e3L}, {"µs", 1e3L}, {"μs", 1e3L}, /* both of Unicode's letters */
    {"ms", 1e6L}, {"s", 1e9L},  {"m", 60e9L}, {"h", 3600e9L},
};

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* Reads "12" or "1.5" from the beginning of `text`. False: there is no digit. */
static bool read_number(struct text *text, long double *number) {
    long double fraction = 1;
    size_t digits = 0, at = 0;
    *number = 0;
    for (; at < text->length && is_digit(text->at[at]); at++, digits++)
        *number = *number * 10 + (text->at[at] - '0');
    if (at < text->length && text->at[at] == '.') {
        for (at++; at < text->length && is_digit(text->at[at]); at++, digits++) {
            fraction /= 10;
            *number += (text->at[at] - '0') * fraction;
        }
    }
    *text = text_from(*text, at);
    return digits > 0;
}

/* Reads a unit: all that is no digit and no dot. */
static const struct unit *read_unit(struct text *text) {
    size_t length = 0;
    while (length < text->length && !is_digit(text->at[length]) && text->at[length] != '.')
        length++;
    const struct text name = {text->at, length};
    *text = text_from(*text, length);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (text_is(name, units[i].name))
            return &units[i];
    }
    return NULL;
}

bool go_duration_parse(struct text text, int64_t *ms) {
    bool negative = text.length && *text.at == '-';
    if (text.length && (*text.at == '-' || *text.at == '+'))
        text = text_from(text, 1);
    long double number, total = 0;
    uint64_t nanoseconds;
    if (text.length == 0)
        return false;
    if (text_to_u64(text, &nanoseconds)) {
        total = nanoseconds;
        text.length = 0;
    }
    while (text.length) {
        const struct unit *unit = read_number(&text, &number) ? read_unit(&text) : NULL;
        if (!unit)
            return false;
        total += number * unit->ns;
    }
    if (total > (long double)(INT64_MAX - 1000000))
        return false;
    int64_t rounded = ((int64_t)roundl(total) + 999999) / 1000000;
    *ms = negative ? -rounded : rounded;
    return true;
}
