/* The life of the event loops: made, started, woken, joined and freed. */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/thread.h"
#include "http/loop_private.h"

static bool init_loop(struct loops *loops, struct loop *loop, struct error *error) {
    loop->shared = loops;
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    loop->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    atomic_init(&loop->idle_since_ms, INT64_MAX);
    lock_init(&loop->inbox_lock);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};
    if (loop->epoll < 0 || loop->wake < 0 ||
        epoll_ctl(loop->epoll, EPOLL_CTL_ADD, loop->wake, &event) != 0)
        return error_set_errno(error, errno, "setting up an event loop");
    return connection_scratch_init(&loop->scratch) ||
           error_set(error, ERROR_MEMORY, "no memory for an event loop");
}

bool loops_init(struct loops *loops, unsigned count, struct error *error) {
    lock_init(&loops->listeners_lock);
    loops->each = calloc(count, sizeof *loops->each);
    if (!loops->each)
        return error_set(error, ERROR_MEMORY, "no memory for the event loops");
    loops->count = count;
    for (unsigned i = 0; i < count; i++)
        loops->each[i].epoll = loops->each[i].wake = -1;
    for (unsigned i = 0; i < count; i++)
        if (!init_loop(loops, &loops->each[i], error))
            return false;
    return true;
}

/* Another loop may have given a new connection to a loop that has ended. */
static void drop_inbox(struct loop *loop) {
    lock_acquire(&loop->inbox_lock);
    while (loop->inbox) {
        struct connection *connection = loop->inbox;
        loop->inbox = connection->inbox_next;
        connection_finish(connection);
        free(connection);
    }
    lock_release(&loop->inbox_lock);
}

static void drop_spare(struct loop *loop) {
    while (loop->spare) {
        struct connection *connection = loop->spare;
        loop->spare = connection->inbox_next;
        free(connection);
    }
}

void loops_finish(struct loops *loops) {
    for (unsigned i = 0; i < loops->count; i++) {
        struct loop *loop = &loops->each[i];
        drop_inbox(loop);
        drop_spare(loop);
        connection_scratch_finish(&loop->scratch);
        lock_finish(&loop->inbox_lock);
        if (loop->wake >= 0)
            close(loop->wake);
        if (loop->epoll >= 0)
            close(loop->epoll);
    }
    if (loops->each)
        lock_finish(&loops->listeners_lock);
    free(loops->each);
    loops->each = NULL;
    loops->count = 0;
}

bool loops_start(struct loops *loops, struct error *error) {
    atomic_store(&loops->accepting, loops->count);
    for (unsigned i = 0; i < loops->count; i++) {
        struct loop *loop = &loops->each[i];
        loop->now_ms = clock_ms();
        lock_acquire(&loops->listeners_lock);
        loop->listeners = atomic_load(&loops->listeners);
        lock_release(&loops->listeners_lock);
        if (!loop_watch_listeners(loop))
            return error_set_errno(error, errno, "watching the listening sockets");
    }
    for (unsigned i = 0; i < loops->count; i++) {
        struct loop *loop = &loops->each[i];
        atomic_fetch_add(&loops->running, 1);
        loop->started =
            thread_start("http-loop", THREAD_STACK, loop_run, loop, &loop->thread, error);
        if (!loop->started) {
            atomic_fetch_sub(&loops->running, 1);
            return false;
        }
    }
    return true;
}

void loops_wake(struct loops *loops) {
    for (unsigned i = 0; i < loops->count; i++)
        loop_wake(loops->each[i].wake);
}

bool loops_change_listeners(struct loops *loops, struct listeners *next) {
    lock_acquire(&loops->listeners_lock);
    bool can = !loops->are_closed;
    if (can) {
        listeners_take_over(next, atomic_load(&loops->listeners));
        atomic_store(&loops->listeners, next);
    }
    lock_release(&loops->listeners_lock);
    loops_wake(loops);
    return can;
}

bool loops_have_left(struct loops *loops, const struct listeners *listeners) {
    bool have = true;
    lock_acquire(&loops->listeners_lock);
    for (unsigned i = 0; i < loops->count; i++)
        have = have && loops->each[i].listeners != listeners;
    lock_release(&loops->listeners_lock);
    return have;
}

void loops_close_listeners(struct loops *loops) {
    lock_acquire(&loops->listeners_lock);
    listeners_close(atomic_load(&loops->listeners));
    loops->are_closed = true;
    lock_release(&loops->listeners_lock);
}

void loops_join(struct loops *loops) {
    for (unsigned i = 0; i < loops->count; i++) {
        if (loops->each[i].started)
            pthread_join(loops->each[i].thread, NULL);
        loops->each[i].started = false;
    }
}
