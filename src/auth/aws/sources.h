/* The sources that are looked at, one after the other, and what they share. Private to auth/aws/.
 */
#ifndef AUTH_AWS_SOURCES_H
#define AUTH_AWS_SOURCES_H

#include "auth/aws/finding.h"

/* Each: see enum aws_finding. `out->from` is set when the source is configured. */
enum aws_finding aws_environment_look(const struct aws_question *question, struct aws_answer *out,
                                      struct error *error);
enum aws_finding aws_web_identity_look(const struct aws_question *question, struct aws_answer *out,
                                       struct error *error);
enum aws_finding aws_shared_look(const struct aws_question *question, struct aws_answer *out,
                                 struct error *error);
enum aws_finding aws_container_look(const struct aws_question *question, struct aws_answer *out,
                                    struct error *error);
enum aws_finding aws_instance_look(const struct aws_question *question, struct aws_answer *out,
                                   struct error *error);

/* The region of the profile that is chosen; "" when there is none, or when the files cannot be
 * read. Returns `out`. */
const char *aws_shared_region(const struct aws_settings *settings,
                              char out[static AWS_REGION_SIZE]);

/* Whether the chosen profile, or one that it leads to, names a program. */
bool aws_shared_may_run(const struct aws_settings *settings);

/* Runs a profile's program (credential_process), which prints credentials. The command is split at
 * blanks outside of quotes, and no shell is started. */
bool aws_process_run(const char *command, struct aws_credentials *out, struct error *error);

#endif
