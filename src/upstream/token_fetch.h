/* One request to a token service (Docker's token spec). Errors are not NULL here. */
#ifndef UPSTREAM_TOKEN_FETCH_H
#define UPSTREAM_TOKEN_FETCH_H

#include "base/cancel.h"
#include "client/challenge.h"
#include "upstream/location.h"

/* Which token is wanted. */
struct token_wish {
    const char *repository;            /* whose credential is shown */
    const struct challenge *challenge; /* Bearer, whose realm nobody has checked yet */
    const char *scope;
    bool renew; /* with a credential that the source asks for anew */
    int64_t deadline_ms;
    bool insists; /* of struct authorization_need, and so is the next one */
    const struct cancel *cancel;
};

struct fetched_token {
    char *value;        /* owned: visible ASCII */
    int64_t expires_ms; /* clock_ms() from which the token is no longer to be used */
    bool anonymous;     /* no credential was shown for it */
    char from[160];     /* where the credential came from, for people */
};

bool token_fetch(struct location *location, const struct token_wish *wish,
                 struct fetched_token *out, struct error *error);

/* Reads the token and its life in seconds (60 when absent) out of a token service's response. Pure;
 * hostile input. */
bool token_read(const void *bytes, size_t length, char **value, int64_t *life_s,
                struct error *error);

#endif
