/*
 * Locks and conditions, and the attributes by which clang proves which thread holds which lock.
 *
 * A lock is a member named for what it guards, held for pointers and never for I/O. A function that
 * needs a lock held says so with REQUIRES() behind its declaration. clang's -Wthread-safety then
 * refuses a build in which a caller does not hold that lock, or in which a function returns without
 * releasing a lock that it took. gcc ignores the attributes.
 *
 *     struct queue {
 *         struct lock items_lock;
 *         struct item *items GUARDED_BY(items_lock);
 *     };
 *     static struct item *take_first(struct queue *queue) REQUIRES(queue->items_lock);
 *
 * All functions here may be called by any thread, and none of them fails.
 */
#ifndef BASE_LOCK_H
#define BASE_LOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#if defined(__clang__)
#define LOCK_ATTRIBUTE(attribute) __attribute__((attribute))
#else
#define LOCK_ATTRIBUTE(attribute)
#endif

/* A type whose objects are taken and released. */
#define CAPABILITY(name)          LOCK_ATTRIBUTE(capability(name))
/* The caller holds the lock, before the call and after it. */
#define REQUIRES(...)             LOCK_ATTRIBUTE(requires_capability(__VA_ARGS__))
/* The caller does not hold the lock, and holds it after the call. */
#define ACQUIRE(...)              LOCK_ATTRIBUTE(acquire_capability(__VA_ARGS__))
/* The caller holds the lock, and does not hold it after the call. */
#define RELEASE(...)              LOCK_ATTRIBUTE(release_capability(__VA_ARGS__))
/* The caller must not hold the lock, because the function takes it. */
#define EXCLUDES(...)             LOCK_ATTRIBUTE(locks_excluded(__VA_ARGS__))
/* The caller does not hold the lock, and holds it after a call that returned true. */
#define TRY_ACQUIRE(...)          LOCK_ATTRIBUTE(try_acquire_capability(true, __VA_ARGS__))
/* The function is not checked. The reason stands beside it. */
#define NO_THREAD_SAFETY_ANALYSIS LOCK_ATTRIBUTE(no_thread_safety_analysis)
/* Which lock guards a member; for readers only. It is empty because clang resolves the name of a
 * lock beside the member only in C++, and in C from clang 20 on. */
#define GUARDED_BY(lock)

/* Not recursive: a thread that takes a lock twice waits for itself. */
struct CAPABILITY("lock") lock {
    pthread_mutex_t mutex;
};

/* For a lock that lives as long as the process; it needs no lock_finish(). */
#define LOCK_INITIALIZER                                                                           \
    { PTHREAD_MUTEX_INITIALIZER }

void lock_init(struct lock *lock);

/* No thread may hold the lock or take it any more. */
void lock_finish(struct lock *lock);

/* Waits until no other thread holds the lock. */
void lock_acquire(struct lock *lock) ACQUIRE(*lock);
/* Takes the lock if no other thread holds it; never waits. */
bool lock_try(struct lock *lock) TRY_ACQUIRE(*lock);
void lock_release(struct lock *lock) RELEASE(*lock);

/* What a thread waits for under a lock. All threads that wait for one condition hold the same lock.
 */
struct condition {
    pthread_cond_t variable;
};

/* For a condition that lives as long as the process; it needs no condition_finish(). */
#define CONDITION_INITIALIZER                                                                      \
    { PTHREAD_COND_INITIALIZER }

void condition_init(struct condition *condition);

/* No thread may wait for the condition any more. */
void condition_finish(struct condition *condition);

/* Releases the lock, waits for a signal or broadcast, takes the lock again. It may also return
 * without any signal, so the caller checks again what it waits for. */
void condition_wait(struct condition *condition, struct lock *lock) REQUIRES(*lock);

/* The same, until clock_ms() reaches `deadline_ms` at the latest; INT64_MAX: without an end. False:
 * the deadline is reached. Even then the caller checks once more what it waits for, because the
 * change may have come while this thread waited for the lock. */
bool condition_wait_until(struct condition *condition, struct lock *lock, int64_t deadline_ms)
    REQUIRES(*lock);

/* Wakes one thread that waits, or all of them. The caller need not hold the lock now, but must have
 * held it while it made the change that the threads wait for. */
void condition_signal(struct condition *condition);
void condition_broadcast(struct condition *condition);

#endif
