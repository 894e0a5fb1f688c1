/* Locks and conditions: POSIX threads' mutexes and condition variables, with clang's attributes. */
#include "base/lock.h"

#include <errno.h>
#include <time.h>

void lock_init(struct lock *lock) {
    pthread_mutex_init(&lock->mutex, NULL);
}

void lock_finish(struct lock *lock) {
    pthread_mutex_destroy(&lock->mutex);
}

/* clang does not check the bodies of these three functions, because it does not know that the mutex
 * is the lock. */
void lock_acquire(struct lock *lock) NO_THREAD_SAFETY_ANALYSIS {
    pthread_mutex_lock(&lock->mutex);
}

bool lock_try(struct lock *lock) NO_THREAD_SAFETY_ANALYSIS {
    return pthread_mutex_trylock(&lock->mutex) == 0;
}

void lock_release(struct lock *lock) NO_THREAD_SAFETY_ANALYSIS {
    pthread_mutex_unlock(&lock->mutex);
}

void condition_init(struct condition *condition) {
    pthread_cond_init(&condition->variable, NULL);
}

void condition_finish(struct condition *condition) {
    pthread_cond_destroy(&condition->variable);
}

void condition_wait(struct condition *condition, struct lock *lock) {
    pthread_cond_wait(&condition->variable, &lock->mutex);
}

bool condition_wait_until(struct condition *condition, struct lock *lock, int64_t deadline_ms) {
    if (deadline_ms == INT64_MAX) {
        condition_wait(condition, lock);
        return true;
    }
    if (deadline_ms < 0)
        deadline_ms = 0; /* before the clock began */
    const struct timespec deadline = {deadline_ms / 1000, (deadline_ms % 1000) * 1000000};
    return pthread_cond_clockwait(&condition->variable, &lock->mutex, CLOCK_MONOTONIC, &deadline) !=
           ETIMEDOUT;
}

void condition_signal(struct condition *condition) {
    pthread_cond_signal(&condition->variable);
}

void condition_broadcast(struct condition *condition) {
    pthread_cond_broadcast(&condition->variable);
}
