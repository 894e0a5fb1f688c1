/*
 * A text is a run of bytes with its length, a slice of memory that another owner holds.
 *
 * It is not NUL-terminated, is passed by value, and is valid as long as that memory is. Zeroed is
 * the empty text. Pure; any thread.
 */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct text {
    const char *at;
    size_t length;
};

/* For printf("%.*s", TEXT_PRINT(text)). */
#define TEXT_PRINT(text) (int)(text).length, (text).at

static inline struct text text_of(const char *string) {
    return (struct text){string, string ? strlen(string) : 0};
}

static inline struct text text_from(struct text text, size_t start) {
    return (struct text){text.at + start, text.length - start};
}

bool text_is(struct text text, const char *string);        /* byte for byte */
bool text_is_nocase(struct text text, const char *string); /* ignores the case of ASCII letters */
bool text_starts(struct text text, const char *prefix);
bool text_ends(struct text text, const char *suffix);
struct text text_trim(struct text text); /* without spaces and tabs at both ends */

/* Decimal digits only, without sign, space or overflow. False: *out stays as it was. */
bool text_to_u64(struct text text, uint64_t *out);

enum { TEXT_NUMBER_LIMIT = 20 }; /* digits of the largest number */

/* The number in decimal, written to the end of `digits`. Inline, because every response has one. */
static inline struct text text_of_number(uint64_t number, char digits[static TEXT_NUMBER_LIMIT]) {
    size_t first = TEXT_NUMBER_LIMIT;
    do
        digits[--first] = (char)('0' + number % 10);
    while (number /= 10);
    return (struct text){digits + first, TEXT_NUMBER_LIMIT - first};
}

/* Returns the part of `text` before the first `separator`, and sets *rest to what follows it.
 * Without a separator it returns all of `text`, and rest->at is NULL. `rest` may be the address of
 * the variable that was passed as `text`. */
struct text text_cut(struct text text, char separator, struct text *rest);

/* Copies into `out` and adds a NUL. False, with "" in `out`: it does not fit or holds a NUL byte.
 */
bool text_copy(struct text text, char *out, size_t size);

/* A NUL-terminated copy on the heap, the caller's to free; NULL when out of memory. */
char *text_dup(struct text text);

/* Whether two lists of strings that end with NULL have the same strings in the same order. NULL is
 * like an empty list. */
bool text_lists_equal(const char *const *a, const char *const *b);
/* A copy with its strings in one piece of memory, the caller's to free; of NULL an empty list. NULL
 * when out of memory. */
const char *const *text_list_dup(const char *const *list);

/* Percent-decodes (RFC 3986 §2.1) into `out` and adds a NUL; `+` stays `+`. False: an escape is
 * malformed or stands for a NUL byte, or the result does not fit. */
bool text_percent_decode(struct text text, char *out, size_t size);

/* Whether all of it is well-formed UTF-8 (RFC 3629). */
bool text_is_utf8(struct text text);

enum { TEXT_ESCAPE_LIMIT = 6 };
/* Writes the first character of `text`, which is not empty, as it stands inside a JSON string:
 * quotes, backslashes and control characters are escaped, and a byte that is not UTF-8 is replaced
 * by U+FFFD. Returns how many bytes of `text` the character has; *length is how many were written.
 */
size_t text_escape_json(struct text text, char out[static TEXT_ESCAPE_LIMIT], size_t *length);

/* Whether the whole of `name`, whose parts are separated by '/', matches a glob: `*` matches any
 * characters of one part, or none; `**` matches any characters across parts, or none; `?` matches
 * one character of a part. A "project" followed by a slash and two stars matches "project/a/b" but
 * not "project". The time is linear in practice, and for a hostile pattern at most the product of
 * both lengths. */
bool text_matches_glob(const char *pattern, struct text name);

#endif
