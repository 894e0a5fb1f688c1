/* A person's login (`gcloud auth application-default login`): a refresh token (RFC 6749 §6). */
#include "auth/google/authorized_user.h"

#include <string.h>
#include "auth/google/endpoint.h"
#include "auth/google/request.h"
#include "base/secret.h"

#define DEFAULT_TOKEN_URL "https://oauth2.googleapis.com/token"

bool authorized_user_token(const json_t *document, const struct ask *ask, struct google_token *out,
                           struct error *error) {
    const char *universe, *url, *account;
    const char *id = document_string(document, "client_id", error);
    const char *secret = id ? document_string(document, "client_secret", error) : NULL;
    const char *refresh = secret ? document_string(document, "refresh_token", error) : NULL;
    if (!refresh || !document_universe(document, &universe, error) ||
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

    /* A refresh can only narrow the scopes of the login, and fails for a scope that the login does
     * not have: so none is named. */
    cleanup_secret_buffer struct buffer form = {0};
    buffer_reserve(&form, 3 * (strlen(id) + strlen(secret) + strlen(refresh)) + 256);
    google_form_append(&form, "grant_type", "refresh_token");
    google_form_append(&form, "client_id", id);
    google_form_append(&form, "client_secret", secret);
    google_form_append(&form, "refresh_token", refresh);
    const struct token_question question = {
        .client = ask->client,
        .url = url,
        .form = &form,
        .secrets = (const char *[]){refresh, secret, NULL},
    };
    return google_token_post(&question, out, error);
}
