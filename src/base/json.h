/*
 * JSON from strangers. jansson 2.14 recurses once a level, up to 2,048 levels (measured: a thread
 * with 128 KiB of stack dies), and spends 235 bytes on the three of `{},`; so nesting and values
 * are counted before it sees the text. Pure; any thread, small stacks included.
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <jansson.h>
#include <stddef.h>
#include "base/buffer.h"
#include "base/error.h"

enum {
    JSON_DEPTH_LIMIT = 64,
    JSON_VALUE_LIMIT = 200000, /* 10,000 descriptors of 20 members; at worst some 50 MB */
};

/* The object or array that `bytes` holds, the caller's to json_decref(). NULL: ERROR_INVALID with
 * line and column (not UTF-8 included), or ERROR_MEMORY. Strings may hold NUL bytes. */
json_t *bounded_json_load(const void *bytes, size_t length, struct error *error);

/* The same, read by jansson's `flags` (JSON_REJECT_DUPLICATES, ...) and nothing else: without
 * JSON_ALLOW_NUL a string with a NUL byte is no JSON. */
json_t *bounded_json_load_by(size_t flags, const void *bytes, size_t length, struct error *error);

/* Appends `json` as text by jansson's `flags`. False: `json` is NULL, or no memory. (json_dumps()
 * of jansson 2.14 forgets that memory ran out in the middle of a member's name, and gives the text
 * without it.) */
bool bounded_json_dump(const json_t *json, size_t flags, struct buffer *out);

static inline void cleanup_json_call(json_t **json) {
    json_decref(*json);
}

/* json_decref() at the end of the scope. */
#define cleanup_json __attribute__((cleanup(cleanup_json_call)))

#endif
