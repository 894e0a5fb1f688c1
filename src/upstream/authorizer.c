/* Answers the challenges of a location. */
#include "upstream/authorizer.h"

#include <stdio.h>
#include <string.h>
#include "base/buffer.h"
#include "upstream/credential.h"
#include "upstream/health.h"

void authorizer_init(struct authorizer *authorizer, struct once_pot *pot) {
    lock_init(&authorizer->challenge_lock);
    tokens_init(&authorizer->tokens, pot);
    tokens_init(&authorizer->elsewhere, pot);
    breaker_init(&authorizer->token_breaker, &location_breaker_rule);
    breaker_init(&authorizer->elsewhere_breaker, &location_breaker_rule);
    authorizer->location.token_breaker = &authorizer->token_breaker;
}

void authorizer_finish(struct authorizer *authorizer) {
    struct health *health = authorizer->location.health;
    health_forget(health, &authorizer->elsewhere_breaker);
    health_forget(health, &authorizer->token_breaker);
    breaker_finish(&authorizer->elsewhere_breaker);
    breaker_finish(&authorizer->token_breaker);
    tokens_finish(&authorizer->elsewhere);
    tokens_finish(&authorizer->tokens);
    lock_finish(&authorizer->challenge_lock);
    location_finish(&authorizer->location);
}

bool authorizer_challenged(struct authorizer *authorizer, const char *key,
                           const struct challenge *challenge) {
    if (challenge->scheme == CHALLENGE_NONE)
        return false;
    lock_acquire(&authorizer->challenge_lock);
    authorizer->challenge = *challenge;
    lock_release(&authorizer->challenge_lock);
    return challenge->scheme == CHALLENGE_BEARER && challenge->scope[0] &&
           tokens_change_scope(&authorizer->tokens, key, challenge->scope);
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

static bool get_basic(struct location *location, const struct authorization_need *need,
                      struct authorization *out, struct error *error) {
    cleanup_credential struct credential credential = {0};
    bool renew = need->effort != TOKEN_HELD;
    if (!location_credential(location, need->repository, renew, need->deadline_ms, &credential,
                             error))
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
        ok = get_basic(&authorizer->location, need, out, error);
    else
        out->anonymous = true;
    /* A token service that was not asked says nothing about the challenge. */
    if (!ok && error->reason != ERROR_REASON_NOT_ASKED)
        forget_challenge(authorizer, &challenge);
    return ok;
}

/* ---- where the location's redirects lead ---- */

bool authorizer_get_elsewhere(struct authorizer *authorizer, const char *url,
                              const struct challenge *challenge,
                              const struct authorization_need *need, struct authorization *out,
                              struct error *error) {
    struct location *from = &authorizer->location;
    struct location there = {.client = from->client,
                             .settings = from->settings,
                             .counts = from->counts,
                             .pauses = from->pauses,
                             .token_breaker = &authorizer->elsewhere_breaker,
                             .health = from->health,
                             .led_from = from};
    *out = (struct authorization){.scheme = CHALLENGE_BEARER, .anonymous = true};
    if (!origin_parse(url, &there.origin))
        return error_set(error, ERROR_INVALID, "it led to no http or https URL");
    origin_host(&there.origin, there.service);
    origin_host(&there.origin, there.credential_host);
    cleanup_buffer struct buffer scope = {0}, key = {0};
    if (challenge->scope[0])
        buffer_append_string(&scope, challenge->scope);
    else
        buffer_printf(&scope, "repository:%s:pull", need->repository);
    buffer_printf(&key, "%s://%s %s", there.origin.https ? "https" : "http", there.service,
                  scope.failed ? "" : scope.bytes);
    if (scope.failed || key.failed)
        return error_set(error, ERROR_MEMORY, "out of memory");
    struct authorization_need here = *need;
    here.repository = key.bytes;
    tokens_change_scope(&authorizer->elsewhere, key.bytes, scope.bytes);
    return tokens_get(&authorizer->elsewhere, &there, challenge, &here, out, error);
}
