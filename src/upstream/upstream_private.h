/* Private to upstream/: one entry of the configuration. */
#ifndef UPSTREAM_UPSTREAM_PRIVATE_H
#define UPSTREAM_UPSTREAM_PRIVATE_H

#include <stdatomic.h>
#include <uthash.h>
#include "base/metric.h"
#include "upstream/counts.h"
#include "upstream/health.h"
#include "upstream/peer.h"
#include "upstream/upstream.h"

struct upstream {
    struct client *client;
    struct peers *peers_of_all;
    struct upstream_settings settings;
    struct upstream *next; /* the next entry with the same name, which serves other repositories */
    char name[HOST_LIMIT + 1];    /* the canonical host, or the pattern in lower case */
    char pattern[HOST_LIMIT + 1]; /* the pattern as a glob of labels; "": it is a host */
    unsigned locations_count;     /* of each peer */
    struct peer *own;             /* the host's; NULL: it is a pattern */
    struct peer *peers;           /* the pattern's, by host; guarded by the lock of peers_of_all */
    struct counts counts;
    _Atomic(struct metric *) counters[UPSTREAM_COUNTERS]; /* upstream_counters() */
    struct health health;
    struct upstream_held held;  /* upstream_held() */
    atomic_uint connections;    /* at once for one blob, when that was lowered; 0: never */
    _Atomic int64_t lowered_ms; /* clock_ms() then */
    UT_hash_handle hh;          /* in upstreams, by name; of the first entry with the name only */
};

#endif
