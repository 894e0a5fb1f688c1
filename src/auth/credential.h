/*
 * Where credentials for an upstream come from.
 *
 * A source is configured once for an upstream, and asked whenever the registry client needs a
 * credential. Docker's files and helpers change while tarn runs, so that a source reads them again
 * each time; a short cache in front of it bounds how often. A credential is for exactly the host it
 * was asked for. That it is sent nowhere else is what upstream/ promises (design, promise 8).
 *
 * Any number of threads may ask a source. For each host one of them asks at a time, and the others
 * share the outcome (base/once.h). credential_wipe() wipes secrets, and no secret enters an error
 * or the log. A failure is logged once, with all that operators need, local paths included. Its
 * error is not for clients.
 */
#ifndef AUTH_CREDENTIAL_H
#define AUTH_CREDENTIAL_H

#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "base/text.h"
#include "client/client.h"

enum credential_kind {
    CREDENTIAL_ANONYMOUS,
    CREDENTIAL_BASIC,         /* username and secret, for Basic or for the token service */
    CREDENTIAL_IDENTITY_TOKEN /* secret is an OAuth2 refresh token (Docker's identitytoken) */
};

struct credential {
    enum credential_kind kind;
    char *username;     /* owned; NULL unless BASIC */
    char *secret;       /* owned; may be many KB (a service account's key); NULL if ANONYMOUS */
    char from[160];     /* for clients: "docker config", "user robot"; no secret, no local path */
    int64_t expires_ms; /* clock_ms() at which the secret ends, or at which the source of an
                         * ANONYMOUS one wants to be asked again; 0: unknown */
    bool provisional;   /* ANONYMOUS: the source cannot be sure yet that it has nothing. A registry
                         * that refuses the request says nothing about this machine's rights. */

    /* Of a Google access token, for Google's APIs beside the registry. */
    char quota_project[64]; /* whose quota pays for requests; "": nobody is named */
    char universe[64];      /* the domain of the APIs: "googleapis.com"; "": not known */
};

void credential_wipe(struct credential *credential); /* wipes, frees, zeroes; safe on zeroed */

#define cleanup_credential __attribute__((cleanup(credential_wipe)))

/* Credentials for namespaces of one host, beside the host's own. */
struct credential_namespaces {
    struct credential_namespace {
        char *path;                   /* owned: "org" is for org and for all below org/ */
        struct credential credential; /* may be ANONYMOUS */
        struct error problem;         /* kind NONE: there is none */
    } * at;                           /* owned */
    size_t count;
};

/* Adds one; takes over the content of `credential`. False: out of memory. */
bool credential_namespaces_add(struct credential_namespaces *namespaces, struct text path,
                               struct credential *credential, const struct error *problem);
/* The longest namespace that `path` is in; NULL: none. Of equal ones the first. */
const struct credential_namespace *
credential_namespaces_find(const struct credential_namespaces *namespaces, const char *path);
void credential_namespaces_wipe(struct credential_namespaces *namespaces);

/* ---- sources; each function returns NULL when out of memory ---- */

struct credential_source;

struct credential_source *credential_source_anonymous(void);

/* A fixed user, whose password is read from `password_file` each time, without one final end of
 * line. */
struct credential_source *credential_source_static(const char *username, const char *password_file);

/* A fixed user with this password. */
struct credential_source *credential_source_password(const char *username, const char *password);

/* Docker's config.json: `file`, or NULL for $DOCKER_CONFIG/config.json, else
 * $HOME/.docker/config.json. In the order of Docker: credHelpers, credsStore, auths. Docker Hub is
 * also looked up as https://index.docker.io/v1/. Without a file or an entry: anonymous. */
struct credential_source *credential_source_docker(const char *file);

/* The program docker-credential-NAME on PATH, or the program at the absolute path `name`. If it
 * prints that it has no credentials: anonymous. NULL also when `name` cannot be a part of a
 * program's name. */
struct credential_source *credential_source_helper(const char *name);

/* One more reference. NULL is allowed. */
struct credential_source *credential_source_keep(struct credential_source *source);
/* One reference less. With the last one nobody asks any more, and the source is freed, which may
 * wait for a second. NULL is allowed. */
void credential_source_free(struct credential_source *source);

/* Says from which settings the source was made, so that a source of another configuration can be
 * found to be the same. Called before others use the source. False: out of memory. */
bool credential_source_identify(struct credential_source *source, const char *identity);
/* Whether both are the same source, or were made from the same settings. */
bool credential_source_equal(const struct credential_source *a, const struct credential_source *b);

/* For people and logs: "anonymous", "docker", "google", ... NULL is "anonymous". */
const char *credential_source_name(const struct credential_source *source);

/* Whether the source has a credential for each host (Docker's config, a helper). Any other source
 * has one credential, for the upstream that names it, and would give it for any host. */
bool credential_source_is_by_host(const struct credential_source *source);

/* Whether the source may start a program when it is asked, as its settings, the environment and
 * Docker's config now are. */
bool credential_source_may_run_programs(const struct credential_source *source);

/* Gives the source the client over which it sends HTTP requests; most sources send none. The user
 * of a source calls this before the source is asked, and frees the client after the source. A
 * further call does nothing. One thread at a time. */
void credential_source_set_client(struct credential_source *source, struct client *client);

/*
 * The credential for `name`, in *out, which the caller wipes. `name` is a host ("localhost:5001"),
 * or a repository with its host in front ("ghcr.io/org/app"); then a credential of the longest
 * namespace that the repository is in has priority over the host's. A source is asked for a whole
 * host, however many repositories are named.
 * `renew`: the credential held was refused, so that the cache is passed by. A NULL source is
 * anonymous. False, with an anonymous *out: the source is configured but broken (an unreadable
 * file, a failing helper), or it did not answer until clock_ms() was `deadline_ms` (ERROR_TIMEOUT;
 * INT64_MAX: no deadline), or it is being asked for too many hosts at once (ERROR_BUSY). A file or
 * a helper that hangs holds no thread of the caller's.
 */
bool credential_source_get(struct credential_source *source, const char *name, bool renew,
                           int64_t deadline_ms, struct credential *out, struct error *error);

/* ---- for those who make a source ---- */

struct credential_source_kind {
    const char *name; /* copied */
    bool by_host;     /* see credential_source_is_by_host() */
    bool may_hang; /* get() reads files or runs programs, and so may never end. A thread of its own
                    * calls it, and the source is kept while it runs. */
    /* Fills *out for `host`, or fails with the error set. Called without locks, by one thread at a
     * time for each host. `renew`: past any cache. */
    bool (*get)(void *context, const char *host, bool renew, struct credential *out,
                struct error *error);
    /* Adds the credentials that are for a part of the host's repositories. Called before get() on
     * the same thread. NULL: there are none. */
    void (*get_namespaces)(void *context, const char *host, struct credential_namespaces *out);
    void (*free_context)(void *context);  /* NULL: nothing to free */
    bool (*may_run)(const void *context); /* whether get() may start a program; NULL: never */
    void (*set_client)(void *context, struct client *client); /* NULL: it sends no HTTP requests */
};

/* Takes over `context`, also when it returns NULL (out of memory). */
struct credential_source *credential_source_new(const struct credential_source_kind *kind,
                                                void *context);

#endif
