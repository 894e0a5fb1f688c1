/* A credential file of Workload Identity Federation. Private to auth/google/. */
#ifndef AUTH_GOOGLE_EXTERNAL_ACCOUNT_H
#define AUTH_GOOGLE_EXTERNAL_ACCOUNT_H

#include "auth/google/document.h"

bool external_account_token(const json_t *document, const struct ask *ask, struct google_token *out,
                            struct error *error);

#endif
