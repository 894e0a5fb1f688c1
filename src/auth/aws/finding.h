/*
 * What the sources of credentials have in common. Private to auth/aws/.
 *
 * A source looks whether it is configured, and only then asks. Threads: any.
 */
#ifndef AUTH_AWS_FINDING_H
#define AUTH_AWS_FINDING_H

#include "auth/aws/aws.h"
#include "base/cancel.h"
#include "base/error.h"
#include "base/text.h"

enum aws_finding {
    AWS_ABSENT, /* the source is not configured: the next one is looked at */
    AWS_FOUND,  /* here are its credentials */
    AWS_BROKEN, /* it is configured and does not work: the error names it */
};

struct aws_question {
    struct client *client;
    const struct aws_settings *settings;
    const struct cancel *cancel;
    char region[AWS_REGION_SIZE]; /* as far as it is known before a source is asked; "" else */
};

struct aws_answer {
    struct aws_credentials credentials;
    char from[AWS_DESCRIPTION_SIZE]; /* also set by a source that is broken */
    char region[AWS_REGION_SIZE];    /* of the instance; "": not known */
};

/* The credentials that the settings, the profile, or the first source that is configured gives.
 * False: the error names the source. The answer's credentials are then zeroed; `from` may be set.
 */
bool aws_search(const struct aws_question *question, struct aws_answer *out, struct error *error);

/* The region by settings and environment. Returns `out`, which may be "". */
const char *aws_region_known(const struct aws_settings *settings, char out[static AWS_REGION_SIZE]);

/* A copy of the three texts. False: one has a character that does not fit into a header field
 * (ERROR_INVALID, which names the text), or ERROR_MEMORY. `token` may be empty. */
bool aws_credentials_fill(struct aws_credentials *out, struct text key_id, struct text secret,
                          struct text token, struct error *error);

/* Whether it is the name of a region: letters, digits and hyphens. */
bool aws_region_ok(struct text region);

/* A variable of the environment; NULL when it is not set or empty. */
const char *aws_variable(const char *name);

#endif
