/*
 * Builds at Cloud Build (REST reference, v1): submit, get, list, cancel, retry, triggers.
 *
 * A build is found in its region, or in "global". An identifier may be "REGION/ID", as the commands
 * print it where the region is not global.
 *
 * Threads: any; a call blocks.
 */
#ifndef BUILD_CLOUDBUILD_H
#define BUILD_CLOUDBUILD_H

#include <jansson.h>
#include <stdbool.h>
#include "base/buffer.h"
#include "base/error.h"
#include "build/api.h"

/* Where builds are asked for. Borrows its texts. */
struct cloudbuild {
    struct api *api;
    const char *project, *region;
};

enum cloudbuild_state {
    CLOUDBUILD_WAITING, /* queued, or waiting for an approval */
    CLOUDBUILD_WORKING,
    CLOUDBUILD_DONE,
    CLOUDBUILD_FAILED, /* in whatever way */
};

/* What the build's status means. */
enum cloudbuild_state cloudbuild_state(const json_t *build);

/* A sentence about a build that did not succeed: its status in words, the step that failed, the
 * service's own detail. */
void cloudbuild_explain(const json_t *build, struct buffer *out);

/* Each gives back a Build, the caller's to json_decref(). NULL: the error is set. */
json_t *cloudbuild_submit(const struct cloudbuild *cloudbuild, const json_t *message,
                          struct error *error);
json_t *cloudbuild_get(const struct cloudbuild *cloudbuild, const char *id, struct error *error);
json_t *cloudbuild_cancel(const struct cloudbuild *cloudbuild, const char *id, struct error *error);
json_t *cloudbuild_retry(const struct cloudbuild *cloudbuild, const char *id, struct error *error);

/* A page of what `what` names ("builds", "triggers"): {"builds": […], "nextPageToken": …}. `filter`
 * and `token` may be NULL. */
json_t *cloudbuild_list(const struct cloudbuild *cloudbuild, const char *what, unsigned page_size,
                        const char *filter, const char *token, struct error *error);

/* Runs a trigger, by its name or id; `ref` is a branch, a tag or a commit, or NULL for the
 * trigger's own. */
json_t *cloudbuild_run_trigger(const struct cloudbuild *cloudbuild, const char *trigger,
                               const char *ref, struct error *error);

/* The digest of an image that the build has pushed; NULL: the build reports none. */
const char *cloudbuild_digest(const json_t *build, const char *image);

#endif
