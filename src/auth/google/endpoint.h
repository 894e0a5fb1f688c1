/*
 * Whether a credential file's URL may be asked. Private to auth/google/. Pure.
 *
 * A credential file of unknown origin could name any token URL, and what is sent there (a refresh
 * token, a federated identity) is worth stealing. So only Google's own hosts are asked, in the
 * file's universe and over https. This machine itself (127.0.0.1, ::1, localhost) may be asked too,
 * also over http, because that is where test servers and sidecars run.
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
    ENDPOINT_SUBJECT, /* where a subject token is fetched: any https host, this machine, and the
                         address of all clouds' metadata servers, also over http */
};

/* False: ERROR_INVALID. `field` is the file's name for the URL, for the message. */
bool endpoint_check(const char *url, enum endpoint endpoint, const char *universe,
                    const char *field, struct error *error);

/* This machine, or a metadata server's address: neither is asked through a proxy. */
bool endpoint_is_local(const char *url);

/* Whether `text` is `prefix`, one label of a host name, and `suffix`. */
bool endpoint_label_between(struct text text, const char *prefix, const char *suffix);

/* Whether it is a domain name of at least two labels. */
bool endpoint_universe_ok(const char *universe);

#endif
