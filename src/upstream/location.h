/*
 * One location of a registry: the upstream's url, or one of its fallbacks. Each location has a rate
 * limit of its own, and credentials that go to it alone.
 */
#ifndef UPSTREAM_LOCATION_H
#define UPSTREAM_LOCATION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "auth/credential.h"
#include "client/address.h"
#include "client/breaker.h"
#include "client/origin.h"
#include "upstream/heads.h"
#include "upstream/pauses.h"
#include "upstream/push_learnt.h"
#include "upstream/upstream.h"

struct counts;
struct health;

/* When a location, or a token service, is left alone: after five failures in a row that took at
 * least a second together; for a second, doubling to thirty. Every response counts as one, whatever
 * its status. */
extern const struct breaker_rule location_breaker_rule;

struct location {
    struct client *client;
    char *base;   /* "https://registry-1.docker.io", no final slash */
    char *prefix; /* "proj": stands there in front of each repository; NULL: nothing does */
    struct origin origin;
    bool configured; /* the configuration names it, so it may be on this machine; false: it was
                      * made from a pattern */
    char credential_host[ORIGIN_HOST_SIZE];   /* under which credentials are looked up */
    bool has_client_names;                    /* credential_host is the host that clients use */
    char service[ORIGIN_HOST_SIZE];           /* of a token, where the challenge names none */
    struct credential_source *credentials;    /* borrowed; NULL: anonymous */
    const struct upstream_settings *settings; /* the upstream's */
    struct counts *counts;                    /* the upstream's, borrowed */
    const struct location *led_from; /* borrowed; not NULL: a redirect of that location led to this
                                      * one, which nobody configured and which has no credentials */

    struct breaker breaker;        /* health.h asks it */
    struct breaker *token_breaker; /* borrowed: of the token service; NULL: none is asked */
    struct health *health;         /* the upstream's, borrowed; NULL: nobody is told */

    struct pauses *pauses; /* owned, unless led_from */
    /* At which addresses it has responded. Its redirects lead into a private network, or to this
     * machine, only if it is there itself, and never once it has responded from a public one. */
    atomic_bool is_loopback, is_private, is_public;

    struct heads manifest_heads, blob_heads; /* how it answers HEAD */
    struct push_learnt push_learnt;          /* how it takes blobs */
};

/* `location` is zeroed before, but for client, settings, health and configured, which the caller
 * sets. What follows /v2/ in the URL is a prefix of repositories; `prefix` (NULL: none) is another
 * form of it. Afterwards the caller may change credential_host and service, and set credentials and
 * counts. location_finish() is owed either way. */
bool location_init(struct location *location, const char *url, const char *prefix,
                   struct error *error);
void location_finish(struct location *location);

/* Which addresses a request may connect to: `own` for the location itself, `redirect` for where its
 * redirects lead, `elsewhere` for the host of a realm. */
struct address_rule location_addresses_own(const struct location *location);
struct address_rule location_addresses_redirect(const struct location *location,
                                                const struct origin *target);
struct address_rule location_addresses_elsewhere(const struct location *location, const char *host);

/* It responded from such an address. */
void location_responded(struct location *location, enum address_class class);

/* The location refused a request, as `error` says. If it wants the request not to be repeated for a
 * while (upstream/pauses.h), that is remembered, and error->retry_after_s is set to that time. */
void location_refused(struct location *location, const char *request, struct error *error);
/* False, with such an error: the request is not to be repeated yet. */
bool location_check_pause(struct location *location, const char *request, struct error *error);

#endif
