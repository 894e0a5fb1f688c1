/*
 * Finds the function that fetches a credential file's token, by the file's type. The type that
 * holds another credential file, impersonated_service_account, is read here, because its source may
 * be of any type again.
 */
#include "auth/google/credential_file.h"

#include <string.h>
#include "auth/google/authorized_user.h"
#include "auth/google/endpoint.h"
#include "auth/google/external_account.h"
#include "auth/google/impersonation.h"
#include "auth/google/service_account.h"
#include "auth/shown.h"
#include "base/buffer.h"

enum { DEPTH_LIMIT = 3, DELEGATES_LIMIT = 16 };

static bool delegates_ok(const json_t *delegates, struct error *error) {
    bool ok = !delegates || json_is_null(delegates) ||
              (json_is_array(delegates) && json_array_size(delegates) <= DELEGATES_LIMIT);
    for (size_t i = 0; ok && i < json_array_size(delegates); i++)
        ok = json_is_string(json_array_get(delegates, i));
    return ok || error_set(error, ERROR_INVALID, "delegates is not an array of at most 16 strings");
}

/* The file's own scopes apply unless others were asked for. */
static const char *choose_scope(const json_t *document, const struct ask *ask,
                                struct buffer *joined) {
    const json_t *scopes = json_object_get(document, "scopes");
    if (strcmp(ask->scope, GOOGLE_SCOPE) != 0 || json_array_size(scopes) == 0)
        return ask->scope;
    for (size_t i = 0; i < json_array_size(scopes); i++) {
        const char *scope = json_string_value(json_array_get(scopes, i));
        if (scope)
            buffer_printf(joined, "%s%s", joined->length ? " " : "", scope);
    }
    return joined->length && !joined->failed ? joined->bytes : ask->scope;
}

static bool impersonated_token(const json_t *document, const struct ask *ask,
                               struct google_token *out, struct error *error) {
    const char *universe,
        *url = document_string(document, "service_account_impersonation_url", error);
    const json_t *source = json_object_get(document, "source_credentials");
    const json_t *delegates = json_object_get(document, "delegates");
    if (!url || !document_universe(document, &universe, error) ||
        !endpoint_check(url, ENDPOINT_IAM, universe, "service_account_impersonation_url", error) ||
        !delegates_ok(delegates, error))
        return false;
    if (!json_is_object(source))
        return error_set(error, ERROR_INVALID, "source_credentials is missing or not an object");

    struct ask source_ask = *ask;
    source_ask.scope = GOOGLE_SCOPE;
    source_ask.depth++;
    if (!credential_file_token(source, &source_ask, out, error))
        return error_wrap(error, "source_credentials");
    if (!document_quota_project(document, out, error))
        return false;
    cleanup_buffer struct buffer joined = {0};
    struct impersonation impersonation = {
        .client = ask->client,
        .url = url,
        .delegates = json_is_array(delegates) ? delegates : NULL,
        .scope = choose_scope(document, ask, &joined),
    };
    return impersonation_token(&impersonation, out, error);
}

bool credential_file_token(const json_t *document, const struct ask *ask, struct google_token *out,
                           struct error *error) {
    static const struct {
        const char *type;
        bool (*token)(const json_t *document, const struct ask *ask, struct google_token *out,
                      struct error *error);
    } kinds[] = {
        {"service_account", service_account_token},
        {"authorized_user", authorized_user_token},
        {"external_account", external_account_token},
        {"external_account_authorized_user", authorized_user_workforce_token},
        {"impersonated_service_account", impersonated_token},
    };
    const char *type = document_string(document, "type", error);
    if (!type)
        return error_wrap(error, "this is not a credential file of Google");
    if (ask->depth >= DEPTH_LIMIT)
        return error_set(error, ERROR_INVALID, "source_credentials are nested too deeply");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(type, kinds[i].type) != 0)
            continue;
        if (ask->depth == 0)
            text_copy(text_of(type), out->kind, sizeof out->kind);
        return kinds[i].token(document, ask, out, error);
    }
    return error_set(error, ERROR_UNSUPPORTED,
                     "type \"%.60s\" is not supported; service_account, authorized_user, "
                     "external_account, external_account_authorized_user and "
                     "impersonated_service_account are",
                     shown_value(type));
}
