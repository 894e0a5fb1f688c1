/*
 * A text is a borrowed run of bytes with its length: a slice of somebody else's memory, not
 * NUL-terminated. It is valid as long as what it points into. Passed by value.
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

/* Use with printf: "%.*s", TEXT_PRINT(text). */
#define TEXT_PRINT(text) (int)(text).length, (text).at

static inline struct text text_of(const char *string) {
    return (struct text){string, string ? strlen(string) : 0};
}

static inline struct text text_from(struct text text, size_t start) {
    return (struct text){text.at + start, text.length - start};
}

bool text_is(struct text text, const char *string);        /* byte for byte */
bool text_is_nocase(struct text text, const char *string); /* ASCII letters fold */
bool text_starts(struct text text, const char *prefix);
bool text_ends(struct text text, const char *suffix);
struct text text_trim(struct text text); /* spaces and tabs off both ends */

/* Decimal digits only, no sign, no space, no overflow; false leaves *out alone. */
bool text_to_u64(struct text text, uint64_t *out);

/* Splits `text` at the first `separator`: the part before it, and in *rest what follows. Without a
 * separator all of `text` and an empty rest with at == NULL. `rest` may point at `text`'s variable.
 */
struct text text_cut(struct text text, char separator, struct text *rest);

/* Copies into `out` with a NUL; false (and an empty string) when it does not fit or holds a NUL. */
bool text_copy(struct text text, char *out, size_t size);

/* A NUL-terminated copy on the heap, the caller's to free; NULL when out of memory. */
char *text_dup(struct text text);

/* Percent-decodes (RFC 3986 §2.1) into `out` with a NUL; `+` stays `+`. False when an escape is
 * malformed, decodes to NUL, or the result does not fit. */
bool text_percent_decode(struct text text, char *out, size_t size);

/* Glob over '/'-separated names: `*` matches within one part, `**` across parts (and nothing),
 * `?` one character of a part. Anchored at both ends; linear in practice, bounded for hostile
 * patterns. "project" followed by slash and two stars matches "project/a/b" but not "project". */
bool text_matches_glob(const char *pattern, struct text name);

#endif
