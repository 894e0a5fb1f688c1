/*
 * Private to http/. What the files of the loops share: loop.c is a loop's turns, accept.c its new
 * connections, loops.c their life.
 */
#ifndef HTTP_LOOP_PRIVATE_H
#define HTTP_LOOP_PRIVATE_H

#include "http/loop.h"

struct loop {
    struct loops *shared;
    pthread_t thread;
    bool started;
    int epoll;
    int wake; /* an eventfd: the inbox is not empty, or the server stops */
    int64_t now_ms;
    struct connection_scratch scratch;

    struct lock inbox_lock;
    struct connection *inbox GUARDED_BY(inbox_lock); /* the last one first */

    /* Those that it watches; NULL: none any more. Changed by the loop's own thread, under
     * shared->listeners_lock. */
    struct listeners *listeners;

    atomic_bool is_to_wake;        /* another loop has filled the inbox, and has not woken it yet */
    atomic_uint count;             /* connections of this loop */
    atomic_uint passed;            /* new ones in the inbox, which other loops have accepted */
    _Atomic int64_t idle_since_ms; /* of the one that has been idle for longest; INT64_MAX: none */

    /* For the loop's own thread: */
    struct connection *all;
    unsigned places[PLACE_KINDS];                 /* how many of them have which place */
    struct connection *waiting[WAIT_KINDS];       /* sorted by deadline */
    struct connection *turns;                     /* those that go on without an event */
    struct pool_task *to_workers, *to_handshakes; /* connections that leave in this turn */
    struct connection *closed; /* to be freed when no event can name them any more */
    struct connection *spare; /* memory for new ones, because malloc() may wait for other threads */
    unsigned spare_count;
    int64_t accept_again_ms;             /* accepting pauses until then; 0: no pause */
    int64_t yield_again_us;              /* the loop does not yield before */
    char listener_marks[LISTENER_LIMIT]; /* epoll names a listener by the address of its mark */
};

/* ---- loop.c: for the loop's own thread unless they say otherwise ---- */

void loop_run(void *loop); /* the whole life of the thread */
void loop_close_connection(struct loop *loop, struct connection *connection);
void loop_wait_for_bytes(struct loop *loop, struct connection *connection);

/* Whether a connection that is to be closed for its silence has brought something that the loop has
 * not come to look at. It then gets its turn, and is silent no more. */
bool loop_hears(struct loop *loop, struct connection *connection);

/* Tells the other loops since when a connection of this one has been idle; done in each turn. */
void loop_publish_idle(struct loop *loop);

/* Gives a connection to another loop, which loop_wake_others() wakes. */
void loop_pass(struct loop *other, struct connection *connection);

/* Wakes the loops that have got connections, once each; at the end of each turn at the latest. */
void loop_wake_others(struct loop *loop);

/* Makes an eventfd readable. Any thread. */
void loop_wake(int eventfd);

/* Frees a connection that is finished, or keeps its memory for loop_allocate_connection(). */
void loop_free_connection(struct loop *loop, struct connection *connection);
struct connection *loop_allocate_connection(struct loop *loop); /* NULL: out of memory */

/* ---- accept.c ---- */

bool loop_watch_listeners(struct loop *loop); /* before the thread starts, too */
void loop_unwatch_listeners(struct loop *loop);
void loop_change_listeners(struct loop *loop, struct listeners *next);
void loop_leave_listeners(struct loop *loop);
void loop_accept(struct loop *loop, size_t listener); /* what waits at that listener */
void loop_accept_again(struct loop *loop);            /* after a pause */

/* Takes a new connection, which another loop may have accepted; or passes it on, because another
 * loop has a connection to close for it. */
void loop_admit(struct loop *loop, struct connection *connection);

#endif
