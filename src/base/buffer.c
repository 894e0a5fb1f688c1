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

bool buffer_append_number(struct buffer *buffer, int64_t number) {
    char digits[TEXT_NUMBER_LIMIT];
    const uint64_t size = number < 0 ? -(uint64_t)number : (uint64_t)number;
    const struct text text = text_of_number(size, digits);
    return buffer_append(buffer, "-", number < 0) && buffer_append(buffer, text.at, text.length);
}

/* What fits into the memory that is there is formatted once. */
bool buffer_printf(struct buffer *buffer, const char *format, ...) {
    va_list arguments, again;
    const size_t room = buffer->bytes ? buffer->capacity - buffer->length : 0;
    char *end = buffer->bytes ? buffer->bytes + buffer->length : NULL;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(end, room, format, arguments);
    va_end(arguments);
    bool ok = length >= 0 && buffer_reserve(buffer, (size_t)length);
    if (ok && (size_t)length >= room)
        vsnprintf(buffer->bytes + buffer->length, (size_t)length + 1, format, again);
    if (ok)
        buffer->length += (size_t)length;
    else if (end)
        *end = '\0';
    va_end(again);
    return ok;
}

bool buffer_append_json(struct buffer *buffer, struct text text) {
    char escaped[TEXT_ESCAPE_LIMIT];
    while (text.length) {
        size_t length, taken = text_escape_json(text, escaped, &length);
        buffer_append(buffer, escaped, length);
        text = text_from(text, taken);
    }
    return !buffer->failed;
}

bool buffer_append_percent(struct buffer *buffer, const char *string, const char *plain) {
    static const char unreserved[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    for (; *string; string++) {
        if (strchr(unreserved, *string) || strchr(plain, *string))
            buffer_append(buffer, string, 1);
        else
            buffer_printf(buffer, "%%%02X", (unsigned char)*string);
    }
    return !buffer->failed;
}
