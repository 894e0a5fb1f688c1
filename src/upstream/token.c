#include "upstream/token.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include "base/clock.h"
#include "upstream/token_fetch.h"

enum { TOKENS_LIMIT = 1024 }; /* repositories remembered by one location */

/* The token of one repository. In the table while remembered; with `users` it stays there. */
struct token {
    char *repository;
    char scope[1024]; /* as a challenge named it; "": repository:NAME:pull */
    char *value;      /* NULL: none held */
    int64_t expires_ms, used_ms;
    bool anonymous;
    char from[160];
    unsigned users;     /* threads that hold this entry */
    bool fetching;      /* one of them is asking, without the lock */
    bool renewing;      /* with a renewed credential */
    uint64_t fetched;   /* requests that have ended */
    bool failed, retry; /* how the last one ended; failed: with `error` */
    struct error error;
    UT_hash_handle hh;
};

void authorization_wipe(struct authorization *authorization) {
    if (authorization->header)
        explicit_bzero(authorization->header, strlen(authorization->header));
    free(authorization->header);
    *authorization = (struct authorization){0};
}

static void drop_value(struct token *token) {
    if (token->value)
        explicit_bzero(token->value, strlen(token->value));
    free(token->value);
    token->value = NULL;
}

static void scope_of(const struct token *token, char out[static sizeof token->scope]) {
    if (token->scope[0])
        memcpy(out, token->scope, sizeof token->scope);
    else
        snprintf(out, sizeof token->scope, "repository:%s:pull", token->repository);
}

static void token_free(struct token *token) {
    drop_value(token);
    free(token->repository);
    free(token);
}

void tokens_free(struct location *location) {
    struct token *token, *next;
    HASH_ITER (hh, location->tokens, token, next) {
        HASH_DEL(location->tokens, token);
        token_free(token);
    }
}

/* Makes room by forgetting what was used longest ago and nobody holds. */
static void forget_one(struct location *location) {
    struct token *token = NULL, *next = NULL, *oldest = NULL;
    HASH_ITER (hh, location->tokens, token, next) {
        if (token->users == 0 && (!oldest || token->used_ms < oldest->used_ms))
            oldest = token;
    }
    if (oldest) {
        HASH_DEL(location->tokens, oldest);
        token_free(oldest);
    }
}

static struct token *find_or_add(struct location *location, const char *repository) {
    struct token *token = NULL;
    HASH_FIND_STR(location->tokens, repository, token);
    if (token)
        return token;
    if (HASH_COUNT(location->tokens) >= TOKENS_LIMIT)
        forget_one(location);
    token = calloc(1, sizeof *token);
    if (!token || !(token->repository = strdup(repository))) {
        free(token);
        return NULL;
    }
    HASH_ADD_KEYPTR(hh, location->tokens, token->repository, strlen(token->repository), token);
    if (!token->hh.tbl) { /* no memory for the table */
        token_free(token);
        return NULL;
    }
    return token;
}

/* Whether `scope` is another than the one asked for until now; it is from now on. */
static bool change_scope(struct token *token, const char *scope) {
    char held[sizeof token->scope];
    scope_of(token, held);
    if (strcmp(held, scope) == 0)
        return false;
    snprintf(token->scope, sizeof token->scope, "%s", scope);
    drop_value(token);
    return true;
}

bool authorization_challenged(struct location *location, const char *repository,
                              const struct challenge *challenge) {
    if (challenge->scheme == CHALLENGE_NONE)
        return false;
    pthread_mutex_lock(&location->challenge_lock);
    location->challenge = *challenge;
    pthread_mutex_unlock(&location->challenge_lock);
    if (challenge->scheme != CHALLENGE_BEARER || challenge->scope[0] == '\0')
        return false;
    pthread_mutex_lock(&location->tokens_lock);
    struct token *token = find_or_add(location, repository);
    bool changed = token && change_scope(token, challenge->scope);
    pthread_mutex_unlock(&location->tokens_lock);
    return changed;
}

/* The value behind "Authorization: Bearer " in a refused header. */
static bool is_refused(const struct token *token, const char *refused) {
    static const char prefix[] = "Authorization: Bearer ";
    return refused && strncmp(refused, prefix, sizeof prefix - 1) == 0 &&
           strcmp(refused + sizeof prefix - 1, token->value) == 0;
}

static bool is_usable(const struct token *token, const char *refused) {
    return token->value && clock_ms() < token->expires_ms && !is_refused(token, refused);
}

/* Asks for a token with the lock released. Everybody who waits takes the outcome from the entry. */
static void fetch(struct location *location, struct token *token, const struct challenge *challenge,
                  bool renew, int64_t deadline_ms) {
    struct fetched_token fetched = {0};
    struct error error = {0};
    char scope[sizeof token->scope];
    bool retry = false;
    scope_of(token, scope);
    token->fetching = true;
    token->renewing = renew;
    pthread_mutex_unlock(&location->tokens_lock);
    bool ok = token_fetch(location, challenge, scope, renew, deadline_ms, &fetched, &retry, &error);
    pthread_mutex_lock(&location->tokens_lock);
    drop_value(token);
    token->value = fetched.value;
    token->expires_ms = fetched.expires_ms;
    token->anonymous = fetched.anonymous;
    memcpy(token->from, fetched.from, sizeof token->from);
    token->failed = !ok;
    token->retry = retry;
    token->error = error;
    token->fetched++;
    token->fetching = false;
    pthread_cond_broadcast(&location->token_settled);
}

/* Waits for the request under way. False: not in time. */
static bool wait_for_fetch(struct location *location, const struct token *token,
                           int64_t deadline_ms) {
    uint64_t before = token->fetched;
    int64_t left = deadline_ms - clock_ms();
    struct timespec until = clock_deadline(left > 0 ? left : 0);
    while (token->fetched == before) {
        if (pthread_cond_clockwait(&location->token_settled, &location->tokens_lock,
                                   CLOCK_MONOTONIC, &until) != 0)
            return token->fetched != before;
    }
    return true;
}

/* Brings the entry to an outcome that is new enough for this caller: a usable value, or a failure
 * in `failed`. *fresh: it was fetched while the caller waited. */
static bool settle(struct location *location, struct token *token,
                   const struct challenge *challenge, enum token_effort effort, const char *refused,
                   int64_t deadline_ms, bool *fresh, struct error *error) {
    bool renew = effort == TOKEN_NEW_CREDENTIAL;
    *fresh = false;
    for (;;) {
        if (is_usable(token, refused))
            return true;
        if (!token->fetching) {
            fetch(location, token, challenge, renew, deadline_ms);
            *fresh = true;
            return true;
        }
        bool joins = token->renewing || !renew;
        if (!wait_for_fetch(location, token, deadline_ms))
            return error_set(error, ERROR_TIMEOUT, "token: no answer in time");
        *fresh = true;
        bool ran_out =
            token->failed && token->error.kind == ERROR_TIMEOUT; /* of its time, not ours */
        if (joins && !ran_out)
            return true;
    }
}

static bool set_header(struct authorization *out, const char *value, struct error *error) {
    if (asprintf(&out->header, "Authorization: Bearer %s", value) >= 0)
        return true;
    out->header = NULL;
    return error_set(error, ERROR_MEMORY, "out of memory");
}

/* With the lock held. */
static bool take_outcome(const struct token *token, struct authorization *out, bool *retry,
                         struct error *error) {
    if (!token->value) {
        *retry = token->retry;
        if (token->failed)
            *error = token->error;
        else /* its scope changed just now, or it was dropped for another's refusal */
            *retry = !error_set(error, ERROR_UNAVAILABLE, "token: replaced while asking");
        return false;
    }
    out->anonymous = token->anonymous;
    memcpy(out->from, token->from, sizeof out->from);
    return set_header(out, token->value, error);
}

static bool bearer(struct location *location, const struct challenge *challenge,
                   const char *repository, enum token_effort effort, const char *refused,
                   int64_t deadline_ms, struct authorization *out, bool *retry,
                   struct error *error) {
    pthread_mutex_lock(&location->tokens_lock);
    struct token *token = find_or_add(location, repository);
    if (!token) {
        pthread_mutex_unlock(&location->tokens_lock);
        return error_set(error, ERROR_MEMORY, "out of memory");
    }
    token->users++;
    token->used_ms = clock_ms();
    bool ok =
        settle(location, token, challenge, effort, refused, deadline_ms, &out->fresh, error) &&
        take_outcome(token, out, retry, error);
    token->users--;
    pthread_mutex_unlock(&location->tokens_lock);
    return ok;
}

static bool basic(struct location *location, enum token_effort effort, struct authorization *out,
                  struct error *error) {
    __attribute__((cleanup(credential_wipe))) struct credential credential = {0};
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

/* A challenge that could not be answered is not kept: it may have been a portal's or a proxy's, and
 * the next request hears what the registry says now. */
static void forget_challenge(struct location *location, const struct challenge *failed) {
    pthread_mutex_lock(&location->challenge_lock);
    if (location->challenge.scheme == failed->scheme &&
        strcmp(location->challenge.realm, failed->realm) == 0)
        location->challenge = (struct challenge){0};
    pthread_mutex_unlock(&location->challenge_lock);
}

bool authorization_get(struct location *location, const char *repository, enum token_effort effort,
                       const char *refused, int64_t deadline_ms, struct authorization *out,
                       bool *retry, struct error *error) {
    struct challenge challenge;
    *retry = false;
    pthread_mutex_lock(&location->challenge_lock);
    challenge = location->challenge;
    pthread_mutex_unlock(&location->challenge_lock);
    *out = (struct authorization){.scheme = challenge.scheme};
    bool ok = true;
    if (challenge.scheme == CHALLENGE_BEARER)
        ok = bearer(location, &challenge, repository, effort, refused, deadline_ms, out, retry,
                    error);
    else if (challenge.scheme == CHALLENGE_BASIC)
        ok = basic(location, effort, out, error);
    else
        out->anonymous = true;
    if (!ok)
        forget_challenge(location, &challenge);
    return ok;
}
