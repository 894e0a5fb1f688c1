/*
 * What one location wants to see before it serves: the challenge that it responds with, and the
 * tokens or the credential with which its requests answer that challenge. Threads: any. Errors are
 * not NULL here.
 */
#ifndef UPSTREAM_AUTHORIZER_H
#define UPSTREAM_AUTHORIZER_H

#include "base/lock.h"
#include "upstream/location.h"
#include "upstream/token.h"

struct authorizer {
    struct location location;
    struct lock challenge_lock;
    struct challenge challenge GUARDED_BY(challenge_lock); /* the last one; NONE at first */
    struct tokens tokens;
    struct breaker token_breaker;     /* of the token service, health.h asks it */
    struct tokens elsewhere;          /* of hosts to which the location led: anonymous ones */
    struct breaker elsewhere_breaker; /* of their token services */
};

/* `location` is initialised by the caller before, and finished here. `pot`: of tokens_init(). */
void authorizer_init(struct authorizer *authorizer, struct once_pot *pot);
void authorizer_finish(struct authorizer *authorizer);

/*
 * The Authorization that the last challenge wants of a request; nothing while there was none.
 * False: no credential (the source is broken: UNAVAILABLE), no token (DENIED, RATE_LIMITED,
 * UNAVAILABLE, TIMEOUT), or a realm that must not be asked (DENIED). `out` then says whether trying
 * again may help.
 */
bool authorizer_get(struct authorizer *authorizer, const struct authorization_need *need,
                    struct authorization *out, struct error *error);

/*
 * The Authorization for `url`, to which redirects of the location led and which responded with this
 * Bearer challenge. The token is asked for without a credential, at a realm that belongs to the
 * host of `url`, and is for that host alone. False: as authorizer_get().
 */
bool authorizer_get_elsewhere(struct authorizer *authorizer, const char *url,
                              const struct challenge *challenge,
                              const struct authorization_need *need, struct authorization *out,
                              struct error *error);

/* Remembers the challenge that a request was responded to with; `key` is its repository, or the
 * scope that it needs (authorization_need.scope). True: it wants another scope than the token was
 * for. */
bool authorizer_challenged(struct authorizer *authorizer, const char *key,
                           const struct challenge *challenge);

#endif
