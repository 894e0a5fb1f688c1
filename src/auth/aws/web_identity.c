/* Web identity: a token in a file, for which the token service gives a role's credentials. */
#include <stdio.h>
#include "auth/aws/sources.h"
#include "auth/aws/sts.h"
#include "auth/shown.h"

enum aws_finding aws_web_identity_look(const struct aws_question *question, struct aws_answer *out,
                                       struct error *error) {
    const char *file = aws_variable("AWS_WEB_IDENTITY_TOKEN_FILE");
    const struct aws_role role = {
        .arn = aws_variable("AWS_ROLE_ARN"),
        .session_name = aws_variable("AWS_ROLE_SESSION_NAME"),
        .region = question->region,
    };
    if (!file) /* AWS_ROLE_ARN alone is left over from other programs */
        return AWS_ABSENT;
    snprintf(out->from, sizeof out->from, "web identity %.280s", shown_value(file));
    if (!role.arn) {
        error_set(error, ERROR_INVALID,
                  "AWS_WEB_IDENTITY_TOKEN_FILE is set, but AWS_ROLE_ARN is not");
        return AWS_BROKEN;
    }
    return aws_sts_by_web_identity(question, &role, file, &out->credentials, error) ? AWS_FOUND
                                                                                    : AWS_BROKEN;
}
