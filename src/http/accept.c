/* Accepts connections, and finds each a loop and a place within the limit. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>
#include "base/log.h"
#include "http/loop_private.h"

enum {
    ACCEPTS_AT_ONCE = 64,
    PAUSE_MS = 100,        /* after running out of descriptors or memory */
    OVER_LIMIT_MOST = 256, /* connections over the limit, of all loops together */
    OVER_LIMIT_LEAST = 16,
    PASSES_MOST = 8,      /* of a new connection from loop to loop */
    YOUNG_HEAD_MS = 1000, /* a head that began less long ago is not given up for a new client */
};

/* Closes the connection that has been idle for longest, or one whose head has been arriving for
 * long. False: there is none. */
static bool close_longest_idle(struct loop *loop) {
    struct connection *idle = loop->waiting[WAIT_REQUEST], *head = loop->waiting[WAIT_HEAD];
    const int64_t young = loop->now_ms + loop->shared->settings->head_timeout_ms - YOUNG_HEAD_MS;
    if (!idle && head && head->deadline_ms < young)
        idle = head;
    if (!idle)
        return false;
    loop_close_connection(loop, idle);
    return true;
}

/* How many connections over the limit a loop may have: its share of a quarter of the limit, because
 * where few connections are allowed, descriptors are scarce. It is a share, so that a loop always
 * has one of its own to close for a new one. */
static unsigned over_limit_most(const struct loops *shared) {
    unsigned quarter = shared->settings->max_connections / 4;
    unsigned most = quarter < OVER_LIMIT_LEAST  ? OVER_LIMIT_LEAST
                    : quarter > OVER_LIMIT_MOST ? OVER_LIMIT_MOST
                                                : quarter;
    return most > shared->count ? most / shared->count : 1;
}

static bool is_full(const struct loops *shared) {
    return atomic_load(&shared->connections) >= shared->settings->max_connections;
}

/* Counts a connection within the limit. False: the limit is reached. */
static bool take_place(struct loops *shared) {
    unsigned taken = atomic_load(&shared->connections);
    while (taken < shared->settings->max_connections)
        if (atomic_compare_exchange_weak(&shared->connections, &taken, taken + 1))
            return true;
    return false;
}

/* Counts a connection over the limit. False: there are too many of those, too. */
static bool take_place_over_limit(struct loop *loop) {
    unsigned most = over_limit_most(loop->shared);
    if (loop->over_limit >= most && loop->waiting[WAIT_OVER])
        loop_close_connection(loop, loop->waiting[WAIT_OVER]);
    if (loop->over_limit >= most)
        return false;
    loop->over_limit++;
    return true;
}

/* The loop whose connection has been idle for longest, because only that loop can close it. */
static struct loop *loop_with_longest_idle(struct loop *self) {
    struct loops *shared = self->shared;
    struct loop *chosen = self;
    loop_publish_idle(self);
    for (unsigned i = 0; i < shared->count; i++)
        if (atomic_load(&shared->each[i].idle_since_ms) < atomic_load(&chosen->idle_since_ms))
            chosen = &shared->each[i];
    return chosen;
}

static struct loop *loop_with_fewest(struct loop *self) {
    struct loops *shared = self->shared;
    struct loop *chosen = self;
    for (unsigned i = 0; i < shared->count; i++)
        if (atomic_load(&shared->each[i].count) < atomic_load(&chosen->count))
            chosen = &shared->each[i];
    return chosen;
}

static void assign(struct connection *connection, struct loop *loop) {
    connection->loop = loop;
    atomic_fetch_add(&loop->count, 1);
}

/* Gives a new connection to the loop that can close the one that has been idle for longest. What a
 * loop knows of the others is a little old, so that a connection may come to a loop that has none
 * to close any more; then it is passed on again. */
static bool pass_on(struct loop *loop, struct connection *connection) {
    struct loop *better = loop_with_longest_idle(loop);
    if (better == loop || connection->passes == PASSES_MOST)
        return false;
    connection->passes++;
    atomic_fetch_sub(&loop->count, 1);
    assign(connection, better);
    loop_put(better, connection);
    return true;
}

void loop_admit(struct loop *loop, struct connection *connection) {
    bool within;
    while (!(within = take_place(loop->shared))) {
        if (pass_on(loop, connection))
            return;
        if (!close_longest_idle(loop))
            break;
    }
    connection->is_new = false;
    connection->over_limit = !within;
    if (!within && !take_place_over_limit(loop)) {
        atomic_fetch_sub(&loop->count, 1);
        connection_finish(connection);
        free(connection);
        return;
    }
    DL_APPEND(loop->all, connection);
    loop_wait_for_bytes(loop, connection);
}

static void add_connection(struct loop *loop, size_t listener, int fd,
                           const struct sockaddr_storage *peer) {
    const struct listeners *listeners = loop->shared->listeners;
    bool is_plain = listeners->paths[listener] || !loop->shared->terms.identity;
    struct connection *connection = malloc(sizeof *connection);
    if (!connection) {
        close(fd);
        return;
    }
    connection_init(connection, fd, peer, is_plain, loop->shared->settings->send_timeout_ms);
    connection->channel.loopback = listeners->loopback[listener];
    connection->is_new = true;
    assign(connection, is_full(loop->shared) ? loop : loop_with_fewest(loop));
    if (connection->loop == loop)
        loop_admit(loop, connection);
    else
        loop_put(connection->loop, connection);
}

bool loop_watch_listeners(struct loop *loop) {
    const struct listeners *listeners = loop->shared->listeners;
    for (size_t i = 0; i < listeners->count; i++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE,
                                    .data.ptr = &loop->listener_marks[i]};
        if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, listeners->fds[i], &event) != 0)
            return false;
    }
    return true;
}

void loop_unwatch_listeners(struct loop *loop) {
    const struct listeners *listeners = loop->shared->listeners;
    for (size_t i = 0; i < listeners->count; i++)
        epoll_ctl(loop->epoll, EPOLL_CTL_DEL, listeners->fds[i], NULL);
}

static void pause_accepting(struct loop *loop) {
    loop_unwatch_listeners(loop);
    loop->accept_again_ms = loop->now_ms + PAUSE_MS;
}

void loop_accept_again(struct loop *loop) {
    loop->accept_again_ms = 0;
    if (!loop_watch_listeners(loop))
        pause_accepting(loop);
}

/* Out of descriptors or memory: an idle connection gives up its own, and accepting pauses. */
static void accept_later(struct loop *loop, int why) {
    log_at(LOG_WARN, "cannot accept connections, trying again shortly",
           LOG_STRING("error", strerror(why)));
    close_longest_idle(loop);
    pause_accepting(loop);
}

void loop_accept(struct loop *loop, size_t listener) {
    const struct listeners *listeners = loop->shared->listeners;
    for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
        struct sockaddr_storage peer = {0};
        socklen_t size = sizeof peer;
        int fd = accept4(listeners->fds[listener], (struct sockaddr *)&peer, &size,
                         SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            add_connection(loop, listener, fd, &peer);
            continue;
        }
        int why = errno;
        if (why == EMFILE || why == ENFILE || why == ENOBUFS || why == ENOMEM)
            accept_later(loop, why);
        if (why != ECONNABORTED && why != EINTR)
            return;
    }
}
