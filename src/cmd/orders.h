/*
 * What the operator has a running tarn do: warm what its configuration lists under `warm:`, at its
 * times, and take orders over the socket file ROOT/tarn.sock (registry/admin.h).
 */
#ifndef CMD_ORDERS_H
#define CMD_ORDERS_H

#include <stdbool.h>
#include "cache/cache.h"
#include "config/config.h"
#include "store/store.h"

struct orders;

/* Everything must outlive it. Nothing happens before orders_start(). */
struct orders *orders_new(const struct config *config, struct store *store, struct cache *cache,
                          struct upstreams *upstreams, struct error *error);
bool orders_start(struct orders *orders, struct error *error);
/* From any thread: takes no more orders, and those under way end as soon as they can. */
void orders_stop(struct orders *orders);
/* After orders_stop(): waits for the end, at most 5 s. False: an order hangs; nothing is freed,
 * and what it uses must stay. NULL is allowed. */
bool orders_free(struct orders *orders);

#endif
