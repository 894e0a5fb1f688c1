/* The thread that takes other configurations. */
#include "cmd/reloader.h"

#include <pthread.h>
#include <stdlib.h>
#include <utlist.h>
#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/thread.h"

enum { SWEEP_MS = 5000 };

/* A caller that waits; on the caller's stack. */
struct asked {
    const char *file;
    struct buffer *problems;
    bool begun, done, reloaded;
    struct asked *prev, *next;
};

struct reloader {
    struct reloader_work work;
    pthread_t thread;
    bool runs; /* its thread does */
    struct lock asked_lock;
    struct condition moved;                       /* some of what follows has changed */
    struct asked *waiting GUARDED_BY(asked_lock); /* first come, first served */
    bool signalled GUARDED_BY(asked_lock);
    bool ends GUARDED_BY(asked_lock);
};

/* Waits for something to do. False: the reloader ends. */
static bool wait_for_work(struct reloader *reloader) REQUIRES(reloader->asked_lock);
static bool wait_for_work(struct reloader *reloader) {
    const int64_t until_ms = clock_ms() + SWEEP_MS;
    while (!reloader->ends && !reloader->signalled && !reloader->waiting &&
           condition_wait_until(&reloader->moved, &reloader->asked_lock, until_ms))
        ;
    return !reloader->ends;
}

static void log_problems(struct text problems) {
    while (problems.length) {
        struct text line = text_cut(problems, '\n', &problems);
        log_at(LOG_ERROR, "the configuration was not reloaded, and the one before stays in use",
               LOG_SLICE("error", line));
    }
}

/* Whoever asks, the log has the outcome. */
static bool reload(const struct reloader_work *work, const char *file, struct buffer *problems) {
    if (work->reload(work->context, file, problems))
        return true;
    log_problems((struct text){problems->bytes, problems->length});
    return false;
}

/* The callers' turn comes before the signal's, because they wait. The lock is not held meanwhile.
 */
static void reload_once(struct reloader *reloader) REQUIRES(reloader->asked_lock);
static void reload_once(struct reloader *reloader) {
    const struct reloader_work *work = &reloader->work;
    struct asked *asked = reloader->waiting;
    if (asked) {
        DL_DELETE(reloader->waiting, asked);
        asked->begun = true;
    } else {
        reloader->signalled = false;
    }
    lock_release(&reloader->asked_lock);
    cleanup_buffer struct buffer unread = {0};
    bool reloaded = reload(work, asked ? asked->file : NULL, asked ? asked->problems : &unread);
    lock_acquire(&reloader->asked_lock);
    if (!asked)
        return;
    asked->reloaded = reloaded;
    asked->done = true;
    condition_broadcast(&reloader->moved);
}

static void run(void *argument) {
    struct reloader *reloader = argument;
    lock_acquire(&reloader->asked_lock);
    while (wait_for_work(reloader)) {
        if (reloader->signalled || reloader->waiting)
            reload_once(reloader);
        lock_release(&reloader->asked_lock);
        reloader->work.sweep(reloader->work.context);
        lock_acquire(&reloader->asked_lock);
    }
    lock_release(&reloader->asked_lock);
}

struct reloader *reloader_new(const struct reloader_work *work) {
    struct reloader *reloader = calloc(1, sizeof *reloader);
    if (!reloader)
        return NULL;
    reloader->work = *work;
    lock_init(&reloader->asked_lock);
    condition_init(&reloader->moved);
    return reloader;
}

bool reloader_start(struct reloader *reloader, struct error *error) {
    /* Reading YAML and making TLS contexts takes more stack than a request. */
    reloader->runs =
        thread_start("reloader", THREAD_STACK_SYSTEM, run, reloader, &reloader->thread, error);
    return reloader->runs;
}

void reloader_end(struct reloader *reloader) {
    if (!reloader)
        return;
    lock_acquire(&reloader->asked_lock);
    reloader->ends = true;
    condition_broadcast(&reloader->moved);
    lock_release(&reloader->asked_lock);
    if (reloader->runs)
        pthread_join(reloader->thread, NULL);
    reloader->runs = false;
}

void reloader_free(struct reloader *reloader) {
    if (!reloader)
        return;
    reloader_end(reloader);
    lock_finish(&reloader->asked_lock);
    condition_finish(&reloader->moved);
    free(reloader);
}

bool reloader_ask(void *context, const char *file, struct buffer *problems) {
    struct reloader *reloader = context;
    struct asked asked = {.file = file, .problems = problems};
    lock_acquire(&reloader->asked_lock);
    DL_APPEND(reloader->waiting, &asked);
    condition_broadcast(&reloader->moved);
    while (!asked.done && (asked.begun || !reloader->ends))
        condition_wait(&reloader->moved, &reloader->asked_lock);
    if (!asked.done) {
        DL_DELETE(reloader->waiting, &asked);
        buffer_append_string(problems, "tarn is stopping\n");
    }
    lock_release(&reloader->asked_lock);
    return asked.reloaded;
}

void reloader_signal(struct reloader *reloader) {
    lock_acquire(&reloader->asked_lock);
    reloader->signalled = true;
    condition_broadcast(&reloader->moved);
    lock_release(&reloader->asked_lock);
}
