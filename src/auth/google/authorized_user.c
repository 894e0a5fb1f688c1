/*
 * A person's login: a refresh token (RFC 6749 §6). Google's own accounts
 * (`gcloud auth application-default login`) and those of another issuer, of a workforce pool
 * (external_account_authorized_user), differ in where the token is refreshed and in how the client
 * is named.
 */
#include "auth/google/authorized_user.h"

#include <stdio.h>
#include <string.h>
#include "auth/google/endpoint.h"
#include "auth/google/request.h"
#include "base/secret.h"

#define DEFAULT_TOKEN_URL "https://oauth2.googleapis.com/token"

/* What both kinds of login hold. */
struct login {
    const char *client_id, *client_secret, *refresh_token;
};

static bool read_login(const json_t *document, struct login *out, struct error *error) {
    out->client_id = document_string(document, "client_id", error);
    out->client_secret = out->client_id ? document_string(document, "client_secret", error) : NULL;
    out->refresh_token =
        out->client_secret ? document_string(document, "refresh_token", error) : NULL;
    return out->refresh_token;
}

/* Asks for a token. A refresh can only narrow the scopes of the login, and fails for a scope that
 * the login does not have: so none is named. `header` NULL: the form names the client. */
static bool refresh(const struct login *login, const char *url, const char *header,
                    struct client *client, struct google_token *out, struct error *error) {
    cleanup_secret_buffer struct buffer form = {0};
    buffer_reserve(&form, 3 * (strlen(login->client_id) + strlen(login->client_secret) +
                               strlen(login->refresh_token)) +
                              256);
    google_form_append(&form, "grant_type", "refresh_token");
    if (!header) {
        google_form_append(&form, "client_id", login->client_id);
        google_form_append(&form, "client_secret", login->client_secret);
    }
    google_form_append(&form, "refresh_token", login->refresh_token);
    const struct token_question question = {
        .client = client,
        .url = url,
        .header = header,
        .form = &form,
        .secrets = (const char *[]){login->refresh_token, login->client_secret, NULL},
    };
    return google_token_post(&question, out, error);
}

bool authorized_user_token(const json_t *document, const struct ask *ask, struct google_token *out,
                           struct error *error) {
    const char *universe, *url, *account;
    struct login login;
    if (!read_login(document, &login, error) || !document_universe(document, &universe, error) ||
        !document_optional(document, "token_uri", DEFAULT_TOKEN_URL, &url, error) ||
        !document_optional(document, "account", "", &account, error) ||
        !document_quota_project(document, out, error))
        return false;
    if (strcmp(universe, GOOGLE_UNIVERSE) != 0)
        return error_set(error, ERROR_UNSUPPORTED,
                         "authorized_user works only in the universe " GOOGLE_UNIVERSE "");
    if (!endpoint_check(url, ENDPOINT_OAUTH, universe, "token_uri", error))
        return false;
    text_copy(text_of(account), out->account, sizeof out->account);
    return refresh(&login, url, NULL, ask->client, out, error);
}

bool authorized_user_workforce_token(const json_t *document, const struct ask *ask,
                                     struct google_token *out, struct error *error) {
    const char *universe, *url, *audience, *given;
    struct login login;
    if (!read_login(document, &login, error) || !document_universe(document, &universe, error) ||
        !document_optional(document, "token_url", NULL, &given, error) ||
        !document_optional(document, "audience", "", &audience, error) ||
        !document_quota_project(document, out, error))
        return false;
    char default_url[300];
    snprintf(default_url, sizeof default_url, "https://sts.%s/v1/oauthtoken", universe);
    url = given ? given : default_url;
    if (!endpoint_check(url, ENDPOINT_STS, universe, "token_url", error))
        return false;
    text_copy(text_of(audience), out->account, sizeof out->account);
    cleanup_secret_buffer struct buffer header = {0};
    return google_client_header(login.client_id, login.client_secret, &header)
               ? refresh(&login, url, header.bytes, ask->client, out, error)
               : error_set(error, ERROR_MEMORY, "out of memory");
}
