/* Hands bytes from one thread to another. */
#include "build/behind.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "base/lock.h"
#include "base/thread.h"

enum { STACK = 1 << 20 }; /* the sink asks a server */

struct behind {
    struct sink sink;
    pthread_t thread;
    bool runs;
    char *filling; /* the writer's */
    size_t filled;
    struct lock lock;
    struct condition changed;
    char *sending GUARDED_BY(lock); /* the thread's while `length` is not 0 */
    size_t length GUARDED_BY(lock);
    bool ends GUARDED_BY(lock), failed GUARDED_BY(lock);
    struct error why GUARDED_BY(lock);
};

/* Sends what waits. Called with the lock held, which is released meanwhile. */
static void send_waiting(struct behind *behind) REQUIRES(behind->lock);
static void send_waiting(struct behind *behind) {
    struct error error = {0};
    const char *bytes = behind->sending;
    const size_t length = behind->length;
    lock_release(&behind->lock);
    bool ok = sink_write(&behind->sink, bytes, length, &error);
    lock_acquire(&behind->lock);
    behind->length = 0;
    if (!ok) {
        behind->failed = true;
        behind->why = error;
    }
    condition_broadcast(&behind->changed);
}

static void run(void *context) {
    struct behind *behind = context;
    lock_acquire(&behind->lock);
    for (;;) {
        while (behind->length == 0 && !behind->ends)
            condition_wait(&behind->changed, &behind->lock);
        if (behind->length == 0 || behind->failed)
            break;
        send_waiting(behind);
    }
    lock_release(&behind->lock);
}

struct behind *behind_new(const struct sink *sink, struct error *error) {
    struct behind *behind = calloc(1, sizeof *behind);
    if (!behind) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    behind->sink = *sink;
    lock_init(&behind->lock);
    condition_init(&behind->changed);
    behind->filling = malloc(BEHIND_BUFFER);
    behind->sending = malloc(BEHIND_BUFFER);
    if (!behind->filling || !behind->sending)
        error_set(error, ERROR_MEMORY, "out of memory");
    else
        behind->runs = thread_start("upload", STACK, run, behind, &behind->thread, error);
    if (behind->runs)
        return behind;
    behind_free(behind);
    return NULL;
}

/* Hands the filled buffer over, when the thread is done with the last one. */
static bool hand_over(struct behind *behind, struct error *error) {
    lock_acquire(&behind->lock);
    while (behind->length > 0 && !behind->failed)
        condition_wait(&behind->changed, &behind->lock);
    const bool ok = !behind->failed;
    if (ok) {
        char *free_one = behind->sending;
        behind->sending = behind->filling;
        behind->length = behind->filled;
        behind->filling = free_one;
        behind->filled = 0;
        condition_broadcast(&behind->changed);
    } else if (error) {
        *error = behind->why;
    }
    lock_release(&behind->lock);
    return ok;
}

bool behind_write(struct behind *behind, const void *bytes, size_t length, struct error *error) {
    const char *at = bytes;
    while (length > 0) {
        const size_t room = BEHIND_BUFFER - behind->filled, some = length < room ? length : room;
        memcpy(behind->filling + behind->filled, at, some);
        behind->filled += some;
        at += some;
        length -= some;
        if (behind->filled == BEHIND_BUFFER && !hand_over(behind, error))
            return false;
    }
    return true;
}

/* The thread ends when it has sent what waits. */
static void end(struct behind *behind) {
    lock_acquire(&behind->lock);
    behind->ends = true;
    condition_broadcast(&behind->changed);
    lock_release(&behind->lock);
    pthread_join(behind->thread, NULL);
    behind->runs = false;
}

bool behind_finish(struct behind *behind, struct error *error) {
    if (behind->filled > 0 && !hand_over(behind, error))
        return false;
    end(behind);
    lock_acquire(&behind->lock);
    const bool ok = !behind->failed;
    if (!ok && error)
        *error = behind->why;
    lock_release(&behind->lock);
    return ok;
}

void behind_free(struct behind *behind) {
    if (!behind)
        return;
    if (behind->runs)
        end(behind);
    condition_finish(&behind->changed);
    lock_finish(&behind->lock);
    free(behind->filling);
    free(behind->sending);
    free(behind);
}
