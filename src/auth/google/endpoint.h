/*
 * Whether a credential file's URL may be asked. A file that came from elsewhere could point its
 * token URL anywhere, and what goes there (a refresh token, a federated identity) is worth
 * stealing: only Google's own hosts, in the file's universe, over https. This machine itself
 * (127.0.0.1, ::1, localhost) may be asked too, and over http: that is where test doubles and
 * sidecars live. Pure.
 */
#ifndef AUTH_GOOGLE_ENDPOINT_H
#define AUTH_GOOGLE_ENDPOINT_H

#include <stdbool.h>
#include "base/error.h"
#include "base/text.h"

#define GOOGLE_UNIVERSE "googleapis.com"

enum endpoint {
    ENDPOINT_OAUTH,   /* oauth2.googleapis.com, and its older names */
    ENDPOINT_STS,     /* sts.googleapis.com, also regional and private (STS-NAME.p.…) */
    ENDPOINT_IAM,     /* iamcredentials.googleapis.com, in the same forms */
    ENDPOINT_SUBJECT, /* where a subject token is fetched: any https host, this machine, and over
                         http the address of every cloud's metadata server */
};

/* `field` is the file's name for it, for the message (ERROR_INVALID). */
bool endpoint_check(const char *url, enum endpoint endpoint, const char *universe,
                    const char *field, struct error *error);

/* This machine, or a metadata server's address: never through a proxy. */
bool endpoint_is_local(const char *url);

/* Whether what stands between `prefix` and `suffix` is one label of a host name. */
bool endpoint_label_between(struct text text, const char *prefix, const char *suffix);

/* A domain name of at least two labels. */
bool endpoint_universe_ok(const char *universe);

#endif
