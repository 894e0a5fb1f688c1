/*
 * Which token services may be asked (design, section 5 "Where credentials may go"): the upstream's
 * own scheme, host and port; a host of the same registered domain; a host that the configuration
 * lists. Pure.
 */
#ifndef UPSTREAM_REALM_H
#define UPSTREAM_REALM_H

#include <stdbool.h>
#include "client/origin.h"

enum realm_verdict {
    REALM_REFUSED,
    REALM_OWN,    /* the upstream's own scheme, host and port */
    REALM_DOMAIN, /* another host of its registered domain */
    REALM_LISTED, /* named in token_hosts */
};

struct realm_rule {
    struct origin upstream;
    const char *const *token_hosts; /* "host" or "host:port"; NULL: none; NULL-terminated */
    bool own_only;                  /* Google's rule: nothing but the upstream's own */
};

/* An address is only ever its own, or listed; and from an https upstream no realm over http is
 * followed unless it is listed with its port. */
enum realm_verdict realm_judge(const struct realm_rule *rule, const struct origin *realm);

/* gcr.io, us-docker.pkg.dev and their like: the hosts of Google's registries. */
bool realm_host_is_google(const char *host);

#endif
