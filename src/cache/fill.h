/*
 * Brings to the bucket what the store held before there was a bucket. Private to cache/.
 *
 * Once for a store and a bucket, a background thread goes through the repositories of the store and
 * owes their links and tags to the uploads (upload.h), which send what the bucket lacks. It gives
 * them one digest at a time, and only while they have nothing else to do, so that what clients have
 * just fetched goes first. ROOT/filled says for which bucket this was done, and how far.
 *
 * Threads: fill_start() and fill_end() by one thread.
 */
#ifndef CACHE_FILL_H
#define CACHE_FILL_H

#include "cache/upload.h"

struct fill;

/* NULL: no memory. The uploads, the store and the bucket outlive it. */
struct fill *fill_new(struct uploads *uploads, struct store *store, const struct bucket *bucket);
/* After uploads_start(). Without a thread nothing is filled, until the next start. */
void fill_start(struct fill *fill);
/* After uploads_stop(), which ends it. NULL is allowed. */
void fill_free(struct fill *fill);

#endif
