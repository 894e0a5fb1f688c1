/*
 * One small request to upstream, and the keys under which the result is kept. Private to cache/.
 *
 * Threads: any.
 */
#ifndef CACHE_ASK_H
#define CACHE_ASK_H

#include "cache/slot.h"

/* The key under which the cache knows something: "HOST/REPOSITORY WHAT REFERENCE". */
void ask_key(char key[static KEY_SIZE], const struct repository *repository, const char *what,
             const struct reference *reference);

/* How long upstream's response for a tag stays fresh. */
int64_t ask_tag_ttl(const struct repository *repository);

/* A digest as a reference, for keys and requests. */
struct reference ask_reference(const struct digest *digest);

/* One request whose body comes back whole, at most `limit` bytes; *head is upstream's final head.
 * When the location at request->location fails, the next one is asked; request->location then says
 * which one was asked last. The repository is filled in here. */
bool ask_get(struct cache *cache, const struct repository *repository,
             struct upstream_request *request, size_t limit, struct upstream_head *head,
             struct buffer *body, /* seven: what is asked, within which bounds, and both halves of
                                     the response */
             struct error *error);

#endif
