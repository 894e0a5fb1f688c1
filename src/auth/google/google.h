/*
 * A Google access token from what the machine has: a credential file of any kind, the metadata
 * server of a Google machine or pod, or the gcloud program.
 *
 * Without settings the sources are searched in the order of Application Default Credentials. The
 * first source that is present is used. A source that is present but unusable is an error and is
 * not skipped. If no source is present, that is no error: there is no token, and the registry is
 * asked anonymously.
 *
 * Nothing here was tried against Google's live services. The formats are those of Google's own
 * client libraries.
 *
 * Any number of threads may ask a source. One request at a time fetches a token, and all callers
 * share it.
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

/* Which source to use. Zeroed: search. At most one of the first three members is set. */
struct google_settings {
    const char *file;          /* a credential file of any kind */
    const char *metadata;      /* the metadata server, "host[:port]" */
    bool gcloud;               /* ask the gcloud program */
    const char *impersonate;   /* e-mail address of a service account to act as */
    const char *const *scopes; /* NULL-terminated; NULL: cloud-platform */
};

/*
 * A source for an upstream. Its credential is BASIC with the username oauth2accesstoken and the
 * access token, which the source's own thread refreshes in the background. It is ANONYMOUS when no
 * source is present, for ten seconds at a time. While the source is young and no metadata server
 * answers, it is also provisional, because the metadata server of a new pod needs some seconds. A
 * metadata server that gave a token and then falls silent is a broken source. A broken source fails
 * with ERROR_UNAVAILABLE and names file and cause. Copies the settings. NULL: out of memory.
 */
struct credential_source *google_credential_source(const struct google_settings *settings);

#define GOOGLE_USERNAME "oauth2accesstoken"
#define GOOGLE_SCOPE    "https://www.googleapis.com/auth/cloud-platform"

/* ---- one token, for commands ---- */

struct google_token {
    char *secret;       /* owned; NULL: no source is present */
    int64_t expires_ms; /* clock_ms() at which it ends */
    char kind[40];      /* "service_account", "metadata", "gcloud", ... */
    char from[400];     /* where it was read: a file, a host */
    char account[256];  /* e-mail address or principal; "" when it is unknown */
    char quota_project[64];
    char universe[64]; /* the domain of Google's APIs: "googleapis.com" */
    bool unsettled;    /* no source is present, but the metadata server may still come */
};
void google_token_wipe(struct google_token *token); /* wipes, frees, zeroes; safe on zeroed */

/* google_token_wipe() at the end of the scope. */
#define cleanup_google_token __attribute__((cleanup(google_token_wipe)))

/* Which places were searched, in order, and what was found there. */
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
    const char *subject_token;  /* in place of the credential_source of a federation; may be NULL */
    bool account;               /* also learn the account's name where that costs a request */
    struct google_trail *trail; /* filled, also on failure; may be NULL */
};

/* Searches and asks at once, without a cache. True with `secret` NULL: no source is present. The
 * error is ERROR_UNAVAILABLE, names the source, and never holds a secret. */
bool google_token_fetch(const struct google_question *question, struct google_token *out,
                        struct error *error);

/*
 * The token of a service account's key in JSON, which registries take as the password of the user
 * _json_key. `client` and the errors are those of google_token_fetch().
 */
bool google_token_from_key(struct client *client, const char *key, struct google_token *out,
                           struct error *error);

/* Names the metrics of tokens before there are any. */
void google_declare_metrics(void);

/* ---- hosts ---- */

/* A host of Google's registries: gcr.io, *.gcr.io, LOCATION-docker.pkg.dev,
 * docker.LOCATION.rep.pkg.dev. */
bool google_host_is_registry(struct text host);

/* Reduces "https://HOST:443/path" to "host": without scheme, path and :443, in lower case. False:
 * nothing is left, or it does not fit into `size`. */
bool google_host_of(struct text server_url, char *out, size_t size);

/* The hosts that `configure-docker` sets up when it is given none. NULL-terminated. */
const char *const *google_registry_hosts(void);

#endif
