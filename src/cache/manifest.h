/* Private to cache/: manifests that come from a client and not from upstream. */
#ifndef CACHE_MANIFEST_H
#define CACHE_MANIFEST_H

#include "cache/written.h"

/* Keeps the manifest in memory and in the store, with its tag. */
void manifest_keep_pushed(struct cache *cache, const struct repository *repository,
                          const struct cache_pushed *pushed);

#endif
