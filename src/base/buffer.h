/*
 * A growing run of bytes, always NUL-terminated behind its length (so that text may be printed).
 * Zeroed is empty and valid. A failed allocation sets `failed`, and every later append does
 * nothing: build the whole, then check once.
 */
#ifndef BASE_BUFFER_H
#define BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include "base/text.h"

struct buffer {
    char *bytes; /* NULL while empty */
    size_t length;
    size_t capacity;
    size_t limit; /* appending past it fails; 0: no limit */
    bool failed;
};

void buffer_free(struct buffer *buffer);  /* back to empty; limit stays */
void buffer_clear(struct buffer *buffer); /* length 0, failed false; keeps the memory */
bool buffer_reserve(struct buffer *buffer, size_t more);
bool buffer_append(struct buffer *buffer, const void *bytes, size_t length);
bool buffer_append_text(struct buffer *buffer, struct text text);
bool buffer_append_string(struct buffer *buffer, const char *string);
bool buffer_printf(struct buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Appends `text` as the inside of a JSON string: quotes, backslashes and control characters
 * escaped, bytes that are no UTF-8 replaced by U+FFFD. */
bool buffer_append_json(struct buffer *buffer, struct text text);

#define cleanup_buffer __attribute__((cleanup(buffer_free)))

#endif
