/* Answers the challenges of a location. */
#include "upstream/authorizer.h"

#include <string.h>
#include "upstream/credential.h"

void authorizer_init(struct authorizer *authorizer) {
    lock_init(&authorizer->challenge_lock);
    tokens_init(&authorizer->tokens);
}

void authorizer_finish(struct authorizer *authorizer) {
    tokens_finish(&authorizer->tokens);
    lock_finish(&authorizer->challenge_lock);
    location_finish(&authorizer->location);
}

bool authorizer_challenged(struct authorizer *authorizer, const char *repository,
                           const struct challenge *challenge) {
    if (challenge->scheme == CHALLENGE_NONE)
        return false;
    lock_acquire(&authorizer->challenge_lock);
    authorizer->challenge = *challenge;
    lock_release(&authorizer->challenge_lock);
    return challenge->scheme == CHALLENGE_BEARER && challenge->scope[0] &&
           tokens_change_scope(&authorizer->tokens, repository, challenge->scope);
}

/* A challenge that could not be answered is forgotten, because it may have been a portal's or a
 * proxy's. The next request then learns what the registry wants now. */
static void forget_challenge(struct authorizer *authorizer, const struct challenge *failed) {
    lock_acquire(&authorizer->challenge_lock);
    if (authorizer->challenge.scheme == failed->scheme &&
        strcmp(authorizer->challenge.realm, failed->realm) == 0)
        authorizer->challenge = (struct challenge){0};
    lock_release(&authorizer->challenge_lock);
}

static bool get_basic(struct location *location, enum token_effort effort,
                      struct authorization *out, struct error *error) {
    cleanup_credential struct credential credential = {0};
    bool renew = effort != TOKEN_HELD;
    if (!location_credential(location, renew, &credential, error))
        return false;
    out->fresh = renew;
    out->anonymous = credential.kind != CREDENTIAL_BASIC;
    memcpy(out->from, credential.from, sizeof out->from);
    if (out->anonymous)
        return true;
    out->header = credential_basic_header(&credential);
    return out->header || error_set(error, ERROR_MEMORY, "out of memory");
}

bool authorizer_get(struct authorizer *authorizer, const struct authorization_need *need,
                    struct authorization *out, struct error *error) {
    lock_acquire(&authorizer->challenge_lock);
    struct challenge challenge = authorizer->challenge;
    lock_release(&authorizer->challenge_lock);
    *out = (struct authorization){.scheme = challenge.scheme};
    bool ok = true;
    if (challenge.scheme == CHALLENGE_BEARER)
        ok = tokens_get(&authorizer->tokens, &authorizer->location, &challenge, need, out, error);
    else if (challenge.scheme == CHALLENGE_BASIC)
        ok = get_basic(&authorizer->location, need->effort, out, error);
    else
        out->anonymous = true;
    if (!ok)
        forget_challenge(authorizer, &challenge);
    return ok;
}
