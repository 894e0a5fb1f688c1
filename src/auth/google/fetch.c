/* From the sources that the machine has to one access token, without a cache. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "auth/google/credential_file.h"
#include "auth/google/discover.h"
#include "auth/google/endpoint.h"
#include "auth/google/gcloud.h"
#include "auth/google/google.h"
#include "auth/google/impersonation.h"
#include "auth/google/metadata.h"
#include "auth/shown.h"
#include "base/json.h"
#include "base/log.h"
#include "base/secret.h"

void google_token_wipe(struct google_token *token) {
    secret_free(&token->secret);
    *token = (struct google_token){0};
}

static bool join_scopes(const char *const *scopes, struct buffer *out) {
    if (!scopes || !*scopes)
        return buffer_append_string(out, GOOGLE_SCOPE);
    for (size_t i = 0; scopes[i]; i++)
        buffer_printf(out, "%s%s", i ? " " : "", scopes[i]);
    return !out->failed;
}

/* Which universe the token is of, and whose quota pays. `document` NULL: no file says so, and what
 * is wrong in the environment does not matter to a registry. */
static bool read_api(const json_t *document, struct google_token *out, struct error *error) {
    const char *universe;
    if (!document)
        document_quota_project(NULL, out, NULL);
    else if (!document_quota_project(document, out, error))
        return false;
    return document_universe(document, &universe, error) &&
           (text_copy(text_of(universe), out->universe, sizeof out->universe) ||
            error_set(error, ERROR_INVALID, "universe_domain is too long"));
}

/* Whether the file holds a key or a login; a federation's file only says where an identity is. */
static bool holds_secret(const char *kind) {
    return strcmp(kind, "external_account") != 0;
}

static bool from_file(const struct found *found, const struct ask *ask, struct google_token *out,
                      struct error *error) {
    bool others_read = false;
    cleanup_secret_json json_t *document = document_read(found->place, &others_read, error);
    if (!document || !credential_file_token(document, ask, out, error) ||
        !read_api(document, out, error))
        return false;
    if (others_read && holds_secret(out->kind))
        log_at(LOG_WARN, "credential file is readable by everybody on this machine: chmod o-r",
               LOG_STRING("file", shown_value(found->place)));
    return true;
}

static bool host_ok(const char *host) {
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_:[]";
    return strlen(host) < METADATA_HOST_SIZE && strspn(host, allowed) == strlen(host);
}

static bool from_metadata(const struct found *found, const struct google_question *question,
                          const struct ask *ask, struct google_token *out, struct error *error) {
    /* The instance's own scopes are used, unless certain ones were asked for. */
    bool narrowed = question->settings.scopes && !question->settings.impersonate;
    text_copy(text_of("metadata"), out->kind, sizeof out->kind);
    if (!host_ok(found->place))
        return error_set(error, ERROR_INVALID, "is not host[:port]");
    if (metadata_token(ask->client, found->place, narrowed ? ask->scope : NULL, question->account,
                       out, error))
        return read_api(NULL, out, error);
    if (error->kind != ERROR_NOT_FOUND)
        return false;
    /* A metadata server without a service account counts as absent, unless the configuration names
     * it. */
    struct google_trail *trail = question->trail;
    if (trail && trail->count)
        snprintf(trail->steps[trail->count - 1].finding, sizeof trail->steps[0].finding,
                 "it responds, but has no service account");
    if (question->settings.metadata || question->settings.impersonate)
        return error_set(error, ERROR_NOT_FOUND, "this machine has no service account (404)");
    out->unsettled = true; /* in a new pod, the account comes some seconds after the server */
    return true;
}

static bool ask_source(const struct found *found, const struct google_question *question,
                       const struct ask *ask, struct google_token *out, struct error *error) {
    switch (found->kind) {
    case FOUND_FILE:
        return from_file(found, ask, out, error);
    case FOUND_METADATA:
        return from_metadata(found, question, ask, out, error);
    case FOUND_GCLOUD:
        text_copy(text_of("gcloud"), out->kind, sizeof out->kind);
        return gcloud_token(out, error) && read_api(NULL, out, error);
    case FOUND_NOTHING:
        break;
    }
    return true;
}

/* ---- --impersonate-service-account, `impersonate:` ---- */

static bool account_ok(const char *account) {
    for (const char *c = account; *c; c++) {
        if (!isalnum((unsigned char)*c) && !strchr("@.-_:", *c))
            return false;
    }
    return *account && strlen(account) < 200;
}

/* gcloud's variable for the endpoint may name any https host, because the machine's owner sets it.
 */
static bool build_url(const char *account, struct buffer *url, struct error *error) {
    static const char variable[] = "CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS";
    const char *base = getenv(variable);
    bool replaced = base && *base;
    if (!replaced)
        base = "https://iamcredentials." GOOGLE_UNIVERSE "/";
    else if (!endpoint_check(base, ENDPOINT_SUBJECT, GOOGLE_UNIVERSE, variable, error))
        return false;
    if (!account_ok(account))
        return error_set(error, ERROR_INVALID,
                         "impersonation: \"%.100s\" is not the address of an account",
                         shown_value(account));
    size_t length = strlen(base);
    while (length && base[length - 1] == '/')
        length--;
    return buffer_printf(url, "%.*s/v1/projects/-/serviceAccounts/%s:generateAccessToken",
                         (int)length, base, account) ||
           error_set(error, ERROR_MEMORY, "out of memory");
}

static bool act_as(struct client *client, const char *account, const char *scope,
                   struct google_token *token, struct error *error) {
    cleanup_buffer struct buffer url = {0};
    if (!build_url(account, &url, error))
        return false;
    struct impersonation impersonation = {.client = client, .url = url.bytes, .scope = scope};
    return impersonation_token(&impersonation, token, error);
}

static bool fetch(const struct found *found, const struct google_question *question,
                  const char *scope, struct google_token *out, struct error *error) {
    const char *account = question->settings.impersonate;
    struct ask ask = {.client = question->client,
                      .scope = account ? GOOGLE_SCOPE : scope,
                      .subject_token = question->subject_token};
    out->unsettled = found->unsettled;
    if (!ask_source(found, question, &ask, out, error))
        return false;
    if (question->subject_token && strcmp(out->kind, "external_account") != 0)
        return error_set(error, ERROR_UNSUPPORTED,
                         "a pod's token needs a credential file of type external_account");
    return !out->secret || !account || act_as(question->client, account, scope, out, error);
}

bool google_token_fetch(const struct google_question *question, struct google_token *out,
                        struct error *error) {
    struct found found;
    struct error reason = {0};
    cleanup_buffer struct buffer scope = {0};
    *out = (struct google_token){0};
    if (question->trail)
        *question->trail = (struct google_trail){0};
    bool ok = (question->client && join_scopes(question->settings.scopes, &scope)) ||
              error_set(&reason, ERROR_MEMORY, "out of memory");
    ok = ok &&
         google_discover(question->client, &question->settings, &found, question->trail, &reason);
    if (ok) {
        snprintf(out->from, sizeof out->from, "%s%.380s",
                 found.kind == FOUND_METADATA ? "metadata server " : "", shown_value(found.place));
        ok = fetch(&found, question, scope.bytes, out, &reason);
        if (!ok)
            error_wrap(&reason, "%.240s", out->from);
    }
    if (ok)
        return true;
    google_token_wipe(out);
    error_wrap(&reason, "google credentials");
    /* Whatever the reason, to a client that waits for an image the source is unavailable. */
    reason.kind = ERROR_UNAVAILABLE;
    if (error)
        *error = reason;
    return false;
}

bool google_token_from_key(struct client *client, const char *key, struct google_token *out,
                           struct error *error) {
    const struct ask ask = {.client = client, .scope = GOOGLE_SCOPE};
    struct error reason = {0};
    *out = (struct google_token){0};
    cleanup_secret_json json_t *document = bounded_json_load(key, strlen(key), NULL);
    const char *type = json_string_value(json_object_get(document, "type"));
    if (!type || strcmp(type, "service_account") != 0)
        error_set(&reason, ERROR_INVALID, "is no service account's key in JSON");
    else if (credential_file_token(document, &ask, out, &reason) &&
             read_api(document, out, &reason))
        return true;
    google_token_wipe(out);
    error_wrap(&reason, "google credentials: the password of the user _json_key");
    reason.kind = ERROR_UNAVAILABLE;
    if (error)
        *error = reason;
    return false;
}
