/*
 * One small HTTP request to a token service: a bounded body comes back whole. Over libcurl, with
 * connect and total timeouts, no redirects, the environment's proxies. For tokens and credentials
 * only; images move through upstream/.
 *
 * Threads: any; handles are pooled inside, so that connections are kept.
 */
#ifndef CLIENT_REQUEST_H
#define CLIENT_REQUEST_H

#include <stdbool.h>
#include "base/buffer.h"
#include "base/error.h"
#include "client/address.h"

struct client_request {
    const char *method;         /* "GET", "POST", "PUT" */
    const char *url;            /* http or https only */
    const char *const *headers; /* "Name: value", NULL-terminated; may be NULL */
    const char *body;           /* may be NULL */
    size_t body_length;
    const char *ca_file;                      /* PEM bundle; NULL: the system's */
    bool no_proxy;                            /* never through a proxy (the metadata server) */
    int connect_timeout_ms, total_timeout_ms; /* 0: 5 s and 20 s */
    size_t body_limit;                        /* bytes of reply; 0: 1 MiB */
    const struct address_rule *addresses;     /* which may be connected to; NULL: all */
};

struct client_response {
    int status;
    struct buffer body;
    char content_type[128];
    int retry_after_s;           /* 0: not said */
    bool metadata_flavor_google; /* the reply carries `Metadata-Flavor: Google` */
};

/* False: no reply (ERROR_UNAVAILABLE, ERROR_TIMEOUT), or one beyond the limits. Any status is a
 * reply. The error names the URL without its query. client_response_free() is owed either way. */
bool client_request(const struct client_request *request, struct client_response *reply,
                    struct error *error);
void client_response_free(struct client_response *reply); /* wipes the body */

#endif
