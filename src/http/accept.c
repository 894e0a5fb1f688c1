/* Accepts connections, and finds each a loop and a place within the limit. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>
#include "base/log.h"
#include "http/loop_private.h"

enum {
    ACCEPTS_AT_ONCE = 16, /* each has a descriptor before it is known whether it has a place */
    PAUSE_MS = 100,       /* after running out of descriptors or memory */
    NO_PLACE_MOST = 256,  /* connections without a place, of all loops together */
    NO_PLACE_LEAST = 16,
    PASSES_MOST = 8,      /* of a new connection from loop to loop */
    YOUNG_MS = 1000,      /* a head that began less long ago is not given up for a new client */
    LOOKED_AT_MOST = 256, /* idle connections, to find one of a certain client */
    HEARD_MOST = 32,      /* connections that turn out not to be idle, for one new client */
};

/* Which idle connection is looked for. */
enum whose { OF_ANYBODY, OF_REMOTE, OF_ONE_WITH_MANY, OF_ONE_WITH_ITS_SHARE };

struct wanted_idle {
    enum whose whose;
    const struct remote *remote; /* OF_REMOTE */
};

static bool is_wanted(const struct loop *loop, const struct connection *connection,
                      const struct wanted_idle *wanted) {
    switch (wanted->whose) {
    case OF_REMOTE:
        return connection->remote == wanted->remote;
    case OF_ONE_WITH_MANY:
        return bulkheads_has_many(loop->shared->bulkheads, connection->remote);
    case OF_ONE_WITH_ITS_SHARE:
        return bulkheads_has_its_share(loop->shared->bulkheads, connection->remote);
    case OF_ANYBODY:
        break;
    }
    return true;
}

/* The first of a list that is wanted and whose deadline is before `before_ms`. Looks at a bounded
 * number, because each new connection may come here. */
static struct connection *find_waiting(const struct loop *loop, enum connection_wait wait,
                                       int64_t before_ms, const struct wanted_idle *wanted) {
    struct connection *connection = loop->waiting[wait];
    for (int i = 0; i < LOOKED_AT_MOST && connection && connection->deadline_ms < before_ms; i++) {
        if (is_wanted(loop, connection, wanted))
            return connection;
        connection = connection->wait_next;
    }
    return NULL;
}

/* The connection that has been idle for longest, or one whose head has been arriving for long, of
 * those that are wanted. One that has been idle for a moment only comes last, because its client
 * may be about to send its first request. NULL: there is none. */
static struct connection *find_waiting_long(const struct loop *loop,
                                            const struct wanted_idle *wanted) {
    const struct http_server_settings *settings = loop->shared->settings;
    const int64_t young_ms = loop->now_ms - YOUNG_MS;
    struct connection *idle =
        find_waiting(loop, WAIT_REQUEST, young_ms + settings->idle_timeout_ms, wanted);
    if (!idle)
        idle = find_waiting(loop, WAIT_HEAD, young_ms + settings->head_timeout_ms, wanted);
    return idle ? idle : find_waiting(loop, WAIT_REQUEST, INT64_MAX, wanted);
}

/* The same. Several addresses that hold many connections, but none its share, come before all
 * others, who may be about to send their first request. */
static struct connection *find_least_wanted(const struct loop *loop,
                                            const struct wanted_idle *wanted) {
    struct connection *idle = NULL;
    if (wanted->whose == OF_ANYBODY)
        idle = find_waiting_long(loop, &(struct wanted_idle){.whose = OF_ONE_WITH_MANY});
    return idle ? idle : find_waiting_long(loop, wanted);
}

/* The same, but none whose request has arrived and only has not been looked at yet. */
static struct connection *find_idle(struct loop *loop, const struct wanted_idle *wanted) {
    struct connection *idle = NULL;
    for (int i = 0; i < HEARD_MOST; i++) {
        idle = find_least_wanted(loop, wanted);
        if (!idle || !loop_hears(loop, idle))
            return idle;
    }
    return NULL;
}

/* Closes an idle connection for another. False: there is none. */
static bool close_idle(struct loop *loop, enum whose whose) {
    struct connection *idle = find_idle(loop, &(struct wanted_idle){.whose = whose});
    if (idle)
        loop_close_connection(loop, idle);
    return idle != NULL;
}

/* How many connections without a place a loop may have: its part of a quarter of the limit, because
 * where few connections are allowed, descriptors are scarce. It is a part, so that a loop always
 * has one of its own to close for a new one. */
static unsigned no_place_most(const struct loops *shared) {
    unsigned quarter = shared->settings->max_connections / 4;
    unsigned most = quarter < NO_PLACE_LEAST  ? NO_PLACE_LEAST
                    : quarter > NO_PLACE_MOST ? NO_PLACE_MOST
                                              : quarter;
    return most > shared->count ? most / shared->count : 1;
}

/* The oldest connection without a place that gives way to one with such a place, and from which
 * nothing has arrived. NULL: there is none; *is_heard: from some of them, something has. */
static struct connection *oldest_without_place(struct loop *loop, enum connection_place place,
                                               bool *is_heard) {
    *is_heard = false;
    for (int i = 0; i < HEARD_MOST; i++) {
        struct connection *oldest = loop->waiting[WAIT_OVER_SHARE];
        if (!oldest && place == PLACE_OVER_LIMIT)
            oldest = loop->waiting[WAIT_OVER_LIMIT];
        if (!oldest || !loop_hears(loop, oldest))
            return oldest;
        *is_heard = true;
    }
    return NULL;
}

/* Counts a connection without a place. If there are too many of those, the oldest is closed, first
 * of those over their share: they never push out one of a client that has done nothing. False:
 * there is none to close. */
static bool take_no_place(struct loop *loop, enum connection_place place) {
    const unsigned most = no_place_most(loop->shared);
    const unsigned count = loop->places[PLACE_OVER_LIMIT] + loop->places[PLACE_OVER_SHARE];
    bool is_heard;
    if (count < most)
        return true;
    struct connection *oldest = oldest_without_place(loop, place, &is_heard);
    if (oldest)
        loop_close_connection(loop, oldest);
    /* Those that are heard are answered in this turn, and leave. */
    return oldest || (is_heard && count < 2 * most);
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

/* Whether another loop takes a new connection. One that has not come to look at the last ones does
 * not, because each holds a descriptor while it waits. Of an address that has its share it takes
 * half as many, so that a flood of them leaves the way open for others. */
static bool takes_more(const struct loop *other, const struct connection *connection) {
    const struct loops *shared = other->shared;
    const unsigned most = no_place_most(shared);
    const bool is_greedy = bulkheads_has_its_share(shared->bulkheads, connection->remote);
    return atomic_load(&other->passed) < (is_greedy ? most / 2 : most);
}

static struct loop *loop_with_fewest(struct loop *self, const struct connection *connection) {
    struct loops *shared = self->shared;
    struct loop *chosen = self;
    for (unsigned i = 0; i < shared->count; i++)
        if (atomic_load(&shared->each[i].count) < atomic_load(&chosen->count) &&
            takes_more(&shared->each[i], connection))
            chosen = &shared->each[i];
    return chosen;
}

static void assign(struct connection *connection, struct loop *loop) {
    connection->loop = loop;
    atomic_fetch_add(&loop->count, 1);
}

static void pass_to(struct loop *other, struct loop *loop, struct connection *connection) {
    connection->passes++;
    atomic_fetch_sub(&loop->count, 1);
    assign(connection, other);
    loop_pass(other, connection);
}

/* Gives a new connection to the loop that can close the one that has been idle for longest. What a
 * loop knows of the others is a little old, so that a connection may come to a loop that has none
 * to close any more; then it is passed on again. */
static bool pass_on(struct loop *loop, struct connection *connection) {
    struct loop *better = loop_with_longest_idle(loop);
    if (better == loop || connection->passes == PASSES_MOST || !takes_more(better, connection))
        return false;
    pass_to(better, loop, connection);
    return true;
}

/* Whether a connection whose address has its share may come in all the same, because the address
 * has an idle one, which costs nobody a place: it is closed when no place is left. */
static bool has_idle_one(struct loop *loop, const struct connection *connection) {
    struct connection *idle =
        find_idle(loop, &(struct wanted_idle){.whose = OF_REMOTE, .remote = connection->remote});
    if (idle && pot_is_empty(&loop->shared->bulkheads->connections))
        loop_close_connection(loop, idle);
    return idle != NULL;
}

/* Gives a connection to the next loop, which may have an idle one of an address that has its share.
 * Each loop is asked twice, because others may take the place that it makes. False: all have been
 * asked, or the next one takes no more. */
static bool ask_next_loop(struct loop *loop, struct connection *connection) {
    struct loops *shared = loop->shared;
    unsigned most = 2 * shared->count - 1;
    if (most > PASSES_MOST)
        most = PASSES_MOST;
    struct loop *next = &shared->each[((size_t)(loop - shared->each) + 1) % shared->count];
    if (connection->passes >= most || !takes_more(next, connection))
        return false;
    pass_to(next, loop, connection);
    return true;
}

/* Finds a place for a connection whose address has its share: that of an idle one of the same
 * address, and of no other. Another client may be faster to take it. False: another loop has the
 * connection now. */
static bool find_own_place(struct loop *loop, struct connection *connection) {
    while (has_idle_one(loop, connection))
        if (bulkheads_take_connection(loop->shared->bulkheads, connection->remote))
            return true;
    connection->place = PLACE_OVER_SHARE;
    return !ask_next_loop(loop, connection);
}

/* Finds a place for a connection. When none is left, an idle connection is closed: first one of an
 * address that has its share, whichever loop it is in. False: another loop has the connection now.
 */
static bool find_place(struct loop *loop, struct connection *connection) {
    struct bulkheads *bulkheads = loop->shared->bulkheads;
    connection->place = PLACE_WITHIN;
    if (!bulkheads_may_connect(bulkheads, connection->remote))
        return find_own_place(loop, connection);
    while (!bulkheads_take_connection(bulkheads, connection->remote)) {
        bool is_one_greedy = bulkheads_has_anybody_its_share(bulkheads);
        if (is_one_greedy && close_idle(loop, OF_ONE_WITH_ITS_SHARE))
            continue;
        if ((is_one_greedy && ask_next_loop(loop, connection)) || pass_on(loop, connection))
            return false;
        if (close_idle(loop, OF_ANYBODY))
            continue;
        connection->place = PLACE_OVER_LIMIT;
        break;
    }
    return true;
}

void loop_admit(struct loop *loop, struct connection *connection) {
    if (!find_place(loop, connection))
        return;
    connection->is_new = false;
    if (connection->place != PLACE_WITHIN && !take_no_place(loop, connection->place)) {
        atomic_fetch_sub(&loop->count, 1);
        connection_finish(connection);
        loop_free_connection(loop, connection);
        return;
    }
    loop->places[connection->place]++;
    DL_APPEND(loop->all, connection);
    loop_wait_for_bytes(loop, connection);
}

static void add_connection(struct loop *loop, size_t listener, int fd,
                           const struct sockaddr_storage *address) {
    const struct listener *from = &loop->listeners->each[listener];
    bool is_plain = from->is_side || from->path || !loop->shared->terms.identity;
    struct connection *connection = loop_allocate_connection(loop);
    if (!connection) {
        close(fd);
        return;
    }
    connection_init(connection, fd, address,
                    remotes_enter(&loop->shared->bulkheads->remotes, address),
                    loop->shared->settings->send_timeout_ms);
    connection->plain = is_plain;
    if (connection->remote)
        connection->channel.bulkheads = loop->shared->bulkheads;
    connection->channel.loopback = from->is_loopback;
    connection->channel.side = from->is_side;
    connection->is_new = true;
    assign(connection, pot_is_empty(&loop->shared->bulkheads->connections)
                           ? loop
                           : loop_with_fewest(loop, connection));
    if (connection->loop == loop)
        loop_admit(loop, connection);
    else
        loop_pass(connection->loop, connection);
}

bool loop_watch_listeners(struct loop *loop) {
    const struct listeners *listeners = loop->listeners;
    for (size_t i = 0; i < listeners->count; i++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE,
                                    .data.ptr = &loop->listener_marks[i]};
        if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, listeners->each[i].fd, &event) != 0)
            return false;
    }
    return true;
}

void loop_unwatch_listeners(struct loop *loop) {
    const struct listeners *listeners = loop->listeners;
    for (size_t i = 0; i < listeners->count; i++)
        epoll_ctl(loop->epoll, EPOLL_CTL_DEL, listeners->each[i].fd, NULL);
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
    close_idle(loop, OF_ANYBODY);
    pause_accepting(loop);
}

static void accept_some(struct loop *loop, size_t listener) {
    const struct listeners *listeners = loop->listeners;
    for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
        struct sockaddr_storage address = {0};
        socklen_t size = sizeof address;
        int fd = accept4(listeners->each[listener].fd, (struct sockaddr *)&address, &size,
                         SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            add_connection(loop, listener, fd, &address);
            continue;
        }
        int why = errno;
        if (why == EMFILE || why == ENFILE || why == ENOBUFS || why == ENOMEM)
            accept_later(loop, why);
        if (why != ECONNABORTED && why != EINTR)
            return;
    }
}

void loop_accept(struct loop *loop, size_t listener) {
    accept_some(loop, listener);
    loop_wake_others(loop);
}

static void set_listeners(struct loop *loop, struct listeners *listeners) {
    lock_acquire(&loop->shared->listeners_lock);
    loop->listeners = listeners;
    lock_release(&loop->shared->listeners_lock);
}

/* What waits at the sockets that go is accepted first. The others are watched again, because their
 * marks have changed. */
void loop_change_listeners(struct loop *loop, struct listeners *next) {
    const struct listeners *before = loop->listeners;
    for (size_t i = 0; i < before->count; i++)
        if (!listeners_have(next, before->each[i].fd))
            loop_accept(loop, i);
    loop_unwatch_listeners(loop);
    set_listeners(loop, next);
    if (!loop->accept_again_ms && !loop_watch_listeners(loop))
        pause_accepting(loop);
}

void loop_leave_listeners(struct loop *loop) {
    loop_unwatch_listeners(loop);
    loop->accept_again_ms = 0;
    set_listeners(loop, NULL);
}
