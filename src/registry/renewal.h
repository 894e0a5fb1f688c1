/*
 * What follows a write: the cache renews what it knows, here and in all other replicas, so that the
 * next pull through any of them sees it.
 *
 * The others are told twice: before this tarn renews, and after that. What one of them asks another
 * for, between its own order and the other's, may be from before the write; the second order ends
 * that.
 *
 * Threads: any. Each call may wait for the disk and for the other replicas, some seconds at most.
 * `asker` is NULL where there are no replicas.
 */
#ifndef REGISTRY_RENEWAL_H
#define REGISTRY_RENEWAL_H

#include "cache/written.h"
#include "replica/asker.h"

/* cache_blob_written() */
void renewal_blob_written(struct replica_asker *asker, struct cache *cache,
                          const struct repository *repository, const struct digest *digest,
                          uint64_t size, bool is_stored);
/* cache_blob_deleted() */
void renewal_blob_deleted(struct replica_asker *asker, struct cache *cache,
                          const struct repository *repository, const struct digest *digest);
/* cache_manifest_written() */
void renewal_manifest_written(struct replica_asker *asker, struct cache *cache,
                              const struct repository *repository,
                              const struct cache_pushed *pushed);
/* cache_manifest_deleted() */
void renewal_manifest_deleted(struct replica_asker *asker, struct cache *cache,
                              const struct repository *repository,
                              const struct reference *reference);

#endif
