/* Finds out who a client is: takes what it sent to the part that can check it. */
#include "login/clients.h"

#include <openssl/rand.h>
#include <stdlib.h>
#include "login/failures.h"
#include "login/passwords.h"

struct clients {
    struct siphash_key secret; /* keys the hashes of logins */
    struct failures failures;
    struct passwords *passwords; /* NULL: nobody logs in by a password */
};

struct clients_limits clients_limits_default(void) {
    return (struct clients_limits){.failures = 10, .within_ms = 60 * 1000, .waiting = 16};
}

bool clients_are_asked(const struct clients_settings *settings) {
    return settings->htpasswd;
}

static bool open_parts(struct clients *clients, const struct clients_settings *settings,
                       struct error *error) {
    const struct clients_limits *limits = &settings->limits;
    return !settings->htpasswd ||
           (clients->passwords = passwords_new(settings->htpasswd, limits->waiting,
                                               &clients->failures, &clients->secret, error));
}

struct clients *clients_new(const struct clients_settings *settings, struct error *error) {
    struct clients *clients = calloc(1, sizeof *clients);
    if (!clients) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    bool has_secret = RAND_bytes((unsigned char *)&clients->secret, sizeof clients->secret) == 1;
    failures_init(&clients->failures, settings->limits.failures, settings->limits.within_ms,
                  &clients->secret);
    if (!has_secret)
        error_set(error, ERROR_IO, "no random bytes for a key");
    else if (open_parts(clients, settings, error))
        return clients;
    clients_free(clients);
    return NULL;
}

void clients_free(struct clients *clients) {
    if (!clients)
        return;
    passwords_free(clients->passwords);
    failures_finish(&clients->failures);
    free(clients);
}

void clients_look(struct clients *clients) {
    if (clients->passwords)
        passwords_look(clients->passwords);
}

/* ---- what a client sent ---- */

enum scheme {
    SCHEME_NONE, /* no credentials at all */
    SCHEME_BASIC,
    SCHEME_OTHER,
};

static enum scheme scheme_of(struct text authorization) {
    struct text rest, scheme = text_cut(authorization, ' ', &rest);
    if (!authorization.at)
        return SCHEME_NONE;
    if (!text_is_nocase(scheme, "Basic"))
        return SCHEME_OTHER;
    /* skopeo and podman send an empty user and an empty password when they have none. */
    return rest.at && text_is(text_trim(rest), "Og==") ? SCHEME_NONE : SCHEME_BASIC;
}

struct clients_answer clients_identify(struct clients *clients, const struct clients_login *login,
                                       struct clients_identity *identity) {
    *identity = (struct clients_identity){0};
    clients_look(clients);
    switch (scheme_of(login->authorization)) {
    case SCHEME_NONE:
        return (struct clients_answer){CLIENTS_ANONYMOUS, 0};
    case SCHEME_BASIC:
        if (clients->passwords)
            return passwords_check(clients->passwords, login, identity);
        break;
    case SCHEME_OTHER:
        break;
    }
    return (struct clients_answer){CLIENTS_REFUSED, 0};
}

struct clients_answer clients_known(struct clients *clients, const struct clients_login *login,
                                    struct clients_identity *identity) {
    *identity = (struct clients_identity){0};
    switch (scheme_of(login->authorization)) {
    case SCHEME_NONE:
        return (struct clients_answer){CLIENTS_ANONYMOUS, 0};
    case SCHEME_BASIC:
        if (clients->passwords)
            return passwords_known(clients->passwords, login, identity);
        break;
    case SCHEME_OTHER:
        break;
    }
    return (struct clients_answer){CLIENTS_REFUSED, 0};
}
