/* What upstream's answer means: the head for the caller, refusals as errors. Pure. */
#ifndef UPSTREAM_RESPONSE_H
#define UPSTREAM_RESPONSE_H

#include "client/transfer.h"
#include "upstream/upstream.h"

/* An answer that is no success, of a registry or its token service. */
struct refusal {
    int status;
    int retry_after_s;
    const void *body; /* at most ANSWER_BODY_LIMIT bytes are looked at; may be NULL */
    size_t body_length;
    bool anonymous;               /* nothing vouched for us */
    const char *credentials_from; /* which credentials did; "" or NULL: not known */
    const char *host;             /* for which credentials can be set */
};

enum { ANSWER_BODY_LIMIT = 64 * 1024, RETRY_AFTER_UNSAID_S = 30 };

/* Sets kind, code, retry_after_s and "403 Forbidden: message (…)". `error` is not NULL.
 * Returns false. */
bool answer_error(const struct refusal *refusal, struct error *error);

/* The head of a 200 or 206 in the caller's terms. False (ERROR_UNAVAILABLE): another status, or a
 * range that was not asked for. `url` is where it was asked, for the next page. */
bool answer_head(const struct transfer_head *from, const struct upstream_request *request,
                 const char *url, struct upstream_head *out, struct error *error);

#endif
