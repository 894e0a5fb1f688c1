/*
 * The manifests and blobs of an image that is being warmed. Private to admin/.
 *
 * Threads: one thread walks an image. Later the list of parts is guarded by a lock of warm.c.
 */
#ifndef ADMIN_WARM_IMAGE_H
#define ADMIN_WARM_IMAGE_H

#include <stdatomic.h>
#include "base/cancel.h"
#include "cache/cache.h"
#include "upstream/current.h"

enum {
    WARM_PARTS_LIMIT = 10000, /* of one image */
    WARM_PLATFORM_LIMIT = 64, /* platforms in one request */
};

enum warm_state { WARM_WAITING, WARM_FETCHING, WARM_CACHED, WARM_FAILED };

/* How far one manifest or blob of the image is. */
struct warm_part {
    struct digest digest;
    const char *role; /* "index", "manifest", "config" or "layer" */
    enum warm_state state;
    bool was_cached;      /* CACHED: the part was cached before this order */
    bool moved;           /* it has changed since it was last reported */
    uint64_t size, bytes; /* size as the manifest claims, until upstream has said it */
    char *error;          /* FAILED: why; owned */
};

struct warm_parts {          /* zeroed is empty */
    struct warm_part *parts; /* owned; manifests before the blobs that they name */
    size_t count, capacity;
};
void warm_parts_finish(struct warm_parts *parts);

/* A walk through an image's manifests. */
struct warm_walk {
    struct cache *cache;
    struct repository repository;
    const char *const *platforms; /* "os/arch[/variant]"; NULL or empty: all; NULL-terminated */
    struct cancel cancel;
    void (*on_part)(void *context, const struct warm_part *part); /* of a manifest; may be NULL */
    void *context;
    struct warm_parts *parts;
    uint64_t platforms_found; /* a bit for each of `platforms` */
    struct error failure;     /* of the first child of an index that could not be had */
};

/* Gets the manifest, and the manifests that it names for the wanted platforms, through the cache.
 * Lists them and their blobs in walk->parts, each once. A child of an index that cannot be had is
 * listed as FAILED, and the others go on: see walk->failure. `error` is not NULL. */
bool warm_walk(struct warm_walk *walk, const struct reference *reference, struct error *error);

#endif
