/* What upstream's response means: the head for the caller, refusals as errors. Pure. */
#ifndef UPSTREAM_RESPONSE_H
#define UPSTREAM_RESPONSE_H

#include "client/origin.h"
#include "client/response.h"
#include "upstream/upstream.h"

/* A registry's response, with the fields that a registry client needs. */
struct upstream_response {
    struct client_response http; /* its body is a refusal's */
    struct challenge challenge;
    char content_range[128];
    char etag[160];
    char digest[160]; /* Docker-Content-Digest */
    char link[4096];
    char location[URL_LIMIT + 1];
    char ratelimit_limit[128], ratelimit_remaining[128];
    char api_version[32]; /* Docker-Distribution-Api-Version */
    struct client_field fields[8];
};

/* What the client is to read into `response`, which stays where it is. */
struct client_wanted upstream_response_wanted(struct upstream_response *response);

/* The number in a RateLimit field, as in "100;w=21600"; -1: none. */
int64_t upstream_response_ratelimit(const char *value);

/* A response that is no success, of a registry or its token service. */
struct refusal {
    int status;
    int retry_after_s;
    const void *body; /* at most REFUSAL_BODY_LIMIT bytes of it are read; may be NULL */
    size_t body_length;
    bool anonymous;               /* the request carried no credential */
    bool elsewhere;               /* it went to where `host` led, which gets no credential */
    const char *credentials_from; /* where its credential came from; "" or NULL: not known */
    const char *host;             /* the host for which credentials can be set */
    const char *api_version;      /* Docker-Distribution-Api-Version; "" or NULL: absent */
};

enum { REFUSAL_BODY_LIMIT = 64 * 1024 };

/* Sets the error's kind, code, status, retry_after_s and text ("403 Forbidden: message (…)").
 * NOT_FOUND and DENIED are doubtful without the field of a registry and a registry's body. `error`
 * is not NULL. Returns false. */
bool upstream_response_error(const struct refusal *refusal, struct error *error);

/* Turns the head of a 200 or 206 into what the caller of upstream_perform() gets. `url` is the URL
 * that was asked, against which the next page is resolved. False (ERROR_UNAVAILABLE): another
 * status, or a range that was not asked for. */
bool upstream_response_head(const struct upstream_response *from,
                            const struct upstream_request *request, const char *url,
                            struct upstream_head *out, struct error *error);

#endif
