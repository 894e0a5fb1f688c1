/*
 * Writes a line of the log into memory that is large enough. Each put_NAME() writes at `at` and
 * returns the place behind what it wrote. Every request has a line, so that nothing here formats
 * with printf() unless it must.
 */
#include "base/log_line.h"

#include <math.h>
#include <stdio.h>
#include "base/clock.h"

enum {
    NUMBER_LIMIT = 32, /* the most bytes of a number */
    AROUND_FIELD = 8,  /* space, quotes, colon, comma */
    AROUND_LINE = 96,  /* time, level, and their names in JSON */
};

static const char *const level_names[] = {"debug", "info", "warn", "error"};

size_t log_line_limit(const struct log_line *line) {
    size_t limit = AROUND_LINE + TEXT_ESCAPE_LIMIT * strlen(line->message);
    for (unsigned i = 0; i < line->count; i++) {
        const struct log_field *field = &line->fields[i];
        limit += AROUND_FIELD + strlen(field->name) +
                 (field->is_number ? NUMBER_LIMIT : TEXT_ESCAPE_LIMIT * field->text.length);
    }
    return limit;
}

static char *put(char *at, const char *string) {
    return stpcpy(at, string);
}

/* ---- numbers ---- */

static char *put_whole(char *at, uint64_t number) {
    char digits[TEXT_NUMBER_LIMIT];
    const struct text text = text_of_number(number, digits);
    return mempcpy(at, text.at, text.length);
}

/* Millionths behind the point, without zeros at the end. */
static char *put_millionths(char *at, unsigned millionths) {
    *at = '.';
    for (int i = 6; i > 0; i--, millionths /= 10)
        at[i] = (char)('0' + millionths % 10);
    for (at += 6; *at == '0'; at--)
        ;
    return at + 1;
}

/* Whole numbers, and seconds that were counted in microseconds. False: it is another number. */
static bool put_usual(char **at, double size) {
    if (!(size < 1e15))
        return false;
    uint64_t whole = (uint64_t)size;
    double millionths = (size - (double)whole) * 1e6, rounded = floor(millionths + 0.5);
    bool is_whole = size == (double)whole;
    if (!is_whole &&
        (whole >= 1000000 || rounded < 1 || rounded >= 1e6 || fabs(millionths - rounded) > 1e-3))
        return false;
    *at = put_whole(*at, whole);
    if (!is_whole)
        *at = put_millionths(*at, (unsigned)rounded);
    return true;
}

static char *put_number(char *at, double number) {
    if (number < 0)
        *at++ = '-';
    double size = fabs(number);
    return put_usual(&at, size) ? at : at + snprintf(at, NUMBER_LIMIT - 1, "%.6g", size);
}

/* ---- strings ---- */

/* Whether no byte needs an escape or quotes. It looks at all bytes, so that the compiler can look
 * at many at once. */
static bool is_plain(struct text text) {
    unsigned special = 0;
    for (size_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.at[i];
        special |= (unsigned)(c <= ' ') | (unsigned)(c >= 0x7f) | (unsigned)(c == '"') |
                   (unsigned)(c == '\\') | (unsigned)(c == '=');
    }
    return !special;
}

static char *put_plain(char *at, struct text text) {
    return mempcpy(at, text.at, text.length);
}

static char *put_escaped(char *at, struct text text) {
    size_t length;
    if (is_plain(text))
        return put_plain(at, text);
    for (; text.length; at += length)
        text = text_from(text, text_escape_json(text, at, &length));
    return at;
}

static char *put_quoted(char *at, struct text text) {
    *at++ = '"';
    at = put_escaped(at, text);
    *at++ = '"';
    return at;
}

/* The message of a line of text has no quotes around it and keeps those that it has. */
static char *put_message(char *at, struct text text) {
    for (; text.length && !is_plain(text);) {
        size_t length, taken = text_escape_json(text, at, &length);
        if (taken == 1 && (*text.at == '"' || *text.at == '\\')) {
            *at = *text.at;
            length = 1;
        }
        at += length;
        text = text_from(text, taken);
    }
    return put_plain(at, text);
}

/* ---- lines ---- */

static char *put_text_line(char *at, const struct log_line *line, const char *time) {
    at = put(at, time);
    at = put(at, " ");
    at = put(at, level_names[line->level]);
    at = put(at, strlen(level_names[line->level]) == 4 ? "  " : " ");
    at = put_message(at, text_of(line->message));
    for (unsigned i = 0; i < line->count; i++) {
        const struct log_field *field = &line->fields[i];
        *at++ = ' ';
        at = put(at, field->name);
        *at++ = '=';
        if (field->is_number)
            at = put_number(at, field->number);
        else if (field->text.length && is_plain(field->text))
            at = put_plain(at, field->text);
        else
            at = put_quoted(at, field->text);
    }
    return put(at, "\n");
}

static char *put_json_line(char *at, const struct log_line *line, const char *time) {
    at = put(at, "{\"time\":\"");
    at = put(at, time);
    at = put(at, "\",\"level\":\"");
    at = put(at, level_names[line->level]);
    at = put(at, "\",\"message\":");
    at = put_quoted(at, text_of(line->message));
    for (unsigned i = 0; i < line->count; i++) {
        const struct log_field *field = &line->fields[i];
        at = put(at, ",\"");
        at = put(at, field->name);
        at = put(at, "\":");
        at = field->is_number ? put_number(at, field->number) : put_quoted(at, field->text);
    }
    return put(at, "}\n");
}

size_t log_line_write(const struct log_line *line, char *out) {
    char time[CLOCK_NOW_SIZE];
    clock_format_now(time);
    char *end =
        line->format == LOG_JSON ? put_json_line(out, line, time) : put_text_line(out, line, time);
    return (size_t)(end - out);
}
