/* Starts threads: name, stack, signal mask, joined or detached. */
#include "base/thread.h"

#include <assert.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include "base/trace.h"

/* What a new thread needs to begin; it frees this itself. */
struct beginning {
    char name[THREAD_NAME_SIZE];
    struct trace trace;
    void (*run)(void *argument);
    void *argument;
};

static void *begin(void *context) {
    struct beginning beginning = *(struct beginning *)context;
    free(context);
    pthread_setname_np(pthread_self(), beginning.name);
    trace_set(&beginning.trace);
    beginning.run(beginning.argument);
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
 * can reach it before it has blocked them. */
static int create(struct beginning *beginning, size_t stack_bytes, pthread_t *thread) {
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
        failed = pthread_create(thread ? thread : &unused, &attributes, begin, beginning);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    pthread_attr_destroy(&attributes);
    return failed;
}

bool thread_start(const char *name, size_t stack_bytes, void (*run)(void *argument), void *argument,
                  pthread_t *thread, struct error *error) {
    assert(strlen(name) < THREAD_NAME_SIZE);
    struct beginning *beginning = malloc(sizeof *beginning);
    if (!beginning)
        return error_set(error, ERROR_MEMORY, "no memory to start the thread %s", name);
    *beginning = (struct beginning){.run = run, .argument = argument};
    strncpy(beginning->name, name, sizeof beginning->name - 1);
    beginning->trace = *trace_current();
    int failed = create(beginning, stack_bytes, thread);
    if (!failed)
        return true;
    free(beginning);
    return error_set_errno(error, failed, "starting the thread %s", name);
}
