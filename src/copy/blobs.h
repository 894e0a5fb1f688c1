/*
 * Copies the blobs of an image, several at once, and tells what comes of each. When one fails, the
 * others end their uploads.
 *
 * Threads: copy_blobs() blocks the thread that calls it, and starts others.
 */
#ifndef COPY_BLOBS_H
#define COPY_BLOBS_H

#include "copy/events.h"

enum { COPY_JOBS = 8, COPY_JOBS_LIMIT = 64 };

struct copy_planned_blob {
    struct digest digest;
    uint64_t size;
    bool is_config;
};

struct copy_blobs {
    struct copy_source *source;
    struct copy_destination *destination;
    const struct copy_planned_blob *blobs; /* each one once */
    size_t count;
    unsigned jobs; /* at once; 0: COPY_JOBS */
    bool dry_run;
    /* Set by a signal to end the copy within a second (CLOSED), and by copy_blobs() itself when a
     * blob fails. Not NULL. */
    atomic_bool *stop;
    struct copy_events *events;
};

/* False: the first failure. */
bool copy_blobs(const struct copy_blobs *blobs, struct error *error);

#endif
