/*
 * Edits lists of strings in Docker's daemon.json as text, so that everything else in the file stays
 * as its owner wrote it: order, blanks, line ends.
 *
 * The text is one JSON object, at most TREE_FILE_LIMIT bytes, with a NUL behind it. A function that
 * fails says ERROR_INVALID: the text is no JSON object, has a key twice, or the key's value is no
 * list of strings. Pure. Private to node/.
 */
#ifndef NODE_DAEMON_JSON_H
#define NODE_DAEMON_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include "base/buffer.h"
#include "base/error.h"
#include "base/text.h"

/* The parsed text, the caller's to json_decref(). NULL: see above. */
json_t *daemon_json_load(struct text text, struct error *error);

/* Whether the list `key` has `value`; one final '/' does not count. */
bool daemon_json_has(const json_t *object, const char *key, const char *value);

/* Appends the text with `value` as the first of the list `key`, which is made if need be. */
bool daemon_json_add(struct text text, const char *key, const char *value, struct buffer *out,
                     struct error *error);

/* Appends the text without `value` in the list `key`; with `drop`, also without a list that is then
 * empty. */
bool daemon_json_remove(struct text text, const char *key, const char *value, bool drop,
                        struct buffer *out, struct error *error);

#endif
