/*
 * JSON from untrusted peers, with bounds on its depth and its number of values.
 *
 * jansson 2.14 calls itself once for each level of nesting, up to 2,048 levels (measured: that
 * overflows a stack of 128 KiB), and spends 235 bytes of memory on the three bytes `{},`. So levels
 * and values are counted before jansson reads the text. Pure; any thread, also on a small stack.
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include "base/buffer.h"
#include "base/error.h"

enum {
    JSON_DEPTH_LIMIT = 64,
    JSON_VALUE_LIMIT = 200000, /* 10,000 descriptors of 20 members; at worst some 50 MB of memory */
};

/* Makes the functions below notice each allocation that fails. Without this, jansson 2.14 drops a
 * character of a long string when memory runs out in it, and takes some other failures for invalid
 * JSON. Called once, before any other thread. `allocate`: malloc(), or a test's own. */
void bounded_json_watch(void *(*allocate)(size_t size));

/* The object or array that `bytes` holds, the caller's to json_decref(). NULL: ERROR_INVALID with
 * line and column (also for bytes that are not UTF-8), or ERROR_MEMORY. Strings may hold NUL bytes.
 */
json_t *bounded_json_load(const void *bytes, size_t length, struct error *error);

/* The same with jansson's `flags` (JSON_REJECT_DUPLICATES, ...) in place of JSON_ALLOW_NUL. Without
 * JSON_ALLOW_NUL in `flags`, a string with a NUL byte is ERROR_INVALID. */
json_t *bounded_json_load_by(size_t flags, const void *bytes, size_t length, struct error *error);

/* The same for JSON that tarn wrote itself, without bounds. NULL: out of memory. */
json_t *json_load_own(const void *bytes, size_t length);

/* Appends `json` as text, written by jansson's `flags`. False: `json` is NULL, or out of memory.
 * json_dumps() of jansson 2.14 is not used, because it returns the text without a member's name
 * when memory runs out in that name. */
bool bounded_json_dump(const json_t *json, size_t flags, struct buffer *out);

/* Appends a text as printf() makes it. False: `array` is NULL, or out of memory. */
bool json_array_append_printf(json_t *array, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The member's text, borrowed from the object. "": it is no string, or absent; NULL for `object` is
 * an empty one. */
static inline const char *json_member_text(const json_t *object, const char *name) {
    const char *text = json_string_value(json_object_get(object, name));
    return text ? text : "";
}

static inline void cleanup_json_call(json_t **json) {
    json_decref(*json);
}

/* json_decref() at the end of the scope. */
#define cleanup_json __attribute__((cleanup(cleanup_json_call)))

#endif
