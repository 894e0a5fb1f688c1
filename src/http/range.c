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

struct http_range http_range_parse(struct text value) {
    static const char unit[] = "bytes=";
    const size_t unit_length = sizeof unit - 1;
    struct http_range range = {HTTP_RANGE_NONE, 0, 0, 0};
    if (value.length <= unit_length || !text_is_nocase((struct text){value.at, unit_length}, unit))
        return range;
    struct text rest = text_trim(text_from(value, unit_length));
    bool has_first = read_number(&rest, &range.first);
    if (rest.length == 0 || rest.at[0] != '-')
        return (struct http_range){HTTP_RANGE_NONE, 0, 0, 0};
    rest = text_from(rest, 1);
    uint64_t number = 0;
    bool has_number = read_number(&rest, &number);
    if (rest.length > 0 || (!has_first && !has_number) ||
        (has_first && has_number && number < range.first))
        return (struct http_range){HTTP_RANGE_NONE, 0, 0, 0};
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

bool http_range_apply(const struct http_range *range, uint64_t size, uint64_t *first,
                      uint64_t *length) {
    if (range->kind == HTTP_RANGE_NONE) {
        *first = 0;
        *length = size;
        return true;
    }
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
