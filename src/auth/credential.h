/*
 * Where credentials for an upstream come from.
 *
 * A source is configured once per upstream and asked whenever the registry client needs a
 * credential; it looks anew (Docker's files and helpers change under us), bounded by a short cache
 * of its own. A credential is for exactly the host it was asked for: keeping it from going
 * elsewhere is upstream/'s promise (design, promise 8).
 *
 * Threads: a source may be asked from any number of threads; one question per host is under way at
 * a time. Secrets are wiped by credential_wipe() and never enter an error or the log.
 */
#ifndef AUTH_CREDENTIAL_H
#define AUTH_CREDENTIAL_H

#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "client/client.h"

enum credential_kind {
    CREDENTIAL_ANONYMOUS,
    CREDENTIAL_BASIC,         /* username and secret, for Basic or for the token service */
    CREDENTIAL_IDENTITY_TOKEN /* secret is an OAuth2 refresh token (Docker's identitytoken) */
};

struct credential {
    enum credential_kind kind;
    char *username;     /* owned; NULL unless BASIC */
    char *secret;       /* owned; may be many KB (a service-account key); NULL if ANONYMOUS */
    char from[160];     /* for people: "docker config /root/.docker/config.json", never a secret */
    int64_t expires_ms; /* clock_ms() at which the secret ends; 0: not known */
};

void credential_wipe(struct credential *credential); /* wipes, frees, zeroes; safe on zeroed */
bool credential_copy(const struct credential *from, struct credential *to);

struct credential_source;

struct credential_source *credential_source_anonymous(void);
/* Username given, password read from `password_file` (one final newline cut) at each look. */
struct credential_source *credential_source_static(const char *username, const char *password_file);
/* Docker's config.json: `file`, or NULL for $DOCKER_CONFIG/config.json, else
 * $HOME/.docker/config.json. credHelpers, then credsStore, then auths, as Docker does; Docker Hub
 * is looked up as https://index.docker.io/v1/ as well. No file or no entry: anonymous. */
struct credential_source *credential_source_docker(const char *file);
/* The program docker-credential-NAME on PATH. "credentials not found" means anonymous. */
struct credential_source *credential_source_helper(const char *name);
void credential_source_free(struct credential_source *source);

/* For people and logs: "anonymous", "docker", "google", ... */
const char *credential_source_name(const struct credential_source *source);

/* Whether it has a credential for each host (Docker's config, a helper); else it has one, given for
 * the upstream that names the source, and asking for another host's would give the same. */
bool credential_source_is_by_host(const struct credential_source *source);

/* Whether asking it may start a program: as its settings, the environment and Docker's config say
 * now. */
bool credential_source_may_run_programs(const struct credential_source *source);

/*
 * Gives the source the client over which it asks; a source that asks nobody over HTTP has no use
 * for one. The user of a source calls this once, before anybody asks the source, and frees the
 * client after the source.
 */
void credential_source_set_client(struct credential_source *source, struct client *client);

/*
 * The credential for `host` ("ghcr.io", "localhost:5001"). *out is the caller's to wipe. False: the
 * source is present but broken (unreadable file, failing helper): never silently anonymous.
 * `renew` asks past the cache, after the one held was refused.
 */
bool credential_source_get(struct credential_source *source, const char *host, bool renew,
                           struct credential *out, struct error *error);

/*
 * For rooms that bring a source of their own (google/): `get` fills *out or fails; `free` ends
 * `context`. `name` must be a literal. NULL when out of memory (context is then freed).
 */
struct credential_source *credential_source_new(const char *name,
                                                bool (*get)(void *context, const char *host,
                                                            bool renew, struct credential *out,
                                                            struct error *error),
                                                void (*free_context)(void *context), void *context);
/* Has a source of one's own say whether it may start programs; others never do. */
void credential_source_may_run(struct credential_source *source,
                               bool (*may_run)(const void *context));
/* Has a source of one's own be told the client; others are not. */
void credential_source_takes_client(struct credential_source *source,
                                    void (*set_client)(void *context, struct client *client));

#endif
