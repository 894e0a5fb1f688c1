/*
 * The names of images on the nodes, each kept once: 1,000 nodes with the same 50 images of five
 * names share 250 texts.
 *
 * A name is known by the keyed hash of its text (64 bits), so that it is compared by one number.
 * Threads: one at a time.
 */
#ifndef KEEP_NAMES_H
#define KEEP_NAMES_H

#include <stdint.h>
#include "base/siphash.h"
#include "base/text.h"

struct keep_name {
    uint64_t key;    /* of the whole text */
    uint64_t digest; /* the key of what is behind '@'; 0: it has no digest */
    uint32_t uses;
    uint32_t length;
    char text[]; /* with a NUL */
};

struct keep_names {
    struct siphash_key key;
    struct keep_name **slots; /* open addressing, at most half full; NULL: free */
    size_t capacity, count;   /* a power of two */
};

void keep_names_init(struct keep_names *names);
void keep_names_finish(struct keep_names *names); /* no name is used any more */

/* The key of a text, of a digest for example. Never 0. */
uint64_t keep_names_key(const struct keep_names *names, struct text text);

/* The name with one use more. NULL: out of memory. */
struct keep_name *keep_names_use(struct keep_names *names, struct text text);
/* Frees the name with its last use. */
void keep_names_drop(struct keep_names *names, struct keep_name *name);

#endif
