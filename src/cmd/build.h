/* What the files of tarn build share: the command line as read, and what is shown. Private to
 * cmd/build*.c. */
#ifndef CMD_BUILD_H
#define CMD_BUILD_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include "auth/credential.h"
#include "base/cancel.h"
#include "build/api.h"
#include "build/cloudbuild.h"
#include "build/message.h"
#include "cmd/arguments.h"
#include "config/config.h"

enum { BUILD_INTERRUPTED = 130 }; /* exit status after Ctrl-C */

/* One run of the command. */
struct build_run {
    const struct arguments *arguments;
    bool json; /* lines of JSON on standard output */
    const char **images, **build_args, **substitutions, **secrets,
        **tags;                    /* owned; end with NULL */
    char **to;                     /* the images with their tags; owned; ends with NULL */
    char *project;                 /* owned */
    const char *region, *platform; /* the platform may be NULL */
    struct cancel cancel;          /* Ctrl-C */
    struct config *config;         /* of --config; NULL: none */
    struct client *client;
    struct credential_source *source;
    struct api *api;
};

/* ---- build_run.c ---- */

/* Reads the lists of options. The exit status; 0: go on. */
int build_run_begin(struct build_run *run, const struct arguments *arguments);
/* Finds the project and opens the API, which asks nothing yet. The exit status; 0: go on. */
int build_run_open(struct build_run *run);
void build_run_end(struct build_run *run);
/* The values of an option as a list that ends with NULL, the caller's to free. False: out of
 * memory. */
bool build_run_list(const struct build_run *run, const char *name, const char ***out);
/* Reads --disk-size: "100", "100GB". False: ERROR_INVALID. */
bool build_run_disk_size(const struct build_run *run, int64_t *gigabytes, struct error *error);
struct cloudbuild build_run_cloudbuild(const struct build_run *run);

/* "tarn build: " and the sentence, on standard error. Returns 1. */
int build_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- build_show.c ---- */

/* Each is shown as text on a terminal's standard error, and as a line of JSON on standard output
 * otherwise. `event` is taken over. */
void build_show_event(const struct build_run *run, json_t *event);
void build_show_log(const struct build_run *run, const void *bytes, size_t length);
void build_show_notice(const struct build_run *run, const char *text);

/* Whether the build is to be cancelled after Ctrl-C: the option says so, or who sits at the
 * terminal. */
bool build_wants_cancel(const struct build_run *run);

/* Follows a build that was submitted (taken over), to its end, and shows all of it. `images` may be
 * NULL. The exit status. */
int build_follow(struct build_run *run, json_t *build, const char *const *images);

/* ---- build_cloud.c ---- */

/* Builds at Cloud Build. The exit status. */
int build_at_cloudbuild(struct build_run *run, const char *folder);

/* ---- build_kaniko.c ---- */

/* Builds with Kaniko in a cluster. The exit status. */
int build_with_kaniko(struct build_run *run, const char *folder);

/* ---- build_orders.c ---- */

/* Whether the operand is the name of a subcommand. */
bool build_is_order(const char *operand);
/* tarn build list, show, logs, cancel, retry, triggers, dependencies. The exit status. */
int build_order(struct build_run *run);

#endif
