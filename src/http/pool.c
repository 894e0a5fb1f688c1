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
    /* Written under line_lock and rest_lock, and read under either. */
    bool is_called;
    struct lock rest_lock; /* taken under line_lock, too */
    struct condition called_up;
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

static void report_refused(const struct pool *pool, const struct error *error) {
    log_at(LOG_WARN, "cannot start a worker thread", LOG_STRING("error", error->text),
           LOG_NUMBER("workers", atomic_load(&pool->worker_count)));
}

/* ---- calling workers ---- */

static void free_worker(struct worker *worker) {
    condition_finish(&worker->called_up);
    lock_finish(&worker->rest_lock);
    free(worker);
}

static void leave_rest(struct pool *pool, struct worker *worker) REQUIRES(pool->line_lock) {
    DL_DELETE2(pool->resting, worker, rest_prev, rest_next);
}

static void call_up(struct pool *pool, struct worker *worker) REQUIRES(pool->line_lock) {
    leave_rest(pool, worker);
    pool->coming++;
    lock_acquire(&worker->rest_lock);
    worker->is_called = true;
    condition_signal(&worker->called_up);
    lock_release(&worker->rest_lock);
}

static bool start_worker(struct pool *pool, struct error *error) REQUIRES(pool->line_lock);

/* Calls a worker that rests, or starts one, unless enough are coming. False: the system refused a
 * thread, which is logged. */
static bool call_worker(struct pool *pool) REQUIRES(pool->line_lock) {
    struct error error = {0};
    if (atomic_load(&pool->line_length) <= pool->coming)
        return true;
    if (pool->resting) {
        call_up(pool, pool->resting);
        return true;
    }
    if (atomic_load(&pool->worker_count) >= pool->settings.most_workers ||
        start_worker(pool, &error))
        return true;
    report_refused(pool, &error);
    return false;
}

/* ---- at the line ---- */

/* Puts those that have arrived at the end of the line. */
static void take_arrived(struct pool *pool) REQUIRES(pool->line_lock) {
    struct pool_task *last_first = atomic_exchange(&pool->arrived, NULL), *first = NULL;
    while (last_first) {
        struct pool_task *next = last_first->next;
        last_first->next = first;
        first = last_first;
        last_first = next;
    }
    while (first) {
        struct pool_task *next = first->next;
        DL_APPEND(pool->line, first);
        first = next;
    }
}

/* Releases line_lock. Whoever arrives meanwhile and finds the lock taken relies on this function to
 * look once more. */
static void leave_line(struct pool *pool) RELEASE(pool->line_lock);
static void leave_line(struct pool *pool) {
    lock_release(&pool->line_lock);
    while (atomic_load(&pool->arrived) && lock_try(&pool->line_lock)) {
        take_arrived(pool);
        call_worker(pool);
        lock_release(&pool->line_lock);
    }
}

static void remove_from_line(struct pool *pool, struct pool_task *task) REQUIRES(pool->line_lock) {
    DL_DELETE(pool->line, task);
    atomic_fetch_sub(&pool->line_length, 1);
}

/* ---- a worker ---- */

/* Waits until the worker is called. False: it was not called for a while. */
static bool rest(struct pool *pool, struct worker *worker) REQUIRES(pool->line_lock) {
    int64_t deadline = clock_ms() + IDLE_WORKER_MS;
    bool in_time = true;
    worker->is_called = false;
    DL_PREPEND2(pool->resting, worker, rest_prev, rest_next);
    leave_line(pool);
    lock_acquire(&worker->rest_lock);
    while (!worker->is_called && in_time)
        in_time = condition_wait_until(&worker->called_up, &worker->rest_lock, deadline);
    lock_release(&worker->rest_lock);
    lock_acquire(&pool->line_lock);
    if (worker->is_called)
        pool->coming--;
    else
        leave_rest(pool, worker);
    return worker->is_called;
}

/* The first task of the line, after calling further workers for the others. NULL: there is none. */
static struct pool_task *take_first(struct pool *pool) REQUIRES(pool->line_lock) {
    take_arrived(pool);
    struct pool_task *first = pool->line;
    if (!first)
        return NULL;
    remove_from_line(pool, first);
    for (int i = 0; i < CALLS_MOST && call_worker(pool); i++)
        ;
    return first;
}

/* Waits for a task. NULL: the worker ends. */
static struct pool_task *next_in_line(struct pool *pool, struct worker *worker)
    REQUIRES(pool->line_lock) {
    struct pool_task *task = take_first(pool);
    bool is_called = true;
    while (!task && is_called && !pool->ending) {
        is_called = rest(pool, worker);
        task = take_first(pool);
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
        leave_line(pool);
        pool->settings.serve(pool->settings.context, task);
        lock_acquire(&pool->line_lock);
    }
    DL_DELETE(pool->workers, worker);
    DL_APPEND(pool->finished, worker);
    if (atomic_fetch_sub(&pool->worker_count, 1) == 1)
        condition_broadcast(&pool->workers_ended);
    leave_line(pool);
}

/* The new worker takes line_lock first, so that it finds itself in the list of workers. */
static bool start_worker(struct pool *pool, struct error *error) {
    struct worker *worker = calloc(1, sizeof *worker);
    bool started = worker || error_set(error, ERROR_MEMORY, "no memory for a worker");
    if (started) {
        worker->pool = pool;
        lock_init(&worker->rest_lock);
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

/* Adds tasks to those that have arrived. */
static void arrive(struct pool *pool, struct pool_task *tasks) {
    int64_t now_ms = clock_ms();
    while (tasks) {
        struct pool_task *task = tasks;
        tasks = task->next;
        task->in_line_since_ms = now_ms;
        atomic_fetch_add(&pool->line_length, 1);
        struct pool_task *before = atomic_load(&pool->arrived);
        do
            task->next = before;
        while (!atomic_compare_exchange_weak(&pool->arrived, &before, task));
    }
}

void pool_line_up(struct pool *pool, struct pool_task *tasks) {
    arrive(pool, tasks);
    if (!lock_try(&pool->line_lock))
        return;
    take_arrived(pool);
    call_worker(pool);
    leave_line(pool);
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
    for (unsigned i = 0; i < pool->coming && first; i++)
        first = first->next;
    while (first && first->is_patient)
        first = first->next;
    if (first && first->in_line_since_ms < since_ms)
        remove_from_line(pool, first);
    else
        first = NULL;
    leave_line(pool);
    return first;
}

bool pool_is_stable(struct pool *pool) {
    lock_acquire(&pool->line_lock);
    bool stable = atomic_load(&pool->worker_count) == 0 && !pool->finished &&
                  atomic_load(&pool->line_length) == 0;
    leave_line(pool);
    return stable;
}

/* ---- beginning and end ---- */

void pool_tend(struct pool *pool) {
    lock_acquire(&pool->line_lock);
    if (pool->line && atomic_load(&pool->start_failed) &&
        atomic_load(&pool->worker_count) < pool->settings.most_workers)
        start_worker(pool, NULL);
    struct worker *finished = pool->finished;
    pool->finished = NULL;
    leave_line(pool);
    struct worker *worker, *following;
    DL_FOREACH_SAFE (finished, worker, following) {
        pthread_join(worker->thread, NULL);
        free_worker(worker);
    }
}

void pool_stop(struct pool *pool) {
    lock_acquire(&pool->line_lock);
    pool->ending = true;
    while (pool->resting)
        call_up(pool, pool->resting);
    while (pool->workers)
        condition_wait(&pool->workers_ended, &pool->line_lock);
    lock_release(&pool->line_lock);
    pool_tend(pool);
}
