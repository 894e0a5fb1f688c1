/*
 * Private to http/. An event loop: one thread that owns connections, waits for all of them by
 * epoll, and answers in place whatever needs no waiting. It gives a connection that needs a worker
 * to a pool, and gets it back when the worker is done.
 *
 * A new connection goes to the loop with the fewest. Only its own loop closes a connection.
 *
 * Threads: a loop's own thread, unless a function says otherwise.
 */
#ifndef HTTP_LOOP_H
#define HTTP_LOOP_H

#include "base/lock.h"
#include "http/bulkheads.h"
#include "http/connection.h"
#include "http/listener.h"

struct loop;

/* What the loops of a server share. */
struct loops {
    const struct http_server_settings *settings;
    struct connection_terms terms;
    struct pool *workers, *handshakes;
    struct bulkheads *bulkheads;
    int server_fd;             /* an eventfd that wakes the server's own thread */
    atomic_bool server_sleeps; /* that thread waits for it, however long it takes */

    struct lock listeners_lock;
    _Atomic(struct listeners *) listeners; /* those to watch; changed under listeners_lock */
    bool are_closed GUARDED_BY(listeners_lock);

    struct loop *each; /* an array of `count` */
    unsigned count;
    atomic_uint unsent;    /* connections whose client must take more before they go on */
    atomic_uint accepting; /* loops that still accept; the last one closes the listeners */
    atomic_uint running;   /* loops that have not ended */
    atomic_uint cut;       /* requests that were cut by the stop */
};

/* Makes `count` loops. False: loops_finish() must be called all the same. */
bool loops_init(struct loops *loops, unsigned count, struct error *error);
void loops_finish(struct loops *loops); /* every thread has ended */

/* Starts the threads. False: loops_wake() and loops_join() must be called all the same. */
bool loops_start(struct loops *loops, struct error *error);

/* Makes all loops watch other listeners, which belong to the caller as those before do. False: the
 * loops have stopped, and nothing has changed. */
bool loops_change_listeners(struct loops *loops, struct listeners *next);
/* Whether no loop watches those any more. */
bool loops_have_left(struct loops *loops, const struct listeners *listeners);
void loops_close_listeners(struct loops *loops); /* when no loop watches them any more */

/* Wakes all loops, so that they see that the server stops. */
void loops_wake(struct loops *loops);
void loops_join(struct loops *loops);

/* Gives a connection back to its loop. Called by the thread that holds it, a worker for example. */
void loop_give_back(struct connection *connection, enum connection_need need);

#endif
