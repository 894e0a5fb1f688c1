/*
 * The warming of a running tarn: what its configuration lists under `warm:`, at its times, and what
 * `tarn warm` asks for over the socket file ROOT/tarn.sock.
 */
#ifndef CMD_WARMING_H
#define CMD_WARMING_H

#include <stdbool.h>
#include "cache/cache.h"
#include "config/config.h"

struct warming;

#define WARMING_SOCKET "tarn.sock" /* in the root */

/* Everything must outlive it. Nothing happens before warming_start(). */
struct warming *warming_new(const struct config *config, struct cache *cache,
                            struct upstreams *upstreams, struct error *error);
bool warming_start(struct warming *warming, struct error *error);
/* From any thread: takes no more orders, and those under way end as soon as they can. */
void warming_stop(struct warming *warming);
/* After warming_stop(): waits for the end, at most 5 s. False: an order hangs; nothing is freed,
 * and what it uses must stay. NULL is allowed. */
bool warming_free(struct warming *warming);

#endif
