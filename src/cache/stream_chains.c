/* Chains of layers, and the images that have them. */
#include "cache/stream_chains.h"

#include <stdio.h>
#include <stdlib.h>
#include <uthash.h>

enum {
    CHAINS_LIMIT = 50000,
    IMAGES_LIMIT = 64, /* of one chain that are told */
};

struct chain_image {
    struct repository_name repository;
    struct digest manifest;
};

struct stream_chain {
    UT_hash_handle hh;
    struct digest chain;
    size_t layers;
    struct chain_image *images; /* owned */
    size_t count;
};

void stream_chains_init(struct stream_chains *chains) {
    lock_init(&chains->chains_lock);
}

static void drop(struct stream_chains *chains, struct stream_chain *chain) {
    HASH_DEL(chains->chains, chain);
    free(chain->images);
    free(chain);
}

void stream_chains_finish(struct stream_chains *chains) {
    struct stream_chain *chain, *next;
    HASH_ITER (hh, chains->chains, chain, next)
        drop(chains, chain);
    lock_finish(&chains->chains_lock);
}

/* The chain ID with one more layer. */
static bool add_layer(struct digest *chain, const struct digest *diff_id) {
    char text[2 * DIGEST_STRING_SIZE], below[DIGEST_STRING_SIZE], above[DIGEST_STRING_SIZE];
    if (!chain->algorithm) {
        *chain = *diff_id;
        return true;
    }
    int length = snprintf(text, sizeof text, "%s %s", digest_format(chain, below),
                          digest_format(diff_id, above));
    return digest_of(DIGEST_SHA256, text, (size_t)length, chain);
}

static void add_image(struct stream_chain *chain, const struct chain_image *image) {
    for (size_t i = 0; i < chain->count; i++)
        if (digest_equal(&chain->images[i].manifest, &image->manifest) &&
            repository_name_equal(&chain->images[i].repository, &image->repository))
            return;
    if (chain->count == IMAGES_LIMIT) { /* the oldest one goes */
        memmove(chain->images, chain->images + 1, (IMAGES_LIMIT - 1) * sizeof *chain->images);
        chain->count--;
    } else {
        void *list = realloc(chain->images, (chain->count + 1) * sizeof *chain->images);
        if (!list)
            return;
        chain->images = list;
    }
    chain->images[chain->count++] = *image;
}

static void add_chain(struct stream_chains *chains, const struct digest *id, size_t layers,
                      const struct chain_image *image) REQUIRES(chains->chains_lock) {
    struct stream_chain *chain;
    HASH_FIND(hh, chains->chains, id, sizeof *id, chain);
    if (!chain) {
        chain = calloc(1, sizeof *chain);
        if (!chain)
            return;
        chain->chain = *id;
        chain->layers = layers;
        HASH_ADD(hh, chains->chains, chain, sizeof chain->chain, chain);
        if (!chain->hh.tbl) {
            free(chain);
            return;
        }
    }
    add_image(chain, image);
    if (HASH_COUNT(chains->chains) > CHAINS_LIMIT)
        drop(chains, chains->chains);
}

void stream_chains_add(struct stream_chains *chains, const struct repository_name *repository,
                       const struct digest *manifest, const struct stream_parts *parts) {
    const struct chain_image image = {*repository, *manifest};
    struct digest chain = {0};
    lock_acquire(&chains->chains_lock);
    for (size_t i = 0; i < parts->count && add_layer(&chain, &parts->layers[i].diff_id); i++)
        add_chain(chains, &chain, i + 1, &image);
    lock_release(&chains->chains_lock);
}

void stream_chains_find(struct stream_chains *chains, const struct digest *id,
                        void (*each)(void *context, const struct repository_name *repository,
                                     const struct digest *manifest, size_t layers),
                        void *context) {
    struct chain_image *images = NULL;
    struct stream_chain *chain;
    size_t count = 0, layers = 0;
    lock_acquire(&chains->chains_lock);
    HASH_FIND(hh, chains->chains, id, sizeof *id, chain);
    if (chain && (images = malloc(chain->count * sizeof *images + 1))) {
        count = chain->count;
        layers = chain->layers;
        memcpy(images, chain->images, count * sizeof *images);
    }
    lock_release(&chains->chains_lock);
    for (size_t i = 0; i < count; i++)
        each(context, &images[i].repository, &images[i].manifest, layers);
    free(images);
}
