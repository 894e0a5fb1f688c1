/* Parses containerd's filters, and compares snapshots with them. */
#include "node/snapshot/filter.h"

#include <regex.h>
#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "base/cleanup.h"

enum filter_field { FIELD_NAME, FIELD_PARENT, FIELD_KIND, FIELD_LABEL, FIELD_UNKNOWN };
enum filter_test { IS_PRESENT, IS_EQUAL, IS_NOT_EQUAL, IS_MATCHING };

struct condition_of_filter {
    enum filter_field field;
    char *label; /* the label's key; owned */
    enum filter_test test;
    char *value; /* owned */
    regex_t pattern;
    bool has_pattern;
};

struct filter {
    struct condition_of_filter *conditions; /* owned */
    size_t count;
};

struct filters {
    size_t count;
    struct filter filters[]; /* one without conditions matches everything */
};

void filters_free(struct filters *filters) {
    for (size_t i = 0; filters && i < filters->count; i++) {
        for (size_t c = 0; c < filters->filters[i].count; c++) {
            struct condition_of_filter *condition = &filters->filters[i].conditions[c];
            free(condition->label);
            free(condition->value);
            if (condition->has_pattern)
                regfree(&condition->pattern);
        }
        free(filters->filters[i].conditions);
    }
    free(filters);
}

/* ---- parsing ---- */

/* A filter while it is parsed. */
struct parsing {
    const char *text, *at;
    struct error *error;
};

static bool refuse(const struct parsing *parsing, const char *what) {
    return error_set(parsing->error, ERROR_INVALID, "the filter '%.200s' is wrong at byte %zu: %s",
                     parsing->text, (size_t)(parsing->at - parsing->text), what);
}

static bool is_field_character(char character) {
    return (character >= 'a' && character <= 'z') || (character >= 'A' && character <= 'Z') ||
           (character >= '0' && character <= '9') || character == '_';
}

/* UTF-8 of a code point. */
static void append_code_point(struct buffer *out, unsigned long code) {
    char bytes[4];
    size_t length = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = length; i-- > 1; code >>= 6)
        bytes[i] = (char)(0x80 | (code & 0x3f));
    bytes[0] = length == 1 ? (char)code : (char)((0xf00 >> length & 0xff) | code);
    buffer_append(out, bytes, length);
}

/* The digits of \xHH, \uHHHH or \UHHHHHHHH. */
static bool parse_code(struct parsing *parsing, size_t digits, struct buffer *out) {
    char number[9] = "";
    if (strnlen(parsing->at, digits) < digits)
        return refuse(parsing, "an escape is cut off");
    memcpy(number, parsing->at, digits);
    if (strspn(number, "0123456789abcdefABCDEF") != digits)
        return refuse(parsing, "an escape has digits that are not hexadecimal");
    unsigned long code = strtoul(number, NULL, 16);
    if (code == 0 || code > 0x10ffff)
        return refuse(parsing, "an escape names no character");
    parsing->at += digits;
    if (digits == 2) {
        char byte = (char)code;
        buffer_append(out, &byte, 1);
    } else
        append_code_point(out, code);
    return true;
}

/* What stands behind a backslash. */
static bool parse_escape(struct parsing *parsing, char quote, struct buffer *out) {
    static const char names[] = "abfnrtv\\\"", bytes[] = "\a\b\f\n\r\t\v\\\"";
    char name = *parsing->at;
    const char *known = name ? strchr(names, name) : NULL;
    if (name == 'x' || name == 'u' || name == 'U') {
        parsing->at++;
        return parse_code(parsing, name == 'x' ? 2 : name == 'u' ? 4 : 8, out);
    }
    if (name && name == quote)
        buffer_append(out, &name, 1);
    else if (!known)
        return refuse(parsing, "an unknown escape");
    else
        buffer_append(out, &bytes[known - names], 1);
    parsing->at++;
    return true;
}

/* A quoted text, whose quote is next. Between `/` and `|` a backslash stands for itself unless the
 * quote follows, because patterns are full of them. */
static bool parse_quoted(struct parsing *parsing, struct buffer *out) {
    char quote = *parsing->at++;
    while (*parsing->at != quote) {
        if (!*parsing->at)
            return refuse(parsing, "a quote is not closed");
        if (*parsing->at == '\\' && (quote == '"' || parsing->at[1] == quote)) {
            parsing->at++;
            if (!parse_escape(parsing, quote, out))
                return false;
            continue;
        }
        buffer_append(out, parsing->at++, 1);
    }
    parsing->at++;
    return true;
}

/* One part of a field's path. */
static bool parse_part(struct parsing *parsing, struct buffer *out) {
    if (*parsing->at == '"')
        return parse_quoted(parsing, out);
    if (!is_field_character(*parsing->at))
        return refuse(parsing, "a field is expected");
    while (is_field_character(*parsing->at))
        buffer_append(out, parsing->at++, 1);
    return true;
}

static char *text_of_buffer(const struct buffer *buffer, struct error *error) {
    char *text = buffer->failed ? NULL : strdup(buffer->length ? buffer->bytes : "");
    if (!text)
        error_set(error, ERROR_MEMORY, "out of memory");
    return text;
}

static bool parse_field(struct parsing *parsing, struct condition_of_filter *out) {
    cleanup_buffer struct buffer first = {0}, rest = {0};
    if (!parse_part(parsing, &first))
        return false;
    for (bool is_first = true; *parsing->at == '.'; is_first = false) {
        parsing->at++;
        if (!is_first)
            buffer_append_string(&rest, ".");
        if (!parse_part(parsing, &rest))
            return false;
    }
    const char *name = first.length ? first.bytes : "";
    out->field = FIELD_UNKNOWN;
    if (strcmp(name, "labels") == 0)
        out->field = FIELD_LABEL;
    else if (strcmp(name, "name") == 0)
        out->field = FIELD_NAME;
    else if (strcmp(name, "parent") == 0)
        out->field = FIELD_PARENT;
    else if (strcmp(name, "kind") == 0)
        out->field = FIELD_KIND;
    out->label = text_of_buffer(&rest, parsing->error);
    return out->label != NULL;
}

static bool parse_operator(struct parsing *parsing, enum filter_test *out) {
    if (strncmp(parsing->at, "==", 2) == 0)
        *out = IS_EQUAL;
    else if (strncmp(parsing->at, "!=", 2) == 0)
        *out = IS_NOT_EQUAL;
    else if (strncmp(parsing->at, "~=", 2) == 0)
        *out = IS_MATCHING;
    else
        return refuse(parsing, "an operator is expected: ==, != or ~=");
    parsing->at += 2;
    return true;
}

static bool parse_value(struct parsing *parsing, struct condition_of_filter *out) {
    cleanup_buffer struct buffer value = {0};
    bool may_be_pattern = out->test == IS_MATCHING;
    if (*parsing->at == '"' || (may_be_pattern && (*parsing->at == '/' || *parsing->at == '|'))) {
        if (!parse_quoted(parsing, &value))
            return false;
    } else {
        while ((unsigned char)*parsing->at > ' ' && *parsing->at != ',')
            buffer_append(&value, parsing->at++, 1);
        if (value.length == 0)
            return refuse(parsing, "a value is expected");
    }
    out->value = text_of_buffer(&value, parsing->error);
    return out->value != NULL;
}

static bool compile(const struct parsing *parsing, struct condition_of_filter *out) {
    const char *pattern = out->value;
    if (strlen(pattern) > FILTER_PATTERN_LIMIT)
        return refuse(parsing, "the pattern is too long");
    for (const char *at = pattern; *at; at++)
        if (*at == '{' || (*at == '\\' && at[1] >= '0' && at[1] <= '9'))
            return refuse(parsing, "patterns with counts or references are not offered");
    if (regcomp(&out->pattern, pattern, REG_EXTENDED | REG_NOSUB) != 0)
        return refuse(parsing, "the pattern is no extended regular expression");
    out->has_pattern = true;
    return true;
}

/* Adds the next condition. */
static bool parse_condition(struct parsing *parsing, struct filter *filter) {
    if (filter->count == FILTER_LIMIT)
        return refuse(parsing, "too many conditions");
    struct condition_of_filter *grown =
        reallocarray(filter->conditions, filter->count + 1, sizeof *grown);
    if (!grown)
        return error_set(parsing->error, ERROR_MEMORY, "out of memory");
    filter->conditions = grown;
    struct condition_of_filter *condition = &grown[filter->count++];
    *condition = (struct condition_of_filter){.test = IS_PRESENT};
    if (!parse_field(parsing, condition))
        return false;
    if (*parsing->at == ',' || !*parsing->at)
        return true;
    return parse_operator(parsing, &condition->test) && parse_value(parsing, condition) &&
           (condition->test != IS_MATCHING || compile(parsing, condition));
}

static bool parse_filter(const char *text, struct filter *filter, struct error *error) {
    struct parsing parsing = {text, text, error};
    if (strlen(text) > FILTER_TEXT_LIMIT)
        return error_set(error, ERROR_INVALID, "a filter has more than %d bytes",
                         FILTER_TEXT_LIMIT);
    while (*parsing.at) {
        if (!parse_condition(&parsing, filter))
            return false;
        if (*parsing.at == ',')
            parsing.at++;
        else if (*parsing.at)
            return refuse(&parsing, "a comma or the end is expected");
    }
    return true;
}

struct filters *filters_parse(const char *const *texts, size_t count, struct error *error) {
    if (count > FILTER_LIMIT) {
        error_set(error, ERROR_INVALID, "more than %d filters", FILTER_LIMIT);
        return NULL;
    }
    cleanup_filters struct filters *filters =
        calloc(1, sizeof *filters + count * sizeof filters->filters[0]);
    if (!filters) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    filters->count = count;
    for (size_t i = 0; i < count; i++)
        if (!parse_filter(texts[i], &filters->filters[i], error))
            return NULL;
    return take(filters);
}

/* ---- matching ---- */

/* The field's text; NULL: it is not there. */
static const char *field_of(const struct condition_of_filter *condition,
                            const struct entry *entry) {
    switch (condition->field) {
    case FIELD_NAME:
        return entry->name;
    case FIELD_PARENT:
        return entry->parent ? entry->parent->name : "";
    case FIELD_KIND:
        return entry->kind == ENTRY_COMMITTED ? "committed"
               : entry->kind == ENTRY_ACTIVE  ? "active"
                                              : "view";
    case FIELD_LABEL:
        return json_string_value(json_object_get(entry->labels, condition->label));
    case FIELD_UNKNOWN:
        break;
    }
    return NULL;
}

static bool holds(const struct condition_of_filter *condition, const struct entry *entry) {
    const char *text = field_of(condition, entry);
    switch (condition->test) {
    case IS_EQUAL:
        return text && strcmp(text, condition->value) == 0;
    case IS_NOT_EQUAL:
        return strcmp(text ? text : "", condition->value) != 0;
    case IS_MATCHING:
        return regexec(&condition->pattern, text ? text : "", 0, NULL, 0) == 0;
    case IS_PRESENT:
        break;
    }
    return text != NULL;
}

static bool all_hold(const struct filter *filter, const struct entry *entry) {
    for (size_t i = 0; i < filter->count; i++)
        if (!holds(&filter->conditions[i], entry))
            return false;
    return true;
}

bool filters_match(const struct filters *filters, const struct entry *entry) {
    for (size_t i = 0; i < filters->count; i++)
        if (all_hold(&filters->filters[i], entry))
            return true;
    return filters->count == 0;
}
