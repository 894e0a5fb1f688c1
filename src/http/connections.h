/*
 * Private to http/. All connections of a server, and where each of them is.
 *
 * A connection is at every moment in exactly one place: parked (epoll watches it, and it belongs to
 * the server's loop), in the line of a pool, or with a worker. Whoever has it may touch it. The
 * limit does not count the connections over it: of those, one request is read within two seconds,
 * answered if it is a probe, and refused otherwise.
 *
 * Threads: every function may be called by any thread unless it says otherwise.
 */
#ifndef HTTP_CONNECTIONS_H
#define HTTP_CONNECTIONS_H

#include "base/lock.h"
#include "http/connection.h"
#include "http/pool.h"

/* What epoll hands back: the first member of everything that is watched. */
struct watched {
    enum { WATCHED_WAKE, WATCHED_LISTENER, WATCHED_CONNECTION } kind;
    int fd;
};

struct open_connection {
    struct watched watched;
    struct connection connection;
    struct pool_task task;
    /* The holder's. */
    enum connection_stage {
        STAGE_SERVING, /* the client brings requests */
        STAGE_CLOSING, /* the last response is sent; whatever still arrives is thrown away, so that
                          no RST overtakes the response */
    } stage;

    /* Guarded by the connections_lock of the set. */
    struct open_connection *prev, *next;               /* of all */
    struct open_connection *parked_prev, *parked_next; /* of those parked */
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

/* `epoll` is borrowed. */
void connections_init(struct connections *connections, int epoll, unsigned limit);
void connections_finish(struct connections *connections); /* none is left */

/* Has epoll watch something. False: errno says why. */
bool connections_watch(const struct connections *connections, struct watched *watched,
                       uint32_t events);

/*
 * Makes sure that one more connection can be taken in; only the loop takes connections in. Over the
 * limit a few hundred may be open, and whichever of them has been parked for longest is closed for
 * the new one. False: none of them is parked, because all of them are being served; it is a matter
 * of milliseconds.
 */
bool connections_make_place(struct connections *connections);

/* Takes a new connection in, within the limit or over it. */
void connections_add(struct connections *connections, struct open_connection *open);

/* The connection whose task a pool hands over. */
struct open_connection *connections_of_task(struct pool_task *task);

/* Closes and frees it. */
void connections_close(struct connections *connections, struct open_connection *open);

/* Leaves it to the loop until more arrives. */
void connections_park(struct connections *connections, struct open_connection *open);

/* Takes it from the loop; the caller's. */
void connections_unpark(struct connections *connections, struct open_connection *open);

/* Parks it for its end: the client is told that nothing more comes, and may still send for a
 * moment. */
void connections_finish_one(struct connections *connections, struct open_connection *open);

/* Closes the parked ones whose time is over; `serving_too`: also every one that could bring
 * requests. */
void connections_expire(struct connections *connections, int64_t now, bool serving_too);

/* Workers that wait for a next request give up. What has arrived can still be read. */
void connections_wake_waiting(struct connections *connections);

/* Cuts all that are left, so that their workers return. Yields how many there were. */
unsigned connections_cut(struct connections *connections);

bool connections_are_none(struct connections *connections);

/* How many are counted against the limit, and at how many a worker waits for a next request. */
void connections_figures(struct connections *connections, unsigned *count, unsigned *waiting);

#endif
