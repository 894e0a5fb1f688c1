/*
 * Workload Identity Federation: a token of another issuer (the subject token) is exchanged at STS
 * for a token of Google (RFC 8693), and that, if the file says so, for a service account's token.
 */
#include "auth/google/external_account.h"

#include <stdio.h>
#include <string.h>
#include "auth/google/endpoint.h"
#include "auth/google/impersonation.h"
#include "auth/google/request.h"
#include "auth/google/subject_token.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/secret.h"

#define TYPE_PREFIX "urn:ietf:params:oauth:token-type:"
#define GRANT_TYPE  "urn:ietf:params:oauth:grant-type:token-exchange"

/* 10 minutes to 12 hours: remembered, not taken from a document of Google. */
enum { LEAST_LIFE_S = 600, MOST_LIFE_S = 43200 };

struct federation {
    const char *audience, *token_type, *token_url, *impersonation_url;
    const char *client_id, *client_secret, *user_project;
    const json_t *source;
    unsigned lifetime_s; /* of the impersonated token; 0: default */
    char account[256];   /* "" without impersonation */
};

static bool read_lifetime(const json_t *document, unsigned *lifetime_s, struct error *error) {
    const json_t *life = json_object_get(json_object_get(document, "service_account_impersonation"),
                                         "token_lifetime_seconds");
    json_int_t value = json_integer_value(life);
    if (!life || json_is_null(life))
        return true;
    if (!json_is_integer(life) || value < LEAST_LIFE_S || value > MOST_LIFE_S)
        return error_set(error, ERROR_INVALID,
                         "token_lifetime_seconds is not a number between %d and %d", LEAST_LIFE_S,
                         MOST_LIFE_S);
    *lifetime_s = (unsigned)value;
    return true;
}

static bool read_urls(const json_t *document, struct federation *out, struct error *error) {
    const char *universe;
    if (!document_universe(document, &universe, error))
        return false;
    out->token_url = document_string(document, "token_url", error);
    if (!out->token_url ||
        !endpoint_check(out->token_url, ENDPOINT_STS, universe, "token_url", error))
        return false;
    if (!document_optional(document, "service_account_impersonation_url", NULL,
                           &out->impersonation_url, error))
        return false;
    if (!out->impersonation_url)
        return true;
    return endpoint_check(out->impersonation_url, ENDPOINT_IAM, universe,
                          "service_account_impersonation_url", error) &&
           (impersonation_account(out->impersonation_url, out->account, sizeof out->account) ||
            error_set(error, ERROR_INVALID,
                      "service_account_impersonation_url does not end in "
                      "/ACCOUNT:generateAccessToken"));
}

static bool read_federation(const json_t *document, struct federation *out, struct error *error) {
    out->source = json_object_get(document, "credential_source");
    out->audience = document_string(document, "audience", error);
    out->token_type = out->audience ? document_string(document, "subject_token_type", error) : NULL;
    if (!out->token_type || !read_urls(document, out, error) ||
        !document_optional(document, "client_id", NULL, &out->client_id, error) ||
        !document_optional(document, "client_secret", "", &out->client_secret, error) ||
        !document_optional(document, "workforce_pool_user_project", NULL, &out->user_project,
                           error) ||
        !read_lifetime(document, &out->lifetime_s, error))
        return false;
    bool workforce =
        strstr(out->audience, "/workforcePools/") && text_starts(text_of(out->audience), "//iam.");
    return !out->user_project || workforce ||
           error_set(error, ERROR_INVALID,
                     "workforce_pool_user_project is allowed for workforce pools only");
}

/* The supported types. AWS and X.509 are refused with a reason of their own where the subject token
 * is fetched. */
static bool type_ok(const char *type, struct error *error) {
    static const char *const types[] = {"jwt", "id_token", "saml2", NULL};
    const struct text whole = text_of(type);
    for (size_t i = 0; types[i] && text_starts(whole, TYPE_PREFIX); i++) {
        if (text_is(text_from(whole, strlen(TYPE_PREFIX)), types[i]))
            return true;
    }
    return error_set(error, ERROR_UNSUPPORTED,
                     "subject_token_type \"%.80s\" is not supported; jwt, id_token and saml2 are",
                     type);
}

static bool build_form(const struct federation *federation, const char *scope, const char *subject,
                       struct buffer *form) {
    buffer_reserve(form, 3 * strlen(subject) + 2048);
    google_form_append(form, "grant_type", GRANT_TYPE);
    google_form_append(form, "audience", federation->audience);
    google_form_append(form, "scope", scope);
    google_form_append(form, "requested_token_type", TYPE_PREFIX "access_token");
    google_form_append(form, "subject_token_type", federation->token_type);
    google_form_append(form, "subject_token", subject);
    if (federation->user_project && !federation->client_id) {
        cleanup_json json_t *options = json_pack("{s:s}", "userProject", federation->user_project);
        cleanup_free char *text = options ? json_dumps(options, JSON_COMPACT) : NULL;
        if (!text)
            return false;
        google_form_append(form, "options", text);
    }
    return !form->failed;
}

static bool exchange(struct client *client, const struct federation *federation, const char *scope,
                     const char *subject, struct google_token *out, struct error *error) {
    cleanup_secret_buffer struct buffer form = {0}, header = {0};
    if (!build_form(federation, scope, subject, &form) ||
        (federation->client_id &&
         !google_client_header(federation->client_id, federation->client_secret, &header)))
        return error_set(error, ERROR_MEMORY, "out of memory");
    const char *secrets[] = {subject, *federation->client_secret ? federation->client_secret : NULL,
                             NULL};
    const struct token_question question = {
        .client = client,
        .url = federation->token_url,
        .header = federation->client_id ? header.bytes : NULL,
        .form = &form,
        .secrets = secrets,
    };
    return google_token_post(&question, out, error);
}

/* Fetches the federated token for `subject`, and then, if the file says so, the account's token. */
static bool federate(const struct federation *federation, const char *subject,
                     const struct ask *ask, struct google_token *out, struct error *error) {
    /* The federated token needs the scope cloud-platform to act as the account. */
    const char *scope = federation->impersonation_url ? GOOGLE_SCOPE : ask->scope;
    if (!type_ok(federation->token_type, error))
        return false;
    if (!exchange(ask->client, federation, scope, subject, out, error))
        return error_wrap(error, "token exchange");
    text_copy(text_of(federation->audience), out->account, sizeof out->account);
    if (!federation->impersonation_url)
        return true;
    struct impersonation impersonation = {
        .client = ask->client,
        .url = federation->impersonation_url,
        .scope = ask->scope,
        .lifetime_s = federation->lifetime_s,
    };
    return impersonation_token(&impersonation, out, error);
}

bool external_account_token(const json_t *document, const struct ask *ask, struct google_token *out,
                            struct error *error) {
    struct federation federation = {0};
    if (!read_federation(document, &federation, error))
        return false;
    if (ask->subject_token) {
        federation.token_type = TYPE_PREFIX "jwt"; /* a Kubernetes service account's token is one */
        return federate(&federation, ask->subject_token, ask, out, error);
    }
    struct subject_question question = {
        .client = ask->client,
        .source = federation.source,
        .audience = federation.audience,
        .token_type = federation.token_type,
        .account = federation.account[0] ? federation.account : NULL,
    };
    cleanup_secret char *subject = subject_token_get(&question, error);
    return subject && federate(&federation, subject, ask, out, error);
}
