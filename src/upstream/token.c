/* Keeps the tokens of a location, and has one thread at a time ask for each. */
#include "upstream/token.h"

#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "base/secret.h"
#include "upstream/token_fetch.h"

enum {
    /* Of one location. Clients can name any number of repositories, and a token may be long. */
    TOKENS_LIMIT = 1024,
    BYTES_LIMIT = 4 << 20,
    BYTES_SHARE = 16 << 10, /* kept even when all locations' tokens are too many */
};

struct token {
    struct once_entry entry; /* its key is the repository, or the scope that is needed */
    char *scope;             /* as a challenge named it; NULL: the key, or repository:NAME:pull */
    char *value;             /* NULL: none held */
    int64_t expires_ms;
    bool anonymous;
    char from[160];
};

/* The header of a request that carries a token. */
#define BEARER "Authorization: Bearer "

enum { SCOPE_SIZE = sizeof((struct challenge *)NULL)->scope };

static void token_wipe(struct once_entry *entry) {
    struct token *token = (struct token *)entry;
    secret_free(&token->value);
    free(token->scope);
}

void tokens_init(struct tokens *tokens, struct once_pot *pot) {
    const struct once_bounds bounds = {
        .entries = TOKENS_LIMIT, .bytes = BYTES_LIMIT, .pot = pot, .share = BYTES_SHARE};
    once_table_init(&tokens->table, sizeof(struct token), &bounds, token_wipe);
}

/* Tells the table how much the token holds now. */
static void weigh(struct once_table *table, struct token *token) REQUIRES(table->entries_lock);
static void weigh(struct once_table *table, struct token *token) {
    once_table_weigh(table, &token->entry,
                     (token->value ? strlen(token->value) : 0) +
                         (token->scope ? strlen(token->scope) : 0));
}

void tokens_finish(struct tokens *tokens) {
    once_table_finish(&tokens->table);
}

/* ---- scopes ---- */

/* Whether the key is a scope. No repository has a ':' in its name. */
static bool is_scope(const char *key) {
    static const char start[] = "repository:";
    return strncmp(key, start, sizeof start - 1) == 0;
}

static void scope_of(const struct token *token, char out[static SCOPE_SIZE]) {
    if (token->scope)
        snprintf(out, SCOPE_SIZE, "%s", token->scope);
    else if (is_scope(token->entry.key))
        snprintf(out, SCOPE_SIZE, "%s", token->entry.key);
    else
        snprintf(out, SCOPE_SIZE, "repository:%s:pull", token->entry.key);
}

/* Whether each scope of the list `wanted` (spaces between) is one of `held`. */
static bool holds_scopes(const char *held, const char *wanted) {
    for (struct text rest = text_of(wanted); rest.at;) {
        struct text one = text_cut(rest, ' ', &rest);
        bool found = one.length == 0;
        for (struct text left = text_of(held); left.at && !found;) {
            struct text other = text_cut(left, ' ', &left);
            found = other.length == one.length && memcmp(other.at, one.at, one.length) == 0;
        }
        if (!found)
            return false;
    }
    return true;
}

/* The scope to ask for after a challenge: what the challenge names, and what is needed in any case.
 */
static void join_scopes(const char *key, const char *named, char out[static SCOPE_SIZE]) {
    if (!is_scope(key) || holds_scopes(named, key))
        snprintf(out, SCOPE_SIZE, "%s", named);
    else if (holds_scopes(key, named))
        snprintf(out, SCOPE_SIZE, "%s", key);
    else
        snprintf(out, SCOPE_SIZE, "%s %s", key, named);
}

/* Out of memory: the scope stays, and the registry refuses once more. */
static bool change_scope(struct token *token, const char *named) {
    char held[SCOPE_SIZE], scope[SCOPE_SIZE];
    scope_of(token, held);
    join_scopes(token->entry.key, named, scope);
    char *copy = strcmp(held, scope) == 0 ? NULL : strdup(scope);
    if (!copy)
        return false;
    free(token->scope);
    token->scope = copy;
    secret_free(&token->value);
    return true;
}

bool tokens_change_scope(struct tokens *tokens, const char *key, const char *scope) {
    struct once_table *table = &tokens->table;
    lock_acquire(&table->entries_lock);
    struct once_entry *entry = once_table_enter(table, key);
    bool changed = entry && change_scope((struct token *)entry, scope);
    if (entry) {
        weigh(table, (struct token *)entry);
        once_table_leave(table, entry);
    }
    lock_release(&table->entries_lock);
    return changed;
}

/* ---- getting one ---- */

static bool is_refused(const struct token *token, const char *refused) {
    return refused && strncmp(refused, BEARER, sizeof BEARER - 1) == 0 &&
           strcmp(refused + sizeof BEARER - 1, token->value) == 0;
}

static bool is_usable(const struct token *token, const char *refused) {
    return token->value && clock_ms() < token->expires_ms && !is_refused(token, refused);
}

/* Whose request for a token it is. */
struct asker {
    const struct cancel *cancel; /* of the request to the registry; may be NULL */
    struct once_table *table;
    const struct token *token;
};

/* A request for a token goes on for the threads that wait for it, even if the one that asks for it
 * has no client any more. */
static bool is_wanted(void *context) {
    const struct asker *asker = context;
    struct once_table *table = asker->table;
    if (cancel_check(asker->cancel, NULL))
        return true;
    lock_acquire(&table->entries_lock);
    bool others_wait = asker->token->entry.once.waiting > 0;
    lock_release(&table->entries_lock);
    return others_wait;
}

/* Asks for a token without the lock. Every thread that waits takes the outcome from the entry. */
static void fetch_token(struct once_table *table, struct token *token, struct location *location,
                        const struct challenge *challenge, const struct authorization_need *need)
    REQUIRES(table->entries_lock);

static void fetch_token(struct once_table *table, struct token *token, struct location *location,
                        const struct challenge *challenge, const struct authorization_need *need) {
    struct fetched_token fetched = {0};
    struct error error = {0};
    char scope[SCOPE_SIZE];
    scope_of(token, scope);
    struct asker asker = {need->cancel, table, token};
    const struct cancel cancel = {.stop = need->cancel ? need->cancel->stop : NULL,
                                  .is_wanted = is_wanted,
                                  .context = &asker};
    const struct token_wish wish = {
        .repository = need->repository,
        .challenge = challenge,
        .scope = scope,
        .renew = need->effort == TOKEN_NEW_CREDENTIAL,
        .deadline_ms = need->deadline_ms,
        .insists = need->insists,
        .cancel = &cancel,
    };
    lock_release(&table->entries_lock);
    token_fetch(location, &wish, &fetched, &error);
    lock_acquire(&table->entries_lock);
    secret_free(&token->value);
    token->value = fetched.value;
    token->expires_ms = fetched.expires_ms;
    token->anonymous = fetched.anonymous;
    memcpy(token->from, fetched.from, sizeof token->from);
    weigh(table, token);
    once_publish(&token->entry.once, &table->ended, &error);
}

/* Brings the entry to an outcome that is new enough for this caller: a usable value, or a failure.
 * False: no outcome in time. *fresh: a request ended while the caller was here. */
static bool settle(struct once_table *table, struct token *token, struct location *location,
                   const struct challenge *challenge, const struct authorization_need *need,
                   bool *fresh) REQUIRES(table->entries_lock);

static bool settle(struct once_table *table, struct token *token, struct location *location,
                   const struct challenge *challenge, const struct authorization_need *need,
                   bool *fresh) {
    bool renew = need->effort == TOKEN_NEW_CREDENTIAL;
    while (!is_usable(token, need->refused)) {
        switch (once_take_turn(&token->entry.once, &table->ended, &table->entries_lock, renew,
                               need->deadline_ms)) {
        case ONCE_ASK:
            fetch_token(table, token, location, challenge, need);
            *fresh = true;
            return true;
        case ONCE_SHARED:
            *fresh = true;
            return true;
        case ONCE_LATE:
            return false;
        case ONCE_LOOK:
            *fresh = true;
            break;
        }
    }
    return true;
}

static bool take_outcome(const struct token *token, struct authorization *out,
                         struct error *error) {
    if (!token->value) {
        /* Without a failure its scope was changed just now, or it was dropped because another
         * request was refused. */
        return !once_failed(&token->entry.once, error)
                   ? error_set(error, ERROR_UNAVAILABLE, "token: replaced while asking")
                   : false;
    }
    out->anonymous = token->anonymous;
    memcpy(out->from, token->from, sizeof out->from);
    if (asprintf(&out->header, BEARER "%s", token->value) >= 0)
        return true;
    out->header = NULL;
    return error_set(error, ERROR_MEMORY, "out of memory");
}

bool tokens_get(struct tokens *tokens, struct location *location, const struct challenge *challenge,
                const struct authorization_need *need, struct authorization *out,
                struct error *error) {
    struct once_table *table = &tokens->table;
    lock_acquire(&table->entries_lock);
    struct once_entry *entry =
        once_table_enter(table, need->scope ? need->scope : need->repository);
    bool ok = false;
    if (!entry) {
        error_set(error, ERROR_MEMORY, "out of memory");
    } else {
        struct token *token = (struct token *)entry;
        ok = settle(table, token, location, challenge, need, &out->fresh)
                 ? take_outcome(token, out, error)
                 : error_set(error, ERROR_TIMEOUT, "token: no response in time");
        once_table_leave(table, entry);
    }
    lock_release(&table->entries_lock);
    return ok;
}
