/*
 * Which blobs the manifests of a repository name. Private to cache/.
 *
 * A manifest that tarn holds for a repository proves that the repository has the blobs that it
 * names as its config and its layers. So a client of the repository may read these blobs, even
 * where upstream refuses the HEAD that would say the same. What an index names, and what a manifest
 * names as its subject, are manifests, which need not be there: they prove nothing.
 *
 * A fact is a fingerprint of repository and digest, and the blob's size. The facts are in memory: a
 * table of a fixed size, in which new facts take the place of the oldest ones. What is not there
 * may be in the manifests on the disk, which are read at most once in a while for each repository.
 * Nobody can make two names with one fingerprint, because its key is secret.
 *
 * Threads: any. named_find() may read from the disk.
 */
#ifndef CACHE_NAMED_H
#define CACHE_NAMED_H

#include "base/lock.h"
#include "base/siphash.h"
#include "cache/cache.h"

struct named_fact;

struct named {
    struct siphash_key secret;
    struct lock facts_lock; /* guards facts; held alone */
    struct named_fact *facts;
};

/* False: no memory. */
bool named_init(struct named *named);
void named_finish(struct named *named);
void named_forget(struct named *named); /* all facts */

/* Notes what the document names, if it is a manifest. `forgets` is what cache->forgets was before
 * the document was read from the store: after a cache_forget() since then nothing is noted. */
void named_note(struct cache *cache, const struct repository *repository,
                const struct document *document, unsigned forgets);

/* Whether a manifest of the repository names the blob. *size is what the manifest says, or
 * UINT64_MAX if it does not say. */
bool named_find(struct cache *cache, const struct repository *repository,
                const struct digest *digest, uint64_t *size);

#endif
