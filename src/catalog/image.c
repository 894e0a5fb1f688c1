/* Images of a repository: their times, their order, and their form in JSON. */
#include "catalog/image.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "base/clock.h"

/* ---- times ---- */

enum { FRACTION_AT = sizeof "2023-03-27T13:02:39" - 1, FRACTION_DIGITS = 6 };

/* The first six decimals behind the seconds of a time that was parsed. */
static int64_t fraction_us(const char *text) {
    int64_t us = 0;
    const char *digit = text + FRACTION_AT;
    bool has_fraction = *digit == '.';
    for (int i = 0; i < FRACTION_DIGITS; i++) {
        has_fraction = has_fraction && isdigit((unsigned char)*++digit);
        us = us * 10 + (has_fraction ? *digit - '0' : 0);
    }
    return us;
}

int64_t catalog_time_parse(const char *text) {
    int64_t seconds;
    if (!clock_parse_rfc3339(text, &seconds) || seconds <= 0)
        return CATALOG_UNTOLD;
    return seconds * 1000000 + fraction_us(text);
}

const char *catalog_time_format(int64_t us, char out[static CATALOG_TIME_SIZE]) {
    time_t seconds = (time_t)(us / 1000000);
    int fraction = (int)(us % 1000000);
    struct tm tm = {0};
    gmtime_r(&seconds, &tm);
    size_t length = strftime(out, CATALOG_TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
    char *end = out + length;
    size_t size = CATALOG_TIME_SIZE - length;
    if (fraction == 0)
        snprintf(end, size, "Z");
    else if (fraction % 1000 == 0)
        snprintf(end, size, ".%03dZ", fraction / 1000);
    else
        snprintf(end, size, ".%06dZ", fraction);
    return out;
}

/* ---- JSON ---- */

static void append_string(const char *string, struct buffer *out) {
    if (!string) {
        buffer_append_string(out, "null");
        return;
    }
    buffer_append_string(out, "\"");
    buffer_append_json(out, text_of(string));
    buffer_append_string(out, "\"");
}

static void append_list(const char *const *strings, size_t count, struct buffer *out) {
    buffer_append_string(out, "[");
    for (size_t i = 0; i < count; i++) {
        buffer_append_string(out, i ? "," : "");
        append_string(strings[i], out);
    }
    buffer_append_string(out, "]");
}

static void append_time(int64_t us, struct buffer *out) {
    char time[CATALOG_TIME_SIZE];
    append_string(us == CATALOG_UNTOLD ? NULL : catalog_time_format(us, time), out);
}

void catalog_image_append_json(const struct catalog_image *image, struct buffer *out) {
    char digest[DIGEST_STRING_SIZE];
    buffer_append_string(out, "{\"repository\":");
    append_string(image->repository, out);
    buffer_append_string(out, ",\"digest\":");
    append_string(image->digest.algorithm ? digest_format(&image->digest, digest) : NULL, out);
    buffer_append_string(out, ",\"tags\":");
    append_list(image->tags, image->tag_count, out);
    buffer_append_string(out, ",\"uploaded\":");
    append_time(image->uploaded_us, out);
    buffer_append_string(out, ",\"created\":");
    append_time(image->created_us, out);
    if (image->size == CATALOG_UNTOLD)
        buffer_append_string(out, ",\"size\":null");
    else
        buffer_printf(out, ",\"size\":%" PRId64, image->size);
    buffer_append_string(out, ",\"media_type\":");
    append_string(image->media_type, out);
    buffer_append_string(out, ",\"platforms\":");
    if (image->platform_count)
        append_list(image->platforms, image->platform_count, out);
    else
        buffer_append_string(out, "null");
    buffer_append_string(out, ",\"artifact_type\":");
    append_string(image->artifact_type, out);
    buffer_append_string(out, "}");
}

/* ---- order ---- */

/* Higher numbers first; CATALOG_UNTOLD is the lowest. */
static int compare_numbers(int64_t a, int64_t b) {
    return (a < b) - (a > b);
}

static int compare_tags(const struct catalog_image *a, const struct catalog_image *b) {
    if (!a->tag_count || !b->tag_count)
        return (a->tag_count == 0) - (b->tag_count == 0);
    return strcmp(b->tags[b->tag_count - 1], a->tags[a->tag_count - 1]);
}

static int compare_digests(const struct digest *a, const struct digest *b) {
    if (a->algorithm != b->algorithm)
        return a->algorithm < b->algorithm ? -1 : 1;
    return memcmp(a->bytes, b->bytes, sizeof a->bytes);
}

int catalog_image_compare(const struct catalog_image *a, const struct catalog_image *b,
                          enum catalog_order order) {
    int result = 0;
    if (order == CATALOG_BY_UPLOAD)
        result = compare_numbers(a->uploaded_us, b->uploaded_us);
    else if (order == CATALOG_BY_SIZE)
        result = compare_numbers(a->size, b->size);
    if (!result)
        result = compare_tags(a, b);
    if (!result)
        result = strcmp(a->repository, b->repository);
    return result ? result : compare_digests(&a->digest, &b->digest);
}
