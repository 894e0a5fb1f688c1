/* A credential file that holds a service account's key. Private to auth/google/. */
#ifndef AUTH_GOOGLE_SERVICE_ACCOUNT_H
#define AUTH_GOOGLE_SERVICE_ACCOUNT_H

#include "auth/google/document.h"

bool service_account_token(const json_t *document, const struct ask *ask, struct google_token *out,
                           struct error *error);

#endif
