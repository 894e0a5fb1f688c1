/* struct cache, for the files of cache/. */
#ifndef CACHE_CACHE_PRIVATE_H
#define CACHE_CACHE_PRIVATE_H

#include "base/lock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/siphash.h"
#include "cache/cache.h"
#include "cache/flight/flight.h"
#include "cache/named.h"
#include "cache/refresh.h"
#include "cache/tier.h"
#include "cache/uses.h"

struct question;
struct slot;

enum { SLOT_WRITES = 256 };

struct cache {
    struct store *store;
    struct upkeep *upkeep;
    struct flights *flights;
    struct streams *streams;
    struct tier *tier;              /* NULL: there is no bucket */
    struct replica_asker *replicas; /* NULL: there are none */
    _Atomic size_t document_memory;
    _Atomic int64_t negative_ttl_ms;
    int64_t stale_after_ms;
    const struct pot *workers; /* NULL: none */
    atomic_uint waiting_per_upstream;
    atomic_uint waiting;           /* requests that wait for any upstream */
    struct log_pause refused_asks; /* replicas that refuse what they are asked */
    struct metric *refused;        /* requests, because too many wait for their upstream */

    struct siphash_key slots_secret; /* keys the hashes of `slots` */
    struct lock slots_lock;          /* guards slots, recent, used */
    struct slot *slots, *recent;     /* recent: most recently used first */
    size_t used;
    atomic_uint writes[SLOT_WRITES]; /* by repository: slot_writes(); changed under slots_lock */
    atomic_uint forgets;             /* calls of cache_forget(); changed under slots_lock */
    _Atomic size_t small_bytes;      /* of small blobs in memory, for which somebody may wait */
    atomic_bool is_reading_small;    /* a thread reads a small blob into memory */

    atomic_uint uses_round; /* counts the times `uses` was emptied; changed under uses_lock */
    struct lock uses_lock;  /* guards uses, uses_count; held alone */
    struct digest uses[USES_LIMIT];
    size_t uses_count;

    struct named named;
    struct refresh refresh;

    struct lock questions_lock;         /* guards questions, storing and the guarded part of each */
    struct condition questions_changed; /* one was answered or stored */
    struct question *questions;
    unsigned outdated;        /* questions under way that are not in the table any more */
    unsigned refreshing;      /* questions under way that no client asked when they began */
    struct question *storing; /* answered, but not yet on the disk; in the order of their answers */
    uint64_t stores;          /* answers so far that are stored */
    atomic_bool stopping;
};

#endif
