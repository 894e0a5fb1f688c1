/*
 * The kinds of source, one file each: how each comes to a token. Inside google/.
 *
 * Each fills secret, expires_ms, account and quota_project of `out`, as far as it knows them, and
 * leaves what it does not. A `document` is a credential file's JSON.
 */
#ifndef AUTH_GOOGLE_KINDS_H
#define AUTH_GOOGLE_KINDS_H

#include <jansson.h>
#include <stdbool.h>
#include "auth/google/google.h"
#include "base/error.h"

#define GOOGLE_SCOPE "https://www.googleapis.com/auth/cloud-platform"

struct ask {
    struct client *client;
    const char *scope;         /* separated by spaces */
    const char *subject_token; /* instead of a federation's own; may be NULL */
    unsigned depth;            /* of credential files inside credential files */
};

bool service_account_token(const json_t *document, const struct ask *ask, struct google_token *out,
                           struct error *error);
bool authorized_user_token(const json_t *document, const struct ask *ask, struct google_token *out,
                           struct error *error);
bool external_account_token(const json_t *document, const struct ask *ask, struct google_token *out,
                            struct error *error);
bool impersonated_account_token(const json_t *document, const struct ask *ask,
                                struct google_token *out, struct error *error);
bool gcloud_token(struct google_token *out, struct error *error);

/* By the document's `type`. */
bool document_token(const json_t *document, const struct ask *ask, struct google_token *out,
                    struct error *error);

/* ---- impersonation: a token of a service account for that of somebody who may act as it ---- */

struct impersonation {
    struct client *client;
    const char *url;         /* …/serviceAccounts/EMAIL:generateAccessToken, checked already */
    const json_t *delegates; /* array of strings; may be NULL */
    const char *scope;       /* separated by spaces */
    unsigned lifetime_s;     /* 0: 3600 */
};
/* Replaces the source's token in `token` by the account's. */
bool impersonate(const struct impersonation *impersonation, struct google_token *token,
                 struct error *error);
/* EMAIL out of such a URL; false when it has none. */
bool impersonation_account(const char *url, char *out, size_t size);

/* ---- the metadata server ---- */

enum { METADATA_HOST_SIZE = 280 };
#define METADATA_DEFAULT_HOST "169.254.169.254"

/* Whether one answers at the default address: asked twice, a second each. */
bool metadata_is_there(struct client *client);
/* False with ERROR_NOT_FOUND: it is there but has no service account. `scope` may be NULL. */
bool metadata_token(struct client *client, const char *host, const char *scope, bool account,
                    struct google_token *out, struct error *error);

/* ---- documents ---- */

/* A string member that must be there and not be empty, or NULL with the error set. */
const char *document_string(const json_t *document, const char *key, struct error *error);
/* A string member, or `otherwise` when it is absent; false when it is no string. */
bool document_optional(const json_t *document, const char *key, const char *otherwise,
                       const char **out, struct error *error);
/* The project whose quota pays for requests to Google's APIs: $GOOGLE_CLOUD_QUOTA_PROJECT, else the
 * document's quota_project_id; `out` is left alone when there is neither. */
bool document_quota_project(const json_t *document, struct google_token *out, struct error *error);
/* universe_domain, checked. */
bool document_universe(const json_t *document, const char **out, struct error *error);
/* Reads a JSON object, at most 256 KiB; NULL with the error set, which does not name the path.
 * `others_read` (may be NULL): whether everybody on this machine may read the file. */
json_t *document_read(const char *path, bool *others_read, struct error *error);
/* A whole regular file with a NUL behind it, at most `limit` bytes, to be wiped; NULL on failure.
 */
char *file_read(const char *path, size_t limit, bool *others_read, struct error *error);

#endif
