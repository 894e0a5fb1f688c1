/*
 * A Google access token from whatever the machine has: a credential file of any kind, the metadata
 * server of a Google machine or pod, or the gcloud program.
 *
 * Without settings the sources are looked for in the order of Application Default Credentials, and
 * the first that is present decides; present but unusable is an error, never skipped. Nothing
 * present is no error: then there is no token, and the registry is asked anonymously.
 *
 * Nothing here was tried against Google's live services; the formats are those of Google's own
 * client libraries.
 *
 * Threads: a `struct google` and a source may be asked from any number of threads; one request at
 * a time fetches a token, and everybody gets that one.
 */
#ifndef AUTH_GOOGLE_GOOGLE_H
#define AUTH_GOOGLE_GOOGLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "auth/credential.h"
#include "base/error.h"
#include "base/text.h"
#include "client/client.h"

/* Which source to use. Zeroed: the search order. At most one of the first three is set. */
struct google_settings {
    const char *file;          /* a credential file of any kind */
    const char *metadata;      /* the metadata server, "host[:port]" */
    bool gcloud;               /* ask the gcloud program */
    const char *impersonate;   /* e-mail address of a service account to act as */
    const char *const *scopes; /* NULL-terminated; NULL: cloud-platform */
};

/*
 * For an upstream: BASIC with the username oauth2accesstoken and the access token, refreshed in the
 * background by a thread of its own; ANONYMOUS when no source is present; a broken source fails
 * with ERROR_UNAVAILABLE, naming file and cause. Copies the settings. NULL: out of memory.
 */
struct credential_source *google_credential_source(const struct google_settings *settings);

#define GOOGLE_USERNAME "oauth2accesstoken"

/* ---- one token, for commands ---- */

struct google_token {
    char *secret;       /* owned; NULL: no source is present */
    int64_t expires_ms; /* clock_ms() at which it ends */
    char kind[40];      /* "service_account", "metadata", "gcloud", ... */
    char from[400];     /* where it was read: a file, a host */
    char account[256];  /* e-mail address or principal, as far as it is known */
    char quota_project[64];
};
void google_token_wipe(struct google_token *token); /* wipes, frees, zeroes; safe on zeroed */

/* google_token_wipe() at the end of the scope. */
#define cleanup_google_token __attribute__((cleanup(google_token_wipe)))

/* What was looked at on the way, in order. */
enum { GOOGLE_TRAIL_LIMIT = 4 };
struct google_step {
    char place[400];   /* "GOOGLE_APPLICATION_CREDENTIALS", a file, "http://169.254.169.254" */
    char finding[200]; /* "not set", "no such file", "used" */
};
struct google_trail {
    struct google_step steps[GOOGLE_TRAIL_LIMIT];
    unsigned count;
};

struct google_question {
    struct client *client; /* over which Google's services are asked; NULL: out of memory */
    struct google_settings settings;
    const char *subject_token;  /* instead of the credential_source of a federation; may be NULL */
    bool account;               /* ask for the account's name, where that costs a request */
    struct google_trail *trail; /* filled, also on failure; may be NULL */
};

/* Looks and asks at once, without a cache. True with `secret` NULL: no source is present. The
 * error is ERROR_UNAVAILABLE, names the source, and never holds a secret. */
bool google_token_fetch(const struct google_question *question, struct google_token *out,
                        struct error *error);

/* ---- hosts ---- */

/* A host of Google's registries: gcr.io, *.gcr.io, LOCATION-docker.pkg.dev,
 * docker.LOCATION.rep.pkg.dev. */
bool google_host_is_registry(struct text host);

/* "https://HOST:443/path" as "host": scheme, path and :443 cut, lower-cased. False: nothing left or
 * longer than `size`. */
bool google_host_of(struct text server_url, char *out, size_t size);

/* Every host that `configure-docker` sets up when none is named. NULL-terminated. */
const char *const *google_registry_hosts(void);

#endif
