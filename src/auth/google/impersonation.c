/* Acting as a service account: IAM Credentials' generateAccessToken. */
#include "auth/google/impersonation.h"

#include <stdio.h>
#include <string.h>
#include "auth/google/request.h"
#include "auth/google/token_response.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/secret.h"

enum { DEFAULT_LIFE_S = 3600 };

bool impersonation_account(const char *url, char *out, size_t size) {
    const char *slash = strrchr(url, '/');
    struct text email = text_of(slash ? slash + 1 : url);
    static const char verb[] = ":generateAccessToken";
    if (!text_ends(email, verb))
        return false;
    email.length -= strlen(verb);
    return email.length && text_copy(email, out, size);
}

/* The scopes as a JSON array. */
static json_t *split_scopes(const char *scope) {
    json_t *array = json_array();
    struct text rest = text_of(scope);
    while (rest.at) {
        struct text one = text_cut(rest, ' ', &rest);
        if (one.length)
            json_array_append_new(array, json_stringn(one.at, one.length));
    }
    return array;
}

static char *build_body(const struct impersonation *impersonation, unsigned life_s) {
    char lifetime[16];
    snprintf(lifetime, sizeof lifetime, "%us", life_s);
    cleanup_json json_t *body = json_object();
    if (impersonation->delegates && json_array_size(impersonation->delegates))
        json_object_set_new(body, "delegates", json_deep_copy(impersonation->delegates));
    json_object_set_new(body, "scope", split_scopes(impersonation->scope));
    json_object_set_new(body, "lifetime", json_string(lifetime));
    return json_dumps(body, JSON_COMPACT);
}

/*
 * expireTime is on Google's clock. It counts only if it lies within the life that was asked for,
 * because otherwise one of the two clocks is wrong.
 */
static bool read_response(const struct buffer *body, int64_t asked_ms, unsigned life_s,
                          struct google_token *token, struct error *error) {
    cleanup_secret_json json_t *json = bounded_json_load(body->bytes, body->length, NULL);
    const char *until = json_string_value(json_object_get(json, "expireTime"));
    int64_t ends_s, left_s = life_s;
    if (until && clock_parse_rfc3339(until, &ends_s)) {
        int64_t stated_s = ends_s - clock_wall_s();
        if (stated_s > 0 && stated_s < left_s)
            left_s = stated_s;
    }
    return google_token_set(token, json_string_value(json_object_get(json, "accessToken")),
                            asked_ms + left_s * 1000, error);
}

bool impersonation_token(const struct impersonation *impersonation, struct google_token *token,
                         struct error *error) {
    unsigned life_s = impersonation->lifetime_s ? impersonation->lifetime_s : DEFAULT_LIFE_S;
    cleanup_secret_buffer struct buffer bearer = {0};
    buffer_reserve(&bearer, strlen(token->secret) + 64);
    buffer_printf(&bearer, "Authorization: Bearer %s", token->secret);
    char project[100];
    snprintf(project, sizeof project, "x-goog-user-project: %s", token->quota_project);
    cleanup_free char *body = build_body(impersonation, life_s);
    if (bearer.failed || !body)
        return error_set(error, ERROR_MEMORY, "out of memory");
    const char *headers[] = {bearer.bytes, "Content-Type: application/json",
                             "Accept: application/json", token->quota_project[0] ? project : NULL,
                             NULL};
    struct google_request request = {
        .client = impersonation->client,
        .http = {.method = "POST",
                 .url = impersonation->url,
                 .headers = headers,
                 .body = {.bytes = body, .length = strlen(body)}},
        .attempts = GOOGLE_REQUEST_ATTEMPTS,
        .secrets = {token->secret},
    };
    struct client_response response = {0};
    int64_t asked_ms = clock_ms();
    bool ok = google_request_perform(&request, &response, error);
    if (ok && !read_response(&response.body, asked_ms, life_s, token, error))
        ok = error_wrap(error, "token from %s", impersonation->url);
    client_response_wipe(&response);
    if (ok && !impersonation_account(impersonation->url, token->account, sizeof token->account))
        token->account[0] = '\0';
    return ok || error_wrap(error, "impersonation");
}
