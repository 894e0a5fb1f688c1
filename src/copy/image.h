/*
 * Copies an image: its blobs, several at once, then its manifests, children before the index, and
 * the tag last. What is at the destination already is not written again. When something fails, the
 * uploads under way are ended, and no manifest stands above a blob that is missing.
 *
 * Threads: copy_image() blocks the thread that calls it, and starts others.
 */
#ifndef COPY_IMAGE_H
#define COPY_IMAGE_H

#include "copy/blobs.h"
#include "copy/platform.h"

struct copy_image {
    struct copy_source *source;
    struct copy_destination *destination;
    const char *reference; /* of the source: a tag or a digest; "" where a layout has one image */
    const char *tag;       /* at the destination; "": the image is written by its digest alone */
    struct digest digest;  /* that the image must have; algorithm 0: any */
    const struct copy_platform *platforms; /* see plan.h */
    size_t platform_count;
    bool referrers, dry_run;
    unsigned jobs; /* blobs at once; 0: COPY_JOBS */
    /* Set by a signal to end the copy within a second (CLOSED), and by copy_image() itself when a
     * part fails. Not NULL. */
    atomic_bool *stop;
    /* Called by one thread at a time. May be NULL. */
    void (*on_event)(void *context, const struct copy_event *event);
    void *context;
};

/* The rights to push were checked before. False: the first failure; what it says of the work done
 * until then is in *result all the same. */
bool copy_image(const struct copy_image *image, struct copy_image_result *result,
                struct error *error);

#endif
