/*
 * Documents in memory, by key. Private to cache/.
 *
 * A slot is what is known under one key: a document with the time until which it is fresh, or a
 * real 404 with the time until which it is believed. The slots are bounded by bytes; the least
 * recently used slot goes first.
 *
 * Threads: any.
 */
#ifndef CACHE_SLOT_H
#define CACHE_SLOT_H

#include "cache/document.h"

enum { KEY_SIZE = HOST_LIMIT + NAME_LIMIT + DIGEST_STRING_SIZE + 16 };

enum slot_state {
    SLOT_EMPTY, /* nothing known */
    SLOT_FRESH, /* *document is set */
    SLOT_STALE, /* *document is set */
    SLOT_ABSENT /* *error is set: upstream's own 404 */
};
enum slot_state slot_get(struct cache *cache, const char *key, struct document **document,
                         struct error *error);
/* `fresh_ms` from now; INT64_MAX: for ever. Takes a reference of its own. */
void slot_put(struct cache *cache, const char *key, struct document *document, int64_t fresh_ms);
void slot_put_absent(struct cache *cache, const char *key, const struct error *error,
                     int64_t ttl_ms);

#endif
