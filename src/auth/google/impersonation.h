/*
 * Acting as a service account: the token of a source that may act as the account is exchanged for a
 * token of the account. Private to auth/google/.
 */
#ifndef AUTH_GOOGLE_IMPERSONATION_H
#define AUTH_GOOGLE_IMPERSONATION_H

#include <jansson.h>
#include "auth/google/google.h"

struct impersonation {
    struct client *client;
    const char *url;         /* …/serviceAccounts/EMAIL:generateAccessToken, checked already */
    const json_t *delegates; /* array of strings; may be NULL */
    const char *scope;       /* separated by spaces */
    unsigned lifetime_s;     /* 0: 3600 */
};

/* Replaces the source's token in `token` by the account's token. */
bool impersonation_token(const struct impersonation *impersonation, struct google_token *token,
                         struct error *error);

/* Reads EMAIL out of such a URL; false when it has none. */
bool impersonation_account(const char *url, char *out, size_t size);

#endif
