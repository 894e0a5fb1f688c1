/* The order of tags that are versions. */
#include "keep/version.h"

#include "keep/tag.h"

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static struct text without_v(struct text tag) {
    return tag.length > 1 && (tag.at[0] == 'v' || tag.at[0] == 'V') ? text_from(tag, 1) : tag;
}

bool keep_version_is(struct text tag) {
    struct text version = without_v(tag);
    return version.length > 0 && is_digit(version.at[0]);
}

static int compare_bytes(struct text a, struct text b) {
    size_t common = a.length < b.length ? a.length : b.length;
    int order = common ? memcmp(a.at, b.at, common) : 0;
    if (order == 0 && a.length != b.length)
        return a.length < b.length ? -1 : 1;
    return order;
}

static bool is_number(struct text text) {
    for (size_t i = 0; i < text.length; i++) {
        if (!is_digit(text.at[i]))
            return false;
    }
    return text.length > 0;
}

/* Numbers are less than words; what is missing is less than either. */
static int compare_identifiers(struct text a, struct text b) {
    bool a_is = is_number(a), b_is = is_number(b);
    if (a_is && b_is)
        return keep_tag_compare_digits(a, b);
    return a_is != b_is ? (a_is ? -1 : 1) : compare_bytes(a, b);
}

static int compare_lists(struct text a, struct text b, bool missing_is_zero) {
    while (a.at || b.at) {
        if (!missing_is_zero && (!a.at || !b.at))
            return a.at ? 1 : -1;
        struct text left = {0}, right = {0};
        if (a.at)
            left = text_cut(a, '.', &a);
        if (b.at)
            right = text_cut(b, '.', &b);
        int order = left.length && right.length
                        ? compare_identifiers(left, right)
                        : keep_tag_compare_digits(is_number(left) ? left : (struct text){0},
                                                  is_number(right) ? right : (struct text){0});
        if (order == 0 && left.length && !right.length && !is_number(left))
            order = 1;
        if (order == 0 && right.length && !left.length && !is_number(right))
            order = -1;
        if (order != 0)
            return order;
    }
    return 0;
}

int keep_version_compare(struct text a, struct text b) {
    bool a_is = keep_version_is(a), b_is = keep_version_is(b);
    if (!a_is || !b_is)
        return a_is != b_is ? (a_is ? 1 : -1) : compare_bytes(a, b);
    struct text a_pre = {0}, b_pre = {0};
    struct text a_core = text_cut(without_v(a), '-', &a_pre);
    struct text b_core = text_cut(without_v(b), '-', &b_pre);
    int order = compare_lists(a_core, b_core, true);
    if (order != 0)
        return order;
    if (!a_pre.at || !b_pre.at)
        return (a_pre.at == NULL) - (b_pre.at == NULL);
    return compare_lists(a_pre, b_pre, false);
}
