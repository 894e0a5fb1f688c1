/* An event loop's turns: wait, answer in place, hand over, expire, and the stop. */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "http/loop_private.h"

enum {
    EVENTS_AT_ONCE = 64,
    SPARE_MOST = 256,     /* connections' memory that a loop keeps */
    NO_PLACE_MS = 2000,   /* how long a connection without a place may take */
    LONG_YIELD_US = 6000, /* a processor for which more than two other threads wait */
    YIELD_PAUSE = 200,    /* the pause after a long yield, in yields of that length */
    END_MS = 1000,        /* how long a client may go on sending after its end */
    /* A nice value: a processor that a loop shares with another thread is its own for four fifths
     * of the time. A loop wants little of it, and everybody's hits wait for it. */
    RAISED_BY = 6,
};

/* ---- deadlines ---- */

static int64_t deadline_of(const struct loop *loop, const struct connection *connection,
                           enum connection_wait wait) {
    const struct http_server_settings *settings = loop->shared->settings;
    switch (wait) {
    case WAIT_REQUEST:
        return loop->now_ms + settings->idle_timeout_ms;
    case WAIT_HEAD:
        return connection->head_deadline_ms;
    case WAIT_SPACE:
        return loop->now_ms + settings->send_timeout_ms;
    case WAIT_OVER_LIMIT:
    case WAIT_OVER_SHARE:
        return loop->now_ms + NO_PLACE_MS;
    default:
        return loop->now_ms + END_MS;
    }
}

void loop_publish_idle(struct loop *loop) {
    const struct connection *first = loop->waiting[WAIT_REQUEST];
    int64_t since =
        first ? first->deadline_ms - loop->shared->settings->idle_timeout_ms : INT64_MAX;
    atomic_store_explicit(&loop->idle_since_ms, since, memory_order_relaxed);
}

static void stop_waiting(struct loop *loop, struct connection *connection) {
    if (connection->wait == WAIT_NOTHING)
        return;
    DL_DELETE2(loop->waiting[connection->wait], connection, wait_prev, wait_next);
    if (connection->wait == WAIT_SPACE)
        atomic_fetch_sub(&loop->shared->unsent, 1);
    connection->wait = WAIT_NOTHING;
}

/* Inserts by deadline. Nearly always that is at the end. */
static void insert_by_deadline(struct connection **list, struct connection *connection) {
    struct connection *before = *list ? (*list)->wait_prev : NULL;
    while (before && before->deadline_ms > connection->deadline_ms)
        before = before == *list ? NULL : before->wait_prev;
    if (before)
        DL_APPEND_ELEM2(*list, before, connection, wait_prev, wait_next);
    else
        DL_PREPEND2(*list, connection, wait_prev, wait_next);
}

/* A connection without a place keeps its first deadline, whatever it waits for. A connection whose
 * wait and deadline stay the same, as with a head that arrives byte by byte, also keeps its place,
 * because a search for that place would cost the more, the more clients do the same. */
static void start_waiting(struct loop *loop, struct connection *connection,
                          enum connection_wait wait) {
    bool has_place = connection->place == PLACE_WITHIN;
    bool keeps = !has_place && connection->deadline_ms > 0;
    if (!has_place)
        wait = connection->place == PLACE_OVER_LIMIT ? WAIT_OVER_LIMIT : WAIT_OVER_SHARE;
    int64_t deadline = keeps ? connection->deadline_ms : deadline_of(loop, connection, wait);
    if (connection->wait == wait && connection->deadline_ms == deadline)
        return;
    stop_waiting(loop, connection);
    connection->deadline_ms = deadline;
    connection->wait = wait;
    if (wait == WAIT_SPACE)
        atomic_fetch_add(&loop->shared->unsent, 1);
    insert_by_deadline(&loop->waiting[wait], connection);
}

/* ---- epoll ---- */

/* Makes epoll watch for `events`; 0: for none, not even for an error. */
static bool watch(struct loop *loop, struct connection *connection, uint32_t events) {
    if (connection->events == events)
        return true;
    struct epoll_event event = {.events = events, .data.ptr = connection};
    int operation = events == 0               ? EPOLL_CTL_DEL
                    : connection->events == 0 ? EPOLL_CTL_ADD
                                              : EPOLL_CTL_MOD;
    connection->events = events;
    return epoll_ctl(loop->epoll, operation, connection->channel.fd, &event) == 0;
}

/* ---- in and out ---- */

void loop_wake(int fd) {
    uint64_t one = 1;
    ssize_t written = write(fd, &one, sizeof one);
    (void)written; /* it fails only when the eventfd is readable already */
}

/* Counts whether a connection carries a request. */
static void set_busy(struct connection *connection, bool is_busy) {
    if (connection->is_busy == is_busy)
        return;
    connection->is_busy = is_busy;
    if (connection->remote && is_busy)
        atomic_fetch_add_explicit(&connection->remote->busy, 1, memory_order_relaxed);
    else if (connection->remote)
        atomic_fetch_sub_explicit(&connection->remote->busy, 1, memory_order_relaxed);
}

static void count_out(struct loop *loop, struct connection *connection) {
    set_busy(connection, false);
    atomic_fetch_sub(&loop->count, 1);
    loop->places[connection->place]--;
    if (connection->place == PLACE_WITHIN)
        bulkheads_give_back_connection(loop->shared->bulkheads, connection->remote);
}

static void leave_turns(struct loop *loop, struct connection *connection) {
    if (!connection->has_turn)
        return;
    DL_DELETE2(loop->turns, connection, turn_prev, turn_next);
    connection->has_turn = false;
}

/* The connection's memory stays until the end of the turn, because an event that epoll has reported
 * already may name it. */
void loop_close_connection(struct loop *loop, struct connection *connection) {
    stop_waiting(loop, connection);
    leave_turns(loop, connection);
    DL_DELETE(loop->all, connection);
    count_out(loop, connection);
    connection_finish(connection);
    connection->inbox_next = loop->closed;
    loop->closed = connection;
}

void loop_free_connection(struct loop *loop, struct connection *connection) {
    if (loop->spare_count == SPARE_MOST) {
        free(connection);
        return;
    }
    connection->inbox_next = loop->spare;
    loop->spare = connection;
    loop->spare_count++;
}

struct connection *loop_allocate_connection(struct loop *loop) {
    struct connection *spare = loop->spare;
    if (!spare)
        return malloc(sizeof *spare);
    loop->spare = spare->inbox_next;
    loop->spare_count--;
    return spare;
}

static void free_closed(struct loop *loop) {
    while (loop->closed) {
        struct connection *connection = loop->closed;
        loop->closed = connection->inbox_next;
        loop_free_connection(loop, connection);
    }
}

/* ---- to a pool and back ---- */

/* The connection leaves at the end of the turn, with all others that leave then: each worker that
 * wakes up may take the processor from the loop, which has answers to give before. */
static void hand_over(struct loop *loop, struct connection *connection, struct pool *pool) {
    struct pool_task *task = &connection->task;
    watch(loop, connection, 0);
    stop_waiting(loop, connection);
    task->is_patient = connection->exchange != NULL;
    if (pool == loop->shared->workers)
        DL_APPEND(loop->to_workers, task);
    else
        DL_APPEND(loop->to_handshakes, task);
}

static void line_up_leaving(struct loop *loop) {
    struct loops *shared = loop->shared;
    struct pool_task *to_workers = loop->to_workers, *to_handshakes = loop->to_handshakes;
    loop->to_workers = loop->to_handshakes = NULL;
    if (to_workers)
        pool_line_up(shared->workers, to_workers);
    if (to_handshakes)
        pool_line_up(shared->handshakes, to_handshakes);
    if ((to_workers || to_handshakes) && atomic_exchange(&shared->server_sleeps, false))
        loop_wake(shared->server_fd);
}

/* Returns whether the loop has to be woken for it. */
static bool put(struct loop *loop, struct connection *connection) {
    lock_acquire(&loop->inbox_lock);
    bool was_empty = loop->inbox == NULL;
    connection->inbox_next = loop->inbox;
    loop->inbox = connection;
    lock_release(&loop->inbox_lock);
    return was_empty;
}

void loop_pass(struct loop *other, struct connection *connection) {
    atomic_fetch_add(&other->passed, 1);
    if (put(other, connection))
        atomic_store(&other->is_to_wake, true);
}

void loop_wake_others(struct loop *loop) {
    struct loops *shared = loop->shared;
    for (unsigned i = 0; i < shared->count; i++) {
        struct loop *other = &shared->each[i];
        if (atomic_load_explicit(&other->is_to_wake, memory_order_relaxed) &&
            atomic_exchange(&other->is_to_wake, false))
            loop_wake(other->wake);
    }
}

void loop_give_back(struct connection *connection, enum connection_need need) {
    connection->need = need;
    if (connection->counts_as_request)
        bulkheads_give_back_worker(connection->loop->shared->bulkheads, connection->remote);
    connection->counts_as_request = false;
    struct loop *loop = connection->loop;
    if (put(loop, connection)) /* it is the loop's from here on */
        loop_wake(loop->wake);
}

/* ---- what a connection needs ---- */

void loop_wait_for_bytes(struct loop *loop, struct connection *connection) {
    start_waiting(loop, connection, connection->head_deadline_ms ? WAIT_HEAD : WAIT_REQUEST);
    if (!watch(loop, connection, EPOLLIN | EPOLLRDHUP))
        loop_close_connection(loop, connection);
}

/* Cuts a connection that has waited for its client to take more. A parked response must end on a
 * worker, where its sends fail from now on. */
static void cut_unsent(struct loop *loop, struct connection *connection) {
    if (connection->exchange) {
        connection_stall(connection);
        hand_over(loop, connection, loop->shared->workers);
    } else {
        channel_cut(&connection->channel);
        loop_close_connection(loop, connection);
    }
}

static void wait_for_space(struct loop *loop, struct connection *connection) {
    connection->unacknowledged = channel_unacknowledged(&connection->channel);
    start_waiting(loop, connection, connection->sends_handshake ? WAIT_HEAD : WAIT_SPACE);
    if (!watch(loop, connection, EPOLLOUT))
        cut_unsent(loop, connection);
}

static void take_turn_later(struct loop *loop, struct connection *connection) {
    stop_waiting(loop, connection);
    if (!connection->has_turn)
        DL_APPEND2(loop->turns, connection, turn_prev, turn_next);
    connection->has_turn = true;
}

static void end_connection(struct loop *loop, struct connection *connection) {
    if (!connection_end(connection)) {
        loop_close_connection(loop, connection);
        return;
    }
    connection->ended = true;
    start_waiting(loop, connection, WAIT_END);
    if (!watch(loop, connection, EPOLLIN | EPOLLRDHUP))
        loop_close_connection(loop, connection);
}

/* From now on the connection counts for no client address. */
static void exempt(struct loop *loop, struct connection *connection) {
    struct bulkheads *bulkheads = loop->shared->bulkheads;
    set_busy(connection, false);
    loop->places[connection->place]--;
    if (connection->place == PLACE_WITHIN)
        bulkheads_give_back_connection(bulkheads, connection->remote);
    pot_take(&bulkheads->connections);
    connection->place = PLACE_WITHIN;
    loop->places[PLACE_WITHIN]++;
    connection->channel.from = NULL;
    connection->channel.bulkheads = NULL;
    remote_leave(connection->remote);
    connection->remote = NULL;
    connection->is_exempt = false;
}

static void give(struct loop *loop, struct connection *connection, enum connection_need need) {
    if (connection->is_exempt)
        exempt(loop, connection);
    set_busy(connection, need == CONNECTION_NEEDS_WORKER || need == CONNECTION_NEEDS_SPACE);
    switch (need) {
    case CONNECTION_NEEDS_BYTES:
        loop_wait_for_bytes(loop, connection);
        break;
    case CONNECTION_NEEDS_TURN:
        take_turn_later(loop, connection);
        break;
    case CONNECTION_NEEDS_SPACE:
        wait_for_space(loop, connection);
        break;
    case CONNECTION_NEEDS_WORKER:
        hand_over(loop, connection, loop->shared->workers);
        break;
    case CONNECTION_NEEDS_END:
        end_connection(loop, connection);
        break;
    case CONNECTION_NEEDS_CLOSE:
        loop_close_connection(loop, connection);
        break;
    }
}

/* Goes on with a connection that epoll or its turn has brought up. */
static void go_on(struct loop *loop, struct connection *connection) {
    leave_turns(loop, connection);
    if (connection->ended) {
        if (!connection_throw_away(connection))
            loop_close_connection(loop, connection);
    } else if (connection->exchange) {
        hand_over(loop, connection, loop->shared->workers);
    } else if (!connection->plain && !connection->channel.handshaken) {
        hand_over(loop, connection, loop->shared->handshakes);
    } else {
        give(loop, connection, connection_answer(connection, &loop->shared->terms, &loop->scratch));
    }
}

/* ---- one turn ---- */

static void take_from_inbox(struct loop *loop) {
    lock_acquire(&loop->inbox_lock);
    struct connection *last_first = loop->inbox, *first = NULL;
    loop->inbox = NULL;
    lock_release(&loop->inbox_lock);
    while (last_first) {
        struct connection *next = last_first->inbox_next;
        last_first->inbox_next = first;
        first = last_first;
        last_first = next;
    }
    while (first) {
        struct connection *connection = first;
        first = connection->inbox_next;
        if (connection->is_new) { /* another loop has accepted it */
            atomic_fetch_sub(&loop->passed, 1);
            loop_admit(loop, connection);
        } else
            give(loop, connection, connection->need);
    }
}

static void take_turns(struct loop *loop) {
    struct connection *turns = loop->turns;
    loop->turns = NULL;
    while (turns) {
        struct connection *connection = turns;
        DL_DELETE2(turns, connection, turn_prev, turn_next);
        connection->has_turn = false;
        go_on(loop, connection);
    }
}

bool loop_hears(struct loop *loop, struct connection *connection) {
    char byte;
    if (recv(connection->channel.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0)
        return false;
    take_turn_later(loop, connection);
    return true;
}

/* The client took nothing in all that time, unless it has acknowledged some bytes. */
static void expire_waiting_for_space(struct loop *loop, struct connection *connection) {
    if (channel_unacknowledged(&connection->channel) < connection->unacknowledged)
        wait_for_space(loop, connection);
    else
        cut_unsent(loop, connection);
}

static void expire(struct loop *loop) {
    for (int wait = WAIT_REQUEST; wait < WAIT_KINDS; wait++) {
        struct connection *first;
        while ((first = loop->waiting[wait]) && first->deadline_ms <= loop->now_ms) {
            if (wait == WAIT_SPACE)
                expire_waiting_for_space(loop, first);
            else if (wait == WAIT_END || !loop_hears(loop, first))
                loop_close_connection(loop, first);
        }
    }
    if (loop->accept_again_ms && loop->accept_again_ms <= loop->now_ms)
        loop_accept_again(loop);
}

/* How long the loop may sleep; -1: until something happens. */
static int sleep_ms(const struct loop *loop, int64_t until_ms) {
    if (loop->turns)
        return 0;
    if (loop->accept_again_ms && loop->accept_again_ms < until_ms)
        until_ms = loop->accept_again_ms;
    for (int wait = WAIT_REQUEST; wait < WAIT_KINDS; wait++)
        if (loop->waiting[wait] && loop->waiting[wait]->deadline_ms < until_ms)
            until_ms = loop->waiting[wait]->deadline_ms;
    if (until_ms == INT64_MAX)
        return -1;
    int64_t ms = until_ms - clock_ms();
    return ms < 0 ? 0 : ms > 60000 ? 60000 : (int)ms;
}

static bool is_listener_mark(const struct loop *loop, const void *pointer) {
    const char *mark = pointer;
    return mark >= loop->listener_marks && mark < loop->listener_marks + LISTENER_LIMIT;
}

/*
 * Lets others have the processor: clients on the same machine, and the kernel's work for the
 * network. What they bring meanwhile is answered in one turn, without a sleep and a wakeup for each
 * request (32 connections, two processors: a quarter more requests/s).
 *
 * Where many threads want the processor, each gets its turn before the loop does, which may take
 * half a second with a hundred of them. The pause after a long yield keeps the time spent in long
 * yields below a 200th.
 */
static void let_others_run(struct loop *loop) {
    int64_t began_us = clock_us();
    if (began_us < loop->yield_again_us)
        return;
    sched_yield();
    int64_t took_us = clock_us() - began_us;
    if (took_us > LONG_YIELD_US)
        loop->yield_again_us = began_us + YIELD_PAUSE * took_us;
}

static int wait_for_events(struct loop *loop, struct epoll_event events[static EVENTS_AT_ONCE],
                           int64_t until_ms) {
    if (atomic_load_explicit(&loop->count, memory_order_relaxed) > 1) {
        let_others_run(loop);
        int count = epoll_wait(loop->epoll, events, EVENTS_AT_ONCE, 0);
        if (count > 0)
            return count;
    }
    return epoll_wait(loop->epoll, events, EVENTS_AT_ONCE, sleep_ms(loop, until_ms));
}

/* Waits until `until_ms` at the latest, and acts on what has happened. Returns whether there may be
 * more to do at once: a connection that was admitted in this turn may bring a request in the next.
 */
static bool turn(struct loop *loop, int64_t until_ms) {
    struct epoll_event events[EVENTS_AT_ONCE];
    struct listeners *listeners =
        atomic_load_explicit(&loop->shared->listeners, memory_order_acquire);
    if (loop->listeners && loop->listeners != listeners)
        loop_change_listeners(loop, listeners);
    int count = wait_for_events(loop, events, until_ms);
    loop->now_ms = clock_ms();
    for (int i = 0; i < count; i++) {
        void *pointer = events[i].data.ptr;
        if (!pointer)
            take_from_inbox(loop);
        else if (is_listener_mark(loop, pointer))
            loop_accept(loop, (size_t)((char *)pointer - loop->listener_marks));
        else if (((struct connection *)pointer)->channel.fd >= 0) /* not closed in this turn */
            go_on(loop, pointer);
    }
    take_turns(loop);
    expire(loop);
    loop_publish_idle(loop);
    free_closed(loop);
    log_gather_flush(); /* before the lines of the workers that go on */
    line_up_leaving(loop);
    loop_wake_others(loop);
    return count > 0 || loop->turns;
}

/* ---- the stop ---- */

static void stop_accepting(struct loop *loop) {
    loop_leave_listeners(loop);
    if (atomic_fetch_sub(&loop->shared->accepting, 1) == 1)
        loops_close_listeners(loop->shared);
}

/* Closes the connections that could only bring another request. */
static void close_idle(struct loop *loop) {
    static const enum connection_wait idle[] = {WAIT_REQUEST, WAIT_HEAD, WAIT_OVER_LIMIT,
                                                WAIT_OVER_SHARE};
    for (size_t i = 0; i < sizeof idle / sizeof *idle; i++)
        while (loop->waiting[idle[i]])
            loop_close_connection(loop, loop->waiting[idle[i]]);
    free_closed(loop);
}

/* Cuts all connections that are left, so that their workers return. */
static void cut_all(struct loop *loop) {
    struct connection *connection, *following;
    DL_FOREACH_SAFE (loop->all, connection, following) {
        bool is_held = connection->wait == WAIT_NOTHING || connection->exchange;
        if (connection->wait != WAIT_END)
            atomic_fetch_add(&loop->shared->cut, 1);
        channel_cut(&connection->channel);
        shutdown(connection->channel.fd, SHUT_RDWR);
        if (!is_held)
            loop_close_connection(loop, connection);
    }
    free_closed(loop);
}

static void finish_requests(struct loop *loop) {
    int64_t deadline = clock_ms() + loop->shared->settings->grace_ms;
    bool is_cut = false;
    /* Requests that have arrived are served before idle connections are closed. */
    while (turn(loop, 0) && loop->now_ms < deadline)
        ;
    close_idle(loop);
    while (loop->all) {
        turn(loop, is_cut ? INT64_MAX : deadline);
        close_idle(loop);
        if (!is_cut && loop->now_ms >= deadline) {
            cut_all(loop);
            is_cut = true;
        }
    }
}

void loop_run(void *argument) {
    struct loop *loop = argument;
    struct loops *shared = loop->shared;
    thread_raise(RAISED_BY); /* it matters only where there are more threads than processors */
    log_gather_begin();
    while (!atomic_load(shared->terms.stopping))
        turn(loop, INT64_MAX);
    stop_accepting(loop);
    finish_requests(loop);
    log_gather_end();
    atomic_fetch_sub(&shared->running, 1);
    loop_wake(shared->server_fd);
}
