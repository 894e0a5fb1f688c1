/*
 * Small blobs in memory, so that an event loop can answer for them. Private to cache/.
 *
 * Each image has a configuration of a few KiB, and many have layers of that size. Sending one from
 * its file takes a worker, and the client waits until the worker gets a processor. In memory it is
 * a document like a manifest, under its digest alone: what is known of its store and its
 * repositories is in other slots (slot_get_stored()), and without these nobody gets it. Therefore
 * the bytes of a blob that is deleted may stay until other documents need the memory.
 *
 * All small blobs in memory together have at most the memory of the cache's documents, including
 * those that only slow clients still refer to.
 *
 * Threads: any.
 */
#ifndef CACHE_SMALL_H
#define CACHE_SMALL_H

#include "cache/cache.h"

/* The size of a small blob. Answers from memory took less of the processors at every size up to 512
 * KiB (docs/design/performance.md); the size is bounded for the memory's sake, and because a loop
 * sends no blob for more than some 20 us. */
enum { SMALL_MOST = 64 << 10 };

/* The bytes of the blob, the caller's to release; NULL: they are not in memory. Never waits. */
struct document *small_find(struct cache *cache, const struct digest *digest);

/* Reads an open blob of the store into memory, if it is small, not there yet, and right. A blob of
 * wrong bytes is quarantined. Waits for the disk. One thread at a time reads: for all others the
 * blob comes into memory at a later use. */
void small_read(struct cache_blob *blob);

#endif
