/*
 * Which images have which chain of layers. Private to cache/.
 *
 * A chain ID names layers from the lowest on (image-spec config.md, "Layer ChainID"). The table is
 * in memory, and is filled by whoever makes or finds an image's index. At its limit the oldest
 * images are forgotten. Threads: any.
 */
#ifndef CACHE_STREAM_CHAINS_H
#define CACHE_STREAM_CHAINS_H

#include "base/lock.h"
#include "cache/stream_parts.h"

struct stream_chain;

struct stream_chains {
    struct lock chains_lock;     /* guards `chains`; held alone */
    struct stream_chain *chains; /* by chain ID; the oldest first */
};

void stream_chains_init(struct stream_chains *chains);
void stream_chains_finish(struct stream_chains *chains);

void stream_chains_add(struct stream_chains *chains, const struct repository_name *repository,
                       const struct digest *manifest, const struct stream_parts *parts);
void stream_chains_find(struct stream_chains *chains, const struct digest *chain,
                        void (*each)(void *context, const struct repository_name *repository,
                                     const struct digest *manifest, size_t layers),
                        void *context);

#endif
