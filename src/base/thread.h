/*
 * Starts threads, each with a name of its own.
 *
 * `top -H`, `ps -L`, gdb and perf show the name. A new thread blocks all signals for two reasons:
 * the process's signals are for the one thread that waits for them (cmd/serve.c), and a write to a
 * peer that left must fail with EPIPE instead of ending the process by SIGPIPE. Only the signals
 * that a thread raises by its own fault (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT)
 * stay unblocked, so that a sanitizer can report them.
 */
#ifndef BASE_THREAD_H
#define BASE_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include "base/error.h"

enum {
    /* The stack of a thread of ours, in bytes. It is virtual memory: a page that is never touched
     * costs nothing. A TLS handshake takes some 20 KiB of it. */
    THREAD_STACK = 256 << 10,
    /* As large as the system gives a process's first thread (ulimit -s), usually 8 MiB. */
    THREAD_STACK_SYSTEM = 0,
    THREAD_NAME_SIZE = 16, /* Linux keeps 15 characters and the NUL */
};

/*
 * Starts a thread that calls `run(argument)` and ends when `run` returns. `name` has at most 15
 * characters and is copied. The caller must call pthread_join(*thread, NULL) in the end; `*thread`
 * is set before the function returns, but perhaps after `run` has begun. The new thread works for
 * the caller's trace (base/trace.h). Any thread may call this.
 *
 * False: no thread was started and `run` will not be called (ERROR_MEMORY, or ERROR_IO when the
 * system's limit on threads is reached); what `argument` points to is still the caller's.
 */
bool thread_start(const char *name, size_t stack_bytes, void (*run)(void *argument), void *argument,
                  pthread_t *thread, struct error *error);

/*
 * The same for short work that nobody joins: the caller needs a way of its own to learn of its end.
 * The stack has THREAD_STACK bytes. Once threads may rest, a thread that has done such work waits a
 * few seconds for the next, so that this costs a wakeup instead of a new thread. A server that many
 * clients ask for what is cold starts thousands a second.
 */
bool thread_start_detached(const char *name, void (*run)(void *argument), void *argument,
                           struct error *error);

/* Lets the calling thread, and none that it starts, come before others that want a processor: its
 * nice value becomes lower by `by`. False: the system does not allow it (RLIMIT_NICE,
 * CAP_SYS_NICE), and nothing has changed. */
bool thread_raise(int by);

/* From now on detached threads may rest. A process that gives up rights calls this afterwards,
 * because a thread keeps the rights with which it began (cmd/confine.h). */
void thread_allow_rest(void);

/* How many threads rest now. */
unsigned thread_count_resting(void);

#endif
