/*
 * What is kept of manifests: in memory, in the store with its links and tags, and what the bucket
 * is told of them. Private to cache/.
 *
 * An answer is kept in memory at once. What it changes on the disk is left to question->store,
 * which is called later (question.h).
 *
 * Threads: any; functions that take a question run on the question's thread.
 */
#ifndef CACHE_MANIFEST_STORE_H
#define CACHE_MANIFEST_STORE_H

#include "cache/cache_private.h"
#include "cache/question.h"

/* What a client is told, and what the store can hold. For MEDIA_UNKNOWN the registry finds the type
 * in the bytes. */
const char *manifest_store_media_type(const char *told);

/* A linked manifest from the store, or NULL. */
struct document *manifest_store_load(struct cache *cache, const struct repository *repository,
                                     const struct digest *digest);
/* The manifest that a tag last named, or NULL; *age_ms: since upstream last confirmed the tag. */
struct document *manifest_store_load_tag(struct cache *cache, const struct repository *repository,
                                         const char *tag, int64_t *age_ms);

/* Puts a manifest and its link into the store. */
bool manifest_store_put(struct question *question, const struct document *document,
                        struct error *error);

/* Keeps the question's document in memory, and sets question->store if something is to be done on
 * the disk. */
void manifest_store_keep(struct question *question);
/* Keeps that upstream does not know the reference, as *error says. `by_head`: upstream said it to a
 * HEAD alone. */
void manifest_store_keep_absent(struct question *question, bool by_head, const struct error *error);

#endif
