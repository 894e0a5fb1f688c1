/*
 * Private to http/. A client's connection, and how a worker serves it: the worker reads request
 * heads and responds to the requests, one after the other.
 *
 * Only the holder of a connection (the loop, a line, a worker: see connections.h) may touch it,
 * except that other threads read `waiting`.
 */
#ifndef HTTP_CONNECTION_H
#define HTTP_CONNECTION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/buffer.h"
#include "http/channel.h"
#include "http/http.h"
#include "http/listener.h"

struct tls_identity;

/* How a worker serves connections. Many workers share one struct. */
struct connection_terms {
    const struct http_server_settings *settings; /* timeouts, handler, error bodies */
    struct tls_identity *identity;               /* NULL: no TLS */
    const atomic_bool *stopping;                 /* once set, no connection goes on */
    bool probes_only; /* only probes are answered, and each ends its connection; the worker never
                         waits */
    /* How long the worker may wait for the next request of its connection. 0: other connections
     * wait for the worker. NULL: the worker never waits. */
    int (*linger_ms)(const void *context);
    const void *context;
};

struct connection {
    struct channel channel;
    char peer[LISTENER_NAME_LIMIT];
    bool plain;               /* no TLS: the server has none, or the client came by a Unix socket */
    bool over_limit;          /* one probe is answered, any other request is refused */
    bool wants_to_write;      /* a handshake waits until it can send */
    int64_t deadline_ms;      /* until when the connection may stay parked */
    int64_t head_deadline_ms; /* until when the begun head must be complete; 0: none has begun */
    struct buffer received;   /* bytes received and not yet used */
    struct buffer fields;     /* the response's fields, while it is being made */
    uint64_t discard;         /* bytes of an unread body, still to be thrown away */

    /* Set while a worker waits for the next request, so that a stop may wake the worker. */
    atomic_bool waiting;
};

/* Owns `fd` from now on. The connection must not move in memory before connection_finish(). */
void connection_init(struct connection *connection, int fd, const struct sockaddr_storage *peer,
                     bool plain, int receive_wait_ms, int send_timeout_ms);
void connection_finish(struct connection *connection); /* closes the socket */

/* Gives back the memory that a connection without work does not need. */
void connection_shrink(struct connection *connection);

/* Tells the client that nothing more comes. Bytes that still arrive are thrown away, `bytes` at
 * most, until `deadline_ms`. */
void connection_end(struct connection *connection, uint64_t bytes, int64_t deadline_ms);

enum connection_fate {
    CONNECTION_PARK,     /* nothing to do until more arrives */
    CONNECTION_LINE_UP,  /* more has arrived, but other connections wait for a worker */
    CONNECTION_NO_PROBE, /* with probes_only: the next request is no probe and stays unserved */
    CONNECTION_CLOSE,    /* over */
    CONNECTION_FINISH,   /* over, but the client may still be sending */
};

/* Serves requests for as long as they come; on a worker. */
enum connection_fate connection_serve(struct connection *connection,
                                      const struct connection_terms *terms);

#endif
