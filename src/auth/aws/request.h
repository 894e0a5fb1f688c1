/*
 * One request to a service of credentials, with its retries and a sentence for each refusal.
 * Private to auth/aws/.
 *
 * The request is repeated, with growing pauses, after 408, 429, 5xx, a failure to connect, and the
 * codes by which AWS means "later". No redirect is followed.
 */
#ifndef AUTH_AWS_REQUEST_H
#define AUTH_AWS_REQUEST_H

#include <stdbool.h>
#include <stdint.h>
#include "auth/aws/finding.h"
#include "base/error.h"
#include "client/request.h"

enum { AWS_REQUEST_ATTEMPTS = 3, AWS_REQUEST_SECRETS_LIMIT = 4, AWS_CODE_SIZE = 64 };

struct aws_request {
    struct client_request http; /* `wanted` and `cancel` are set by aws_request_perform() */
    unsigned attempts;
    /* What was sent and must not stand in an error, whatever text the service sends back. */
    const char *secrets[AWS_REQUEST_SECRETS_LIMIT];
};

struct aws_request_outcome {
    struct client_response response;
    int64_t date_s; /* the service's clock, seconds since 1970; 0: it did not say */
};
void aws_request_outcome_wipe(struct aws_request_outcome *outcome); /* safe on zeroed */
#define cleanup_aws_request_outcome __attribute__((cleanup(aws_request_outcome_wipe)))

/* True: status 200. False: the error names method, URL without its query, status, AWS's code and
 * its sentence; 404 is ERROR_NOT_FOUND. `outcome` is zeroed; aws_request_outcome_wipe() is owed
 * either way. */
bool aws_request_perform(const struct aws_question *question, const struct aws_request *request,
                         struct aws_request_outcome *outcome, struct error *error);

#endif
