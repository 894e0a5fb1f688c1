/*
 * A growing run of bytes.
 *
 * A NUL always follows the last byte, so that text may be printed. A zeroed buffer is empty and
 * valid. When memory is out, or the limit is reached, the buffer is `failed`, and every later
 * append does nothing: a caller appends everything and then checks once. One thread at a time.
 */
#ifndef BASE_BUFFER_H
#define BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/text.h"

struct buffer {
    char *bytes; /* NULL while empty */
    size_t length;
    size_t capacity;
    size_t limit; /* the largest length; 0: no limit */
    bool failed;
};

void buffer_finish(struct buffer *buffer); /* frees the bytes: empty again, with the same limit */
void buffer_clear(struct buffer *buffer);  /* length 0 and not failed; keeps the memory */

/* Makes room for `more` bytes behind the length, so that appending them does not move the bytes. */
bool buffer_reserve(struct buffer *buffer, size_t more);

/* Each appends; false: the buffer is failed. */
bool buffer_append(struct buffer *buffer, const void *bytes, size_t length);
bool buffer_append_string(struct buffer *buffer, const char *string);
bool buffer_append_number(struct buffer *buffer, int64_t number); /* in decimal */
bool buffer_printf(struct buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Appends `text` as the inside of a JSON string, without the quotes around it: text_escape_json().
 */
bool buffer_append_json(struct buffer *buffer, struct text text);
/* Appends `string` percent-encoded (RFC 3986 §2.1): letters, digits, "-._~" and the characters of
 * `plain` stay as they are. */
bool buffer_append_percent(struct buffer *buffer, const char *string, const char *plain);

#define cleanup_buffer __attribute__((cleanup(buffer_finish)))

#endif
