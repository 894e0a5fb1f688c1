/* Credential files that hold a person's login. Private to auth/google/. */
#ifndef AUTH_GOOGLE_AUTHORIZED_USER_H
#define AUTH_GOOGLE_AUTHORIZED_USER_H

#include "auth/google/document.h"

bool authorized_user_token(const json_t *document, const struct ask *ask, struct google_token *out,
                           struct error *error);

/* The login of a workforce pool: type external_account_authorized_user. */
bool authorized_user_workforce_token(const json_t *document, const struct ask *ask,
                                     struct google_token *out, struct error *error);

#endif
