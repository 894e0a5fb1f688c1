/*
 * A running tarn: its parts, and how it takes another configuration. Private to the files of
 * tarn serve.
 */
#ifndef CMD_SERVING_H
#define CMD_SERVING_H

#include <pthread.h>
#include "admin/service.h"
#include "base/lock.h"
#include "bucket/bucket.h"
#include "cache/cache.h"
#include "cache/janitor.h"
#include "client/client.h"
#include "cmd/reloader.h"
#include "config/config.h"
#include "http/http.h"
#include "registry/registry.h"
#include "replica/asker.h"
#include "replica/replicas.h"

/* Everything that a running tarn is made of. */
struct serving {
    struct config *config; /* in use; owned. After the start the reloader's thread exchanges it */
    struct config *first;  /* the one of the start, to which the parts refer until the end; owned */
    const struct config_flags *flags; /* of the command line */
    char *file;                       /* of the last tarn reload --config; NULL: as the flags say */
    _Atomic int64_t grace_ms;
    struct client *client;    /* also used by the credential sources in config */
    uint64_t max_size;        /* the limit of the cache in bytes */
    uint64_t max_connections; /* as configured, or as many as the limit of open files allows */
    uint64_t descriptors;     /* that limit */
    struct store *store;
    struct current_upstreams *upstreams;
    struct upkeep *upkeep;
    struct bucket *bucket;       /* NULL: there is none */
    struct replicas *replicas;   /* NULL: there are none */
    struct replica_asker *asker; /* the same */
    struct cache *cache;
    struct clients *clients; /* of the configuration in use; NULL: nobody can log in */
    struct catalog *catalog;
    struct janitor *janitor; /* of the bucket; NULL: there is none */
    struct registry *registry;
    struct http_server *server;
    struct service_settings service_settings;
    struct service *service;
    struct reloader *reloader;

    pthread_t signals;      /* the thread that waits for them, and then for the end */
    struct lock end_lock;   /* guards what follows */
    struct condition moved; /* some of it has changed */
    int64_t grace_ends_ms;  /* clock_ms(); set by the signals' thread before is_used is false */
    bool ended;             /* all requests have ended */
    bool closed;            /* all parts have */
    bool is_used;           /* the signals' thread uses the parts */
};

/* ---- settings.c: the settings of the parts, from a configuration ---- */

/* How many connections the process may have: as configured, or as many as the limit of open files
 * allows. `descriptors`: that limit; 0: none is known. */
uint64_t serving_max_connections(const struct config *config, uint64_t descriptors);
/* How many descriptors the process may come to have. */
uint64_t serving_wanted_descriptors(const struct config *config, uint64_t max_connections);
struct upkeep_settings serving_upkeep_settings(const struct config *config, uint64_t max_size);
struct cache_settings serving_cache_settings(const struct config *config);
/* Makes the clients that can log in, in place of `before`. *clients is NULL when nobody can. */
bool serving_make_clients(const struct config *config, const struct clients *before,
                          struct clients **clients, struct error *error);
struct registry_view_settings serving_view_settings(const struct config *config,
                                                    struct clients *clients, uint64_t max_size);
/* Of the server for clients; without what is called for a request. */
struct http_server_settings serving_http_settings(const struct config *config,
                                                  uint64_t max_connections);
/* Logs the warnings of a configuration that is in use from now on. */
void serving_log_warnings(const struct serving *serving);

/* ---- apply.c: another configuration ---- */

/* Takes the configuration of `file`, or without one that which is in use, read again. False: it is
 * wrong or cannot be taken, nothing has changed, and `problems` has a line for each reason. For
 * struct reloader_work. */
bool serving_reload(void *serving, const char *file, struct buffer *problems);
/* Frees what earlier configurations have left and nobody uses any more. */
void serving_sweep(void *serving);

#endif
