/*
 * Credential files: reading one, and its members. Private to auth/google/.
 *
 * A `document` is a credential file's JSON object, or one inside it. Whatever the file holds, no
 * text of it but names of members enters an error, because any of it may be secret.
 */
#ifndef AUTH_GOOGLE_DOCUMENT_H
#define AUTH_GOOGLE_DOCUMENT_H

#include <jansson.h>
#include <stdbool.h>
#include "auth/google/google.h"
#include "base/error.h"

/* Which token is wanted. */
struct ask {
    struct client *client;
    const char *scope;         /* separated by spaces */
    const char *subject_token; /* in place of a federation's own; may be NULL */
    unsigned depth;            /* how many credential files this one stands in */
};

/* Reads a JSON object from a regular file of at most 256 KiB. NULL with the error set, which does
 * not name the path. `others_read` (may be NULL): whether every user of this machine may read the
 * file. */
json_t *document_read(const char *path, bool *others_read, struct error *error);

/* A string member that must exist and not be empty; NULL with the error set. */
const char *document_string(const json_t *document, const char *key, struct error *error);

/* A string member, or `otherwise` when it is absent or empty. False: it is no string. */
bool document_optional(const json_t *document, const char *key, const char *otherwise,
                       const char **out, struct error *error);

/* The project whose quota pays for requests to Google's APIs: $GOOGLE_CLOUD_QUOTA_PROJECT, else the
 * document's quota_project_id. Without either `out` stays as it is. */
bool document_quota_project(const json_t *document, struct google_token *out, struct error *error);

/* universe_domain, or Google's own universe; checked by endpoint_universe_ok(). */
bool document_universe(const json_t *document, const char **out, struct error *error);

#endif
