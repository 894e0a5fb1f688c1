/* Makes many small requests at once. */
#include "base/jobs.h"

#include "base/thread.h"

/* The next one to be done. False: there is none. */
static bool take_next(struct jobs *jobs, size_t *number) {
    lock_acquire(&jobs->state_lock);
    bool is_left = !jobs->failed && jobs->next < jobs->count;
    *number = jobs->next;
    jobs->next += is_left;
    lock_release(&jobs->state_lock);
    return is_left;
}

/* A job that fails may cancel the others, which then say no more than that. */
static void fail(struct jobs *jobs, const struct error *error) {
    lock_acquire(&jobs->state_lock);
    if (!jobs->failed || (jobs->error.kind == ERROR_CLOSED && error->kind != ERROR_CLOSED))
        jobs->error = *error;
    jobs->failed = true;
    lock_release(&jobs->state_lock);
}

static void work(void *context) {
    struct jobs *jobs = context;
    struct error error = {0};
    size_t number;
    while (take_next(jobs, &number)) {
        if (!cancel_check(jobs->cancel, &error) || !jobs->work(jobs, number, &error))
            fail(jobs, &error);
    }
}

bool jobs_run(struct jobs *jobs, struct error *error) {
    pthread_t threads[JOBS_LIMIT];
    unsigned started = 0, wanted = jobs->at_once < JOBS_LIMIT ? jobs->at_once : JOBS_LIMIT;
    lock_init(&jobs->state_lock);
    jobs->next = 0;
    jobs->failed = false;
    /* Without a thread more, those that there are do the work. */
    while (started + 1 < wanted && started + 1 < jobs->count &&
           thread_start(jobs->name, THREAD_STACK, work, jobs, &threads[started], NULL))
        started++;
    work(jobs);
    for (unsigned i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    bool ok = !jobs->failed;
    if (!ok && error)
        *error = jobs->error;
    lock_finish(&jobs->state_lock);
    return ok;
}
