/* Base64 (RFC 4648 §4 and §5), both ways. */
#include "base/base64.h"

#include <stdint.h>
#include <stdlib.h>

char *base64_encode(const void *bytes, size_t length) {
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *from = bytes;
    char *out = length < SIZE_MAX / 2 ? malloc((length + 2) / 3 * 4 + 1) : NULL;
    if (!out)
        return NULL;
    char *to = out;
    for (size_t i = 0; i < length; i += 3) {
        size_t left = length - i;
        uint32_t group = (uint32_t)from[i] << 16;
        group |= left > 1 ? (uint32_t)from[i + 1] << 8 : 0;
        group |= left > 2 ? from[i + 2] : 0;
        *to++ = letters[group >> 18];
        *to++ = letters[group >> 12 & 63];
        *to++ = left > 1 ? letters[group >> 6 & 63] : '=';
        *to++ = left > 2 ? letters[group & 63] : '=';
    }
    *to = '\0';
    return out;
}

char *base64_encode_url(const void *bytes, size_t length) {
    char *out = base64_encode(bytes, length), *end = out;
    for (; end && *end && *end != '='; end++)
        *end = *end == '+' ? '-' : *end == '/' ? '_' : *end;
    if (end)
        *end = '\0';
    return out;
}

/* -1: the character is not one of the alphabet, whose last two letters are `extra`. */
static int value_of(char c, const char extra[static 2]) {
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == extra[0] ? 62 : c == extra[1] ? 63 : -1;
}

/* Decodes a text without padding. */
static char *decode(struct text text, const char extra[static 2], size_t *length) {
    if (text.length % 4 == 1)
        return NULL;
    char *out = malloc(text.length / 4 * 3 + 3);
    if (!out)
        return NULL;
    uint32_t group = 0;
    size_t written = 0;
    for (size_t i = 0; i < text.length; i++) {
        int value = value_of(text.at[i], extra);
        if (value < 0) {
            free(out);
            return NULL;
        }
        group = group << 6 | (uint32_t)value;
        if (i % 4 != 0)
            out[written++] = (char)(group >> (6 - i % 4 * 2) & 255);
    }
    out[written] = '\0';
    *length = written;
    return out;
}

char *base64_decode(struct text text, size_t *length) {
    if (text.length % 4 == 0 && text_ends(text, "=="))
        text.length -= 2;
    else if (text.length % 4 == 0 && text_ends(text, "="))
        text.length--;
    return decode(text, "+/", length);
}

char *base64_decode_url(struct text text, size_t *length) {
    return decode(text, "-_", length);
}
