/* The server: its life, and the loop that accepts, hands over and expires connections. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/log.h"
#include "http/connections.h"
#include "http/exchange.h"
#include "http/tls.h"

enum {
    EVENTS_AT_ONCE = 64,
    ACCEPTS_AT_ONCE = 64,
    LINE_MS = 2000,        /* how long a request may wait for a worker before it gets 503 */
    ACCEPT_PAUSE_MS = 100, /* after running out of descriptors, memory or places */
    IDENTITY_CHECK_MS = 1000,
    TICK_MS = 500,
    STOPPING_TICK_MS = 10,
};

struct http_server {
    struct http_server_settings settings;
    struct listeners listeners;
    struct watched watched_listeners[LISTENER_LIMIT];
    unsigned port;
    struct tls_identity *identity; /* NULL: plain */
    struct watched wake;           /* an eventfd: the stop */
    int epoll;
    struct connections connections;
    struct connection_terms terms, reserve_terms;
    struct pool pool;
    struct pool reserve; /* one worker, for probes and for connections over the limit */
    atomic_bool stopping;

    /* For the loop only: */
    int64_t accept_again_ms; /* accepting pauses until then; 0: no pause */
    int64_t identity_checked_ms;
};

/* ---- where a connection goes ---- */

/*
 * The reserve's only worker takes a connection in two cases: it is over the limit, or all workers
 * are busy and its next request may be a probe. If that request is no probe, the connection goes
 * into the usual line.
 */
static void line_up(struct http_server *server, struct open_connection *open) {
    bool maybe_probe = server->settings.is_probe && pool_is_full(&server->pool);
    bool to_reserve = open->connection.over_limit || maybe_probe;
    pool_line_up(to_reserve ? &server->reserve : &server->pool, &open->task);
}

static void serve_on(struct http_server *server, struct open_connection *open,
                     const struct connection_terms *terms) {
    switch (connection_serve(&open->connection, terms)) {
    case CONNECTION_PARK:
        connections_park(&server->connections, open);
        break;
    case CONNECTION_LINE_UP:
        line_up(server, open);
        break;
    case CONNECTION_NO_PROBE:
        pool_line_up(&server->pool, &open->task);
        break;
    case CONNECTION_FINISH:
        connections_finish_one(&server->connections, open);
        break;
    case CONNECTION_CLOSE:
        connections_close(&server->connections, open);
        break;
    }
}

/* On a worker of the pool. */
static void serve(void *context, struct pool_task *task) {
    struct http_server *server = context;
    serve_on(server, connections_of_task(task), &server->terms);
}

/* On the reserve's worker. */
static void serve_reserve(void *context, struct pool_task *task) {
    struct http_server *server = context;
    serve_on(server, connections_of_task(task), &server->reserve_terms);
}

static int linger_ms(const void *context) {
    const struct http_server *server = context;
    return pool_linger_ms(&server->pool);
}

/* ---- life ---- */

struct http_server_settings http_server_settings_default(void) {
    return (struct http_server_settings){
        .max_connections = 10000,
        .max_workers = 2048,
        .head_timeout_ms = 10 * 1000,
        .idle_timeout_ms = 120 * 1000,
        .send_timeout_ms = 60 * 1000,
        .grace_ms = 30 * 1000,
    };
}

static bool open_listeners(struct http_server *server, struct error *error) {
    const struct http_server_settings *settings = &server->settings;
    if (settings->listen_count == 0)
        return error_set(error, ERROR_INVALID, "no address to listen on");
    bool v4_wildcard = false;
    for (size_t i = 0; i < settings->listen_count; i++)
        v4_wildcard = v4_wildcard || text_starts(text_of(settings->listen[i]), "0.0.0.0:");
    for (size_t i = 0; i < settings->listen_count; i++)
        if (!listeners_add(&server->listeners, settings->listen[i], v4_wildcard, error))
            return false;
    server->port = listeners_port(&server->listeners);
    for (size_t i = 0; i < server->listeners.count; i++) {
        int fd = server->listeners.fds[i];
        channel_prepare_listener(fd, POOL_LINGER_MS, settings->send_timeout_ms);
        server->watched_listeners[i] = (struct watched){WATCHED_LISTENER, fd};
    }
    return true;
}

static bool open_identity(struct http_server *server, struct error *error) {
    const struct http_server_settings *settings = &server->settings;
    if (!settings->tls_certificate && !settings->tls_key)
        return true;
    if (!settings->tls_certificate || !settings->tls_key)
        return error_set(error, ERROR_INVALID, "TLS needs both a certificate and a key");
    server->identity = tls_identity_new(settings->tls_certificate, settings->tls_key, error);
    return server->identity != NULL;
}

struct http_server *http_server_new(const struct http_server_settings *settings,
                                    struct error *error) {
    struct http_server *server = calloc(1, sizeof *server);
    if (!server) {
        error_set(error, ERROR_MEMORY, "no memory for the server");
        return NULL;
    }
    server->settings = *settings;
    server->epoll = epoll_create1(EPOLL_CLOEXEC);
    server->wake = (struct watched){WATCHED_WAKE, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    connections_init(&server->connections, server->epoll, settings->max_connections);
    pool_init(&server->pool, &(struct pool_settings){.name = "http-worker",
                                                     .most_workers = settings->max_workers,
                                                     .serve = serve,
                                                     .context = server});
    pool_init(&server->reserve, &(struct pool_settings){.name = "http-reserve",
                                                        .least_workers = settings->is_probe != NULL,
                                                        .most_workers = 1,
                                                        .serve = serve_reserve,
                                                        .context = server});
    if (server->epoll < 0 || server->wake.fd < 0 ||
        !connections_watch(&server->connections, &server->wake, EPOLLIN)) {
        error_set_errno(error, errno, "setting up the server");
    } else if (open_identity(server, error) && open_listeners(server, error)) {
        server->terms = (struct connection_terms){.settings = &server->settings,
                                                  .identity = server->identity,
                                                  .stopping = &server->stopping,
                                                  .linger_ms = linger_ms,
                                                  .context = server};
        server->reserve_terms = server->terms;
        server->reserve_terms.probes_only = true;
        server->reserve_terms.linger_ms = NULL;
        return server;
    }
    http_server_free(server);
    return NULL;
}

void http_server_free(struct http_server *server) {
    if (!server)
        return;
    listeners_close(&server->listeners);
    tls_identity_free(server->identity);
    pool_finish(&server->reserve);
    pool_finish(&server->pool);
    connections_finish(&server->connections);
    if (server->wake.fd >= 0)
        close(server->wake.fd);
    if (server->epoll >= 0)
        close(server->epoll);
    free(server);
}

unsigned http_server_port(const struct http_server *server) {
    return server->port;
}

struct http_server_figures http_server_figures(const struct http_server *shared) {
    struct http_server *server = (struct http_server *)shared; /* for its locks */
    struct http_server_figures figures = {0};
    unsigned lingering = 0;
    pool_figures(&server->pool, &figures.workers, &figures.workers_busy);
    connections_figures(&server->connections, &figures.connections, &lingering);
    figures.workers_busy -= lingering < figures.workers_busy ? lingering : figures.workers_busy;
    return figures;
}

/* ---- accepting ---- */

static void pause_accepting(struct http_server *server) {
    for (size_t i = 0; i < server->listeners.count; i++)
        epoll_ctl(server->epoll, EPOLL_CTL_DEL, server->listeners.fds[i], NULL);
    server->accept_again_ms = clock_ms() + ACCEPT_PAUSE_MS;
}

static bool watch_listeners(struct http_server *server) {
    for (size_t i = 0; i < server->listeners.count; i++)
        if (!connections_watch(&server->connections, &server->watched_listeners[i], EPOLLIN) &&
            errno != EEXIST)
            return false;
    server->accept_again_ms = 0;
    return true;
}

static void add_connection(struct http_server *server, int fd, const struct sockaddr_storage *peer,
                           bool is_plain, int64_t now) {
    const struct http_server_settings *settings = &server->settings;
    struct open_connection *open = calloc(1, sizeof *open);
    if (!open) {
        close(fd);
        return;
    }
    open->watched = (struct watched){WATCHED_CONNECTION, fd};
    connection_init(&open->connection, fd, peer, is_plain, POOL_LINGER_MS,
                    settings->send_timeout_ms);
    open->connection.deadline_ms = now + settings->idle_timeout_ms;
    connections_add(&server->connections, open);
    connections_park(&server->connections, open);
}

static void accept_some(struct http_server *server, const struct watched *listener, int64_t now) {
    bool is_file = server->listeners.paths[listener - server->watched_listeners] != NULL;
    bool is_plain = is_file || !server->identity;
    for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
        if (!connections_make_place(&server->connections)) {
            pause_accepting(server);
            return;
        }
        struct sockaddr_storage peer = {0};
        socklen_t size = sizeof peer;
        int flags = SOCK_CLOEXEC | (is_plain ? 0 : SOCK_NONBLOCK);
        int fd = accept4(listener->fd, (struct sockaddr *)&peer, &size, flags);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                log_at(LOG_WARN, "cannot accept connections, trying again shortly",
                       LOG_STRING("error", strerror(errno)));
                pause_accepting(server);
            }
            return;
        }
        if (is_file) /* a Unix listener hands no options on, unlike a TCP listener */
            channel_prepare_listener(fd, POOL_LINGER_MS, server->settings.send_timeout_ms);
        add_connection(server, fd, &peer, is_plain, now);
    }
}

/* ---- what parked connections wait for ---- */

static void send_busy(struct http_server *server, const struct connection *connection) {
    char response[1536];
    const struct channel *channel = &connection->channel;
    size_t length = response_format_busy(&server->settings, "too many requests at once, try again",
                                         response, sizeof response);
    if (!channel->tls)
        send(channel->fd, response, length, MSG_NOSIGNAL | MSG_DONTWAIT);
    else if (channel->handshaken)
        tls_send(channel->tls, response, length);
}

/* Throws away what a client sends after its last response. */
static void discard(struct http_server *server, struct open_connection *open) {
    uint64_t *left = &open->connection.discard;
    char bytes[4096];
    ssize_t n;
    do {
        n = recv(open->watched.fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (n > 0)
            *left -= (uint64_t)n < *left ? (uint64_t)n : *left;
    } while (n > 0 && *left > 0);
    if (n >= 0 || errno != EAGAIN)
        connections_close(&server->connections, open);
}

/* Whether the client of an idle connection left. No worker is needed to find out. */
static bool has_left(const struct open_connection *open, uint32_t events) {
    char byte;
    if (events & (EPOLLHUP | EPOLLERR))
        return true;
    return (events & EPOLLRDHUP) && recv(open->watched.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static void act_on_connection(struct http_server *server, struct open_connection *open,
                              uint32_t events) {
    if (open->stage == STAGE_CLOSING) {
        discard(server, open);
    } else if (has_left(open, events)) {
        connections_close(&server->connections, open);
    } else {
        connections_unpark(&server->connections, open);
        line_up(server, open);
    }
}

static void refuse_overdue(struct http_server *server, int64_t now) {
    struct pool_task *task;
    while ((task = pool_take_overdue(&server->pool, now - LINE_MS))) {
        struct open_connection *open = connections_of_task(task);
        send_busy(server, &open->connection);
        connections_finish_one(&server->connections, open);
    }
}

/* ---- stopping ---- */

void http_server_stop(struct http_server *server) {
    int saved = errno;
    atomic_store(&server->stopping, true);
    uint64_t one = 1;
    ssize_t written = write(server->wake.fd, &one, sizeof one);
    (void)written; /* it fails only when the eventfd is readable already */
    errno = saved;
}

/* ---- the loop ---- */

static int tick_ms(const struct http_server_settings *settings) {
    int least = settings->head_timeout_ms < settings->idle_timeout_ms ? settings->head_timeout_ms
                                                                      : settings->idle_timeout_ms;
    int tick = least / 4 < TICK_MS ? least / 4 : TICK_MS;
    return tick < 10 ? 10 : tick;
}

static void check_identity(struct http_server *server, int64_t now) {
    if (!server->identity || now - server->identity_checked_ms < IDENTITY_CHECK_MS)
        return;
    server->identity_checked_ms = now;
    tls_identity_refresh(server->identity);
}

/* Waits for events and acts on them. Returns their number, EVENTS_AT_ONCE at most. */
static int act_on_events(struct http_server *server, int timeout_ms) {
    struct epoll_event events[EVENTS_AT_ONCE];
    int count = epoll_wait(server->epoll, events, EVENTS_AT_ONCE, timeout_ms);
    int64_t now = clock_ms();
    for (int i = 0; i < count; i++) {
        struct watched *watched = events[i].data.ptr;
        switch (watched->kind) {
        case WATCHED_WAKE:
            break; /* `stopping` is set; the eventfd stays readable */
        case WATCHED_LISTENER:
            check_identity(server, now);
            accept_some(server, watched, now);
            break;
        case WATCHED_CONNECTION:
            act_on_connection(server, (struct open_connection *)watched, events[i].events);
            break;
        }
    }
    return count;
}

static void serve_until_stop(struct http_server *server) {
    int tick = tick_ms(&server->settings);
    while (!atomic_load(&server->stopping)) {
        /* A worker that ends must be joined, because its stack stays until then. */
        bool sleeps = connections_are_none(&server->connections) && pool_is_stable(&server->pool) &&
                      pool_is_stable(&server->reserve);
        act_on_events(server, server->accept_again_ms ? ACCEPT_PAUSE_MS : sleeps ? -1 : tick);
        int64_t now = clock_ms();
        connections_expire(&server->connections, now, false);
        refuse_overdue(server, now);
        pool_reap(&server->pool);
        pool_reap(&server->reserve);
        if (server->accept_again_ms && now >= server->accept_again_ms)
            watch_listeners(server);
    }
}

static void stop_serving(struct http_server *server) {
    listeners_close(&server->listeners);
    epoll_ctl(server->epoll, EPOLL_CTL_DEL, server->wake.fd, NULL);
    connections_wake_waiting(&server->connections);
    int64_t deadline = clock_ms() + server->settings.grace_ms;
    bool cut = false;
    /* Requests that have arrived are served before idle connections are closed. */
    while (act_on_events(server, 0) == EVENTS_AT_ONCE && clock_ms() < deadline)
        ;
    while (!connections_are_none(&server->connections)) {
        int64_t now = clock_ms();
        connections_expire(&server->connections, now, true);
        refuse_overdue(server, now);
        if (!cut && now >= deadline) {
            cut = true;
            unsigned count = connections_cut(&server->connections);
            log_at(LOG_WARN, "requests were cut by the stop", LOG_NUMBER("requests", count));
        }
        act_on_events(server, STOPPING_TICK_MS);
    }
    pool_stop(&server->pool);
    pool_stop(&server->reserve);
}

/* Blocks SIGPIPE, because OpenSSL writes without MSG_NOSIGNAL. Returns whether it was not blocked
 * before. */
static bool block_sigpipe(void) {
    sigset_t pipes, before;
    sigemptyset(&pipes);
    sigaddset(&pipes, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipes, &before);
    return !sigismember(&before, SIGPIPE);
}

static void unblock_sigpipe(void) {
    sigset_t pipes;
    sigemptyset(&pipes);
    sigaddset(&pipes, SIGPIPE);
    while (sigtimedwait(&pipes, NULL, &(struct timespec){0, 0}) > 0)
        ;
    pthread_sigmask(SIG_UNBLOCK, &pipes, NULL);
}

bool http_server_run(struct http_server *server, struct error *error) {
    if (!watch_listeners(server))
        return error_set_errno(error, errno, "watching the listening sockets");
    if (!pool_start(&server->reserve, error)) {
        pool_stop(&server->reserve);
        return false;
    }
    bool blocked = block_sigpipe();
    serve_until_stop(server);
    stop_serving(server);
    if (blocked)
        unblock_sigpipe();
    return true;
}
