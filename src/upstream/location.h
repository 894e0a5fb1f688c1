/*
 * One place where a registry is reached: the upstream's url, or one of its fallbacks. Each has its
 * own challenge, tokens and rate limit, and credentials that go to it alone.
 */
#ifndef UPSTREAM_LOCATION_H
#define UPSTREAM_LOCATION_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "auth/credential.h"
#include "client/address.h"
#include "client/challenge.h"
#include "client/origin.h"
#include "upstream/upstream.h"

struct token;

struct location {
    struct client *client;
    char *base; /* "https://registry-1.docker.io", no final slash */
    struct origin origin;
    bool configured; /* the configuration names it, a pattern does not: may be on this machine */
    char credential_host[ORIGIN_HOST_SIZE];   /* under which credentials are looked up */
    char service[ORIGIN_HOST_SIZE];           /* of a token, where the challenge names none */
    struct credential_source *credentials;    /* borrowed; NULL: anonymous */
    const struct upstream_settings *settings; /* the upstream's */
    struct metric *token_requests;

    pthread_mutex_t challenge_lock; /* guards challenge */
    struct challenge challenge;     /* the last one seen: scheme NONE before the first */

    pthread_mutex_t tokens_lock; /* guards tokens and what hangs off them; never held for I/O */
    pthread_cond_t token_settled;
    struct token *tokens; /* by repository */

    _Atomic int64_t quiet_until_ms; /* clock_ms() until which upstream wants no requests */
    atomic_bool is_loopback;        /* it was found on this machine: its redirects may lead there */
};

/* Zeroed before. credential_host, service and credentials are then the caller's to set. */
bool location_init(struct location *location, const char *url,
                   const struct upstream_settings *settings, bool configured, struct error *error);
void location_finish(struct location *location);

/* Which addresses a request may connect to: `own` for the location itself, else for where it leads
 * (`host`: a redirect's or a realm's). */
struct address_rule location_addresses_own(const struct location *location);
struct address_rule location_addresses_elsewhere(const struct location *location, const char *host);

/* Upstream answered 429: no requests before `seconds` are over. */
void location_quieten(struct location *location, int seconds);
/* Seconds until requests make sense again, 0: now. */
int location_quiet_for(const struct location *location);

#endif
