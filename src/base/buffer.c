/* Growing runs of bytes: memory, appending, and strings escaped for JSON. */
#include "base/buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void buffer_finish(struct buffer *buffer) {
    free(buffer->bytes);
    *buffer = (struct buffer){.limit = buffer->limit};
}

void buffer_clear(struct buffer *buffer) {
    buffer->length = 0;
    buffer->failed = false;
    if (buffer->bytes)
        buffer->bytes[0] = '\0';
}

bool buffer_reserve(struct buffer *buffer, size_t more) {
    size_t needed;
    if (buffer->failed)
        return false;
    if (__builtin_add_overflow(buffer->length, more, &needed) ||
        __builtin_add_overflow(needed, 1, &needed) ||
        (buffer->limit && needed - 1 > buffer->limit)) {
        buffer->failed = true;
        return false;
    }
    if (needed <= buffer->capacity)
        return true;
    size_t capacity = buffer->capacity ? buffer->capacity * 2 : 256;
    if (capacity < needed)
        capacity = needed;
    char *bytes = realloc(buffer->bytes, capacity);
    if (!bytes) {
        buffer->failed = true;
        return false;
    }
    buffer->bytes = bytes;
    buffer->capacity = capacity;
    return true;
}

bool buffer_append(struct buffer *buffer, const void *bytes, size_t length) {
    if (!buffer_reserve(buffer, length))
        return false;
    if (length)
        memcpy(buffer->bytes + buffer->length, bytes, length);
    buffer->length += length;
    buffer->bytes[buffer->length] = '\0';
    return true;
}

bool buffer_append_string(struct buffer *buffer, const char *string) {
    return buffer_append(buffer, string, strlen(string));
}

bool buffer_printf(struct buffer *buffer, const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    bool ok = length >= 0 && buffer_reserve(buffer, (size_t)length);
    if (ok) {
        vsnprintf(buffer->bytes + buffer->length, (size_t)length + 1, format, again);
        buffer->length += (size_t)length;
    }
    va_end(again);
    return ok;
}

/* How many bytes the UTF-8 sequence at `at` has; 0: it is not UTF-8 (RFC 3629 §4). */
static size_t utf8_length(const unsigned char *at, size_t left) {
    size_t length;
    unsigned char low = 0x80, high = 0xbf;
    if (at[0] < 0x80)
        return 1;
    if (at[0] >= 0xc2 && at[0] <= 0xdf) {
        length = 2;
    } else if (at[0] >= 0xe0 && at[0] <= 0xef) {
        length = 3;
        low = at[0] == 0xe0 ? 0xa0 : 0x80;
        high = at[0] == 0xed ? 0x9f : 0xbf;
    } else if (at[0] >= 0xf0 && at[0] <= 0xf4) {
        length = 4;
        low = at[0] == 0xf0 ? 0x90 : 0x80;
        high = at[0] == 0xf4 ? 0x8f : 0xbf;
    } else {
        return 0;
    }
    if (left < length || at[1] < low || at[1] > high)
        return 0;
    for (size_t i = 2; i < length; i++) {
        if (at[i] < 0x80 || at[i] > 0xbf)
            return 0;
    }
    return length;
}

bool buffer_append_json(struct buffer *buffer, struct text text) {
    const unsigned char *bytes = (const unsigned char *)text.at;
    for (size_t i = 0; i < text.length;) {
        size_t length = utf8_length(bytes + i, text.length - i);
        if (length == 0) {
            buffer_append_string(buffer, "\xef\xbf\xbd");
            i++;
            continue;
        }
        if (bytes[i] == '"' || bytes[i] == '\\')
            buffer_printf(buffer, "\\%c", bytes[i]);
        else if (bytes[i] < 0x20 || bytes[i] == 0x7f)
            buffer_printf(buffer, "\\u%04x", bytes[i]);
        else
            buffer_append(buffer, bytes + i, length);
        i += length;
    }
    return !buffer->failed;
}
