/*
 * What an order works on: a store, with or without a cache that runs on it.
 *
 * The orders work on the store, so that a stopped cache is handled by the same code as a running
 * one. An order that only reads does not count as a use of what it reads.
 *
 * Threads: any number of orders at once.
 */
#ifndef ADMIN_TARGET_H
#define ADMIN_TARGET_H

#include <stdatomic.h>
#include "admin/line.h"
#include "bucket/bucket.h"
#include "cache/cache.h"
#include "replica/asker.h"
#include "store/store.h"

struct order_target {
    struct store *store;               /* NULL: the order is about the bucket alone */
    struct cache *cache;               /* the cache that runs on the store; NULL: none does */
    struct replica_asker *replicas;    /* that forget what is removed, too; NULL: none */
    struct bucket *bucket;             /* that the configuration names; NULL: none */
    struct streams_settings streaming; /* of a cache that does not run */
    _Atomic uint64_t limit;            /* bytes that the cache stays under; 0: not known */
    const atomic_bool *stopping; /* set: every order ends soon, with ERROR_CLOSED; may be NULL */
};

/* Whether the order is to go on. False, with ERROR_CLOSED: tarn stops, or the client has left. */
bool order_target_check(const struct order_target *target, const struct line_sink *sink,
                        struct error *error);

/* Waits until the store's scan has found all blobs, at most a minute. The store then knows when
 * each was last used, also from memory. False: ERROR_BUSY, ERROR_CLOSED. */
bool order_target_wait_for_scan(const struct order_target *target, const struct line_sink *sink,
                                struct error *error);

#endif
