/*
 * The workers, and the line of connections that wait for one. Workers are started when the line
 * needs them, up to a limit, and end when nothing comes for a while.
 */
#ifndef HTTP_POOL_H
#define HTTP_POOL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "http/connection.h"

enum { POOL_LINGER_MS = 1000 }; /* the longest that a worker waits for a next request */

struct worker;

struct pool {
    struct http_server *server;
    unsigned max_workers;
    pthread_mutex_t line_lock;
    pthread_cond_t line_moved; /* a connection joined the line, or the end has come */
    /* Guarded by line_lock: */
    struct connection *line;
    struct worker *workers;  /* running */
    struct worker *finished; /* ended, to be joined */
    unsigned idle;
    bool ending;
    /* Changed under line_lock, read without: */
    atomic_uint line_length, worker_count;
};

void pool_init(struct pool *pool, struct http_server *server, unsigned max_workers);
/* Lets the workers end and joins them all. The line must be empty. */
void pool_end(struct pool *pool);
void pool_destroy(struct pool *pool);

/* Puts a connection into the line; the pool's until a worker has served it. */
void pool_line_up(struct pool *pool, struct connection *connection);

/* Takes the connection that waits longest out of the line, if it joined before `since_ms`. */
struct connection *pool_take_overdue(struct pool *pool, int64_t since_ms);

/* Joins workers that have ended. */
void pool_reap(struct pool *pool);

/* Whether there are neither workers nor any that pool_reap() has yet to join. */
bool pool_is_empty(struct pool *pool);

/* Whether connections wait and no further worker can be started for them. */
bool pool_is_short(const struct pool *pool);

/* How long a worker may wait for the next request of the connection it has. */
int pool_linger_ms(const struct pool *pool);

/* All workers, and those that have a connection. */
void pool_figures(struct pool *pool, unsigned *workers, unsigned *busy);

#endif
