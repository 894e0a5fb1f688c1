/* The context of a build as its commands need it: which Dockerfile, its sum, and how it is shown.
 * Private to cmd/build*.c. */
#ifndef CMD_BUILD_CONTEXT_H
#define CMD_BUILD_CONTEXT_H

#include <stdbool.h>
#include "build/context.h"
#include "cmd/build.h"

struct build_context {
    struct context *context;
    struct context_sum sum;
    char *dockerfile; /* owned; relative to the folder; NULL: none is needed */
};

/* Opens the folder and measures it. The exit status; 0: *out is the caller's to close. */
int build_context_open(struct build_run *run, const char *folder, bool needs_dockerfile,
                       bool reads_gcloudignore, struct build_context **out);
/* Prints a JSON array of the files that would be sent: what skaffold watches. The exit status. */
int build_context_print_files(struct build_run *run, const char *folder);
void build_context_close(struct build_context *context); /* NULL is allowed */

/* The event that tells what became of the context. NULL: out of memory. */
json_t *build_context_json(const struct build_context *context, const char *object,
                           const char *state);
void build_context_show(const struct build_run *run, const struct build_context *context,
                        const char *object, const char *state);

#endif
