/*
 * What a client has written to upstream through tarn. The next pull must see it: what is known of
 * the repository's tag, lists and missing things is renewed, and an answer that upstream gave
 * before the write is not kept. Called when upstream has confirmed the write, and before the client
 * gets its answer.
 *
 * Threads: any. Each call may wait for the disk.
 */
#ifndef CACHE_WRITTEN_H
#define CACHE_WRITTEN_H

#include "cache/cache.h"

/* Makes space on the disk for bytes that a client sends. False: NO_SPACE, IO. */
bool cache_make_space(struct cache *cache, uint64_t bytes, struct error *error);

/* A blob of `size` bytes is in the repository; `is_stored`: the store has it. */
void cache_blob_written(struct cache *cache, const struct repository *repository,
                        const struct digest *digest, uint64_t size, bool is_stored);

/* The same, written through another replica: this one has nothing of it yet. */
void cache_blob_renewed(struct cache *cache, const struct repository *repository,
                        const struct digest *digest);

/* A manifest that was put. */
struct cache_pushed {
    const struct reference *reference; /* by which it was put */
    const struct digest *digest;       /* of the bytes */
    const char *media_type;
    const void *bytes;
    size_t length;
};

/* Keeps the manifest and its tag; it is a hit from now on. */
void cache_manifest_written(struct cache *cache, const struct repository *repository,
                            const struct cache_pushed *pushed);

/* The same, written through another replica. The reference is the tag, or the digest of the bytes;
 * `subject` is what cache_subject() says of them. */
void cache_manifest_renewed(struct cache *cache, const struct repository *repository,
                            const struct reference *reference, const struct digest *subject);

/* What a manifest refers to; its algorithm is 0: nothing. */
struct digest cache_subject(const void *bytes, size_t length);

/* A tag, or a manifest with all its tags, is gone. */
void cache_manifest_deleted(struct cache *cache, const struct repository *repository,
                            const struct reference *reference);
/* The repository has the blob no more. The store may keep it for other repositories. */
void cache_blob_deleted(struct cache *cache, const struct repository *repository,
                        const struct digest *digest);

#endif
