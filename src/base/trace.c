/* Reads and keeps `traceparent`. */
#include "base/trace.h"

#include <string.h>

enum { ID_AT = 3, PARENT_AT = 36, PARENT_DIGITS = 16, FLAGS_AT = 53 };

static _Thread_local char current[TRACE_PARENT_SIZE];

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

void trace_set(const char *parent) {
    strncpy(current, parent, TRACE_PARENT_LENGTH);
}

const char *trace_current(void) {
    return current;
}
