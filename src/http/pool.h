/*
 * A pool of worker threads, and the line of tasks that wait for a worker.
 *
 * A task is a member of the struct that a worker works on. The pool calls `serve` with the task on
 * a worker, and knows nothing else about it. Workers are started when the line needs them, up to a
 * limit, and a worker that gets no task for a while ends. The worker that has rested for the
 * shortest time comes first, because its stack is still in the processor's cache.
 *
 * Threads: pool_stop() and pool_tend() belong to the thread that owns the pool; every other
 * function may be called by any thread.
 */
#ifndef HTTP_POOL_H
#define HTTP_POOL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "base/lock.h"

struct pool_task {
    /* Guarded by the pool's line_lock. */
    struct pool_task *prev, *next; /* and of the caller before it joins the line */
    int64_t in_line_since_ms;
    bool is_patient; /* set before it joins the line: it is never overdue */
};

struct pool_settings {
    const char *name; /* of the threads, at most 15 characters; not copied */
    unsigned most_workers;
    void (*serve)(void *context, struct pool_task *task); /* owns the task from now on */
    void *context;
};

struct worker;

struct pool {
    struct pool_settings settings;
    _Atomic(struct pool_task *) arrived; /* to join the line, the last one first */
    struct lock line_lock;
    struct condition workers_ended; /* no worker is left */
    struct pool_task *line GUARDED_BY(line_lock);
    struct worker *resting GUARDED_BY(line_lock);  /* those without a task, the last one first */
    unsigned coming GUARDED_BY(line_lock);         /* called or started, and not yet at the line */
    struct worker *workers GUARDED_BY(line_lock);  /* running */
    struct worker *finished GUARDED_BY(line_lock); /* ended, to be joined */
    bool ending GUARDED_BY(line_lock);
    /* Changed under line_lock, and read without it where an old value does no harm. */
    atomic_uint line_length; /* with those that arrive */
    atomic_uint worker_count;
    atomic_bool start_failed; /* the system refused the last thread */
};

void pool_init(struct pool *pool, const struct pool_settings *settings);

/* Lets all workers end and joins them. The line must be empty, and no task may join it any more. */
void pool_stop(struct pool *pool);
void pool_finish(struct pool *pool);

/*
 * Puts tasks at the end of the line: a list of utlist's DL kind.
 *
 * The caller wakes or starts one worker at most; that one, and each that comes after it, calls two
 * more while tasks wait. So a loop that lines up many tasks is interrupted once and not by each of
 * their workers. It never waits: when another thread is at the line, that thread lines up the tasks
 * when it leaves. On a busy machine such a thread may have to wait for a processor.
 */
void pool_line_up(struct pool *pool, struct pool_task *tasks);

/*
 * Takes the task that waits longest out of the line, of those for which no worker is coming, if it
 * joined before `since_ms`, is not patient, and no further worker can be started. NULL otherwise:
 * while a worker is on its way to a task, only the machine is slow.
 */
struct pool_task *pool_take_overdue(struct pool *pool, int64_t since_ms);

/* Joins workers that have ended. Tries again to start a worker for a task that waits because the
 * system refused a thread. */
void pool_tend(struct pool *pool);

/* Whether no task waits, no worker can end and none is to be joined, so that nobody needs to call
 * pool_tend(). */
bool pool_is_stable(struct pool *pool);

#endif
