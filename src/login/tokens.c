/* Checks tokens, remembers right ones, and reads the keys again when they change. */
#include "login/tokens.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include "base/clock.h"
#include "base/json.h"
#include "base/lock.h"
#include "base/log.h"
#include "login/jwks.h"
#include "login/jwt.h"
#include "login/watched.h"

enum {
    REMEMBERED = 512, /* slots; two tokens that share a slot are verified in turn */
    REMEMBER_MOST_MS =
        300 * 1000, /* then it is verified again, because the wall clock may be set */
};

/* A set of keys that the threads which verify with it share. */
struct keys {
    struct jwks set;
    unsigned references; /* under keys_lock */
};

struct remembered {
    struct siphash_tag key;
    int64_t until_ms; /* 0: empty */
    struct clients_identity identity;
};

struct tokens {
    atomic_uint references;
    struct watched file;
    char *issuer, *service;
    struct failures *failures; /* a reference */

    struct lock keys_lock; /* never held for I/O or a signature */
    struct keys *keys GUARDED_BY(keys_lock);
    unsigned generation GUARDED_BY(keys_lock); /* counts the times `keys` were replaced */

    struct lock remembered_lock; /* held for one slot */
    struct remembered right[REMEMBERED] GUARDED_BY(remembered_lock);
    unsigned remembered_generation GUARDED_BY(remembered_lock); /* of the keys of `right` */
};

/* ---- the keys ---- */

static void release_keys(struct tokens *tokens, struct keys *keys) {
    if (!keys)
        return;
    lock_acquire(&tokens->keys_lock);
    bool is_last = --keys->references == 0;
    lock_release(&tokens->keys_lock);
    if (!is_last)
        return;
    jwks_finish(&keys->set);
    free(keys);
}

/* The caller gives them back by release_keys(). NULL: the file is gone. */
static struct keys *hold_keys(struct tokens *tokens, unsigned *generation) {
    lock_acquire(&tokens->keys_lock);
    struct keys *keys = tokens->keys;
    if (keys)
        keys->references++;
    *generation = tokens->generation;
    lock_release(&tokens->keys_lock);
    return keys;
}

/* Replaces the keys. What was remembered by the old ones is forgotten. */
static void replace_keys(struct tokens *tokens, struct keys *fresh) {
    lock_acquire(&tokens->keys_lock);
    struct keys *old = tokens->keys;
    tokens->keys = fresh;
    unsigned generation = ++tokens->generation;
    lock_release(&tokens->keys_lock);
    lock_acquire(&tokens->remembered_lock);
    memset(tokens->right, 0, sizeof tokens->right);
    tokens->remembered_generation = generation;
    lock_release(&tokens->remembered_lock);
    release_keys(tokens, old);
}

static bool read_keys(void *owner, const char *path, struct stat *identity, struct error *error) {
    struct keys *fresh = calloc(1, sizeof *fresh);
    if (!fresh)
        return error_set(error, ERROR_MEMORY, "out of memory");
    fresh->references = 1;
    if (!jwks_read(path, &fresh->set, identity, error)) {
        free(fresh);
        return false;
    }
    replace_keys(owner, fresh);
    return true;
}

static void forget_keys(void *owner) {
    replace_keys(owner, NULL);
}

static void hold(void *owner) {
    tokens_hold(owner);
}

static void release(void *owner) {
    tokens_release(owner);
}

struct tokens *tokens_new(const struct clients_token_settings *settings, struct failures *failures,
                          struct error *error) {
    struct tokens *tokens = calloc(1, sizeof *tokens);
    if (!tokens) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    const struct watched_use use = {.what = "keys of tokens",
                                    .read = read_keys,
                                    .forget = forget_keys,
                                    .hold = hold,
                                    .release = release,
                                    .owner = tokens};
    lock_init(&tokens->keys_lock);
    lock_init(&tokens->remembered_lock);
    atomic_init(&tokens->references, 1);
    tokens->failures = failures_hold(failures);
    tokens->issuer = strdup(settings->issuer);
    tokens->service = strdup(settings->service);
    if (!tokens->issuer || !tokens->service)
        error_set(error, ERROR_MEMORY, "out of memory");
    else if (watched_init(&tokens->file, settings->jwks, &use, error))
        return tokens;
    tokens_release(tokens);
    return NULL;
}

struct tokens *tokens_hold(struct tokens *tokens) {
    atomic_fetch_add(&tokens->references, 1);
    return tokens;
}

void tokens_release(struct tokens *tokens) {
    if (!tokens || atomic_fetch_sub(&tokens->references, 1) > 1)
        return;
    watched_finish(&tokens->file);
    forget_keys(tokens);
    lock_finish(&tokens->remembered_lock);
    lock_finish(&tokens->keys_lock);
    failures_release(tokens->failures);
    free(tokens->issuer);
    free(tokens->service);
    free(tokens);
}

void tokens_look(struct tokens *tokens) {
    watched_look(&tokens->file);
}

void tokens_look_now(struct tokens *tokens) {
    watched_look_now(&tokens->file);
}

bool tokens_are_of(const struct tokens *tokens, const struct clients_token_settings *settings) {
    return strcmp(tokens->file.path, settings->jwks) == 0 &&
           strcmp(tokens->issuer, settings->issuer) == 0 &&
           strcmp(tokens->service, settings->service) == 0;
}

/* ---- what a token grants ---- */

static bool has_action(const json_t *access, const char *wanted) {
    size_t index;
    const json_t *action;
    json_array_foreach (json_object_get(access, "actions"), index, action) {
        const char *name = json_string_value(action);
        if (name && strcmp(name, wanted) == 0)
            return true;
    }
    return false;
}

/* Adds what one entry of `access` grants. False: it is one grant too many. */
static bool add_grant(const struct tokens *tokens, const json_t *access,
                      struct clients_identity *identity) {
    const char *type = json_string_value(json_object_get(access, "type"));
    const char *name = json_string_value(json_object_get(access, "name"));
    if (!type || !name)
        return true;
    if (strcmp(type, "registry") == 0 && strcmp(name, "catalog") == 0)
        identity->may_list |= has_action(access, "*");
    unsigned actions = (has_action(access, "pull") ? CLIENTS_PULL : 0) |
                       (has_action(access, "push") ? CLIENTS_PUSH : 0) |
                       (has_action(access, "delete") ? CLIENTS_DELETE : 0);
    if (strcmp(type, "repository") != 0 || !actions)
        return true;
    if (identity->grant_count == CLIENTS_GRANTS_LIMIT)
        return false;
    identity->granted[identity->grant_count] = (unsigned char)actions;
    identity->grants[identity->grant_count++] =
        siphash_tag_of(&tokens->failures->key, name, strlen(name));
    return true;
}

/* Reads who has the token and what it grants. NULL: it is fine. */
static const char *read_identity(const struct tokens *tokens, const json_t *claims,
                                 struct clients_identity *identity) {
    const json_t *user = json_object_get(claims, "sub"), *access;
    size_t index;
    *identity = (struct clients_identity){.is_by_token = true};
    if (user && !json_is_string(user))
        return "its user's name is no string";
    if (user && !text_copy(text_of(json_string_value(user)), identity->user, sizeof identity->user))
        return "its user's name is longer than 255 bytes";
    json_array_foreach (json_object_get(claims, "access"), index, access)
        if (!add_grant(tokens, access, identity))
            return "it grants more repositories than tarn reads";
    return NULL;
}

/* ---- one check ---- */

/* The token of "Bearer TOKEN" (RFC 6750). False: there is none, or it is too long. */
static bool read_bearer(struct text authorization, struct text *token) {
    struct text rest;
    text_cut(authorization, ' ', &rest);
    if (!rest.at)
        return false;
    *token = text_trim(rest);
    return token->length > 0 && token->length <= JWT_SIZE_LIMIT;
}

static void remember(struct tokens *tokens, const struct siphash_tag *key, unsigned generation,
                     int64_t left_s, const struct clients_identity *identity) {
    int64_t left_ms = left_s < REMEMBER_MOST_MS / 1000 ? left_s * 1000 : REMEMBER_MOST_MS;
    int64_t until_ms = clock_ms() + left_ms;
    lock_acquire(&tokens->remembered_lock);
    if (generation == tokens->remembered_generation)
        tokens->right[key->parts[0] % REMEMBERED] =
            (struct remembered){.key = *key, .until_ms = until_ms, .identity = *identity};
    lock_release(&tokens->remembered_lock);
}

static bool is_remembered(struct tokens *tokens, const struct siphash_tag *key,
                          struct clients_identity *identity) {
    int64_t now = clock_ms();
    lock_acquire(&tokens->remembered_lock);
    const struct remembered *slot = &tokens->right[key->parts[0] % REMEMBERED];
    bool held = now < slot->until_ms && CRYPTO_memcmp(&slot->key, key, sizeof *key) == 0;
    if (held)
        *identity = slot->identity;
    lock_release(&tokens->remembered_lock);
    return held;
}

/* Only a token that somebody made up counts as a failed login: the end of a right one, and a key
 * that is not in the set yet, come in the course of things. */
static struct clients_answer refuse(struct tokens *tokens, const struct clients_login *login,
                                    bool is_made_up, const char *why) {
    if (is_made_up)
        failures_report(tokens->failures, login, text_of(""), "a wrong token");
    log_at(LOG_INFO, "a token was refused", LOG_STRING("why", why),
           LOG_STRING("client", login->client));
    return (struct clients_answer){CLIENTS_REFUSED, 0};
}

static struct clients_answer verify(struct tokens *tokens, const struct clients_login *login,
                                    struct text token, struct clients_identity *identity) {
    struct jwt_claims claims = {0};
    struct siphash_tag key = siphash_tag_of(&tokens->failures->key, token.at, token.length);
    const struct jwt_rules rules = {
        .issuer = tokens->issuer, .service = tokens->service, .now_s = clock_wall_s()};
    unsigned generation;
    struct keys *keys = hold_keys(tokens, &generation);
    enum jwt_fault fault = keys ? jwt_verify(token, &keys->set, &rules, &claims) : JWT_UNKNOWN_KEY;
    release_keys(tokens, keys);
    if (fault != JWT_FINE)
        return refuse(tokens, login,
                      fault == JWT_MALFORMED || fault == JWT_FORGED || fault == JWT_ALGORITHM,
                      jwt_fault_words(fault));
    const char *why = read_identity(tokens, claims.json, identity);
    json_decref(claims.json);
    if (why) {
        *identity = (struct clients_identity){0};
        return refuse(tokens, login, false, why);
    }
    remember(tokens, &key, generation, claims.expires_s - rules.now_s, identity);
    return (struct clients_answer){CLIENTS_LOGGED_IN, 0};
}

struct clients_answer tokens_check(struct tokens *tokens, const struct clients_login *login,
                                   struct clients_identity *identity) {
    struct text token;
    tokens_look(tokens);
    const struct clients_answer answer = failures_check(tokens->failures, login);
    if (answer.verdict != CLIENTS_LOGGED_IN)
        return answer;
    if (!read_bearer(login->authorization, &token))
        return refuse(tokens, login, true, "it is missing or too long");
    return verify(tokens, login, token, identity);
}

struct clients_answer tokens_known(struct tokens *tokens, const struct clients_login *login,
                                   struct clients_identity *identity) {
    struct text token;
    const struct clients_answer answer = failures_check(tokens->failures, login);
    if (answer.verdict != CLIENTS_LOGGED_IN)
        return answer;
    if (watched_is_current(&tokens->file) && read_bearer(login->authorization, &token)) {
        struct siphash_tag key = siphash_tag_of(&tokens->failures->key, token.at, token.length);
        if (is_remembered(tokens, &key, identity))
            return answer;
    }
    return (struct clients_answer){CLIENTS_MUST_CHECK, 0};
}
