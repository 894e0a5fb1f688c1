/* Sizes and durations as people write them: a number, then a unit. */
#include "base/units.h"

#include <stdio.h>

enum { MILLION = 1000000 };

/* A number as it is written: digits, and perhaps a fraction, which is kept in millionths. */
struct number {
    uint64_t whole;
    uint64_t millionths;
};

static size_t count_digits(struct text text) {
    size_t i = 0;
    while (i < text.length && text.at[i] >= '0' && text.at[i] <= '9')
        i++;
    return i;
}

/* Reads the number at the start of *text, and sets *text to what follows it. */
static bool read_number(struct text *text, struct number *number) {
    size_t digits = count_digits(*text);
    *number = (struct number){0};
    if (!text_to_u64((struct text){text->at, digits}, &number->whole))
        return false;
    *text = text_from(*text, digits);
    if (text->length && *text->at == '.') {
        *text = text_from(*text, 1);
        digits = count_digits(*text);
        uint64_t weight = MILLION / 10;
        for (size_t i = 0; i < digits; i++, weight /= 10)
            number->millionths += (uint64_t)(text->at[i] - '0') * weight;
        *text = text_from(*text, digits);
        return digits > 0;
    }
    return true;
}

/* The number times `unit` (at most 2^50, so that the fraction cannot overflow), rounded down. */
static bool multiply(const struct number *number, uint64_t unit, uint64_t *product) {
    uint64_t fraction =
        unit / MILLION * number->millionths + unit % MILLION * number->millionths / MILLION;
    return !__builtin_mul_overflow(number->whole, unit, product) &&
           !__builtin_add_overflow(*product, fraction, product) && *product <= INT64_MAX;
}

bool units_parse_size(struct text text, uint64_t *bytes) {
    static const char letters[] = "KMGTP";
    struct number number;
    uint64_t product, unit = 1;
    unsigned power = 0, base = 1024;
    if (!read_number(&text, &number))
        return false;
    if (text.length > 1 && *text.at == ' ')
        text = text_from(text, 1);
    if (text.length && *text.at != 'B') {
        const char *letter = memchr(letters, *text.at == 'k' ? 'K' : *text.at, sizeof letters - 1);
        if (!letter)
            return false;
        power = (unsigned)(letter - letters) + 1;
        text = text_from(text, 1);
    }
    if (text_is(text, "B"))
        base = 1000;
    else if (text.length && !text_is(text, "i") && !text_is(text, "iB"))
        return false;
    for (; power; power--)
        unit *= base;
    if (!multiply(&number, unit, &product))
        return false;
    *bytes = product;
    return true;
}

bool units_parse_duration(struct text text, int64_t *ms) {
    static const struct {
        const char *name;
        uint64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    const uint64_t most = (uint64_t)100 * 366 * 86400000;
    uint64_t total = 0;
    if (text_is(text, "0")) {
        *ms = 0;
        return true;
    }
    if (text.length == 0)
        return false;
    while (text.length) {
        struct number number;
        uint64_t product, unit = 0;
        if (!read_number(&text, &number))
            return false;
        for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
            size_t length = strlen(units[i].name);
            bool ends = text.length == length ||
                        (text.length > length && text.at[length] >= '0' && text.at[length] <= '9');
            if (ends && text_starts(text, units[i].name)) {
                unit = units[i].ms;
                text = text_from(text, length);
                break;
            }
        }
        if (unit == 0 || !multiply(&number, unit, &product) || product > most)
            return false;
        total += product;
        if (total > most)
            return false;
    }
    *ms = (int64_t)total;
    return true;
}

void units_format_size(uint64_t bytes, char *out, size_t size) {
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024 && unit + 1 < sizeof names / sizeof *names) {
        value /= 1024;
        unit++;
    }
    snprintf(out, size, unit == 0 ? "%.0f %s" : "%.1f %s", value, names[unit]);
}

void units_format_duration(int64_t ms, char *out, size_t size) {
    long long hours = ms / 3600000, minutes = ms / 60000 % 60, seconds = ms / 1000 % 60;
    if (ms % 1000)
        snprintf(out, size, "%lldms", (long long)ms);
    else if (hours)
        snprintf(out, size, "%lldh%lldm%llds", hours, minutes, seconds);
    else if (minutes)
        snprintf(out, size, "%lldm%llds", minutes, seconds);
    else
        snprintf(out, size, "%llds", seconds);
}
