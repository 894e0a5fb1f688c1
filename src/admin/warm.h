/*
 * Warming: a whole image is pulled into the cache before anyone asks for it.
 *
 * The image's manifests come first, one after the other, then its blobs, a few at a time. A client
 * that pulls the same image meanwhile joins the same transfers. When warming is ended early, the
 * transfers under way go on.
 *
 * Threads: any number of threads may use one warmer. Each call reports on the caller's thread.
 */
#ifndef ADMIN_WARM_H
#define ADMIN_WARM_H

#include "admin/warm_image.h"

struct warmer {
    struct cache *cache;
    struct current_upstreams *upstreams;
    atomic_bool stopping; /* set: every call ends soon, with ERROR_CLOSED */
};

const char *warm_state_name(enum warm_state state); /* "waiting", … */

struct warm_request {
    const char *image;            /* [HOST/]NAME[:TAG][@DIGEST] */
    const char *const *platforms; /* "os/arch[/variant]"; NULL: all; NULL-terminated */
    /* Called for each part when it becomes known, at most five times a second while it makes
     * progress, and once when it is cached or has failed. May be NULL. */
    void (*on_part)(void *context, const struct warm_part *part);
    /* Asked about five times a second; false ends the call with ERROR_CLOSED. May be NULL. */
    bool (*is_wanted)(void *context);
    void *context;
};

struct warm_result {
    uint64_t bytes_fetched, bytes_cached; /* fetched by this call; cached before */
    double seconds;
};

/*
 * Fetches all manifests and blobs of the image for the wanted platforms. A platform without a
 * variant means each of its variants; an image without an index is fetched whatever its platform.
 * False: something is missing, and the error names the first of it; a blob or a child of an index
 * that fails does not stop the others.
 * *result is filled in any case. Logged.
 */
bool warm_image(struct warmer *warmer, const struct warm_request *request,
                struct warm_result *result, struct error *error);

#endif
