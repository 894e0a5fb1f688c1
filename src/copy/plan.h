/*
 * What belongs to an image: its manifests, in the order in which they must be written, and its
 * blobs, each one once. Private to copy/. One thread.
 */
#ifndef COPY_PLAN_H
#define COPY_PLAN_H

#include "copy/blobs.h"
#include "copy/platform.h"
#include "copy/source.h"
#include "oci/digest_set.h"

enum {
    COPY_PLAN_DEPTH = 8,         /* of indexes in indexes */
    COPY_PLAN_MANIFESTS = 20000, /* in one image, with its referrers */
    COPY_PLAN_BYTES = 256 << 20, /* of all manifests */
};

struct copy_planned_manifest {
    struct copy_manifest manifest;
    bool is_referrer; /* found by its subject: no index names it */
};

/* Zeroed is empty. */
struct copy_plan {
    /* Each one behind those that it names; the image itself is the last one of those that are no
     * referrers. */
    struct copy_planned_manifest *manifests; /* owned */
    size_t manifest_count, manifest_capacity;
    size_t root;                     /* number of the image itself */
    struct copy_planned_blob *blobs; /* owned; in the order in which they are named */
    size_t blob_count, blob_capacity;
    struct digest_set seen; /* manifests and blobs */
    size_t bytes;           /* of all manifests */
};
void copy_plan_finish(struct copy_plan *plan);
#define cleanup_copy_plan __attribute__((cleanup(copy_plan_finish)))

struct copy_plan_wanted {
    struct copy_source *source;
    const char *reference;
    const struct copy_platform *platforms; /* one: that image itself; several: an index of them */
    size_t platform_count;                 /* 0: all that there is */
    bool referrers;                        /* and theirs */
};

/* Reads all manifests. False: the errors of the source; NOT_FOUND: a platform is not there, and the
 * text says which are; INVALID: what was read cannot be an image. */
bool copy_plan_make(struct copy_plan *plan, const struct copy_plan_wanted *wanted,
                    struct error *error);

#endif
