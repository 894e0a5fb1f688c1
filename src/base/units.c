#include "base/units.h"

#include <stdio.h>

__extension__ typedef unsigned __int128 wide; /* no 64-bit product overflows it */

/* Reads digits and an optional fraction; *scaled is the value times 1,000,000. */
static bool read_number(struct text *text, uint64_t *scaled) {
    uint64_t value = 0, fraction = 0, weight = 100000;
    size_t i = 0;
    for (; i < text->length && text->at[i] >= '0' && text->at[i] <= '9'; i++) {
        if (value > UINT64_MAX / 10000000 / 10)
            return false;
        value = value * 10 + (uint64_t)(text->at[i] - '0');
    }
    if (i == 0)
        return false;
    if (i < text->length && text->at[i] == '.') {
        size_t digits = 0;
        for (i++; i < text->length && text->at[i] >= '0' && text->at[i] <= '9'; i++, digits++) {
            fraction += (uint64_t)(text->at[i] - '0') * weight;
            weight /= 10;
        }
        if (digits == 0)
            return false;
    }
    *text = text_from(*text, i);
    *scaled = value * 1000000 + fraction;
    return true;
}

bool units_parse_size(struct text text, uint64_t *bytes) {
    uint64_t plain;
    if (text_to_u64(text, &plain)) { /* plain bytes need no scaling and may be huge */
        if (plain > INT64_MAX)
            return false;
        *bytes = plain;
        return true;
    }
    uint64_t scaled;
    if (!read_number(&text, &scaled))
        return false;
    while (text.length && *text.at == ' ')
        text = text_from(text, 1);
    unsigned power = 0;
    static const char letters[] = "KMGTP";
    if (text.length && *text.at != 'B') {
        const char *letter = memchr(letters, *text.at == 'k' ? 'K' : *text.at, sizeof letters - 1);
        if (!letter)
            return false;
        power = (unsigned)(letter - letters) + 1;
        text = text_from(text, 1);
    }
    unsigned base = 1024;
    if (power && text_is(text, "iB"))
        base = 1024;
    else if (text_is(text, "B"))
        base = 1000;
    else if (text.length && !text_is(text, "i"))
        return false;
    wide value = scaled;
    for (unsigned i = 0; i < power; i++)
        value *= base;
    value /= 1000000;
    if (value > INT64_MAX)
        return false;
    *bytes = (uint64_t)value;
    return true;
}

bool units_parse_duration(struct text text, int64_t *ms) {
    static const struct {
        const char *name;
        uint64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    const wide most = (wide)100 * 366 * 86400000;
    wide total = 0;
    if (text_is(text, "0")) {
        *ms = 0;
        return true;
    }
    if (text.length == 0)
        return false;
    while (text.length) {
        uint64_t scaled, unit = 0;
        if (!read_number(&text, &scaled))
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
        if (unit == 0)
            return false;
        total += (wide)scaled * unit / 1000000;
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
