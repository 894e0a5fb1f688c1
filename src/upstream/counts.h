/*
 * What is counted of one upstream: requests, responses, bytes, failures, tokens, its rate limit.
 * Private to upstream/.
 *
 * The metrics that an alert compares are made at the start, so that the first failure is an
 * increase. The others are made when they are first needed, and are then found without a lock.
 * Upstream chooses the statuses, so only well-known ones are counted alone. Any thread.
 */
#ifndef UPSTREAM_COUNTS_H
#define UPSTREAM_COUNTS_H

#include <stdint.h>
#include "base/error.h"
#include "base/metric.h"
#include "oci/reference.h"
#include "upstream/upstream.h"

enum { COUNTS_STATUSES = 32, COUNTS_KINDS = 5 };

struct counts {
    char label[HOST_LIMIT + 17];      /* upstream="NAME" */
    struct metric *manifest_bytes[2]; /* of bodies: of this upstream, and of all */
    struct metric *blob_bytes[2];     /* the same */
    struct metric *bytes, *retries;   /* bytes of every body, errors and lists included */
    struct metric *token_requests, *token_errors;
    struct metric *sent, *mended; /* bytes of pushes; pushes that went on after a failure */
    struct metric *errors[COUNTS_KINDS];
    _Atomic(struct metric *) responses[COUNTS_STATUSES];
    _Atomic(struct metric *) seconds, ratelimit_limit, ratelimit_remaining, token_expiry;
};

/* Before the first request. `name` is the upstream's host or pattern. */
void counts_init(struct counts *counts, const char *name);

/* A response began `us` microseconds after its request; status 0: the request got none. */
void counts_response(struct counts *counts, int status, int64_t us);

/* Bytes of a manifest, a blob or a list arrived. */
void counts_body(struct counts *counts, enum upstream_what what, size_t length);

/* A request failed in the end. Only what upstream or the way to it is to blame for is counted: no
 * 404, no range outside of the content, no client that left, and no limit of tarn's own. */
void counts_failure(struct counts *counts, enum error_kind kind);

/* What a response said of the rate limit; each -1: nothing. */
void counts_rate_limit(struct counts *counts, int64_t limit, int64_t remaining);

/* A token has come; it is used until `expires_ms` (clock_ms()). */
void counts_token(struct counts *counts, int64_t expires_ms);

#endif
