/* Reads and keeps `traceparent` and `tracestate`. */
#include "base/trace.h"
#include <stdio.h>

#include <string.h>

enum { ID_AT = 3, PARENT_AT = 36, PARENT_DIGITS = 16, FLAGS_AT = 53 };
enum {
    KEY_LIMIT = 256,
    TENANT_LIMIT = 241,
    SYSTEM_LIMIT = 14,
    VALUE_LIMIT = 256,
    ENTRIES_LIMIT = 32
};

static _Thread_local struct trace current;

/* Lower-case hex only. */
static bool is_hex(const char *at, size_t length) {
    for (size_t i = 0; i < length; i++) {
        if (!(at[i] >= '0' && at[i] <= '9') && !(at[i] >= 'a' && at[i] <= 'f'))
            return false;
    }
    return true;
}

static bool is_zero(const char *at, size_t length) {
    while (length > 0 && at[length - 1] == '0')
        length--;
    return length == 0;
}

/* Version 00 ends with its flags; behind those of a later version only a dash may follow. */
static bool has_right_length(struct text value) {
    if (value.length <= TRACE_PARENT_LENGTH)
        return value.length == TRACE_PARENT_LENGTH;
    return memcmp(value.at, "00", 2) != 0 && value.at[TRACE_PARENT_LENGTH] == '-';
}

bool trace_parse(struct text value, char parent[static TRACE_PARENT_SIZE]) {
    const char *at = value.at;
    parent[0] = '\0';
    if (!at || !has_right_length(value) || !is_hex(at, 2) || memcmp(at, "ff", 2) == 0 ||
        at[ID_AT - 1] != '-' || at[PARENT_AT - 1] != '-' || at[FLAGS_AT - 1] != '-' ||
        !is_hex(at + ID_AT, TRACE_ID_LENGTH) || is_zero(at + ID_AT, TRACE_ID_LENGTH) ||
        !is_hex(at + PARENT_AT, PARENT_DIGITS) || is_zero(at + PARENT_AT, PARENT_DIGITS) ||
        !is_hex(at + FLAGS_AT, 2))
        return false;
    memcpy(parent, at, TRACE_PARENT_LENGTH);
    memcpy(parent, "00", 2);
    parent[TRACE_PARENT_LENGTH] = '\0';
    return true;
}

struct text trace_id(const char parent[static TRACE_PARENT_SIZE]) {
    return parent[0] ? (struct text){parent + ID_AT, TRACE_ID_LENGTH} : (struct text){"", 0};
}

/* ---- tracestate ---- */

static bool is_lower(char c) {
    return c >= 'a' && c <= 'z';
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* The part of a key: it begins with a letter, or a digit if `may_begin_with_digit`. */
static bool is_name(struct text name, size_t limit, bool may_begin_with_digit) {
    if (name.length == 0 || name.length > limit ||
        !(is_lower(name.at[0]) || (may_begin_with_digit && is_digit(name.at[0]))))
        return false;
    for (size_t i = 1; i < name.length; i++) {
        char c = name.at[i];
        if (!is_lower(c) && !is_digit(c) && c != '_' && c != '-' && c != '*' && c != '/')
            return false;
    }
    return true;
}

/* §3.3.1.3.1: "name", or "tenant@system". */
static bool is_key(struct text key) {
    struct text system, tenant = text_cut(key, '@', &system);
    return system.at ? is_name(tenant, TENANT_LIMIT, true) && is_name(system, SYSTEM_LIMIT, false)
                     : is_name(key, KEY_LIMIT, false);
}

/* §3.3.1.3.2: printable, without a comma and an equals sign, and no space at the end. */
static bool is_value(struct text value) {
    if (value.length == 0 || value.length > VALUE_LIMIT || value.at[value.length - 1] == ' ')
        return false;
    for (size_t i = 0; i < value.length; i++)
        if (value.at[i] < ' ' || value.at[i] > '~' || value.at[i] == ',' || value.at[i] == '=')
            return false;
    return true;
}

static bool is_entry(struct text entry) {
    struct text value, key = text_cut(entry, '=', &value);
    return value.at && is_key(key) && is_value(value);
}

/* Entries on the right are the oldest, and the first that may be left out (§3.3.1.5). */
bool trace_add_state(struct text value, char state[static TRACE_STATE_SIZE]) {
    size_t length = strlen(state), count = 0;
    bool is_full = false;
    for (size_t i = 0; i < length; i++)
        count += state[i] == ',';
    count += length > 0;
    for (struct text rest = value; rest.at;) {
        struct text entry = text_trim(text_cut(rest, ',', &rest));
        if (entry.length == 0) /* an empty one is allowed */
            continue;
        if (!is_entry(entry) || ++count > ENTRIES_LIMIT) {
            state[0] = '\0';
            return false;
        }
        size_t comma = length > 0;
        is_full = is_full || length + comma + entry.length > TRACE_STATE_LENGTH;
        if (is_full)
            continue;
        if (comma)
            state[length++] = ',';
        memcpy(state + length, entry.at, entry.length);
        length += entry.length;
        state[length] = '\0';
    }
    return true;
}

/* ---- what a thread works for ---- */

void trace_set(const struct trace *trace) {
    current.parent[0] = current.state[0] = '\0';
    if (!trace || !trace->parent[0])
        return;
    memcpy(current.parent, trace->parent, sizeof current.parent);
    memcpy(current.state, trace->state, strlen(trace->state) + 1);
}

const struct trace *trace_current(void) {
    return &current;
}

size_t trace_write_lines(const struct trace *trace, struct trace_lines *out, const char **lines) {
    size_t count = 0;
    if (!trace->parent[0])
        return 0;
    snprintf(out->parent, sizeof out->parent, "traceparent: %s", trace->parent);
    lines[count++] = out->parent;
    if (!trace->state[0])
        return count;
    snprintf(out->state, sizeof out->state, "tracestate: %s", trace->state);
    lines[count++] = out->state;
    return count;
}
