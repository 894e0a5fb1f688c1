/* Bounds JSON before jansson reads it. */
#include "base/json.h"

#include <stdarg.h>
#include <stdlib.h>

/* ---- memory ---- */

static void *(*allocate)(size_t size) = malloc;
static _Thread_local unsigned failures; /* allocations of this thread that failed */

static void *watched_malloc(size_t size) {
    void *bytes = allocate(size);
    failures += !bytes;
    return bytes;
}

void bounded_json_watch(void *(*allocate_by)(size_t size)) {
    allocate = allocate_by;
    json_set_alloc_funcs(watched_malloc, free);
}

/* As json_loadb(). NULL with *no_memory: an allocation failed, though jansson may say nothing. */
static json_t *load(const void *bytes, size_t length, size_t flags, json_error_t *fault,
                    bool *no_memory) {
    const unsigned before = failures;
    json_t *json = json_loadb(bytes ? bytes : "", length, flags, fault);
    *no_memory = failures != before;
    if (!*no_memory)
        return json;
    json_decref(json);
    return NULL;
}

/* ---- reading ---- */

/* `i` is the index behind a string's opening quote; returns the index behind its closing quote. */
static size_t skip_string(const char *bytes, size_t length, size_t i) {
    while (i < length && bytes[i] != '"')
        i += bytes[i] == '\\' ? 2 : 1;
    return i + 1;
}

/* Counts brackets and commas outside strings. The text may be no JSON. jansson stops at the first
 * fault, and the count is right up to that fault. */
static bool is_bounded(const char *bytes, size_t length, struct error *error) {
    size_t depth = 0, values = 0;
    for (size_t i = 0; i < length;) {
        char c = bytes[i++];
        if (c == '"') {
            i = skip_string(bytes, length, i);
        } else if (c == '{' || c == '[') {
            if (++depth > JSON_DEPTH_LIMIT)
                return error_set(error, ERROR_INVALID, "JSON is nested more than %d levels deep",
                                 JSON_DEPTH_LIMIT);
            values++;
        } else if (c == '}' || c == ']') {
            depth -= depth > 0;
        } else if (c == ',') {
            values++;
        }
        if (values > JSON_VALUE_LIMIT)
            return error_set(error, ERROR_INVALID, "JSON holds more than %d values",
                             JSON_VALUE_LIMIT);
    }
    return true;
}

json_t *bounded_json_load(const void *bytes, size_t length, struct error *error) {
    return bounded_json_load_by(JSON_ALLOW_NUL, bytes, length, error);
}

json_t *bounded_json_load_by(size_t flags, const void *bytes, size_t length, struct error *error) {
    json_error_t fault;
    if (!is_bounded(bytes, length, error))
        return NULL;
    bool no_memory;
    json_t *json = load(bytes, length, flags, &fault, &no_memory);
    /* jansson 2.14 says nothing when an allocation of its parser fails. */
    if (!json && !no_memory)
        no_memory = json_error_code(&fault) == json_error_out_of_memory || !fault.text[0];
    if (!json && no_memory)
        error_set(error, ERROR_MEMORY, "out of memory reading JSON");
    else if (!json)
        error_set(error, ERROR_INVALID, "not JSON: line %d, column %d: %s", fault.line,
                  fault.column, fault.text);
    return json;
}

static int append_piece(const char *piece, size_t length, void *out) {
    return buffer_append(out, piece, length) ? 0 : -1;
}

json_t *json_load_own(const void *bytes, size_t length) {
    json_error_t fault;
    bool no_memory;
    return load(bytes, length, 0, &fault, &no_memory);
}

bool bounded_json_dump(const json_t *json, size_t flags, struct buffer *out) {
    return json && json_dump_callback(json, append_piece, out, flags) == 0 && !out->failed;
}

bool json_array_append_printf(json_t *array, const char *format, ...) {
    va_list list;
    va_start(list, format);
    json_t *text = json_vsprintf(format, list);
    va_end(list);
    return json_array_append_new(array, text) == 0;
}
