/* Tags by Rubin Observatory's convention: grammar, order, names. */
#include "keep/tag.h"

#include <ctype.h>
#include <string.h>

/* ---- grammar ---- */

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* Takes `prefix` and then the digits behind it from the front of *text. False: nothing is taken. */
static bool take_number(struct text *text, const char *prefix, struct text *number) {
    size_t start = strlen(prefix);
    if (!text_starts(*text, prefix))
        return false;
    size_t end = start;
    while (end < text->length && is_digit(text->at[end]))
        end++;
    if (end == start)
        return false;
    *number = (struct text){text->at + start, end - start};
    *text = text_from(*text, end);
    return true;
}

static bool take_cycle(struct text *text, struct keep_tag *out) {
    struct text left = *text;
    if (!take_number(&left, "_c", &out->cycle) && !take_number(&left, "_csal", &out->cycle))
        return false;
    if (!take_number(&left, ".", &out->cycle_build)) {
        out->cycle = (struct text){0};
        return false;
    }
    *text = left;
    return true;
}

static bool is_architecture(struct text text) {
    for (size_t i = 0; i < text.length; i++) {
        if (!is_digit(text.at[i]) && !(text.at[i] >= 'a' && text.at[i] <= 'z'))
            return false;
    }
    return text.length > 0;
}

/* What follows the version. False: the tag is not of this kind. The optional parts are tried with
 * each number of them from the most to none, as a regular expression would. */
static bool take_tail(struct text text, struct keep_tag *out) {
    struct keep_tag tail;
    for (int parts = 2; parts >= 0; parts--) {
        struct text left = text;
        tail = *out;
        int taken = 0;
        if (parts > 0 && take_cycle(&left, &tail))
            taken++;
        if (taken < parts && take_number(&left, "_rsp", &tail.rsp_build)) {
            tail.rsp_first = taken == 0;
            taken++;
        }
        if (taken < parts && tail.rsp_first && take_cycle(&left, &tail))
            taken++;
        if (taken != parts)
            continue;
        const char *dash = left.length ? memrchr(left.at, '-', left.length) : NULL;
        size_t end = dash ? (size_t)(dash - left.at) : left.length;
        if (dash && is_architecture(text_from(left, end + 1)))
            tail.arch = text_from(left, end + 1);
        else
            end = left.length;
        if (end > 0 && left.at[0] != '_')
            continue;
        if (end > 1)
            tail.rest = (struct text){left.at + 1, end - 1};
        *out = tail;
        return true;
    }
    return false;
}

static bool parse_release(struct text tag, struct keep_tag *out) {
    struct text left = tag;
    struct keep_tag tried = *out;
    if (!take_number(&left, "r", &tried.major))
        return false;
    if (tried.major.length == 3 && left.length == 0) {
        tried.minor = text_from(tried.major, 2);
        tried.major.length = 2;
    } else if (!take_number(&left, "_", &tried.minor) || !take_number(&left, "_", &tried.patch)) {
        return false;
    }
    tried.has_version = true;
    struct text candidate = left, number;
    struct keep_tag release = tried;
    if (take_number(&candidate, "_rc", &number)) {
        tried.kind = KEEP_TAG_CANDIDATE;
        tried.pre = (struct text){number.at - 2, number.length + 2};
        if (take_tail(candidate, &tried)) {
            *out = tried;
            return true;
        }
    }
    release.kind = KEEP_TAG_RELEASE;
    if (!take_tail(left, &release))
        return false;
    *out = release;
    return true;
}

static bool parse_dated(struct text tag, struct keep_tag *out) {
    struct text left = tag;
    struct keep_tag tried = *out;
    tried.has_version = true;
    if (take_number(&left, "w_", &tried.major) && take_number(&left, "_", &tried.minor))
        tried.kind = KEEP_TAG_WEEKLY;
    else if ((left = tag, take_number(&left, "d_", &tried.major)) &&
             take_number(&left, "_", &tried.minor) && take_number(&left, "_", &tried.patch))
        tried.kind = KEEP_TAG_DAILY;
    else
        return false;
    if (!take_tail(left, &tried))
        return false;
    *out = tried;
    return true;
}

/* Splits "recommended_c0034" into base and cycle. */
static void parse_unknown(struct text tag, struct keep_tag *out) {
    out->kind = KEEP_TAG_UNKNOWN;
    out->base = tag;
    size_t start = tag.length;
    while (start > 0 && is_digit(tag.at[start - 1]))
        start--;
    if (start == tag.length || start < 2 || memcmp(tag.at + start - 2, "_c", 2) != 0)
        return;
    out->base.length = start - 2;
    out->cycle = text_from(tag, start);
}

void keep_tag_parse(struct text tag, struct keep_tag *out) {
    if (tag.length == 0)
        tag = text_of("latest");
    *out = (struct keep_tag){.tag = tag};
    struct text left = tag;
    while (text_starts(left, "exp_") && left.length > 4) {
        left = text_from(left, 4);
        out->experimental++;
    }
    if (!parse_release(left, out) && !parse_dated(left, out))
        parse_unknown(left, out);
    out->inner_kind = out->kind;
    if (out->experimental > 0)
        out->kind = KEEP_TAG_EXPERIMENTAL;
}

void keep_tag_parse_alias(struct text tag, struct keep_tag *out) {
    *out = (struct keep_tag){.tag = tag};
    parse_unknown(tag, out);
    out->kind = out->inner_kind = KEEP_TAG_ALIAS;
}

bool keep_tag_parse_version(struct text version, struct keep_tag *out) {
    struct text left = version;
    keep_tag_parse(version, out);
    if (out->has_version)
        return true;
    *out = (struct keep_tag){.tag = version, .kind = KEEP_TAG_RELEASE, .has_version = true};
    if (!take_number(&left, "", &out->major))
        return false;
    if (take_number(&left, ".", &out->minor))
        take_number(&left, ".", &out->patch);
    if (left.length > 1 && left.at[0] == '-') {
        out->pre = text_from(left, 1);
        left.length = 0;
    }
    return left.length == 0;
}

/* ---- order ---- */

int keep_tag_compare_digits(struct text a, struct text b) {
    while (a.length > 0 && a.at[0] == '0')
        a = text_from(a, 1);
    while (b.length > 0 && b.at[0] == '0')
        b = text_from(b, 1);
    if (a.length != b.length)
        return a.length < b.length ? -1 : 1;
    return a.length ? memcmp(a.at, b.at, a.length) : 0;
}

static int compare_bytes(struct text a, struct text b) {
    size_t common = a.length < b.length ? a.length : b.length;
    int order = common ? memcmp(a.at, b.at, common) : 0;
    if (order == 0 && a.length != b.length)
        return a.length < b.length ? -1 : 1;
    return order;
}

/* A number that is missing is less than 0 is. */
static int compare_optional_digits(struct text a, struct text b) {
    if (a.length == 0 || b.length == 0)
        return (a.length > 0) - (b.length > 0);
    return keep_tag_compare_digits(a, b);
}

int keep_tag_compare_version(const struct keep_tag *a, const struct keep_tag *b) {
    int order = keep_tag_compare_digits(a->major, b->major);
    if (order == 0)
        order = keep_tag_compare_digits(a->minor, b->minor);
    if (order == 0)
        order = keep_tag_compare_digits(a->patch, b->patch);
    if (order != 0)
        return order;
    if (a->pre.length == 0 || b->pre.length == 0)
        return (a->pre.length == 0) - (b->pre.length == 0);
    /* Semantic Versioning 2.0.0 §11: "rc10" and "rc9" compare as texts. */
    return compare_bytes(a->pre, b->pre);
}

int keep_tag_compare(const struct keep_tag *a, const struct keep_tag *b) {
    if (!a->has_version || !b->has_version)
        return compare_bytes(a->tag, b->tag);
    int order = keep_tag_compare_version(a, b);
    if (order == 0)
        order = compare_optional_digits(a->cycle, b->cycle);
    if (order == 0)
        order = compare_optional_digits(a->cycle_build, b->cycle_build);
    if (order == 0)
        order = compare_optional_digits(a->rsp_build, b->rsp_build);
    if (order == 0)
        order = compare_bytes(a->rest, b->rest);
    if (order == 0 && (a->arch.length == 0 || b->arch.length == 0))
        return (a->arch.length == 0) - (b->arch.length == 0);
    return order == 0 ? compare_bytes(a->arch, b->arch) : order;
}

bool keep_tag_has_cycle(const struct keep_tag *tag, uint64_t cycle) {
    struct text digits = tag->cycle;
    uint64_t number;
    while (digits.length > 1 && digits.at[0] == '0')
        digits = text_from(digits, 1);
    return text_to_u64(digits, &number) && number == cycle;
}

/* ---- names ---- */

/* A number without leading zeros. */
static bool append_number(struct text digits, struct buffer *out) {
    while (digits.length > 1 && digits.at[0] == '0')
        digits = text_from(digits, 1);
    return digits.length ? buffer_append(out, digits.at, digits.length)
                         : buffer_append_string(out, "0");
}

static void append_cycle(const struct keep_tag *tag, struct buffer *out) {
    if (tag->cycle.length == 0)
        return;
    buffer_printf(out, " (SAL Cycle %.*s", TEXT_PRINT(tag->cycle));
    if (tag->cycle_build.length > 0)
        buffer_printf(out, ", Build %.*s", TEXT_PRINT(tag->cycle_build));
    buffer_append_string(out, ")");
}

/* As Python's str.title() after `_` became a space: a letter behind anything but a letter is a
 * capital. */
static void append_title(struct text text, struct buffer *out) {
    bool inside = false;
    for (size_t i = 0; i < text.length; i++) {
        unsigned char byte = (unsigned char)text.at[i];
        char c = (char)(byte == '_' ? ' ' : inside ? tolower(byte) : toupper(byte));
        inside = isalpha(byte) != 0;
        buffer_append(out, &c, 1);
    }
}

static void append_version(const struct keep_tag *tag, struct buffer *out) {
    if (tag->inner_kind == KEEP_TAG_WEEKLY) {
        buffer_printf(out, "Weekly %.*s_%.*s", TEXT_PRINT(tag->major), TEXT_PRINT(tag->minor));
        return;
    }
    if (tag->inner_kind == KEEP_TAG_DAILY) {
        buffer_printf(out, "Daily %.*s_%.*s_%.*s", TEXT_PRINT(tag->major), TEXT_PRINT(tag->minor),
                      TEXT_PRINT(tag->patch));
        return;
    }
    buffer_append_string(out, tag->inner_kind == KEEP_TAG_CANDIDATE ? "Release Candidate r"
                                                                    : "Release r");
    append_number(tag->major, out);
    buffer_append_string(out, ".");
    append_number(tag->minor, out);
    buffer_append_string(out, ".");
    append_number(tag->patch, out);
    if (tag->pre.length > 0) {
        buffer_append_string(out, "-rc");
        append_number(text_from(tag->pre, 2), out);
    }
}

bool keep_tag_append_name(const struct keep_tag *tag, struct buffer *out) {
    if (tag->kind == KEEP_TAG_ALIAS) {
        append_title(tag->base, out);
        append_cycle(tag, out);
        return !out->failed;
    }
    for (unsigned i = 0; i < tag->experimental; i++)
        buffer_append_string(out, "Experimental ");
    if (!tag->has_version) {
        buffer_append(out, tag->base.at, tag->base.length);
        append_cycle(tag, out);
        return !out->failed;
    }
    append_version(tag, out);
    if (!tag->rsp_first)
        append_cycle(tag, out);
    if (tag->rsp_build.length > 0)
        buffer_printf(out, " (RSP Build %.*s)", TEXT_PRINT(tag->rsp_build));
    if (tag->rsp_first)
        append_cycle(tag, out);
    if (tag->rest.length > 0)
        buffer_printf(out, " [%.*s]", TEXT_PRINT(tag->rest));
    if (tag->arch.length > 0)
        buffer_printf(out, " [%.*s]", TEXT_PRINT(tag->arch));
    return !out->failed;
}

/* ---- dates ---- */

/* Days since 1970-01-01 of a day of the Gregorian calendar (Hinnant, "chrono-compatible date
 * algorithms"). */
static int64_t days_of(int64_t year, int64_t month, int64_t day) {
    year -= month <= 2;
    int64_t era = year / 400, of_era = year - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static int64_t month_length(int64_t year, int64_t month) {
    return days_of(month == 12 ? year + 1 : year, month == 12 ? 1 : month + 1, 1) -
           days_of(year, month, 1);
}

bool keep_tag_date(const struct keep_tag *tag, int64_t *seconds) {
    uint64_t year, month, day;
    if (!text_to_u64(tag->major, &year) || !text_to_u64(tag->minor, &month) || year < 1970 ||
        year > 9999 || month < 1)
        return false;
    if (tag->inner_kind == KEEP_TAG_WEEKLY) {
        /* The first ISO week has January 4th in it; 1970-01-01 was a Thursday (ISO 8601). */
        int64_t fourth = days_of((int64_t)year, 1, 4);
        int64_t thursday = fourth - (fourth + 3) % 7 + 3 + ((int64_t)month - 1) * 7;
        if (month > 53 || thursday >= days_of((int64_t)year + 1, 1, 1))
            return false;
        *seconds = thursday * 86400;
        return true;
    }
    if (tag->inner_kind != KEEP_TAG_DAILY || !text_to_u64(tag->patch, &day) || month > 12 ||
        day < 1 || (int64_t)day > month_length((int64_t)year, (int64_t)month))
        return false;
    *seconds = days_of((int64_t)year, (int64_t)month, (int64_t)day) * 86400;
    return true;
}
