/* What a token service responds: the token, and how long it lives. */
#include "auth/google/token_response.h"

#include <string.h>
#include <strings.h>
#include "base/clock.h"
#include "base/json.h"
#include "base/secret.h"

enum {
    /* A token exchange may leave expires_in out. This is the shortest life that a registry or an
     * identity provider gives. */
    DEFAULT_LIFE_S = 60,
    LIFE_LIMIT_S = 43200, /* the longest that Google gives (12 h) */
};

bool google_token_set(struct google_token *out, const char *secret, int64_t expires_ms,
                      struct error *error) {
    if (!secret || !*secret)
        return error_set(error, ERROR_INVALID, "the response holds no token");
    for (const char *c = secret; *c; c++) {
        if ((unsigned char)*c <= ' ' || (unsigned char)*c >= 0x7f)
            return error_set(error, ERROR_INVALID,
                             "the token in the response holds bytes that no header may have");
    }
    secret_free(&out->secret);
    out->secret = strdup(secret);
    out->expires_ms = expires_ms;
    return out->secret || error_set(error, ERROR_MEMORY, "out of memory");
}

/* A number, which some services write as a string. */
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

bool token_response_read(const struct buffer *body, int64_t asked_ms, struct google_token *out,
                         struct error *error) {
    cleanup_secret_json json_t *json = bounded_json_load(body->bytes, body->length, NULL);
    int64_t life_s;
    if (!json_is_object(json))
        return error_set(error, ERROR_INVALID, "the response is no JSON object");
    const json_t *type = json_object_get(json, "token_type");
    if (type && (!json_is_string(type) || strcasecmp(json_string_value(type), "Bearer") != 0))
        return error_set(error, ERROR_INVALID, "the response's token_type is not Bearer");
    if (!read_life(json_object_get(json, "expires_in"), &life_s))
        return error_set(error, ERROR_INVALID,
                         "the response's expires_in is not a number of seconds greater than 0");
    return google_token_set(out, json_string_value(json_object_get(json, "access_token")),
                            asked_ms + life_s * 1000, error);
}
