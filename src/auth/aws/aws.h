/*
 * Credentials of AWS from what the machine has, kept and kept fresh.
 *
 * The sources are searched in the order of AWS's SDKs ("Standardized credential providers" of the
 * SDK reference): environment, web identity, shared files, container, instance (IMDSv2 only). The
 * first source that is configured is used. A source that is configured but does not work is an
 * error that names it, and no later source is asked. Where the settings name a source, only that
 * one is asked.
 *
 * A source has a thread of its own, which begins with the first question. It asks again 15 minutes
 * before the credentials end; if they live for less than that, after half of their life. From ten
 * minutes before the end on callers wait for the new ones. The old ones are given while they are
 * valid and no new ones can be had.
 *
 * Secrets are sent only to the services that they are for, without following a redirect. No secret
 * enters an error or the log. Threads: any.
 */
#ifndef AUTH_AWS_AWS_H
#define AUTH_AWS_AWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/cancel.h"
#include "base/error.h"
#include "client/client.h"

/* Zeroed: search. Every string may be NULL. */
struct aws_settings {
    const char *key_id;      /* with `secret_file` or `secret`: these credentials and no others */
    const char *secret_file; /* read again after a renewal, without white space at its ends */
    const char *secret;      /* in place of `secret_file` */
    const char *profile;     /* of the shared files, which are then the only source */
    const char *file;        /* in place of ~/.aws/credentials; then the only source, too */
    const char *region;      /* "eu-central-1": before the environment's and the profile's */
};

/* "NULL" members are absent. The strings are the holder's. */
struct aws_credentials {
    char *key_id;
    char *secret;
    char *session_token; /* NULL: none */
    int64_t expires_ms;  /* clock_ms() at which they end; INT64_MAX: they do not */
    unsigned number;     /* counts the credentials of a source: what aws_source_renew() takes */
};
void aws_credentials_wipe(struct aws_credentials *credentials); /* safe on zeroed; zeroes */
#define cleanup_aws_credentials __attribute__((cleanup(aws_credentials_wipe)))

struct aws_source;

/* Copies the settings; `client` outlives the source. Asks nothing yet. NULL: out of memory. */
struct aws_source *aws_source_new(const struct aws_settings *settings, struct client *client);
/* No thread uses the source any more. Waits for a question that is under way. NULL is fine. */
void aws_source_free(struct aws_source *source);

/*
 * Fills *out with credentials that are valid now. Waits for them until clock_ms() reaches
 * `deadline_ms` (INT64_MAX: without an end of its own; the source gives up after some 20 s) or
 * `cancel` says so, which may be NULL. What is held costs no waiting. A failure counts for all
 * callers for a while, for longer each time.
 *
 * False, with *out zeroed: ERROR_UNAVAILABLE (no source is configured, or the one that is does not
 * work: the error names file, profile, host, AWS's code), ERROR_TIMEOUT (not in time),
 * ERROR_CLOSED, ERROR_MEMORY. The failures of a source are logged here, once a minute.
 */
bool aws_source_get(struct aws_source *source, int64_t deadline_ms, const struct cancel *cancel,
                    struct aws_credentials *out, struct error *error);

/*
 * The credentials with this number were refused (ExpiredToken, InvalidToken): the source is asked
 * again, and its files are read again. Does not wait; the next aws_source_get() does. Nothing
 * happens when there are newer ones already, or when several refusals in a row have had the source
 * asked just now.
 */
void aws_source_renew(struct aws_source *source, unsigned number);

enum { AWS_DESCRIPTION_SIZE = 320, AWS_REGION_SIZE = 64 };

/* Where the credentials come from, for people: "environment", "web identity /var/run/token",
 * "profile tarn of /root/.aws/config". "" until a source was found. Returns `out`. */
const char *aws_source_describe(struct aws_source *source, char out[static AWS_DESCRIPTION_SIZE]);

/*
 * The region by the settings, AWS_REGION, AWS_DEFAULT_REGION, the profile, or the instance when the
 * credentials came from there. Does not wait. "" until one is known, and for a text that is no
 * region's name. Returns `out`.
 */
const char *aws_source_region(struct aws_source *source, char out[static AWS_REGION_SIZE]);

/* Whether a search would run a program (credential_process), as far as files and environment say
 * now. */
bool aws_settings_may_run(const struct aws_settings *settings);

#endif
