/*
 * A connection and what a worker does with it: read heads, have them answered, in order.
 *
 * A connection is at every moment in exactly one place: parked (epoll watches it; the loop's), in
 * the line of ready ones, or with a worker. Whoever has it may touch it; server.c moves it. Only
 * `waiting` is read by others.
 */
#ifndef HTTP_CONNECTION_H
#define HTTP_CONNECTION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "http/channel.h"
#include "http/listener.h"

struct http_server;

/* What epoll hands back: the first member of everything that is watched. */
struct source {
    enum { SOURCE_WAKE, SOURCE_LISTENER, SOURCE_CONNECTION } kind;
    int fd;
};

enum connection_stage {
    STAGE_SERVING,  /* it brings requests */
    STAGE_REFUSING, /* over a limit: 503 when its request arrives */
    STAGE_CLOSING,  /* all is said; what still arrives is thrown away, so that no RST overtakes the
                       answer */
};

struct connection {
    struct source source;
    struct channel channel;
    char peer[LISTENER_NAME_LIMIT];

    /* Guarded by the server's connections_lock. */
    struct connection *prev, *next;               /* of all */
    struct connection *parked_prev, *parked_next; /* of those parked */
    bool parked;
    bool counted; /* against the limit */

    /* Guarded by the pool's line_lock. */
    struct connection *line_prev, *line_next;
    int64_t in_line_since_ms;

    /* The holder's. */
    enum connection_stage stage;
    bool plain;               /* no TLS: the server has none, or it came by a Unix socket */
    bool wants_to_write;      /* what its parking waits for (a handshake may) */
    int64_t deadline_ms;      /* until when it may stay parked */
    int64_t head_deadline_ms; /* until when the begun head must be whole; 0: none begun */
    char *bytes;              /* received and not yet used; NULL while none are */
    size_t length, capacity;
    char *fields; /* of the answer in the making */
    size_t fields_length, fields_capacity;
    uint64_t discard; /* bytes of a body that nobody read, still to be thrown away */

    /* Set while its worker waits for the next request, so that a stop may wake it. */
    atomic_bool waiting;
};

/* Takes the socket; NULL when out of memory (the socket is then closed). */
struct connection *connection_new(int fd, const struct sockaddr_storage *peer, int receive_wait_ms,
                                  int send_timeout_ms);
void connection_free(struct connection *connection);

/* Gives back the memory that a connection without work does not need. */
void connection_shrink(struct connection *connection);

enum connection_fate {
    CONNECTION_PARK,    /* nothing to do until more arrives */
    CONNECTION_LINE_UP, /* it has more, but others wait for a worker */
    CONNECTION_CLOSE,   /* over */
    CONNECTION_FINISH,  /* over, but the client may still be sending */
};

/* Serves requests for as long as they come; on a worker. */
enum connection_fate connection_serve(struct connection *connection, struct http_server *server);

#endif
