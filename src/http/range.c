/* Parses the Range field (RFC 9110 §14.1.1, §14.2) and applies it to content of a known size. */
#include "http/http.h"

static bool is_digit(char byte) {
    return byte >= '0' && byte <= '9';
}

/* Reads decimal digits from the front of *text. A number too large for 64 bits becomes the largest
 * that fits, which lies behind the end of any content. False: no digit is there. */
static bool read_number(struct text *text, uint64_t *out) {
    size_t length = 0;
    while (length < text->length && is_digit(text->at[length]))
        length++;
    if (length == 0)
        return false;
    if (!text_to_u64((struct text){text->at, length}, out))
        *out = UINT64_MAX;
    *text = text_from(*text, length);
    return true;
}

static const struct http_range none = {.kind = HTTP_RANGE_NONE};

/* One range of the list: "0-499", "500-" or "-20". NONE: it is malformed. */
static struct http_range parse_one(struct text rest) {
    struct http_range range = {0};
    bool has_first = read_number(&rest, &range.first);
    if (rest.length == 0 || rest.at[0] != '-')
        return none;
    rest = text_from(rest, 1);
    uint64_t number = 0;
    bool has_number = read_number(&rest, &number);
    if (rest.length > 0 || (!has_first && !has_number) ||
        (has_first && has_number && number < range.first))
        return none;
    if (!has_first) {
        range.kind = HTTP_RANGE_LAST;
        range.count = number;
    } else if (!has_number) {
        range.kind = HTTP_RANGE_FROM;
    } else {
        range.kind = HTTP_RANGE_FROM_TO;
        range.last = number;
    }
    return range;
}

/* Cuts the next range off the list. Empty elements are passed over (RFC 9110 §5.6.1.2). False: the
 * list has no more. */
static bool next_range(struct text *list, struct text *out) {
    while (list->at) {
        *out = text_trim(text_cut(*list, ',', list));
        if (out->length > 0)
            return true;
    }
    return false;
}

/* Makes *all cover one more range. */
static void cover(struct http_range *all, const struct http_range *one) {
    if (one->kind == HTTP_RANGE_LAST) {
        all->count = one->count > all->count ? one->count : all->count;
        return;
    }
    uint64_t last = one->kind == HTTP_RANGE_FROM ? UINT64_MAX : one->last;
    all->first = one->first < all->first ? one->first : all->first;
    all->last = last > all->last ? last : all->last;
}

struct http_range http_range_parse(struct text value) {
    static const char unit[] = "bytes=";
    const size_t unit_length = sizeof unit - 1;
    if (value.length <= unit_length || !text_is_nocase((struct text){value.at, unit_length}, unit))
        return none;
    const struct text list = text_from(value, unit_length);
    struct http_range all = {.kind = HTTP_RANGE_SEVERAL, .first = UINT64_MAX, .list = list};
    struct http_range one = none;
    struct text rest = list, element;
    size_t count = 0;
    for (; next_range(&rest, &element); count++) {
        one = parse_one(element);
        if (one.kind == HTTP_RANGE_NONE)
            return none;
        cover(&all, &one);
    }
    return count > 1 ? all : one;
}

/* The one range from the first to the last byte of all ranges that lie in the content. */
static bool apply_several(const struct http_range *range, uint64_t size, uint64_t *first,
                          uint64_t *length) {
    struct text rest = range->list, element;
    uint64_t begin = UINT64_MAX, end = 0;
    while (next_range(&rest, &element)) {
        struct http_range one = parse_one(element);
        uint64_t at, count;
        if (one.kind == HTTP_RANGE_NONE || !http_range_apply(&one, size, &at, &count))
            continue;
        begin = at < begin ? at : begin;
        end = at + count > end ? at + count : end;
    }
    if (end == 0)
        return false;
    *first = begin;
    *length = end - begin;
    return true;
}

bool http_range_apply(const struct http_range *range, uint64_t size, uint64_t *first,
                      uint64_t *length) {
    if (range->kind == HTTP_RANGE_NONE) {
        *first = 0;
        *length = size;
        return true;
    }
    if (range->kind == HTTP_RANGE_SEVERAL)
        return apply_several(range, size, first, length);
    if (range->kind == HTTP_RANGE_LAST) {
        if (range->count == 0 || size == 0)
            return false;
        *length = range->count < size ? range->count : size;
        *first = size - *length;
        return true;
    }
    if (range->first >= size)
        return false;
    uint64_t last = size - 1;
    if (range->kind == HTTP_RANGE_FROM_TO && range->last < last)
        last = range->last;
    *first = range->first;
    *length = last - range->first + 1;
    return true;
}
