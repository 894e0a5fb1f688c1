/* One header block of a tar archive: its sum, its format, its numbers and names. */
#include <limits.h>
#include <string.h>
#include "layer/tar_private.h"

bool tar_number(const uint8_t *at, size_t length, int64_t *out) {
    uint64_t value = 0;
    if (length && at[0] & 0x80) { /* base 256, two's complement: GNU and star */
        uint8_t invert = at[0] & 0x40 ? 0xff : 0;
        for (size_t i = 0; i < length; i++) {
            uint8_t byte = at[i] ^ invert;
            if (i == 0)
                byte &= 0x7f;
            if (value >> 56)
                return false;
            value = value << 8 | byte;
        }
        if (value >> 63)
            return false;
        *out = invert ? (int64_t)~value : (int64_t)value;
        return true;
    }
    while (length && (at[0] == ' ' || at[0] == '\0')) {
        at++;
        length--;
    }
    while (length && (at[length - 1] == ' ' || at[length - 1] == '\0'))
        length--;
    for (; length && *at; at++, length--) {
        if (*at < '0' || *at > '7' || value >> 60)
            return false;
        value = value << 3 | (uint64_t)(*at - '0');
    }
    *out = (int64_t)value;
    return true;
}

/* The field up to its first NUL. */
static size_t copy_field(const uint8_t *at, size_t length, char *out) {
    size_t used = strnlen((const char *)at, length);
    memcpy(out, at, used);
    out[used] = '\0';
    return used;
}

/* The sum counts the sum's own field as spaces; some old programs added signed bytes. */
static bool has_right_sum(const uint8_t block[TAR_BLOCK]) {
    int64_t wanted, plain = 0, with_sign = 0;
    for (size_t i = 0; i < TAR_BLOCK; i++) {
        uint8_t byte = i >= 148 && i < 156 ? ' ' : block[i];
        plain += byte;
        with_sign += (int8_t)byte;
    }
    return tar_number(block + 148, 8, &wanted) && (wanted == plain || wanted == with_sign);
}

static bool bad(struct error *error, const char *what) {
    return layer_refuse(error, LAYER_TAR, "a header of the archive has %s", what);
}

/* Whether a time field of GNU's is set and no number; Go before 1.8 wrote a prefix there. */
static bool is_broken_time(const uint8_t *at) {
    int64_t ignored;
    return at[0] && !tar_number(at, 12, &ignored);
}

static bool is_ascii(const char *text) {
    for (; *text; text++)
        if (*text & 0x80)
            return false;
    return true;
}

/* Puts "prefix/" in front of the name. */
static void add_prefix(struct tar_header *out, const uint8_t *at, size_t length, bool only_ascii) {
    char prefix[156], name[101];
    size_t used = copy_field(at, length, prefix);
    if (used == 0 || (only_ascii && !is_ascii(prefix)))
        return;
    memcpy(name, out->name, 101);
    memcpy(out->name, prefix, used);
    out->name[used] = '/';
    memcpy(out->name + used + 1, name, strlen(name) + 1);
}

bool tar_header_read(const uint8_t block[TAR_BLOCK], struct tar_header *out, struct error *error) {
    *out = (struct tar_header){.type = (char)block[156]};
    if (!has_right_sum(block))
        return bad(error, "a wrong sum");
    copy_field(block, 100, out->name);
    copy_field(block + 157, 100, out->link);
    if (!tar_number(block + 124, 12, &out->size) || !tar_number(block + 100, 8, &out->mode) ||
        !tar_number(block + 108, 8, &out->uid) || !tar_number(block + 116, 8, &out->gid) ||
        !tar_number(block + 136, 12, &out->mtime_s))
        return bad(error, "a field that is no number");
    const uint8_t *magic = block + 257;
    bool is_ustar = memcmp(magic, "ustar\0", 6) == 0;
    out->is_gnu = memcmp(magic, "ustar  \0", 8) == 0;
    if (!is_ustar && !out->is_gnu)
        return true;
    if (!tar_number(block + 329, 8, &out->major) || !tar_number(block + 337, 8, &out->minor))
        return bad(error, "a device that is no number");
    bool is_star = is_ustar && memcmp(block + 508, "tar\0", 4) == 0;
    int64_t ignored;
    if (is_star &&
        (!tar_number(block + 476, 12, &ignored) || !tar_number(block + 488, 12, &ignored)))
        return bad(error, "a time that is no number");
    if (is_ustar)
        add_prefix(out, block + 345, is_star ? 131 : 155, false);
    else if (is_broken_time(block + 345) || is_broken_time(block + 357))
        add_prefix(out, block + 345, 155, true);
    return true;
}
