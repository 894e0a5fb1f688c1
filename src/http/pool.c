/* Worker threads that are started when they are needed, and the line of tasks that wait for one. */
#include "http/pool.h"

#include <stdlib.h>
#include <utlist.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"

enum {
    IDLE_WORKER_MS = 10000,
    CALLS_MOST = 2, /* workers that one worker calls to the line */
};

struct worker {
    pthread_t thread;
    struct pool *pool;
    struct worker *prev, *next;
    struct condition called_up; /* it is called, or the pool ends */
    bool is_called;
    struct worker *rest_prev, *rest_next;
};

void pool_init(struct pool *pool, const struct pool_settings *settings) {
    *pool = (struct pool){.settings = *settings};
    lock_init(&pool->line_lock);
    condition_init(&pool->workers_ended);
}

void pool_finish(struct pool *pool) {
    condition_finish(&pool->workers_ended);
    lock_finish(&pool->line_lock);
}

/* ---- a worker ---- */

static void remove_from_line(struct pool *pool, struct pool_task *task) REQUIRES(pool->line_lock) {
    DL_DELETE(pool->line, task);
    atomic_fetch_sub(&pool->line_length, 1);
}

static void free_worker(struct worker *worker) {
    condition_finish(&worker->called_up);
    free(worker);
}

static void leave_rest(struct pool *pool, struct worker *worker) REQUIRES(pool->line_lock) {
    DL_DELETE2(pool->resting, worker, rest_prev, rest_next);
    atomic_fetch_sub(&pool->idle, 1);
}

/* Waits until the worker is called. Returns at once when the pool ends, and after a while without a
 * call. */
static void rest(struct pool *pool, struct worker *worker) REQUIRES(pool->line_lock) {
    int64_t deadline = clock_ms() + IDLE_WORKER_MS;
    bool in_time = true;
    worker->is_called = false;
    DL_PREPEND2(pool->resting, worker, rest_prev, rest_next);
    atomic_fetch_add(&pool->idle, 1);
    while (!worker->is_called && !pool->ending && in_time)
        in_time = condition_wait_until(&worker->called_up, &pool->line_lock, deadline);
    if (worker->is_called)
        pool->coming--;
    else
        leave_rest(pool, worker);
}

static bool start_worker(struct pool *pool, struct error *error) REQUIRES(pool->line_lock);

/* Calls a worker that rests, or starts one, unless enough are coming. False: the system refused a
 * thread. */
static bool call_worker(struct pool *pool, struct error *error) REQUIRES(pool->line_lock) {
    struct worker *worker = pool->resting;
    if (atomic_load(&pool->line_length) <= pool->coming)
        return true;
    if (worker) {
        leave_rest(pool, worker);
        worker->is_called = true;
        pool->coming++;
        condition_signal(&worker->called_up);
        return true;
    }
    return atomic_load(&pool->worker_count) >= pool->settings.most_workers ||
           start_worker(pool, error);
}

static void report_refused(const struct pool *pool, const struct error *error) {
    log_at(LOG_WARN, "cannot start a worker thread", LOG_STRING("error", error->text),
           LOG_NUMBER("workers", atomic_load(&pool->worker_count)));
}

/* The first task of the line, after calling further workers for the others. NULL: there is none. */
static struct pool_task *take_first(struct pool *pool) REQUIRES(pool->line_lock) {
    struct pool_task *first = pool->line;
    struct error error = {0};
    bool called = true;
    if (!first)
        return NULL;
    remove_from_line(pool, first);
    for (int i = 0; i < CALLS_MOST && called; i++)
        called = call_worker(pool, &error);
    if (!called)
        report_refused(pool, &error);
    return first;
}

/* Waits for a task. NULL: the worker ends. */
static struct pool_task *next_in_line(struct pool *pool, struct worker *worker)
    REQUIRES(pool->line_lock) {
    struct pool_task *task = take_first(pool);
    while (!task && !pool->ending) {
        rest(pool, worker);
        task = take_first(pool);
        if (!task && !worker->is_called)
            break;
    }
    return task;
}

static void work(void *argument) {
    struct worker *worker = argument;
    struct pool *pool = worker->pool;
    lock_acquire(&pool->line_lock);
    pool->coming--;
    for (;;) {
        struct pool_task *task = next_in_line(pool, worker);
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
static bool start_worker(struct pool *pool, struct error *error) {
    struct worker *worker = calloc(1, sizeof *worker);
    bool started = worker || error_set(error, ERROR_MEMORY, "no memory for a worker");
    if (started) {
        worker->pool = pool;
        condition_init(&worker->called_up);
        started =
            thread_start(pool->settings.name, THREAD_STACK, work, worker, &worker->thread, error);
    }
    atomic_store(&pool->start_failed, !started);
    if (!started) {
        if (worker)
            free_worker(worker);
        return false;
    }
    pool->coming++;
    atomic_fetch_add(&pool->worker_count, 1);
    DL_APPEND(pool->workers, worker);
    return true;
}

/* ---- the line ---- */

void pool_line_up(struct pool *pool, struct pool_task *tasks) {
    struct error error = {0};
    int64_t now_ms = clock_ms();
    unsigned count = 0;
    for (struct pool_task *task = tasks; task; task = task->next) {
        task->in_line_since_ms = now_ms;
        count++;
    }
    lock_acquire(&pool->line_lock);
    DL_CONCAT(pool->line, tasks);
    atomic_fetch_add(&pool->line_length, count);
    bool called = call_worker(pool, &error);
    lock_release(&pool->line_lock);
    if (!called)
        report_refused(pool, &error);
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
        free_worker(worker);
    }
}

void pool_stop(struct pool *pool) {
    lock_acquire(&pool->line_lock);
    pool->ending = true;
    struct worker *resting;
    DL_FOREACH2(pool->resting, resting, rest_next)
    condition_signal(&resting->called_up);
    while (pool->workers)
        condition_wait(&pool->workers_ended, &pool->line_lock);
    lock_release(&pool->line_lock);
    pool_tend(pool);
}
