/* Reads Content-Range. */
#include "client/content_range.h"

bool content_range_parse(struct text value, struct content_range *out) {
    struct text total, range;
    *out = (struct content_range){0};
    value = text_trim(value);
    if (value.length < 6 || !text_is_nocase((struct text){value.at, 6}, "bytes "))
        return false;
    range = text_cut(text_trim(text_from(value, 6)), '/', &total);
    if (!total.at)
        return false;
    out->has_total = !text_is(total, "*");
    if (out->has_total && !text_to_u64(total, &out->total))
        return false;
    if (text_is(range, "*"))
        return out->has_total;
    struct text last, first = text_cut(range, '-', &last);
    out->satisfied = true;
    return last.at && text_to_u64(first, &out->first) && text_to_u64(last, &out->last) &&
           out->first <= out->last && out->last != UINT64_MAX &&
           (!out->has_total || out->last < out->total);
}

bool content_range_fits(const struct content_range *range, uint64_t first, uint64_t last,
                        uint64_t suffix) {
    if (!range->satisfied)
        return false;
    if (suffix == 0)
        return range->first == first && range->last <= last;
    if (!range->has_total)
        return range->last - range->first < suffix;
    uint64_t start = suffix < range->total ? range->total - suffix : 0;
    return range->first == start && range->last == range->total - 1;
}
