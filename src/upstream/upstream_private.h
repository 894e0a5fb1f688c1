/* Private to upstream/: what one upstream holds. */
#ifndef UPSTREAM_UPSTREAM_PRIVATE_H
#define UPSTREAM_UPSTREAM_PRIVATE_H

#include <uthash.h>
#include "base/metric.h"
#include "client/lane.h"
#include "upstream/authorizer.h"
#include "upstream/queue.h"
#include "upstream/upstream.h"

struct upstream {
    struct client *client;
    char host[ORIGIN_HOST_SIZE]; /* canonical, as clients know it */
    struct upstream_settings settings;
    struct authorizer *authorizers; /* one a location: url, then fallbacks */
    unsigned locations_count;
    struct queue queue;
    struct lanes lanes;
    char label[ORIGIN_HOST_SIZE + 16]; /* upstream="HOST" */
    struct metric *bytes, *retries;
    _Atomic(struct metric *) counters[UPSTREAM_COUNTERS]; /* upstream_counters() */
    struct upstream_held held;                            /* upstream_held() */
    UT_hash_handle hh;                                    /* in upstreams, by host */
};

#endif
