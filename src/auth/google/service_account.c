/*
 * A service account's key: a signed assertion is exchanged for an access token (RFC 7523), or,
 * outside the default universe, is itself the access token (AIP-4111).
 */
#include "auth/google/service_account.h"

#include <string.h>
#include "auth/google/endpoint.h"
#include "auth/google/jwt.h"
#include "auth/google/request.h"
#include "auth/google/token_response.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/secret.h"

enum {
    LIFE_S = 3600,   /* the longest that Google accepts */
    BACKDATE_S = 10, /* because this machine's clock may be ahead of Google's */
};

#define DEFAULT_TOKEN_URL "https://oauth2.googleapis.com/token"
#define GRANT_TYPE        "urn:ietf:params:oauth:grant-type:jwt-bearer"

static char *sign(const json_t *document, const json_t *claims, struct error *error) {
    const char *key = document_string(document, "private_key", error), *key_id;
    if (!key || !document_optional(document, "private_key_id", NULL, &key_id, error))
        return NULL;
    cleanup_free char *text = json_dumps(claims, JSON_COMPACT);
    if (!text) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    return jwt_sign(key, key_id, text, error);
}

static bool exchange(struct client *client, const char *url, const char *assertion,
                     struct google_token *out, struct error *error) {
    cleanup_secret_buffer struct buffer form = {0};
    buffer_reserve(&form, strlen(assertion) + 256);
    google_form_append(&form, "grant_type", GRANT_TYPE);
    google_form_append(&form, "assertion", assertion);
    const struct token_question question = {
        .client = client,
        .url = url,
        .form = &form,
        .secrets = (const char *[]){assertion, NULL},
    };
    return google_token_post(&question, out, error);
}

bool service_account_token(const json_t *document, const struct ask *ask, struct google_token *out,
                           struct error *error) {
    const char *account = document_string(document, "client_email", error);
    const char *universe, *url;
    if (!account || !document_universe(document, &universe, error) ||
        !document_optional(document, "token_uri", DEFAULT_TOKEN_URL, &url, error) ||
        !document_quota_project(document, out, error))
        return false;
    text_copy(text_of(account), out->account, sizeof out->account);

    bool own_universe = strcmp(universe, GOOGLE_UNIVERSE) != 0;
    if (!own_universe && !endpoint_check(url, ENDPOINT_OAUTH, universe, "token_uri", error))
        return false;
    json_int_t issued = clock_wall_s() - BACKDATE_S;
    cleanup_json json_t *claims =
        own_universe ? json_pack("{s:s, s:s, s:s, s:I, s:I}", "iss", account, "sub", account,
                                 "scope", ask->scope, "iat", issued, "exp", issued + LIFE_S)
                     : json_pack("{s:s, s:s, s:s, s:I, s:I}", "iss", account, "scope", ask->scope,
                                 "aud", url, "exp", issued + LIFE_S, "iat", issued);
    int64_t signed_ms = clock_ms();
    cleanup_secret char *assertion = claims ? sign(document, claims, error) : NULL;
    if (!claims)
        return error_set(error, ERROR_INVALID, "client_email or token_uri is not UTF-8");
    if (!assertion)
        return false;
    if (own_universe)
        return google_token_set(out, assertion, signed_ms + INT64_C(1000) * (LIFE_S - BACKDATE_S),
                                error);
    return exchange(ask->client, url, assertion, out, error);
}
