/*
 * The trees that are mounted: images, or their lowest layers, each under a number that no other
 * tree ever gets. The number is the tree's folder in the files that reads.h shows, and its name in
 * RUN/images.
 *
 * After a restart a tree is known before its image is open again. Reads of it wait until then.
 * Any thread.
 */
#ifndef NODE_AGENT_TREES_H
#define NODE_AGENT_TREES_H

#include <jansson.h>
#include "node/agent/reads.h"
#include "node/spans/spans.h"

struct trees;

/* A tree as others see it. */
struct trees_facts {
    uint32_t number, files;
    bool is_open; /* its image is */
    unsigned holds;
    struct digest digest; /* as for spans_image_restore() */
};

/* `wait_ms`: how long a read waits for a tree that is not open. NULL: out of memory. */
struct trees *trees_new(struct spans *spans, int64_t wait_ms);
void trees_free(struct trees *trees); /* nobody reads any more; NULL is allowed */

/* Holds the tree of the image, which is taken over; of `layers` layers of it, or of all (0). An
 * image that has a tree already is released. 0: out of memory. */
uint32_t trees_hold(struct trees *trees, struct spans_image *image, const char *name,
                    const char *from, uint32_t layers);
/* Holds a tree that is there. False: there is none of that number. */
bool trees_hold_again(struct trees *trees, uint32_t number);
/* Ends a hold. True: it was the last one. The tree stays until trees_drop(). */
bool trees_release(struct trees *trees, uint32_t number);
/* Forgets a tree that nobody holds. */
void trees_drop(struct trees *trees, uint32_t number);

/* Between these two calls no other thread is between them for the same tree: one mounts or unmounts
 * it at a time. False: there is no such tree, and no trees_end() is owed. `trees_begin()` waits. */
bool trees_begin(struct trees *trees, uint32_t number);
void trees_end(struct trees *trees, uint32_t number);

/* Facts of the tree number `at`, in no order; false: there are fewer. */
bool trees_at(struct trees *trees, size_t at, struct trees_facts *out);
bool trees_find(struct trees *trees, uint32_t number, struct trees_facts *out);
/* The image of a tree, with a reference for the caller; NULL: it is not open. */
struct spans_image *trees_image(struct trees *trees, uint32_t number);

/* Opens the image of a tree again: from the root, and, if `by_network`, from its source. True: it
 * is open, or the tree is gone. */
bool trees_restore(struct trees *trees, uint32_t number, bool by_network, const atomic_bool *stop,
                   struct error *error);

/* For reads.h. */
struct reads_source trees_source(struct trees *trees);

/* What a file keeps of the trees. NULL, or false: out of memory, or it is none of ours. */
json_t *trees_write(struct trees *trees);
bool trees_read(struct trees *trees, const json_t *json);

#endif
