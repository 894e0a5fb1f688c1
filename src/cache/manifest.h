/* Private to cache/: manifests that come from a client and not from upstream, and tags that are
 * asked for before a client waits for them. */
#ifndef CACHE_MANIFEST_H
#define CACHE_MANIFEST_H

#include "cache/written.h"

/* Keeps the manifest in memory and in the store, with its tag. */
void manifest_keep_pushed(struct cache *cache, const struct repository *repository,
                          const struct cache_pushed *pushed);

/* Begins to ask for the tag, of which `held` is still fresh, unless it is asked for already. Waits
 * for no answer. */
void manifest_refresh(struct cache *cache, const struct repository *repository,
                      const struct reference *reference, struct document *held);

#endif
