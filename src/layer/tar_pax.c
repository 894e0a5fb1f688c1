/* The records of PAX headers: "LENGTH KEY=VALUE\n" (POSIX pax), and those of GNU and star. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "layer/tar_private.h"

#define XATTR "SCHILY.xattr."

static bool bad(struct error *error, const char *what) {
    return layer_refuse(error, LAYER_TAR, "an extended header of the archive has %s", what);
}

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "a header of an archive: out of memory");
}

bool tar_decimal(struct text text, int64_t *out) {
    bool negative = text.length && text.at[0] == '-';
    uint64_t value;
    if (text.length && (text.at[0] == '-' || text.at[0] == '+'))
        text = text_from(text, 1);
    while (text.length > 1 && text.at[0] == '0')
        text = text_from(text, 1);
    if (!text_to_u64(text, &value) || value > (uint64_t)INT64_MAX)
        return false;
    *out = negative ? -(int64_t)value : (int64_t)value;
    return true;
}

uint64_t tar_bound_time(int64_t seconds) {
    return seconds < 0 || seconds > INT64_MAX / 1000000000 ? 0 : (uint64_t)seconds;
}

bool tar_pax_time(struct text text, uint64_t *seconds, uint32_t *nanoseconds) {
    struct text fraction, whole = text_cut(text, '.', &fraction);
    int64_t value = 0;
    *seconds = *nanoseconds = 0;
    if (!tar_decimal(whole, &value))
        return false;
    uint32_t parts = 0;
    for (size_t i = 0; i < fraction.length; i++) /* empty where there is no dot */
        if (fraction.at[i] < '0' || fraction.at[i] > '9')
            return false;
    for (size_t i = 0; i < 9; i++)
        parts = parts * 10 + (i < fraction.length ? (uint32_t)(fraction.at[i] - '0') : 0);
    /* "-0.5" is before 1970, too. */
    if (whole.at[0] == '-' || tar_bound_time(value) != (uint64_t)value)
        return true;
    *seconds = (uint64_t)value;
    *nanoseconds = parts;
    return true;
}

bool tar_parts_add(struct tar_parts *parts, int64_t at, int64_t length, struct error *error) {
    if (parts->count == TAR_SPARSE_LIMIT)
        return layer_refuse(error, LAYER_SIZE, "a sparse file has more than %d parts",
                            TAR_SPARSE_LIMIT);
    if (parts->count == parts->capacity) {
        size_t capacity = parts->capacity ? parts->capacity * 2 : 64;
        void *list = realloc(parts->list, capacity * sizeof *parts->list);
        if (!list)
            return no_memory(error);
        parts->list = list;
        parts->capacity = capacity;
    }
    parts->list[parts->count][0] = at;
    parts->list[parts->count++][1] = length;
    return true;
}

/* Cuts off one record. */
static bool next_record(struct text *rest, struct text *key, struct text *value) {
    struct text after, number = text_cut(*rest, ' ', &after);
    uint64_t length;
    if (!after.at || number.length > 18 || !text_to_u64(number, &length) ||
        length < number.length + 1 + 2 || length > rest->length || rest->at[length - 1] != '\n')
        return false;
    struct text record = {after.at, (size_t)length - number.length - 2};
    *rest = text_from(*rest, (size_t)length);
    *key = text_cut(record, '=', value);
    return key->length && value->at && !memchr(key->at, '\0', key->length);
}

/* The later record counts. Order does not matter to us, but containerd sets each name once. */
static bool add_xattr(struct tar_pax *pax, struct text name, struct text value,
                      struct error *error) {
    for (size_t i = 0; i < pax->xattr_count; i++)
        if (pax->xattrs[i].name.length == name.length &&
            memcmp(pax->xattrs[i].name.at, name.at, name.length) == 0) {
            pax->xattrs[i].value = value;
            return true;
        }
    if (pax->xattr_count == pax->xattr_capacity) {
        size_t capacity = pax->xattr_capacity ? pax->xattr_capacity * 2 : 8;
        if (capacity > 4096) /* looked through for each new one */
            return bad(error, "more than 4096 extended attributes");
        void *list = realloc(pax->xattrs, capacity * sizeof *pax->xattrs);
        if (!list)
            return no_memory(error);
        pax->xattrs = list;
        pax->xattr_capacity = capacity;
    }
    pax->xattrs[pax->xattr_count++] = (struct tar_xattr){name, value};
    return true;
}

/* The format 0.0 repeats a key for each part: first where it is, then its length. */
struct old_part {
    bool has_offset;
    int64_t offset;
};

static bool take_part(struct old_part *part, bool is_offset, struct text value,
                      struct tar_parts *parts, struct error *error) {
    int64_t number;
    if (is_offset == part->has_offset || !tar_decimal(value, &number))
        return bad(error, "a map of a sparse file that is out of order");
    part->has_offset = is_offset;
    if (is_offset) {
        part->offset = number;
        return true;
    }
    return tar_parts_add(parts, part->offset, number, error);
}

bool tar_pax_read(struct text bytes, struct tar_pax *out, struct tar_parts *parts,
                  struct error *error) {
    struct {
        const char *key;
        struct text *value;
        bool is_name; /* has no NUL byte */
    } known[] = {
        {"path", &out->path, true},
        {"linkpath", &out->link, true},
        {"size", &out->size, false},
        {"uid", &out->uid, false},
        {"gid", &out->gid, false},
        {"mtime", &out->mtime, false},
        {"GNU.sparse.major", &out->sparse_major, false},
        {"GNU.sparse.minor", &out->sparse_minor, false},
        {"GNU.sparse.name", &out->sparse_name, true},
        {"GNU.sparse.size", &out->sparse_size, false},
        {"GNU.sparse.realsize", &out->sparse_real_size, false},
        {"GNU.sparse.map", &out->sparse_map, false},
        {"GNU.sparse.numblocks", &out->sparse_blocks, false},
    };
    struct old_part part = {0};
    while (bytes.length) {
        struct text key, value;
        if (!next_record(&bytes, &key, &value))
            return bad(error, "a record that is cut short or malformed");
        for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
            if (!text_is(key, known[i].key))
                continue;
            if (known[i].is_name && memchr(value.at, '\0', value.length))
                return bad(error, "a name with a NUL byte");
            *known[i].value = value;
        }
        bool is_offset = text_is(key, "GNU.sparse.offset");
        if (is_offset || text_is(key, "GNU.sparse.numbytes")) {
            out->has_parts = true;
            if (!take_part(&part, is_offset, value, parts, error))
                return false;
        }
        if (text_starts(key, XATTR) && value.length &&
            !add_xattr(out, text_from(key, strlen(XATTR)), value, error))
            return false;
    }
    return !part.has_offset || bad(error, "half a part of a sparse file");
}
