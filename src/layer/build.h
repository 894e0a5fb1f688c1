/*
 * Makes a layer's index in one pass over its blob: digests of the blob and of the archive, spans,
 * and the tree.
 *
 * A layer of zstd whose frames are too large to be spans needs a second copy in frames of
 * SPAN_BYTES: build_needs_copy() says so after a failure, and the caller makes the pass again with
 * `copy`. Pure; one thread at a time.
 */
#ifndef LAYER_BUILD_H
#define LAYER_BUILD_H

#include "layer/index.h"

struct build_recipe {
    struct digest layer;   /* of the blob */
    struct digest diff_id; /* of the archive, as the image's configuration says */
    bool is_plain;         /* the media type says that the blob is not compressed */
    /* Takes the bytes of the copy, from its first one on. NULL: no copy is made. */
    bool (*copy)(void *context, const void *bytes, size_t length, struct error *error);
    void *context;
};

struct build;

/* NULL: out of memory. */
struct build *build_new(const struct build_recipe *recipe);
void build_free(struct build *build); /* NULL is allowed */

/* The next bytes of the blob. False: a refusal (refusal.h), or another error. */
bool build_feed(struct build *build, const void *bytes, size_t length, struct error *error);

/* There are no more bytes: appends the index. False: LAYER_DIFF_ID, or any of the errors of
 * build_feed(). ERROR_CORRUPT: the blob is not what its digest says. */
bool build_finish(struct build *build, struct buffer *out, struct error *error);

bool build_needs_copy(const struct build *build);

#endif
