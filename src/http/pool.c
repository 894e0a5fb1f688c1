#include "http/pool.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>
#include "base/clock.h"
#include "base/log.h"
#include "http/server.h"

enum {
    /* Virtual; what is not touched costs nothing. A TLS handshake takes some 20 KiB of it. */
    STACK_SIZE = 256 << 10,
    IDLE_WORKER_MS = 10000,
    SHORT_LINGER_MS = 20, /* when more than half of the workers are taken */
};

struct worker {
    pthread_t thread;
    struct pool *pool;
    struct worker *prev, *next;
};

void pool_init(struct pool *pool, struct http_server *server, unsigned max_workers) {
    *pool = (struct pool){.server = server, .max_workers = max_workers};
    pthread_mutex_init(&pool->line_lock, NULL);
    pthread_cond_init(&pool->line_moved, NULL);
}

/* ---- a worker ---- */

static void serve(struct http_server *server, struct connection *connection) {
    enum connection_fate fate = connection_serve(connection, server);
    switch (fate) {
    case CONNECTION_PARK:
        server_park(server, connection);
        break;
    case CONNECTION_LINE_UP:
        pool_line_up(&server->pool, connection);
        break;
    case CONNECTION_FINISH:
        server_finish(server, connection);
        break;
    case CONNECTION_CLOSE:
        server_close(server, connection);
        break;
    }
}

/* Waits for a connection, under line_lock. NULL: the worker ends. */
static struct connection *next_in_line(struct pool *pool) {
    struct timespec deadline = clock_deadline(IDLE_WORKER_MS);
    while (!pool->line && !pool->ending) {
        pool->idle++;
        int waited =
            pthread_cond_clockwait(&pool->line_moved, &pool->line_lock, CLOCK_MONOTONIC, &deadline);
        pool->idle--;
        if (waited == ETIMEDOUT && !pool->line)
            return NULL;
    }
    struct connection *first = pool->line;
    if (first) {
        DL_DELETE2(pool->line, first, line_prev, line_next);
        atomic_fetch_sub(&pool->line_length, 1);
    }
    return first;
}

static void *work(void *argument) {
    struct worker *worker = argument;
    struct pool *pool = worker->pool;
    pthread_mutex_lock(&pool->line_lock);
    for (;;) {
        struct connection *connection = next_in_line(pool);
        if (!connection)
            break;
        pthread_mutex_unlock(&pool->line_lock);
        serve(pool->server, connection);
        pthread_mutex_lock(&pool->line_lock);
    }
    atomic_fetch_sub(&pool->worker_count, 1);
    DL_DELETE(pool->workers, worker);
    DL_APPEND(pool->finished, worker);
    pthread_mutex_unlock(&pool->line_lock);
    return NULL;
}

/* Starts a thread that no signal is delivered to: they are the process's own threads' to handle,
 * and a client that left must not end us by SIGPIPE. */
static int start_thread(struct worker *worker) {
    pthread_attr_t attributes;
    sigset_t all, before;
    sigfillset(&all);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_SIZE);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failure = pthread_create(&worker->thread, &attributes, work, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return failure;
}

/* Under line_lock, which the new worker takes first, so that it finds itself complete. */
static void start_worker(struct pool *pool) {
    struct worker *worker = calloc(1, sizeof *worker);
    if (!worker)
        return;
    worker->pool = pool;
    int failure = start_thread(worker);
    if (failure != 0) {
        log_at(LOG_WARN, "cannot start a worker thread", LOG_STRING("error", strerror(failure)),
               LOG_NUMBER("workers", atomic_load(&pool->worker_count)));
        free(worker);
        return;
    }
    atomic_fetch_add(&pool->worker_count, 1);
    DL_APPEND(pool->workers, worker);
}

/* ---- the line ---- */

void pool_line_up(struct pool *pool, struct connection *connection) {
    connection->in_line_since_ms = clock_ms();
    pthread_mutex_lock(&pool->line_lock);
    DL_APPEND2(pool->line, connection, line_prev, line_next);
    unsigned length = atomic_fetch_add(&pool->line_length, 1) + 1;
    if (length > pool->idle && atomic_load(&pool->worker_count) < pool->max_workers)
        start_worker(pool);
    else
        pthread_cond_signal(&pool->line_moved);
    pthread_mutex_unlock(&pool->line_lock);
}

struct connection *pool_take_overdue(struct pool *pool, int64_t since_ms) {
    pthread_mutex_lock(&pool->line_lock);
    struct connection *first = pool->line;
    if (first && first->in_line_since_ms < since_ms) {
        DL_DELETE2(pool->line, first, line_prev, line_next);
        atomic_fetch_sub(&pool->line_length, 1);
    } else {
        first = NULL;
    }
    pthread_mutex_unlock(&pool->line_lock);
    return first;
}

bool pool_is_empty(struct pool *pool) {
    pthread_mutex_lock(&pool->line_lock);
    bool empty = !pool->workers && !pool->finished;
    pthread_mutex_unlock(&pool->line_lock);
    return empty;
}

bool pool_is_short(const struct pool *pool) {
    return atomic_load_explicit(&pool->line_length, memory_order_relaxed) > 0 &&
           atomic_load_explicit(&pool->worker_count, memory_order_relaxed) >= pool->max_workers;
}

int pool_linger_ms(const struct pool *pool) {
    if (pool_is_short(pool))
        return 0;
    unsigned workers = atomic_load_explicit(&pool->worker_count, memory_order_relaxed);
    return workers > pool->max_workers / 2 ? SHORT_LINGER_MS : POOL_LINGER_MS;
}

void pool_figures(struct pool *pool, unsigned *workers, unsigned *busy) {
    pthread_mutex_lock(&pool->line_lock);
    *workers = atomic_load(&pool->worker_count);
    *busy = *workers - pool->idle;
    pthread_mutex_unlock(&pool->line_lock);
}

/* ---- the end ---- */

void pool_reap(struct pool *pool) {
    pthread_mutex_lock(&pool->line_lock);
    struct worker *finished = pool->finished;
    pool->finished = NULL;
    pthread_mutex_unlock(&pool->line_lock);
    struct worker *worker, *following;
    DL_FOREACH_SAFE (finished, worker, following) {
        pthread_join(worker->thread, NULL);
        free(worker);
    }
}

void pool_end(struct pool *pool) {
    pthread_mutex_lock(&pool->line_lock);
    pool->ending = true;
    pthread_cond_broadcast(&pool->line_moved);
    pthread_mutex_unlock(&pool->line_lock);
    while (atomic_load(&pool->worker_count) > 0) {
        pool_reap(pool);
        clock_sleep_ms(1);
    }
    pool_reap(pool);
}

void pool_destroy(struct pool *pool) {
    pthread_cond_destroy(&pool->line_moved);
    pthread_mutex_destroy(&pool->line_lock);
}
