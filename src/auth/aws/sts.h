/* Roles, whose credentials the token service (STS) gives. Private to auth/aws/. */
#ifndef AUTH_AWS_STS_H
#define AUTH_AWS_STS_H

#include "auth/aws/finding.h"

struct aws_role {
    const char *arn;
    const char *session_name; /* NULL: "tarn" */
    const char *external_id;  /* NULL: none */
    const char *duration_s;   /* "3600"; NULL: the service's default */
    const char *region;       /* whose service is asked; "": the global one */
};

/* AssumeRoleWithWebIdentity, with the token that the file holds now. The error names the file, or
 * the service with AWS's code. */
bool aws_sts_by_web_identity(const struct aws_question *question, const struct aws_role *role,
                             const char *token_file, struct aws_credentials *out,
                             struct error *error);

/* AssumeRole, signed with other credentials. */
bool aws_sts_by_role(const struct aws_question *question, const struct aws_role *role,
                     const struct aws_credentials *by, struct aws_credentials *out,
                     struct error *error);

#endif
