/* Worker threads that are started when they are needed, and the line of tasks that wait for one. */
#include "http/pool.h"

#include <stdlib.h>
#include <utlist.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"

enum { IDLE_WORKER_MS = 10000 };

struct worker {
    pthread_t thread;
    struct pool *pool;
    struct worker *prev, *next;
};

void pool_init(struct pool *pool, const struct pool_settings *settings) {
    *pool = (struct pool){.settings = *settings};
    lock_init(&pool->line_lock);
    condition_init(&pool->line_moved);
    condition_init(&pool->workers_ended);
}

void pool_finish(struct pool *pool) {
    condition_finish(&pool->workers_ended);
    condition_finish(&pool->line_moved);
    lock_finish(&pool->line_lock);
}

/* ---- a worker ---- */

static void remove_from_line(struct pool *pool, struct pool_task *task) REQUIRES(pool->line_lock) {
    DL_DELETE(pool->line, task);
    atomic_fetch_sub(&pool->line_length, 1);
}

/* Waits for a task. NULL: the worker ends. */
static struct pool_task *next_in_line(struct pool *pool) REQUIRES(pool->line_lock) {
    int64_t deadline = clock_ms() + IDLE_WORKER_MS;
    while (!pool->line && !pool->ending) {
        atomic_fetch_add(&pool->idle, 1);
        bool in_time = condition_wait_until(&pool->line_moved, &pool->line_lock, deadline);
        atomic_fetch_sub(&pool->idle, 1);
        if (!in_time && !pool->line)
            return NULL;
    }
    struct pool_task *first = pool->line;
    if (first)
        remove_from_line(pool, first);
    return first;
}

static void work(void *argument) {
    struct worker *worker = argument;
    struct pool *pool = worker->pool;
    lock_acquire(&pool->line_lock);
    for (;;) {
        struct pool_task *task = next_in_line(pool);
        if (!task)
            break;
        lock_release(&pool->line_lock);
        pool->settings.serve(pool->settings.context, task);
        lock_acquire(&pool->line_lock);
    }
    DL_DELETE(pool->workers, worker);
    DL_APPEND(pool->finished, worker);
    if (atomic_fetch_sub(&pool->worker_count, 1) == 1)
        condition_broadcast(&pool->workers_ended);
    lock_release(&pool->line_lock);
}

/* The new worker takes line_lock first, so that it finds itself in the list of workers. */
static bool start_worker(struct pool *pool, struct error *error) REQUIRES(pool->line_lock) {
    struct worker *worker = calloc(1, sizeof *worker);
    bool started = worker || error_set(error, ERROR_MEMORY, "no memory for a worker");
    if (started) {
        worker->pool = pool;
        started =
            thread_start(pool->settings.name, THREAD_STACK, work, worker, &worker->thread, error);
    }
    atomic_store(&pool->start_failed, !started);
    if (!started) {
        free(worker);
        return false;
    }
    atomic_fetch_add(&pool->worker_count, 1);
    DL_APPEND(pool->workers, worker);
    return true;
}

/* ---- the line ---- */

void pool_line_up(struct pool *pool, struct pool_task *task) {
    struct error error = {0};
    bool failed = false;
    lock_acquire(&pool->line_lock);
    task->in_line_since_ms = clock_ms();
    DL_APPEND(pool->line, task);
    unsigned length = atomic_fetch_add(&pool->line_length, 1) + 1;
    unsigned workers = atomic_load(&pool->worker_count);
    if (length > atomic_load(&pool->idle) && workers < pool->settings.most_workers)
        failed = !start_worker(pool, &error);
    else
        condition_signal(&pool->line_moved);
    lock_release(&pool->line_lock);
    if (failed)
        log_at(LOG_WARN, "cannot start a worker thread", LOG_STRING("error", error.text),
               LOG_NUMBER("workers", workers));
}

static bool can_grow(const struct pool *pool) {
    return atomic_load_explicit(&pool->worker_count, memory_order_relaxed) <
               pool->settings.most_workers &&
           !atomic_load_explicit(&pool->start_failed, memory_order_relaxed);
}

struct pool_task *pool_take_overdue(struct pool *pool, int64_t since_ms) {
    if (can_grow(pool))
        return NULL;
    lock_acquire(&pool->line_lock);
    struct pool_task *first = pool->line;
    while (first && first->is_patient)
        first = first->next;
    if (first && first->in_line_since_ms < since_ms)
        remove_from_line(pool, first);
    else
        first = NULL;
    lock_release(&pool->line_lock);
    return first;
}

bool pool_is_stable(struct pool *pool) {
    lock_acquire(&pool->line_lock);
    bool stable = atomic_load(&pool->worker_count) == 0 && !pool->finished && !pool->line;
    lock_release(&pool->line_lock);
    return stable;
}

void pool_figures(struct pool *pool, unsigned *workers, unsigned *busy) {
    lock_acquire(&pool->line_lock);
    *workers = atomic_load(&pool->worker_count);
    *busy = *workers - atomic_load(&pool->idle);
    lock_release(&pool->line_lock);
}

/* ---- beginning and end ---- */

void pool_tend(struct pool *pool) {
    lock_acquire(&pool->line_lock);
    if (pool->line && atomic_load(&pool->start_failed) &&
        atomic_load(&pool->worker_count) < pool->settings.most_workers)
        start_worker(pool, NULL);
    struct worker *finished = pool->finished;
    pool->finished = NULL;
    lock_release(&pool->line_lock);
    struct worker *worker, *following;
    DL_FOREACH_SAFE (finished, worker, following) {
        pthread_join(worker->thread, NULL);
        free(worker);
    }
}

void pool_stop(struct pool *pool) {
    lock_acquire(&pool->line_lock);
    pool->ending = true;
    condition_broadcast(&pool->line_moved);
    while (pool->workers)
        condition_wait(&pool->workers_ended, &pool->line_lock);
    lock_release(&pool->line_lock);
    pool_tend(pool);
}
