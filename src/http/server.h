/*
 * The server as its own files see it: the loop that accepts, parks and expires connections.
 *
 * Locks: connections_lock and the pool's line_lock are never held together.
 */
#ifndef HTTP_SERVER_H
#define HTTP_SERVER_H

#include <pthread.h>
#include <stdatomic.h>
#include "http/connection.h"
#include "http/http.h"
#include "http/pool.h"

struct tls_identity;

struct http_server {
    struct http_server_settings settings;
    struct listeners listeners;
    struct source listener_sources[LISTENER_LIMIT];
    unsigned port;
    struct tls_identity *identity; /* NULL: plain */
    struct source wake;            /* an eventfd: the stop */
    int epoll;
    struct pool pool;
    atomic_bool stopping;

    pthread_mutex_t connections_lock;
    /* Guarded by connections_lock: */
    struct connection *connections, *parked;
    unsigned connection_count; /* against the limit */
    unsigned refused_count;    /* beyond it, waiting for their 503 */

    /* The loop's: */
    int64_t accept_again_ms; /* accepting pauses until then; 0: it does not */
    int64_t identity_checked_ms;
};

/* What a worker does with the connection it has served. */
void server_park(struct http_server *server, struct connection *connection);
void server_finish(struct http_server *server, struct connection *connection);
void server_close(struct http_server *server, struct connection *connection);

#endif
