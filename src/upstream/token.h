/*
 * Bearer tokens by repository (Docker's token spec): one request at a time for each, everybody who
 * waits gets its outcome, and a token is used until shortly before it ends.
 */
#ifndef UPSTREAM_TOKEN_H
#define UPSTREAM_TOKEN_H

#include "upstream/location.h"

/* How much is to be new. */
enum token_effort {
    TOKEN_HELD,           /* the token held, or a new one */
    TOKEN_NEW,            /* not the one that was refused */
    TOKEN_NEW_CREDENTIAL, /* nor made from the credential held */
};

/* What a request carries, and where it came from. Zeroed: nothing. */
struct authorization {
    char *header;                 /* owned: "Authorization: ..."; NULL: nothing to send */
    enum challenge_scheme scheme; /* the challenge it answers; NONE: none was known */
    bool fresh;                   /* its token or credential was fetched for this request */
    bool anonymous;               /* no credential is behind it */
    char from[160];               /* where the credential came from, for people */
};
void authorization_wipe(struct authorization *authorization);

/*
 * The Authorization for requests to `repository`, as the last challenge wants it; nothing while
 * none was seen. `refused` is the header that upstream answered 401 to, or NULL. False: no
 * credential (the source is broken: UNAVAILABLE), no token (DENIED, RATE_LIMITED, UNAVAILABLE,
 * TIMEOUT), or a realm that must not be asked (DENIED). *retry says whether trying again may help.
 */
bool authorization_get(struct location *location, const char *repository, enum token_effort effort,
                       const char *refused, int64_t deadline_ms, struct authorization *out,
                       bool *retry, struct error *error);

/* Remembers the challenge that a request to `repository` was answered with. True: it wants another
 * scope than the token was for. */
bool authorization_challenged(struct location *location, const char *repository,
                              const struct challenge *challenge);

void tokens_free(struct location *location);

#endif
