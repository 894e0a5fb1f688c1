/*
 * Where the source of a build is put for Cloud Build: an object of a bucket of the project (Cloud
 * Storage JSON API, v1; "Resumable uploads").
 *
 * The bucket is PROJECT_cloudbuild, or PROJECT_REGION_cloudbuild for a regional build, as gcloud
 * names it, or the one that is given. It is made when it is missing. Anybody may own a bucket of
 * such a name, so it must stand in the project's own list of buckets: a source is uploaded to
 * nobody else.
 *
 * An object's name says its content, so one that is there is not sent again.
 *
 * One thread at a time.
 */
#ifndef BUILD_STAGING_H
#define BUILD_STAGING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "build/api.h"

enum {
    STAGING_BUCKET_SIZE = 256,
    STAGING_GENERATION_SIZE = 32,
    STAGING_CHUNK = 8 << 20, /* bytes of one request; a multiple of 256 KiB, as the API wants */
};

/* Writes the name of the default bucket. False: it does not fit. */
bool staging_bucket_name(const char *project, const char *region,
                         char out[static STAGING_BUCKET_SIZE]);

/* Makes sure that the bucket is there and the project's own. `may_make`: it is made when it is
 * missing. */
bool staging_check_bucket(struct api *api, const char *project, const char *region,
                          const char *bucket, bool may_make, struct error *error);

/* Looks for the object: *found, and then its generation. */
bool staging_find(struct api *api, const char *bucket, const char *object, bool *found,
                  char generation[static STAGING_GENERATION_SIZE], struct error *error);

/* An upload in progress. */
struct staging_upload;

/* Begins an upload, which succeeds only if there is no such object yet. NULL: the error is set. */
struct staging_upload *staging_begin(struct api *api, const char *bucket, const char *object,
                                     struct error *error);

/* Takes all bytes, and sends them when there are enough. What a cut has lost is sent again. */
bool staging_write(struct staging_upload *upload, const void *bytes, size_t length,
                   struct error *error);

/* Sends the rest. True: the object is there; when another upload was faster, it is that one's.
 */
bool staging_finish(struct staging_upload *upload, char generation[static STAGING_GENERATION_SIZE],
                    struct error *error);

/* Whether the service has dropped the session, so that the upload has to begin anew. */
bool staging_is_lost(const struct staging_upload *upload);

/* Gives the session up if it has not finished. NULL is allowed. */
void staging_free(struct staging_upload *upload);

#endif
