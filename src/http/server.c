#include "http/server.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>
#include "base/clock.h"
#include "base/log.h"
#include "http/exchange.h"
#include "http/tls.h"

enum {
    EVENTS_AT_ONCE = 64,
    ACCEPTS_AT_ONCE = 64,
    REFUSED_AT_ONCE = 256,     /* connections beyond the limit that wait for their 503 */
    REFUSING_MS = 2000,        /* how long they may */
    LINE_MS = 2000,            /* how long a request may wait for a worker before it gets 503 */
    CLOSING_MS = 1000,         /* how long a client may go on sending after the last answer */
    CLOSING_BYTES = 256 << 10, /* and how much */
    ACCEPT_PAUSE_MS = 100,     /* after running out of descriptors or memory */
    IDENTITY_CHECK_MS = 1000,
    TICK_MS = 500,
    STOPPING_TICK_MS = 10,
};

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

static bool watch(struct http_server *server, struct source *source, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = source};
    return epoll_ctl(server->epoll, EPOLL_CTL_ADD, source->fd, &event) == 0;
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
        server->listener_sources[i] = (struct source){SOURCE_LISTENER, fd};
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
    pthread_mutex_init(&server->connections_lock, NULL);
    pool_init(&server->pool, server, server->settings.max_workers);
    server->epoll = epoll_create1(EPOLL_CLOEXEC);
    server->wake = (struct source){SOURCE_WAKE, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (server->epoll < 0 || server->wake.fd < 0 || !watch(server, &server->wake, EPOLLIN)) {
        error_set_errno(error, errno, "setting up the server");
    } else if (open_identity(server, error) && open_listeners(server, error)) {
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
    pool_destroy(&server->pool);
    pthread_mutex_destroy(&server->connections_lock);
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
    pthread_mutex_lock(&server->connections_lock);
    figures.connections = server->connection_count;
    for (struct connection *connection = server->connections; connection;
         connection = connection->next)
        lingering += atomic_load(&connection->waiting);
    pthread_mutex_unlock(&server->connections_lock);
    figures.workers_busy -= lingering < figures.workers_busy ? lingering : figures.workers_busy;
    return figures;
}

/* ---- where a connection is ---- */

/* Under connections_lock. */
static bool park(struct http_server *server, struct connection *connection) {
    uint32_t events = connection->wants_to_write ? EPOLLOUT : EPOLLIN | EPOLLRDHUP;
    if (!watch(server, &connection->source, events))
        return false;
    connection->parked = true;
    DL_APPEND2(server->parked, connection, parked_prev, parked_next);
    return true;
}

/* Under connections_lock. */
static void unpark(struct http_server *server, struct connection *connection) {
    epoll_ctl(server->epoll, EPOLL_CTL_DEL, connection->source.fd, NULL);
    connection->parked = false;
    DL_DELETE2(server->parked, connection, parked_prev, parked_next);
}

/* Under connections_lock: from here on nobody else knows it. */
static void forget(struct http_server *server, struct connection *connection) {
    if (connection->parked)
        unpark(server, connection);
    DL_DELETE(server->connections, connection);
    if (connection->counted)
        server->connection_count--;
    else
        server->refused_count--;
}

void server_close(struct http_server *server, struct connection *connection) {
    pthread_mutex_lock(&server->connections_lock);
    forget(server, connection);
    pthread_mutex_unlock(&server->connections_lock);
    connection_free(connection);
}

void server_park(struct http_server *server, struct connection *connection) {
    connection_shrink(connection);
    pthread_mutex_lock(&server->connections_lock);
    bool parked = park(server, connection);
    pthread_mutex_unlock(&server->connections_lock);
    if (!parked)
        server_close(server, connection);
}

static void begin_closing(struct connection *connection) {
    channel_finish(&connection->channel);
    connection->stage = STAGE_CLOSING;
    connection->wants_to_write = false;
    connection->length = 0;
    connection->discard = CLOSING_BYTES;
    connection->deadline_ms = clock_ms() + CLOSING_MS;
}

void server_finish(struct http_server *server, struct connection *connection) {
    begin_closing(connection);
    server_park(server, connection);
}

/* ---- accepting ---- */

static void pause_accepting(struct http_server *server) {
    log_at(LOG_WARN, "cannot accept connections, trying again shortly",
           LOG_STRING("error", strerror(errno)));
    for (size_t i = 0; i < server->listeners.count; i++)
        epoll_ctl(server->epoll, EPOLL_CTL_DEL, server->listeners.fds[i], NULL);
    server->accept_again_ms = clock_ms() + ACCEPT_PAUSE_MS;
}

static bool watch_listeners(struct http_server *server) {
    for (size_t i = 0; i < server->listeners.count; i++)
        if (!watch(server, &server->listener_sources[i], EPOLLIN) && errno != EEXIST)
            return false;
    server->accept_again_ms = 0;
    return true;
}

/* Counts it, and settles whether it is served or refused. False: not even that. */
static bool admit(struct http_server *server, struct connection *connection, int64_t now) {
    const struct http_server_settings *settings = &server->settings;
    connection->deadline_ms = now + settings->idle_timeout_ms;
    pthread_mutex_lock(&server->connections_lock);
    connection->counted = server->connection_count < settings->max_connections;
    bool admitted =
        connection->counted || (connection->plain && server->refused_count < REFUSED_AT_ONCE);
    if (connection->counted)
        server->connection_count++;
    else if (admitted)
        server->refused_count++;
    if (admitted && !connection->counted) {
        connection->stage = STAGE_REFUSING;
        connection->deadline_ms = now + REFUSING_MS;
    }
    if (admitted)
        DL_APPEND(server->connections, connection);
    pthread_mutex_unlock(&server->connections_lock);
    return admitted;
}

static void accept_some(struct http_server *server, const struct source *listener, int64_t now) {
    bool is_file = server->listeners.paths[listener - server->listener_sources] != NULL;
    bool is_plain = is_file || !server->identity;
    for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
        struct sockaddr_storage peer = {0};
        socklen_t size = sizeof peer;
        int flags = SOCK_CLOEXEC | (is_plain ? 0 : SOCK_NONBLOCK);
        int fd = accept4(listener->fd, (struct sockaddr *)&peer, &size, flags);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                pause_accepting(server);
            return;
        }
        if (is_file) /* unlike a TCP listener it hands nothing on */
            channel_prepare_listener(fd, POOL_LINGER_MS, server->settings.send_timeout_ms);
        struct connection *connection =
            connection_new(fd, &peer, POOL_LINGER_MS, server->settings.send_timeout_ms);
        if (!connection)
            continue;
        connection->plain = is_plain;
        if (admit(server, connection, now))
            server_park(server, connection);
        else
            connection_free(connection);
    }
}

/* ---- what parked connections wait for ---- */

static void send_busy(struct http_server *server, struct connection *connection) {
    char answer[1536];
    size_t length = response_busy(&server->settings, "too many requests at once, try again", answer,
                                  sizeof answer);
    if (!connection->channel.tls)
        send(connection->source.fd, answer, length, MSG_NOSIGNAL | MSG_DONTWAIT);
    else if (connection->channel.handshaken)
        tls_send(connection->channel.tls, answer, length);
}

/* A connection beyond the limit: its request has come, or something else. */
static void refuse(struct http_server *server, struct connection *connection) {
    char first = '\0';
    ssize_t n = recv(connection->source.fd, &first, 1, MSG_DONTWAIT);
    bool request = n == 1 && first >= 'A' && first <= 'Z';
    if (n < 0 && errno == EAGAIN)
        return;
    if (!request) {
        server_close(server, connection);
        return;
    }
    send_busy(server, connection);
    begin_closing(connection);
}

/* Throws away what a client sends after its last answer. */
static void discard(struct http_server *server, struct connection *connection) {
    char bytes[4096];
    ssize_t n;
    do {
        n = recv(connection->source.fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (n > 0)
            connection->discard -=
                (uint64_t)n < connection->discard ? (uint64_t)n : connection->discard;
    } while (n > 0 && connection->discard > 0);
    if (n >= 0 || errno != EAGAIN)
        server_close(server, connection);
}

/* An idle client that left costs no worker. */
static bool has_left(const struct connection *connection, uint32_t events) {
    char byte;
    if (events & (EPOLLHUP | EPOLLERR))
        return true;
    return (events & EPOLLRDHUP) &&
           recv(connection->source.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static void act_on_connection(struct http_server *server, struct connection *connection,
                              uint32_t events) {
    switch (connection->stage) {
    case STAGE_REFUSING:
        refuse(server, connection);
        break;
    case STAGE_CLOSING:
        discard(server, connection);
        break;
    case STAGE_SERVING:
        if (has_left(connection, events)) {
            server_close(server, connection);
            break;
        }
        pthread_mutex_lock(&server->connections_lock);
        unpark(server, connection);
        pthread_mutex_unlock(&server->connections_lock);
        pool_line_up(&server->pool, connection);
        break;
    }
}

/* Closes the parked connections whose time is over; `serving_too`: all that could bring requests.
 */
static void expire(struct http_server *server, int64_t now, bool serving_too) {
    struct connection *expired = NULL, *connection, *following;
    pthread_mutex_lock(&server->connections_lock);
    DL_FOREACH_SAFE2(server->parked, connection, following, parked_next) {
        if (now < connection->deadline_ms && !(serving_too && connection->stage == STAGE_SERVING))
            continue;
        forget(server, connection);
        DL_APPEND(expired, connection);
    }
    pthread_mutex_unlock(&server->connections_lock);
    DL_FOREACH_SAFE (expired, connection, following)
        connection_free(connection);
}

static void refuse_overdue(struct http_server *server, int64_t now) {
    struct connection *connection;
    while ((connection = pool_take_overdue(&server->pool, now - LINE_MS))) {
        send_busy(server, connection);
        server_finish(server, connection);
    }
}

/* ---- stopping ---- */

/* Workers that linger for a next request give up. What has arrived can still be read. */
static void wake_lingering(struct http_server *server) {
    pthread_mutex_lock(&server->connections_lock);
    struct connection *connection;
    DL_FOREACH (server->connections, connection)
        if (atomic_load(&connection->waiting))
            shutdown(connection->source.fd, SHUT_RD);
    pthread_mutex_unlock(&server->connections_lock);
}

/* Cuts all that are left, so that their workers return. */
static void cut_all(struct http_server *server) {
    unsigned cut = 0;
    pthread_mutex_lock(&server->connections_lock);
    struct connection *connection;
    DL_FOREACH (server->connections, connection) {
        channel_cut(&connection->channel);
        shutdown(connection->source.fd, SHUT_RDWR);
        cut++;
    }
    pthread_mutex_unlock(&server->connections_lock);
    log_at(LOG_WARN, "requests were cut by the stop", LOG_NUMBER("requests", cut));
}

static bool none_left(struct http_server *server) {
    pthread_mutex_lock(&server->connections_lock);
    bool none = server->connections == NULL;
    pthread_mutex_unlock(&server->connections_lock);
    return none;
}

void http_server_stop(struct http_server *server) {
    int saved = errno;
    atomic_store(&server->stopping, true);
    uint64_t one = 1;
    ssize_t written = write(server->wake.fd, &one, sizeof one);
    (void)written; /* it fails only when it is readable already */
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

/* Yields how many events there were, EVENTS_AT_ONCE at most. */
static int act_on_events(struct http_server *server, int timeout_ms) {
    struct epoll_event events[EVENTS_AT_ONCE];
    int count = epoll_wait(server->epoll, events, EVENTS_AT_ONCE, timeout_ms);
    int64_t now = clock_ms();
    for (int i = 0; i < count; i++) {
        struct source *source = events[i].data.ptr;
        switch (source->kind) {
        case SOURCE_WAKE:
            break; /* it stays readable; `stopping` tells the rest */
        case SOURCE_LISTENER:
            check_identity(server, now);
            accept_some(server, source, now);
            break;
        case SOURCE_CONNECTION:
            act_on_connection(server, (struct connection *)source, events[i].events);
            break;
        }
    }
    return count;
}

static void serve_until_stop(struct http_server *server) {
    int tick = tick_ms(&server->settings);
    while (!atomic_load(&server->stopping)) {
        /* Workers that end are joined, or their stacks would stay. */
        bool sleeps =
            server->accept_again_ms == 0 && none_left(server) && pool_is_empty(&server->pool);
        act_on_events(server, sleeps ? -1 : tick);
        int64_t now = clock_ms();
        expire(server, now, false);
        refuse_overdue(server, now);
        pool_reap(&server->pool);
        if (server->accept_again_ms && now >= server->accept_again_ms)
            watch_listeners(server);
    }
}

static void stop_serving(struct http_server *server) {
    listeners_close(&server->listeners);
    epoll_ctl(server->epoll, EPOLL_CTL_DEL, server->wake.fd, NULL);
    wake_lingering(server);
    int64_t deadline = clock_ms() + server->settings.grace_ms;
    bool cut = false;
    /* A request that is here already is served before the idle ones are closed. */
    while (act_on_events(server, 0) == EVENTS_AT_ONCE && clock_ms() < deadline)
        ;
    while (!none_left(server)) {
        int64_t now = clock_ms();
        expire(server, now, true);
        refuse_overdue(server, now);
        if (!cut && now >= deadline) {
            cut_all(server);
            cut = true;
        }
        act_on_events(server, STOPPING_TICK_MS);
    }
    pool_end(&server->pool);
}

/* OpenSSL writes without MSG_NOSIGNAL. Yields whether SIGPIPE was let through before. */
static bool hold_broken_pipes(void) {
    sigset_t pipes, before;
    sigemptyset(&pipes);
    sigaddset(&pipes, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipes, &before);
    return !sigismember(&before, SIGPIPE);
}

static void release_broken_pipes(void) {
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
    bool held = hold_broken_pipes();
    serve_until_stop(server);
    stop_serving(server);
    if (held)
        release_broken_pipes();
    return true;
}
