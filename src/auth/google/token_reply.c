/* What a token service answers: the token, how long it lives. */
#include <ctype.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include "auth/google/request.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/secret.h"

enum {
    /* A token exchange may leave expires_in out; then the shortest life that any registry or
     * identity provider deals in. */
    DEFAULT_LIFE_S = 60,
    LIFE_LIMIT_S = 43200, /* the longest that Google gives (12 h) */
};

bool token_set(struct google_token *out, const char *secret, int64_t expires_ms,
               struct error *error) {
    if (!secret || !*secret)
        return error_set(error, ERROR_INVALID, "the reply holds no token");
    for (const char *c = secret; *c; c++) {
        if ((unsigned char)*c <= ' ' || (unsigned char)*c >= 0x7f)
            return error_set(error, ERROR_INVALID, "the token in the reply holds strange bytes");
    }
    secret_free(&out->secret);
    out->secret = strdup(secret);
    out->expires_ms = expires_ms;
    return out->secret || error_set(error, ERROR_MEMORY, "out of memory");
}

/* A whole number, which some services write as a string. */
static bool read_life(const json_t *value, int64_t *life_s) {
    uint64_t number;
    if (!value || json_is_null(value))
        *life_s = DEFAULT_LIFE_S;
    else if (json_is_number(value))
        *life_s = json_number_value(value) > LIFE_LIMIT_S ? LIFE_LIMIT_S
                                                          : (int64_t)json_number_value(value);
    else if (text_to_u64(text_of(json_string_value(value)), &number))
        *life_s = number > LIFE_LIMIT_S ? LIFE_LIMIT_S : (int64_t)number;
    else
        return false;
    return *life_s > 0;
}

bool token_reply_read(const struct buffer *body, int64_t asked_ms, struct google_token *out,
                      struct error *error) {
    cleanup_secret_json json_t *json = bounded_json_load(body->bytes, body->length, NULL);
    int64_t life_s;
    if (!json_is_object(json))
        return error_set(error, ERROR_INVALID, "the reply is no JSON object");
    const json_t *type = json_object_get(json, "token_type");
    if (type && (!json_is_string(type) || strcasecmp(json_string_value(type), "Bearer") != 0))
        return error_set(error, ERROR_INVALID, "the reply's token_type is not Bearer");
    if (!read_life(json_object_get(json, "expires_in"), &life_s))
        return error_set(error, ERROR_INVALID, "the reply's expires_in is no time to come");
    return token_set(out, json_string_value(json_object_get(json, "access_token")),
                     asked_ms + life_s * 1000, error);
}

static bool read_digits(const char **at, int count, int *out) {
    *out = 0;
    for (int i = 0; i < count; i++, (*at)++) {
        if (!isdigit((unsigned char)**at))
            return false;
        *out = *out * 10 + (**at - '0');
    }
    return true;
}

static bool read_char(const char **at, const char *any) {
    return **at && strchr(any, **at) && (*at)++;
}

bool time_parse_rfc3339(const char *text, int64_t *seconds) {
    struct tm tm = {0};
    int offset_hours = 0, offset_minutes = 0, sign = 1;
    const char *at = text;
    if (!read_digits(&at, 4, &tm.tm_year) || !read_char(&at, "-") ||
        !read_digits(&at, 2, &tm.tm_mon) || !read_char(&at, "-") ||
        !read_digits(&at, 2, &tm.tm_mday) || !read_char(&at, "Tt ") ||
        !read_digits(&at, 2, &tm.tm_hour) || !read_char(&at, ":") ||
        !read_digits(&at, 2, &tm.tm_min) || !read_char(&at, ":") ||
        !read_digits(&at, 2, &tm.tm_sec))
        return false;
    if (*at == '.') {
        at++;
        if (!isdigit((unsigned char)*at))
            return false;
        at += strspn(at, "0123456789");
    }
    if (*at == '+' || *at == '-') {
        sign = *at++ == '-' ? -1 : 1;
        if (!read_digits(&at, 2, &offset_hours) || !read_char(&at, ":") ||
            !read_digits(&at, 2, &offset_minutes))
            return false;
    } else if (!read_char(&at, "Zz")) {
        return false;
    }
    if (*at || tm.tm_year < 1970 || tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 ||
        tm.tm_mday > 31 || tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60 ||
        offset_hours > 23 || offset_minutes > 59)
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    *seconds = (int64_t)timegm(&tm) - INT64_C(60) * sign * (offset_hours * 60 + offset_minutes);
    return true;
}
