/*
 * Private to http/. All connections of a server, and where each of them is.
 *
 * A connection is at every moment in exactly one place: parked (epoll watches it, and it belongs to
 * the server's loop), in the line of a pool, or with a worker. Only that holder may touch it. The
 * connections over the limit are counted apart: each may send one request within two seconds, which
 * is answered if it is a probe and refused otherwise.
 *
 * Threads: every function may be called by any thread unless it says otherwise.
 */
#ifndef HTTP_CONNECTIONS_H
#define HTTP_CONNECTIONS_H

#include "base/lock.h"
#include "http/connection.h"
#include "http/pool.h"

/* The first member of everything that epoll watches. epoll hands its address back. */
struct watched {
    enum { WATCHED_WAKE, WATCHED_LISTENER, WATCHED_CONNECTION } kind;
    int fd;
};

struct open_connection {
    struct watched watched;
    struct connection connection;
    struct pool_task task;
    /* For the holder of the connection. */
    enum connection_stage {
        STAGE_SERVING, /* the client brings requests */
        STAGE_CLOSING, /* the last response is sent; bytes that still arrive are thrown away, so
                          that no RST overtakes the response */
    } stage;

    /* Guarded by the connections_lock of the set. */
    struct open_connection *prev, *next;               /* of all */
    struct open_connection *parked_prev, *parked_next; /* in the list of those parked */
    bool parked;
};

/* The set of a server's connections. */
struct connections {
    int epoll;
    unsigned limit;
    struct lock connections_lock;
    struct open_connection *all GUARDED_BY(connections_lock);
    struct open_connection *parked GUARDED_BY(connections_lock);      /* within the limit */
    struct open_connection *parked_over GUARDED_BY(connections_lock); /* over it; oldest first */
    unsigned count GUARDED_BY(connections_lock);                      /* within the limit */
    unsigned over_count GUARDED_BY(connections_lock);                 /* over it */
};

/* `epoll` stays the caller's. */
void connections_init(struct connections *connections, int epoll, unsigned limit);
void connections_finish(struct connections *connections); /* no connection may be left */

/* Makes epoll watch `watched`. False: errno says why. */
bool connections_watch(const struct connections *connections, struct watched *watched,
                       uint32_t events);

/*
 * Makes sure that one more connection can be added. Only the loop adds connections. Over the limit
 * at most a few hundred may be open: for one more, the one that has been parked for longest is
 * closed. False: all of them are being served, which takes only milliseconds.
 */
bool connections_make_place(struct connections *connections);

/* Adds a new connection, within the limit or over it. */
void connections_add(struct connections *connections, struct open_connection *open);

/* The connection whose task a pool hands over. */
struct open_connection *connections_of_task(struct pool_task *task);

/* Closes and frees it. */
void connections_close(struct connections *connections, struct open_connection *open);

/* Gives a connection to the loop until more bytes arrive. */
void connections_park(struct connections *connections, struct open_connection *open);

/* Takes a connection from the loop. The caller holds it then. */
void connections_unpark(struct connections *connections, struct open_connection *open);

/* Parks a connection for its end: the client is told that nothing more comes, and may still send
 * for a moment. */
void connections_finish_one(struct connections *connections, struct open_connection *open);

/* Closes the parked connections whose deadline is over; with `serving_too` also every parked one
 * that could still bring a request. */
void connections_expire(struct connections *connections, int64_t now, bool serving_too);

/* Makes workers stop waiting for a next request. Bytes that have arrived can still be read. */
void connections_wake_waiting(struct connections *connections);

/* Cuts all connections that are left, so that their workers return. Returns how many there were. */
unsigned connections_cut(struct connections *connections);

bool connections_are_none(struct connections *connections);

/* Counts the connections within the limit, and those at which a worker waits for a next request. */
void connections_figures(struct connections *connections, unsigned *count, unsigned *waiting);

#endif
