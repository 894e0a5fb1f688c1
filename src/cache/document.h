/* Documents, for the files that make them. Private to cache/; struct document itself is in cache.h.
 * Threads: any. */
#ifndef CACHE_DOCUMENT_H
#define CACHE_DOCUMENT_H

#include "cache/cache.h"

/* A document with memory for `length` bytes (uninitialised) if has_bytes. The caller holds one
 * reference. NULL: no memory. */
struct document *document_new(const struct digest *digest, const char *media_type, uint64_t length,
                              bool has_bytes);
/* A document with a copy of the bytes. */
struct document *document_from(const struct digest *digest, const char *media_type,
                               const void *bytes, size_t length);

#endif
