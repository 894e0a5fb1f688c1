/* The set of a server's connections: limits, parking, deadlines and the end. */
#include "http/connections.h"

#include <stddef.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <utlist.h>
#include "base/clock.h"

enum {
    OVER_LIMIT_AT_ONCE = 256,  /* connections over the limit: probes, and others that get 503 */
    OVER_LIMIT_MS = 2000,      /* how long they may take to send their request */
    CLOSING_MS = 1000,         /* how long a client may go on sending after the last response */
    CLOSING_BYTES = 256 << 10, /* how many bytes it may still send */
};

void connections_init(struct connections *connections, int epoll, unsigned limit) {
    *connections = (struct connections){.epoll = epoll, .limit = limit};
    lock_init(&connections->connections_lock);
}

void connections_finish(struct connections *connections) {
    lock_finish(&connections->connections_lock);
}

bool connections_watch(const struct connections *connections, struct watched *watched,
                       uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = watched};
    return epoll_ctl(connections->epoll, EPOLL_CTL_ADD, watched->fd, &event) == 0;
}

struct open_connection *connections_of_task(struct pool_task *task) {
    return (struct open_connection *)((char *)task - offsetof(struct open_connection, task));
}

/* ---- in and out ---- */

static bool park(struct connections *connections, struct open_connection *open)
    REQUIRES(connections->connections_lock) {
    uint32_t events = open->connection.wants_to_write ? EPOLLOUT : EPOLLIN | EPOLLRDHUP;
    if (!connections_watch(connections, &open->watched, events))
        return false;
    open->parked = true;
    if (open->connection.over_limit)
        DL_APPEND2(connections->parked_over, open, parked_prev, parked_next);
    else
        DL_APPEND2(connections->parked, open, parked_prev, parked_next);
    return true;
}

static void unpark(struct connections *connections, struct open_connection *open)
    REQUIRES(connections->connections_lock) {
    epoll_ctl(connections->epoll, EPOLL_CTL_DEL, open->watched.fd, NULL);
    open->parked = false;
    if (open->connection.over_limit)
        DL_DELETE2(connections->parked_over, open, parked_prev, parked_next);
    else
        DL_DELETE2(connections->parked, open, parked_prev, parked_next);
}

/* Removes the connection from all lists, so that no other thread finds it. */
static void remove_from_lists(struct connections *connections, struct open_connection *open)
    REQUIRES(connections->connections_lock) {
    if (open->parked)
        unpark(connections, open);
    DL_DELETE(connections->all, open);
    if (open->connection.over_limit)
        connections->over_count--;
    else
        connections->count--;
}

static void free_connection(struct open_connection *open) {
    connection_finish(&open->connection);
    free(open);
}

bool connections_make_place(struct connections *connections) {
    struct open_connection *oldest = NULL;
    lock_acquire(&connections->connections_lock);
    bool has_place =
        connections->count < connections->limit || connections->over_count < OVER_LIMIT_AT_ONCE;
    if (!has_place)
        oldest = connections->parked_over;
    if (oldest)
        remove_from_lists(connections, oldest);
    lock_release(&connections->connections_lock);
    if (oldest)
        free_connection(oldest);
    return has_place || oldest;
}

void connections_add(struct connections *connections, struct open_connection *open) {
    lock_acquire(&connections->connections_lock);
    if (connections->count < connections->limit) {
        connections->count++;
    } else {
        connections->over_count++;
        open->connection.over_limit = true;
        open->connection.deadline_ms = clock_ms() + OVER_LIMIT_MS;
    }
    DL_APPEND(connections->all, open);
    lock_release(&connections->connections_lock);
}

void connections_close(struct connections *connections, struct open_connection *open) {
    lock_acquire(&connections->connections_lock);
    remove_from_lists(connections, open);
    lock_release(&connections->connections_lock);
    free_connection(open);
}

void connections_park(struct connections *connections, struct open_connection *open) {
    connection_shrink(&open->connection);
    lock_acquire(&connections->connections_lock);
    bool parked = park(connections, open);
    lock_release(&connections->connections_lock);
    if (!parked)
        connections_close(connections, open);
}

void connections_unpark(struct connections *connections, struct open_connection *open) {
    lock_acquire(&connections->connections_lock);
    unpark(connections, open);
    lock_release(&connections->connections_lock);
}

void connections_finish_one(struct connections *connections, struct open_connection *open) {
    connection_end(&open->connection, CLOSING_BYTES, clock_ms() + CLOSING_MS);
    open->stage = STAGE_CLOSING;
    connections_park(connections, open);
}

/* ---- of all ---- */

static void move_expired(struct connections *connections, struct open_connection *parked,
                         int64_t now, bool serving_too, struct open_connection **expired)
    REQUIRES(connections->connections_lock) {
    struct open_connection *open, *following;
    DL_FOREACH_SAFE2(parked, open, following, parked_next) {
        if (now < open->connection.deadline_ms && !(serving_too && open->stage == STAGE_SERVING))
            continue;
        remove_from_lists(connections, open);
        DL_APPEND(*expired, open);
    }
}

void connections_expire(struct connections *connections, int64_t now, bool serving_too) {
    struct open_connection *expired = NULL, *open, *following;
    lock_acquire(&connections->connections_lock);
    move_expired(connections, connections->parked, now, serving_too, &expired);
    move_expired(connections, connections->parked_over, now, serving_too, &expired);
    lock_release(&connections->connections_lock);
    DL_FOREACH_SAFE (expired, open, following)
        free_connection(open);
}

void connections_wake_waiting(struct connections *connections) {
    struct open_connection *open;
    lock_acquire(&connections->connections_lock);
    DL_FOREACH (connections->all, open)
        if (atomic_load(&open->connection.waiting))
            shutdown(open->watched.fd, SHUT_RD);
    lock_release(&connections->connections_lock);
}

unsigned connections_cut(struct connections *connections) {
    struct open_connection *open;
    unsigned cut = 0;
    lock_acquire(&connections->connections_lock);
    DL_FOREACH (connections->all, open) {
        channel_cut(&open->connection.channel);
        shutdown(open->watched.fd, SHUT_RDWR);
        cut++;
    }
    lock_release(&connections->connections_lock);
    return cut;
}

bool connections_are_none(struct connections *connections) {
    lock_acquire(&connections->connections_lock);
    bool none = connections->all == NULL;
    lock_release(&connections->connections_lock);
    return none;
}

void connections_figures(struct connections *connections, unsigned *count, unsigned *waiting) {
    const struct open_connection *open;
    *waiting = 0;
    lock_acquire(&connections->connections_lock);
    *count = connections->count;
    DL_FOREACH (connections->all, open)
        *waiting += atomic_load(&open->connection.waiting);
    lock_release(&connections->connections_lock);
}
