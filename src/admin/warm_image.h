/* The manifests and blobs of an image that is being warmed. Inside the room. */
#ifndef ADMIN_WARM_IMAGE_H
#define ADMIN_WARM_IMAGE_H

#include "admin/warm.h"

enum {
    WARM_PARTS_LIMIT = 10000, /* of one image */
    WARM_PLATFORM_LIMIT = 64, /* platforms wanted at once */
};

struct warm_parts {          /* zeroed is empty */
    struct warm_part *parts; /* owned; manifests before the blobs that they name */
    size_t count, capacity;
};
void warm_parts_free(struct warm_parts *parts);

/* A walk through an image's manifests. */
struct warm_walk {
    struct warmer *warmer;
    const struct warm_request *request;
    struct repository repository;
    struct warm_parts *parts;
    uint64_t platforms_found; /* a bit for each one wanted */
};

/* Gets the manifest, and those that it names and that are wanted, through the cache, and lists them
 * and their blobs, each once. */
bool warm_walk(struct warm_walk *walk, const struct reference *reference, struct error *error);

/* False, with ERROR_CLOSED, when tarn stops or nobody wants the image any more. */
bool warm_goes_on(const struct warm_walk *walk, struct error *error);

#endif
