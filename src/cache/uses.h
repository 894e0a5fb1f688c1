/*
 * Uses of manifests that were served from memory, until the store is told of them. Private to
 * cache/.
 *
 * The store evicts the least recently used blobs, and a manifest that is served from memory is used
 * as well. An answer that must not wait only notes the use here; the next call that may wait tells
 * the store (cache_record_uses()). Each cold transfer begins with such a call, so that the store
 * knows of all uses before it makes space.
 *
 * Threads: any.
 */
#ifndef CACHE_USES_H
#define CACHE_USES_H

#include "cache/document.h"

/* Manifests noted at most. */
enum { USES_LIMIT = 256 };

/* Notes a use. It makes no system call; if the document's last use is not told yet, it takes no
 * lock either. False: there is no room, so a caller that may wait has to serve this request. */
bool uses_note(struct cache *cache, struct document *document);

/* The manifest was used: the store and the bucket's marks learn of it. May wait for the disk. */
void uses_record(struct cache *cache, const struct digest *digest);

#endif
