/*
 * The Bearer tokens of one location (Docker's token spec), one for each repository and what may be
 * done there; bounded in number and in bytes, so that the ones used least recently go. One thread
 * at a time asks for a token, and all who wait get its outcome. A token is used until shortly
 * before its end. Threads: any. Errors are not NULL here.
 */
#ifndef UPSTREAM_TOKEN_H
#define UPSTREAM_TOKEN_H

#include "base/once.h"
#include "client/challenge.h"
#include "upstream/authorization.h"
#include "upstream/location.h"

struct tokens {
    struct once_table table; /* of struct token, by repository, or by authorization_need.scope */
};
/* `pot` counts the bytes of all locations' tokens, and outlives the table. */
void tokens_init(struct tokens *tokens, struct once_pot *pot);
void tokens_finish(struct tokens *tokens);

/* Sets header, fresh, anonymous and from of `out`. False: as authorizer_get(). */
bool tokens_get(struct tokens *tokens, struct location *location, const struct challenge *challenge,
                const struct authorization_need *need, struct authorization *out,
                struct error *error);

/* Remembers which scope a challenge named for a key: a repository, or an authorization_need.scope,
 * to which the challenge's is added. True: it is another scope than the token was for, which is
 * then forgotten. */
bool tokens_change_scope(struct tokens *tokens, const char *key, const char *scope);

#endif
