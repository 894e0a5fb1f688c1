/*
 * Clients' requests that wait for an upstream, each with a worker. For cache/, and for registry/,
 * where clients wait for a list of images.
 *
 * A request waits while a question about the upstream is under way, whether it began the question
 * or joined it, and while a flight has no byte for it. One upstream may hold its share of the
 * workers in this way (waiting_per_upstream), and more while no more than half of them are busy.
 *
 * Threads: any.
 */
#ifndef CACHE_WAITING_H
#define CACHE_WAITING_H

#include "cache/cache.h"

/* A request begins to wait. False: the upstream has its share of waiting requests (ERROR_BUSY). */
bool waiting_begin(struct cache *cache, struct upstream *upstream, struct error *error);
/* The same for a request that was admitted already. */
void waiting_go_on(struct cache *cache, struct upstream *upstream);
void waiting_end(struct cache *cache, struct upstream *upstream);

/* Whether more than its share waits for the upstream. */
bool waiting_is_crowded(const struct cache *cache, struct upstream *upstream);
/* Says so. Gives back false. */
bool waiting_refuse(const struct cache *cache, struct upstream *upstream, struct error *error);

#endif
