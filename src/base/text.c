/* Borrowed texts: comparing, cutting, decoding, escaping, and globs. */
#include "base/text.h"

#include <stdlib.h>
#include <strings.h>

bool text_is(struct text text, const char *string) {
    return text_starts(text, string) && text.length == strlen(string);
}

bool text_is_nocase(struct text text, const char *string) {
    size_t length = strlen(string);
    return text.length == length && (length == 0 || strncasecmp(text.at, string, length) == 0);
}

bool text_starts(struct text text, const char *prefix) {
    size_t length = strlen(prefix);
    return length == 0 || (text.length >= length && memcmp(text.at, prefix, length) == 0);
}

bool text_ends(struct text text, const char *suffix) {
    size_t length = strlen(suffix);
    return length == 0 ||
           (text.length >= length && memcmp(text.at + text.length - length, suffix, length) == 0);
}

struct text text_trim(struct text text) {
    while (text.length && (*text.at == ' ' || *text.at == '\t')) {
        text.at++;
        text.length--;
    }
    while (text.length && (text.at[text.length - 1] == ' ' || text.at[text.length - 1] == '\t'))
        text.length--;
    return text;
}

bool text_to_u64(struct text text, uint64_t *out) {
    uint64_t value = 0;
    if (text.length == 0)
        return false;
    for (size_t i = 0; i < text.length; i++) {
        if (text.at[i] < '0' || text.at[i] > '9')
            return false;
        uint64_t digit = (uint64_t)(text.at[i] - '0');
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, digit, &value))
            return false;
    }
    *out = value;
    return true;
}

struct text text_cut(struct text text, char separator, struct text *rest) {
    const char *found = text.length ? memchr(text.at, separator, text.length) : NULL;
    if (!found) {
        *rest = (struct text){NULL, 0};
        return text;
    }
    size_t length = (size_t)(found - text.at);
    *rest = (struct text){found + 1, text.length - length - 1};
    return (struct text){text.at, length};
}

bool text_copy(struct text text, char *out, size_t size) {
    if (text.length >= size || (text.length && memchr(text.at, '\0', text.length))) {
        if (size)
            out[0] = '\0';
        return false;
    }
    if (text.length)
        memcpy(out, text.at, text.length);
    out[text.length] = '\0';
    return true;
}

char *text_dup(struct text text) {
    char *copy = malloc(text.length + 1);
    if (!copy)
        return NULL;
    if (text.length)
        memcpy(copy, text.at, text.length);
    copy[text.length] = '\0';
    return copy;
}

bool text_lists_equal(const char *const *a, const char *const *b) {
    size_t i = 0;
    while (a && b && a[i] && b[i] && strcmp(a[i], b[i]) == 0)
        i++;
    return (!a || !a[i]) && (!b || !b[i]);
}

const char *const *text_list_dup(const char *const *list) {
    size_t count = 0, size = 0;
    for (; list && list[count]; count++)
        size += strlen(list[count]) + 1;
    const char **copy = malloc((count + 1) * sizeof *copy + size);
    if (!copy)
        return NULL;
    char *at = (char *)(copy + count + 1);
    for (size_t i = 0; i < count; i++) {
        size_t length = strlen(list[i]) + 1;
        copy[i] = memcpy(at, list[i], length);
        at += length;
    }
    copy[count] = NULL;
    return copy;
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool text_percent_decode(struct text text, char *out, size_t size) {
    size_t length = 0;
    for (size_t i = 0; i < text.length; i++) {
        char c = text.at[i];
        if (c == '%') {
            if (text.length - i < 3)
                return false;
            int high = hex_value(text.at[i + 1]), low = hex_value(text.at[i + 2]);
            if (high < 0 || low < 0)
                return false;
            c = (char)(high * 16 + low);
            i += 2;
        }
        if (c == '\0' || length + 1 >= size)
            return false;
        out[length++] = c;
    }
    if (length >= size)
        return false;
    out[length] = '\0';
    return true;
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

/* Whether a character of UTF-8 is a control character: C0, DEL, or C1 (U+0080 to U+009F), which a
 * terminal may take for the beginning of a command. */
static bool is_control(const unsigned char *at, size_t length, unsigned *code) {
    *code = length == 2 ? (at[0] & 0x1fu) << 6 | (at[1] & 0x3fu) : at[0];
    return length <= 2 && (*code < 0x20 || (*code >= 0x7f && *code <= 0x9f));
}

bool text_is_utf8(struct text text) {
    for (size_t taken; text.length; text = text_from(text, taken))
        if ((taken = utf8_length((const unsigned char *)text.at, text.length)) == 0)
            return false;
    return true;
}

size_t text_escape_json(struct text text, char out[static TEXT_ESCAPE_LIMIT], size_t *length) {
    static const char digits[] = "0123456789abcdef";
    const unsigned char *at = (const unsigned char *)text.at;
    unsigned code;
    size_t taken = utf8_length(at, text.length);
    if (taken == 0) {
        memcpy(out, "\xef\xbf\xbd", *length = 3);
        return 1;
    }
    if (is_control(at, taken, &code)) {
        out[0] = '\\';
        out[1] = 'u';
        out[2] = out[3] = '0';
        out[4] = digits[code >> 4];
        out[5] = digits[code & 0xf];
        *length = 6;
        return taken;
    }
    *length = 0;
    if (*at == '"' || *at == '\\')
        out[(*length)++] = '\\';
    memcpy(out + *length, at, taken);
    *length += taken;
    return taken;
}

/*
 * After a mismatch only the last `*` and the last `**` are tried with one character more. An
 * earlier star is not tried again, because the later star can match the same characters. So the
 * work is at most |pattern| x |name| for each of the two.
 */
bool text_matches_glob(const char *pattern, struct text name) {
    const char *star = NULL, *stars = NULL;
    size_t star_at = 0, stars_at = 0, at = 0;
    const char *p = pattern;
    for (;;) {
        if (p[0] == '*' && p[1] == '*') {
            stars = p += 2;
            stars_at = at;
            star = NULL;
            continue;
        }
        if (p[0] == '*') {
            star = ++p;
            star_at = at;
            continue;
        }
        if (at == name.length && *p == '\0')
            return true;
        if (at < name.length && (*p == name.at[at] || (*p == '?' && name.at[at] != '/'))) {
            p++;
            at++;
            continue;
        }
        if (star && star_at < name.length && name.at[star_at] != '/') {
            p = star;
            at = ++star_at;
            continue;
        }
        if (stars && stars_at < name.length) {
            p = stars;
            at = ++stars_at;
            star = NULL;
            continue;
        }
        return false;
    }
}
