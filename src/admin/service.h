/*
 * Two services to the operator of a running tarn: warming the images of a schedule at their times,
 * and orders over the socket file ROOT/tarn.sock (admin.h).
 */
#ifndef ADMIN_SERVICE_H
#define ADMIN_SERVICE_H

#include <stdbool.h>
#include "base/buffer.h"
#include "cache/cache.h"
#include "replica/replicas.h"
#include "store/store.h"
#include "upstream/current.h"

/* Images that are pulled before anyone asks for them. */
struct warm_entry {
    const char *const *images;    /* at least one; [HOST/]NAME[:TAG][@DIGEST]; NULL-terminated */
    const char *const *platforms; /* "linux/arm64"; NULL: all; NULL-terminated */
    int64_t every_ms;             /* 0: once, after the start */
};

struct service_settings {
    const char *root;
    uint64_t max_size; /* bytes that the cache stays under; 0: not known */
    struct store *store;
    struct cache *cache;
    struct bucket *bucket;           /* NULL: none */
    struct replica_asker *asker;     /* of the same replicas, which tarn rm reaches */
    const struct replicas *replicas; /* each warms the images that it owns; NULL: none */
    struct current_upstreams *upstreams;
    const struct warm_entry *warm; /* copied */
    size_t warm_count;
    /* Takes another configuration: `file`, or NULL for the one in use, read again. It waits for its
     * turn and its end. False: nothing has changed, and `problems` has lines that say why. NULL:
     * there is no such order. */
    bool (*reload)(void *context, const char *file, struct buffer *problems);
    void *context;
};

struct service;

/* `settings` and everything in it must outlive the service. Nothing happens before
 * service_start(). */
struct service *service_new(const struct service_settings *settings, struct error *error);
bool service_start(struct service *service, struct error *error);
/* Another schedule, which service_change_schedule() takes over. An entry that was there before
 * keeps its time; a new one is due at once. NULL: out of memory. */
struct warm_schedule *service_prepare_schedule(const struct warm_entry *warm, size_t count);
void service_give_up_schedule(struct warm_schedule *prepared); /* NULL is allowed */
void service_change_schedule(struct service *service, struct warm_schedule *prepared);
/* The limit of the cache that orders show. Any thread. */
void service_change_limit(struct service *service, uint64_t max_size);

/* Removes the images that the name means (image_pattern.h) from this tarn alone: neither from the
 * bucket nor from other replicas. *had_any: there were some. Waits for the disk. From any thread.
 */
bool service_forget(struct service *service, const char *name, bool *had_any, struct error *error);

/* From any thread. The service takes no more orders, and orders under way end as soon as they can.
 */
void service_stop(struct service *service);
/* After service_stop(): waits for the end, at most 5 s. False: an order has not ended; nothing is
 * freed, and everything that the order uses must stay. NULL is allowed. */
bool service_free(struct service *service);

#endif
