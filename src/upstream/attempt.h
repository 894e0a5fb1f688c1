/*
 * One attempt at a request to a registry: a chain of transfers. First the target that an earlier
 * redirect led to, when one is known; else the registry itself, its 401 and the token, and then up
 * to five redirects, each of which may lead to a 401 of its own. Errors are not NULL here.
 */
#ifndef UPSTREAM_ATTEMPT_H
#define UPSTREAM_ATTEMPT_H

#include "base/cancel.h"
#include "client/lane.h"
#include "upstream/authorizer.h"
#include "upstream/health.h"
#include "upstream/response.h"
#include "upstream/upstream.h"
#include "upstream/upstream_private.h"

/* On the heap, because the response alone is larger than a worker's stack. */
struct attempt {
    /* Set by the caller, the same for each attempt at one request. */
    struct upstream *upstream;
    struct peer *peer; /* in use by this request */
    struct authorizer *authorizer;
    struct upstream_request *request;
    const struct upstream_sink *sink;
    struct lane *lane;
    int64_t deadline_ms;
    struct cancel cancel; /* of everything that the request waits for, beside its connection */
    char *registry_url;   /* owned */
    char range[80];       /* "Range: bytes=..."; "": none */

    /* Of the transfer under way. */
    const char *url;
    int64_t asked_us; /* clock_us() at its start */
    struct upstream_response response;
    uint64_t delivered; /* bytes that went to the sink */
    bool has_expected;
    uint64_t expected; /* bytes that the head announced */

    bool redirected;    /* the response comes from where the registry led */
    bool may_authorize; /* and the registry's Authorization could still be sent there */
    bool authorized;    /* the transfer carried an Authorization, whoever's */
    bool renewed;       /* the registry refused the Authorization that was held */

    /* What the caller looks at afterwards. */
    bool head_given;             /* the sink has seen a head: no further attempt may follow */
    bool sink_failed;            /* the sink ended the request */
    enum health_contact contact; /* with the registry itself, in this attempt */
};

/* Frees what an attempt holds; the caller frees the struct. */
void attempt_finish(struct attempt *attempt);

/* Whether the attempt begins at a known target, so that the registry need not be asked. */
bool attempt_has_target(const struct attempt *attempt);

/* Fails while the location wants this request not to be repeated. */
bool attempt_check_pause(const struct attempt *attempt, struct error *error);

/* True: the whole body went to the sink. */
bool attempt_run(struct attempt *attempt, struct error *error);

#endif
