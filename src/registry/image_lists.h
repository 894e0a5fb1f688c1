/*
 * The lists of images that upstreams have told, kept for a while. Private to registry/.
 *
 * A list is kept for images_ttl. After that upstream is asked by one question, however many clients
 * ask, on a thread of its own. While upstream fails, the last list is served; while upstream is
 * silent, it is served after a few seconds, and the question goes on. A repository that upstream
 * says does not exist has no list any more. When all clients that wait for a question have gone,
 * the question ends, unless one of them got the last list in its place.
 *
 * What is kept has a bound in lists and in bytes, and so has the number of questions under way: all
 * of them, and those to one upstream. A client that waits counts as one that waits for the upstream
 * (cache/waiting.h).
 *
 * Threads: any.
 */
#ifndef REGISTRY_IMAGE_LISTS_H
#define REGISTRY_IMAGE_LISTS_H

#include <stdatomic.h>
#include "cache/cache.h"
#include "catalog/catalog.h"

struct image_lists;
struct call;
struct registry;
struct registry_view;

/* One list. It never changes. */
struct image_list {
    atomic_uint references;
    struct catalog_list images; /* sealed, and in the order CATALOG_BY_UPLOAD; untagged ones, too */
    enum catalog_source source; /* the one that told it */
    char listed_at[CATALOG_TIME_SIZE]; /* wall time */
    bool is_whole; /* false: upstream asked to slow down before it had told all */
};
void image_list_release(struct image_list *list); /* NULL is allowed */

/* `registry` outlives it. NULL: out of memory. */
struct image_lists *image_lists_new(struct registry *registry);
/* Every call that waits fails soon (UNAVAILABLE), and so does every later one that would have to
 * ask. */
void image_lists_stop(struct image_lists *lists);
/* After that: waits until no question is under way, at most some seconds. False: one is left. */
bool image_lists_wait(struct image_lists *lists);
/* No call and no question is under way. NULL is allowed. */
void image_lists_free(struct image_lists *lists);

struct image_lists_request {
    const struct registry_view *view; /* held by the caller; a question holds it as well */
    const struct repository *repository;
    bool whole; /* see struct catalog_question */
    enum catalog_source source;
    const struct cancel *cancel; /* of the client */
};

struct image_lists_result {
    struct image_list *list; /* the caller's to release */
    enum cache_outcome outcome;
};

/* Which images of a list a client may see. A list of a whole Artifact Registry repository has
 * images of several names, and the client may not read each of them. */
struct images_visible {
    const struct call *call;
    const char *repository; /* the one that was checked last; lists keep each once */
    bool may_read;
};
/* (images.c) */
bool call_may_see_image(struct images_visible *visible, const struct catalog_image *image);

/* Finds the list that is kept, or asks upstream. False: the error is of the kinds of
 * upstream_perform(), or BUSY. */
bool image_lists_get(struct image_lists *lists, const struct image_lists_request *request,
                     struct image_lists_result *result, struct error *error);

#endif
