/* The token of a credential file, by its type. Private to auth/google/. */
#ifndef AUTH_GOOGLE_CREDENTIAL_FILE_H
#define AUTH_GOOGLE_CREDENTIAL_FILE_H

#include "auth/google/document.h"

/*
 * Fetches the token of a credential file, by the document's `type`. Like each kind of source, it
 * fills secret, expires_ms, account and quota_project of `out` as far as it knows them, and leaves
 * the others as they are.
 */
bool credential_file_token(const json_t *document, const struct ask *ask, struct google_token *out,
                           struct error *error);

#endif
