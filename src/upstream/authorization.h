/* The Authorization of one request to a registry: why it is needed, and what was got. */
#ifndef UPSTREAM_AUTHORIZATION_H
#define UPSTREAM_AUTHORIZATION_H

#include <stdbool.h>
#include <stdint.h>
#include "base/cancel.h"
#include "client/challenge.h"

/* How much must be new, after a request was refused. */
enum token_effort {
    TOKEN_HELD,           /* the token that is held, or a new one */
    TOKEN_NEW,            /* another token than the one that was refused */
    TOKEN_NEW_CREDENTIAL, /* a token made from a credential that is asked for anew */
};

/* What a request needs an Authorization for. */
struct authorization_need {
    const char *repository;
    /* What a token must be for, when that is more than to pull from `repository`: one or more
     * scopes with a space between ("repository:NAME:pull,push"). A token for it is another one than
     * that for pulls. NULL: to pull. */
    const char *scope;
    enum token_effort effort;
    const char *refused; /* the header that upstream responded to with 401; NULL: none */
    int64_t deadline_ms;
    bool insists;                /* of struct upstream_request */
    const struct cancel *cancel; /* when nobody waits any more; NULL: never */
};

/* What a request carries, and where it came from. Zeroed: nothing. */
struct authorization {
    char *header;                 /* owned: "Authorization: ..."; NULL: nothing to send */
    enum challenge_scheme scheme; /* of the challenge that it responds to; NONE: none was known */
    bool fresh;                   /* its token or credential was fetched for this request */
    bool anonymous;               /* no credential was shown for it */
    char from[160];               /* where the credential came from, for people */
};

void authorization_wipe(struct authorization *authorization);
#define cleanup_authorization __attribute__((cleanup(authorization_wipe)))

#endif
