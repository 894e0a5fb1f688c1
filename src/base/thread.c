/* Starts threads: name, stack, signal mask; detached ones rest and work again. */
#include "base/thread.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <utlist.h>
#include "base/clock.h"
#include "base/lock.h"
#include "base/trace.h"

enum {
    /* How long a thread rests: longer than the pauses of a busy server, and short enough that the
     * stacks of a burst are soon given back. */
    REST_MS = 5000,
    REST_LIMIT = 64, /* threads at rest; a further one ends */
};

/* Work for a thread. */
struct work {
    char name[THREAD_NAME_SIZE];
    struct trace trace;
    void (*run)(void *argument);
    void *argument;
    int raised; /* the nice value by which the starting thread is raised; its new thread is not */
};

/* A thread at rest; it lies on that thread's stack. */
struct rest {
    struct condition woken;
    bool has_work;
    struct work work; /* what the thread is woken for */
    struct rest *next;
};

static struct {
    struct lock lock;
    bool allowed GUARDED_BY(lock);
    unsigned count GUARDED_BY(lock);
    struct rest *
        last GUARDED_BY(lock); /* the last to rest is the first to work: its stack is warm */
} resting = {.lock = LOCK_INITIALIZER};

void thread_allow_rest(void) {
    lock_acquire(&resting.lock);
    resting.allowed = true;
    lock_release(&resting.lock);
}

unsigned thread_count_resting(void) {
    lock_acquire(&resting.lock);
    unsigned count = resting.count;
    lock_release(&resting.lock);
    return count;
}

static _Thread_local int raised; /* by thread_raise() */

/* Lowers the calling thread's nice value; a negative `by` raises the value. */
static bool change_nice(int by) {
    const id_t self = (id_t)gettid();
    errno = 0;
    int nice = getpriority(PRIO_PROCESS, self); /* on Linux, a thread has a value of its own */
    return (nice != -1 || errno == 0) && setpriority(PRIO_PROCESS, self, nice - by) == 0;
}

bool thread_raise(int by) {
    if (!change_nice(by))
        return false;
    raised += by;
    return true;
}

/* In a new thread, which has inherited the nice value of the thread that started it. */
static void settle_nice(const struct work *work) {
    if (work->raised)
        change_nice(-work->raised);
}

static void do_work(const struct work *work) {
    pthread_setname_np(pthread_self(), work->name);
    trace_set(&work->trace);
    work->run(work->argument);
}

static void leave_list(struct rest *rest) REQUIRES(resting.lock) {
    LL_DELETE(resting.last, rest);
    resting.count--;
}

/* Waits for work, and writes it to *work. False: the thread shall end. */
static bool take_rest(struct work *work) {
    struct rest rest = {.has_work = false};
    pthread_setname_np(pthread_self(), "resting");
    lock_acquire(&resting.lock);
    if (!resting.allowed || resting.count == REST_LIMIT) {
        lock_release(&resting.lock);
        return false;
    }
    condition_init(&rest.woken);
    LL_PREPEND(resting.last, &rest);
    resting.count++;
    int64_t until_ms = clock_ms() + REST_MS;
    while (!rest.has_work && clock_ms() < until_ms)
        condition_wait_until(&rest.woken, &resting.lock, until_ms);
    if (!rest.has_work)
        leave_list(&rest);
    lock_release(&resting.lock);
    condition_finish(&rest.woken);
    *work = rest.work;
    return rest.has_work;
}

/* Hands the work to a thread at rest. False: none rests. */
static bool wake(const struct work *work) {
    lock_acquire(&resting.lock);
    struct rest *rest = resting.last;
    if (rest) {
        leave_list(rest);
        rest->work = *work;
        rest->has_work = true;
        condition_signal(&rest->woken);
    }
    lock_release(&resting.lock);
    return rest != NULL;
}

static void *run_once(void *context) {
    struct work work = *(struct work *)context;
    free(context);
    settle_nice(&work);
    do_work(&work);
    return NULL;
}

static void *run_detached(void *context) {
    struct work work = *(struct work *)context;
    free(context);
    settle_nice(&work);
    do
        do_work(&work);
    while (take_rest(&work));
    return NULL;
}

/* Selects all signals except those that a thread raises by its own fault. */
static void fill_blocked(sigset_t *blocked) {
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};
    sigfillset(blocked);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        sigdelset(blocked, faults[i]);
}

/* An errno value, or 0. A new thread inherits the mask of the thread that starts it, so no signal
 * can reach it before it has blocked them. With `thread` NULL it is detached. */
static int create(struct work *work, size_t stack_bytes, pthread_t *thread) {
    pthread_t unused;
    pthread_attr_t attributes;
    sigset_t blocked, before;
    int failed = pthread_attr_init(&attributes);
    if (failed)
        return failed;
    if (stack_bytes)
        failed = pthread_attr_setstacksize(&attributes, stack_bytes);
    if (!failed && !thread)
        failed = pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    if (!failed) {
        fill_blocked(&blocked);
        pthread_sigmask(SIG_SETMASK, &blocked, &before);
        failed = pthread_create(thread ? thread : &unused, &attributes,
                                thread ? run_once : run_detached, work);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    pthread_attr_destroy(&attributes);
    return failed;
}

static struct work work_for(const char *name, void (*run)(void *argument), void *argument) {
    struct work work = {.run = run, .argument = argument, .raised = raised};
    assert(strlen(name) < THREAD_NAME_SIZE);
    strncpy(work.name, name, sizeof work.name - 1);
    work.trace = *trace_current();
    return work;
}

static bool start(const struct work *work, size_t stack_bytes, pthread_t *thread,
                  struct error *error) {
    struct work *copy = malloc(sizeof *copy);
    if (!copy)
        return error_set(error, ERROR_MEMORY, "no memory to start the thread %s", work->name);
    *copy = *work;
    int failed = create(copy, stack_bytes, thread);
    if (!failed)
        return true;
    free(copy);
    return error_set_errno(error, failed, "starting the thread %s", work->name);
}

bool thread_start(const char *name, size_t stack_bytes, void (*run)(void *argument), void *argument,
                  pthread_t *thread, struct error *error) {
    struct work work = work_for(name, run, argument);
    return start(&work, stack_bytes, thread, error);
}

bool thread_start_detached(const char *name, void (*run)(void *argument), void *argument,
                           struct error *error) {
    struct work work = work_for(name, run, argument);
    return wake(&work) || start(&work, THREAD_STACK, NULL, error);
}
