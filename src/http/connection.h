/*
 * Private to http/. A client's connection, and what a worker does with it: read request heads, have
 * the requests answered, one after the other.
 *
 * Whoever holds a connection (the loop, a line, a worker: see connections.h) may touch it. Only
 * `waiting` is read by others.
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

/* On which terms a worker serves connections; many workers share them. */
struct connection_terms {
    const struct http_server_settings *settings; /* timeouts, handler, error bodies */
    struct tls_identity *identity;               /* NULL: no TLS */
    const atomic_bool *stopping;                 /* once set, no connection goes on */
    bool probes_only; /* probes are answered, and end their connection; the worker never waits */
    /* How long the worker may wait for the next request of its connection. 0: other connections
     * wait for the worker. NULL: never. */
    int (*linger_ms)(const void *context);
    const void *context;
};

struct connection {
    struct channel channel;
    char peer[LISTENER_NAME_LIMIT];
    bool plain;               /* no TLS: the server has none, or the client came by a Unix socket */
    bool over_limit;          /* one probe is answered, any other request is refused */
    bool wants_to_write;      /* a handshake waits until it can send */
    int64_t deadline_ms;      /* until when it may stay parked */
    int64_t head_deadline_ms; /* until when the begun head must be complete; 0: none has begun */
    struct buffer received;   /* and not yet used */
    struct buffer fields;     /* of the response in the making */
    uint64_t discard;         /* bytes of a body that nobody read, still to be thrown away */

    /* Set while a worker waits for the next request, so that a stop may wake the worker. */
    atomic_bool waiting;
};

/* Takes the socket over. The connection stays where it is in memory until connection_finish(). */
void connection_init(struct connection *connection, int fd, const struct sockaddr_storage *peer,
                     bool plain, int receive_wait_ms, int send_timeout_ms);
void connection_finish(struct connection *connection); /* closes the socket */

/* Gives back the memory that a connection without work does not need. */
void connection_shrink(struct connection *connection);

/* From now on what arrives is thrown away, `bytes` at most, until `deadline_ms`; the client is told
 * that nothing more comes. */
void connection_end(struct connection *connection, uint64_t bytes, int64_t deadline_ms);

enum connection_fate {
    CONNECTION_PARK,     /* nothing to do until more arrives */
    CONNECTION_LINE_UP,  /* more has arrived, but other connections wait for a worker */
    CONNECTION_NO_PROBE, /* probes only: its next request is none, and waits for a usual worker */
    CONNECTION_CLOSE,    /* over */
    CONNECTION_FINISH,   /* over, but the client may still be sending */
};

/* Serves requests for as long as they come; on a worker. */
enum connection_fate connection_serve(struct connection *connection,
                                      const struct connection_terms *terms);

#endif
