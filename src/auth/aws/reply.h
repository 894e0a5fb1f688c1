/*
 * What services and programs send: credentials, or a refusal. Private to auth/aws/. Pure, but for
 * the clock; hostile input.
 */
#ifndef AUTH_AWS_REPLY_H
#define AUTH_AWS_REPLY_H

#include <stdbool.h>
#include <stdint.h>
#include "auth/aws/aws.h"
#include "base/error.h"
#include "base/text.h"

/* What the members of a JSON document are called. */
struct aws_reply_members {
    const char *token;   /* "Token", "SessionToken" */
    bool wants_success;  /* a member Code says whether it succeeded (the instance's) */
    bool wants_version1; /* the document says "Version": 1 (a program's) */
};

/*
 * Credentials in JSON: AccessKeyId, SecretAccessKey, the token, Expiration. `date_s` is the
 * service's clock in seconds since 1970, 0: ours counts. Without an Expiration they do not end.
 * False: ERROR_INVALID or ERROR_DENIED (the document says why there are none), ERROR_MEMORY.
 */
bool aws_reply_json(struct text body, const struct aws_reply_members *members, int64_t date_s,
                    struct aws_credentials *out, struct error *error);

/* The same in the XML of the token service (STS). */
bool aws_reply_xml(struct text body, int64_t date_s, struct aws_credentials *out,
                   struct error *error);

/* What a refusal says, in XML or JSON, in printable characters: "AccessDenied", and a sentence. */
struct aws_reply_refusal {
    char code[64];
    char message[240];
};
void aws_reply_refusal(struct text body, struct aws_reply_refusal *out);

#endif
