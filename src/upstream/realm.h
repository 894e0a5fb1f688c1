/*
 * Judges which token services may be asked (design, section 5 "Where credentials may go"): a realm
 * at the upstream's own origin, on a host of the same registered domain, or on a host that the
 * configuration lists. Pure.
 */
#ifndef UPSTREAM_REALM_H
#define UPSTREAM_REALM_H

#include <stdbool.h>
#include "client/origin.h"

enum realm_verdict {
    REALM_REFUSED,
    REALM_IN_CLEAR, /* refused because it is http and the upstream is https, whatever its host is */
    REALM_OWN,      /* the upstream's own scheme, host and port */
    REALM_DOMAIN,   /* another host of its registered domain */
    REALM_LISTED,   /* named in token_hosts */
};

struct realm_rule {
    struct origin upstream;
    const char *const *token_hosts; /* "host" or "host:port"; NULL: none; NULL-terminated */
    bool own_only;                  /* only OWN is followed: the rule for Google's registries */
};

/* A realm whose host is an address is OWN, LISTED or REFUSED, because an address has no domain. An
 * https upstream's realm over http is IN_CLEAR, unless it is listed with its port. */
enum realm_verdict realm_judge(const struct realm_rule *rule, const struct origin *realm);

/* Whether this is a host of Google's registries, as gcr.io and us-docker.pkg.dev are. */
bool realm_host_is_google(const char *host);

#endif
