/*
 * The Build message that is submitted to Cloud Build: what the command line asks for, in the words
 * of the API (Cloud Build REST reference, projects.builds).
 *
 * Without a build file, one step builds the Dockerfile with docker. With one, its steps stay as
 * they are, and what the command line says beside it is added or takes its place.
 *
 * Pure; any thread.
 */
#ifndef BUILD_MESSAGE_H
#define BUILD_MESSAGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"

/* Borrows all that it points to. Lists end with NULL; NULL is an empty one. */
struct message_wish {
    const json_t *file;        /* from schema_read(); NULL: there is no build file */
    const char *const *images; /* HOST/NAME:TAG */
    const char *dockerfile;    /* relative to the source */
    const char *const *build_args;
    const char *target, *platform;    /* NULL: not said */
    const char *const *substitutions; /* "_NAME=VALUE" */
    const char *const *secrets;       /* "ENV=projects/P/secrets/S/versions/V" */
    const char *const *tags;
    const char *project, *region;                      /* region: "global" or one */
    const char *machine_type, *pool, *service_account; /* NULL: not said */
    int64_t disk_size_gb, timeout_s;                   /* 0: not said */
    const char *logs_bucket; /* where the log goes unless the file says it */
    bool cache;              /* begin from the layers of the first image */
};

/* Where the source is. */
struct message_source {
    const char *bucket, *object, *generation; /* the generation may be NULL */
    const char *git_url, *git_revision;       /* instead; the revision may be NULL */
};

/* The message, checked; the caller's to json_decref(). NULL: ERROR_INVALID or ERROR_MEMORY. */
json_t *message_make(const struct message_wish *wish, struct error *error);

/* False: out of memory. */
bool message_set_source(json_t *message, const struct message_source *source);

/* The default tag is "latest": writes `image` with it, unless it has a tag. False: `image` is no
 * reference that can be pushed. */
bool message_image(const char *image, char *out, size_t size, struct error *error);

#endif
