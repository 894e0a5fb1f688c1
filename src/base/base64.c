/* Base64 (RFC 4648 §4), both ways. */
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

static int value_of(char c) {
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

char *base64_decode(struct text text, size_t *length) {
    if (text.length % 4 == 0 && text_ends(text, "=="))
        text.length -= 2;
    else if (text.length % 4 == 0 && text_ends(text, "="))
        text.length--;
    if (text.length % 4 == 1)
        return NULL;
    char *out = malloc(text.length / 4 * 3 + 3);
    if (!out)
        return NULL;
    uint32_t group = 0;
    size_t written = 0;
    for (size_t i = 0; i < text.length; i++) {
        int value = value_of(text.at[i]);
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
