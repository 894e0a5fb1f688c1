/* Finds out who a client is: takes what it sent to the part that can check it. */
#include "login/clients.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "login/failures.h"
#include "login/passwords.h"
#include "login/tokens.h"

struct clients {
    atomic_uint references;
    struct failures *failures;         /* a reference */
    struct passwords *passwords;       /* a reference; NULL: nobody logs in by a password */
    struct tokens *tokens;             /* a reference; NULL: nobody logs in by a token */
    struct clients_limits limits;      /* for clients_begin() */
    char *realm;                       /* of passwords */
    char *token_realm, *token_service; /* NULL: there are no tokens */
    bool has_certificates;
};

struct clients_limits clients_limits_default(void) {
    return (struct clients_limits){.failures = 10, .within_ms = 60 * 1000, .waiting = 16};
}

bool clients_are_asked(const struct clients_settings *settings) {
    return settings->htpasswd || settings->token.jwks || settings->certificates;
}

/* Takes the failed logins of `before`, because whoever is locked out stays locked out. */
static bool open_failures(struct clients *clients, const struct clients *before,
                          struct error *error) {
    clients->failures = before ? failures_hold(before->failures) : failures_new(error);
    return clients->failures;
}

/* What is remembered of passwords and tokens stays if they are checked by the same files. */
static bool open_passwords(struct clients *clients, const struct clients_settings *settings,
                           const struct clients *before, struct error *error) {
    if (!settings->htpasswd)
        return true;
    bool stay =
        before && before->passwords && passwords_are_of(before->passwords, settings->htpasswd);
    clients->passwords = stay ? passwords_hold(before->passwords)
                              : passwords_new(settings->htpasswd, clients->failures, error);
    return clients->passwords;
}

static bool open_tokens(struct clients *clients, const struct clients_token_settings *settings,
                        const struct clients *before, struct error *error) {
    if (!settings->jwks)
        return true;
    clients->token_realm = strdup(settings->realm);
    clients->token_service = strdup(settings->service);
    if (!clients->token_realm || !clients->token_service)
        return error_set(error, ERROR_MEMORY, "out of memory");
    bool stay = before && before->tokens && tokens_are_of(before->tokens, settings);
    clients->tokens =
        stay ? tokens_hold(before->tokens) : tokens_new(settings, clients->failures, error);
    return clients->tokens;
}

void clients_begin(struct clients *clients) {
    failures_change(clients->failures, clients->limits.failures, clients->limits.within_ms);
    if (clients->passwords) {
        passwords_change(clients->passwords, clients->limits.waiting);
        passwords_look_now(clients->passwords);
    }
    if (clients->tokens)
        tokens_look_now(clients->tokens);
}

struct clients *clients_new(const struct clients_settings *settings, const struct clients *before,
                            struct error *error) {
    struct clients *clients = calloc(1, sizeof *clients);
    if (!clients) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    atomic_init(&clients->references, 1);
    clients->limits = settings->limits;
    clients->has_certificates = settings->certificates;
    clients->realm = strdup(settings->realm ? settings->realm : "tarn");
    if (!clients->realm)
        error_set(error, ERROR_MEMORY, "out of memory");
    else if (open_failures(clients, before, error) &&
             open_passwords(clients, settings, before, error) &&
             open_tokens(clients, &settings->token, before, error)) {
        if (!before)
            clients_begin(clients);
        return clients;
    }
    clients_release(clients);
    return NULL;
}

struct clients *clients_hold(struct clients *clients) {
    if (clients)
        atomic_fetch_add(&clients->references, 1);
    return clients;
}

void clients_release(struct clients *clients) {
    if (!clients || atomic_fetch_sub(&clients->references, 1) > 1)
        return;
    passwords_release(clients->passwords);
    tokens_release(clients->tokens);
    failures_release(clients->failures);
    free(clients->realm);
    free(clients->token_realm);
    free(clients->token_service);
    free(clients);
}

void clients_look(struct clients *clients) {
    if (clients->passwords)
        passwords_look(clients->passwords);
    if (clients->tokens)
        tokens_look(clients->tokens);
}

/* ---- what a client sent ---- */

/* The part that can check the credentials. */
enum checker {
    CHECKER_NONE, /* there are no credentials */
    CHECKER_PASSWORDS,
    CHECKER_TOKENS,
    CHECKER_ABSENT, /* nobody can log in by such credentials */
};

static enum checker checker_of(const struct clients *clients, struct text authorization) {
    struct text rest, scheme = text_cut(authorization, ' ', &rest);
    if (!authorization.at)
        return CHECKER_NONE;
    if (text_is_nocase(scheme, "Bearer"))
        return clients->tokens ? CHECKER_TOKENS : CHECKER_ABSENT;
    if (!text_is_nocase(scheme, "Basic"))
        return CHECKER_ABSENT;
    /* skopeo and podman send an empty user and an empty password when they have none. */
    if (rest.at && text_is(text_trim(rest), "Og=="))
        return CHECKER_NONE;
    return clients->passwords ? CHECKER_PASSWORDS : CHECKER_ABSENT;
}

/* The answer to a request whose credentials nobody checks. */
static struct clients_answer without_check(const struct clients *clients, enum checker checker,
                                           const struct clients_login *login,
                                           struct clients_identity *identity) {
    if (clients->has_certificates && login->certificate && *login->certificate &&
        text_copy(text_of(login->certificate), identity->user, sizeof identity->user))
        return (struct clients_answer){CLIENTS_LOGGED_IN, 0};
    return (struct clients_answer){checker == CHECKER_NONE ? CLIENTS_ANONYMOUS : CLIENTS_REFUSED,
                                   0};
}

/* The beginning only: the rest of an identity counts by its numbers. */
static void make_anonymous(struct clients_identity *identity) {
    identity->user[0] = '\0';
    identity->is_by_token = identity->may_list = false;
    identity->grant_count = 0;
}

struct clients_answer clients_identify(struct clients *clients, const struct clients_login *login,
                                       struct clients_identity *identity) {
    enum checker checker = checker_of(clients, login->authorization);
    make_anonymous(identity);
    clients_look(clients);
    if (checker == CHECKER_PASSWORDS)
        return passwords_check(clients->passwords, login, identity);
    if (checker == CHECKER_TOKENS)
        return tokens_check(clients->tokens, login, identity);
    return without_check(clients, checker, login, identity);
}

struct clients_answer clients_known(struct clients *clients, const struct clients_login *login,
                                    struct clients_identity *identity) {
    enum checker checker = checker_of(clients, login->authorization);
    make_anonymous(identity);
    if (checker == CHECKER_PASSWORDS)
        return passwords_known(clients->passwords, login, identity);
    if (checker == CHECKER_TOKENS)
        return tokens_known(clients->tokens, login, identity);
    return without_check(clients, checker, login, identity);
}

bool clients_grants_action(const struct clients *clients, const struct clients_identity *identity,
                           struct text name, enum clients_action action) {
    if (!identity->is_by_token)
        return true;
    struct siphash_tag tag = siphash_tag_of(&clients->failures->key, name.at, name.length);
    for (unsigned i = 0; i < identity->grant_count; i++)
        if ((identity->granted[i] & action) && memcmp(&identity->grants[i], &tag, sizeof tag) == 0)
            return true;
    return false;
}

bool clients_grants(const struct clients *clients, const struct clients_identity *identity,
                    struct text name) {
    return clients_grants_action(clients, identity, name, CLIENTS_PULL);
}

/* ---- the challenge ---- */

bool clients_challenge(const struct clients *clients, struct text scope, const char *fault,
                       bool by_people, struct buffer *out) {
    if (!clients->tokens || (by_people && clients->passwords))
        return buffer_printf(out, "Basic realm=\"%s\"", clients->realm);
    buffer_printf(out, "Bearer realm=\"%s\",service=\"%s\"", clients->token_realm,
                  clients->token_service);
    if (scope.length)
        buffer_printf(out, ",scope=\"%.*s\"", TEXT_PRINT(scope));
    if (fault)
        buffer_printf(out, ",error=\"%s\"", fault);
    return !out->failed;
}

const char *clients_advice(const struct clients *clients) {
    if (clients->passwords)
        return "tarn needs a user and password (docker login)";
    if (clients->tokens)
        return "tarn needs a token of its token service that grants this (docker login)";
    return "tarn needs a client certificate";
}
