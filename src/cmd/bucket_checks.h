/*
 * Tries what tarn needs of a bucket, one thing after the other, for check-bucket.
 *
 * All objects are below "tarn/v1/probe/" and are deleted again, and no upload stays unfinished. A
 * bucket that cannot be reached is asked for twenty seconds in all.
 */
#ifndef CMD_BUCKET_CHECKS_H
#define CMD_BUCKET_CHECKS_H

#include <stdbool.h>
#include "bucket/bucket.h"

enum bucket_check_name {
    CHECK_LIST,
    CHECK_PUT,
    CHECK_GET,
    CHECK_RANGE,
    CHECK_MULTIPART,
    CHECK_CREATE_ONCE,
    CHECK_DELETE,
    BUCKET_CHECKS
};

struct bucket_check {
    const char *name; /* "list" */
    bool ok;
    double seconds;
    char detail[600]; /* of a failed one: why; "" : nothing to say */
};

struct bucket_checks {
    struct bucket_check all[BUCKET_CHECKS];
    bool reads;  /* get and range work */
    bool writes; /* put and multipart work */
};

/* Runs all checks; with settings->read_only those that write are left out, and fail. */
void bucket_checks_run(struct bucket *bucket, struct bucket_checks *out);

#endif
