/* The server: its life, its loops and pools, and the thread that looks after the workers. */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/log.h"
#include "http/loop.h"
#include "http/tls.h"

enum {
    LINE_MS = 2000, /* how long a request may wait for a worker before it gets 503 */
    HANDSHAKE_LINE_MS =
        5000, /* how long a handshake may wait; nothing can be said before its end */
    TICK_MS = 500,
    LOOPS_LIMIT = 64,
};

struct http_server {
    struct http_server_settings settings;
    struct listeners listeners;
    unsigned port;
    struct buffer fields;          /* settings.fields, as they are sent */
    struct tls_identity *identity; /* NULL: plain */
    int wake;                      /* an eventfd for the server's own thread */
    struct bulkheads bulkheads;
    struct loops loops;
    struct pool workers;
    /* Has as many threads as there are loops, so that handshakes leave time for the rest. */
    struct pool handshakes;
    atomic_bool stopping;
};

/* ---- the pools' work ---- */

static struct connection *connection_of(struct pool_task *task) {
    return (struct connection *)((char *)task - offsetof(struct connection, task));
}

static void work(void *context, struct pool_task *task) {
    struct http_server *server = context;
    struct connection *connection = connection_of(task);
    loop_give_back(connection, connection_work(connection, &server->loops.terms));
}

static void shake_hands(void *context, struct pool_task *task) {
    struct http_server *server = context;
    struct connection *connection = connection_of(task);
    loop_give_back(connection, connection_shake_hands(connection, &server->loops.terms));
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
        .per_client = {.connections = 50, .requests = 50, .least_rate = 16 << 10},
    };
}

static bool open_listeners(struct http_server *server, struct error *error) {
    const struct http_server_settings *settings = &server->settings;
    if (settings->listen_count == 0)
        return error_set(error, ERROR_INVALID, "no address to listen on");
    bool v4_wildcard = false;
    for (size_t i = 0; i < settings->listen_count; i++)
        v4_wildcard = v4_wildcard || text_starts(text_of(settings->listen[i]), "0.0.0.0:");
    for (size_t i = 0; i < settings->side_listen_count; i++)
        v4_wildcard = v4_wildcard || text_starts(text_of(settings->side_listen[i]), "0.0.0.0:");
    for (size_t i = 0; i < settings->listen_count; i++)
        if (!listeners_add(&server->listeners, settings->listen[i], v4_wildcard, error))
            return false;
    server->listeners.side = server->listeners.count;
    for (size_t i = 0; i < settings->side_listen_count; i++)
        if (!listeners_add(&server->listeners, settings->side_listen[i], v4_wildcard, error))
            return false;
    server->port = listeners_port(&server->listeners);
    for (size_t i = 0; i < server->listeners.count; i++)
        channel_prepare_listener(server->listeners.fds[i]);
    return true;
}

static bool open_identity(struct http_server *server, struct error *error) {
    const struct http_server_settings *settings = &server->settings;
    if (!settings->tls_certificate && !settings->tls_key)
        return true;
    if (!settings->tls_certificate || !settings->tls_key)
        return error_set(error, ERROR_INVALID, "TLS needs both a certificate and a key");
    server->identity = tls_identity_new(settings->tls_certificate, settings->tls_key,
                                        settings->tls_client_ca, settings->tls_minimum, error);
    return server->identity != NULL;
}

static bool compose_fields(struct http_server *server, struct error *error) {
    const char *const *field = server->settings.fields;
    for (; field && *field; field++)
        buffer_printf(&server->fields, "%s\r\n", *field);
    return !server->fields.failed || error_set(error, ERROR_MEMORY, "no memory for the server");
}

static unsigned processors(void) {
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return count < 1 ? 1 : count > LOOPS_LIMIT ? LOOPS_LIMIT : (unsigned)count;
}

static bool open_loops(struct http_server *server, struct error *error) {
    struct loops *loops = &server->loops;
    loops->settings = &server->settings;
    loops->terms =
        (struct connection_terms){.settings = &server->settings,
                                  .identity = server->identity,
                                  .bulkheads = &server->bulkheads,
                                  .stopping = &server->stopping,
                                  .more_fields = {server->fields.bytes, server->fields.length}};
    loops->listeners = &server->listeners;
    loops->workers = &server->workers;
    loops->handshakes = &server->handshakes;
    loops->bulkheads = &server->bulkheads;
    loops->server_fd = server->wake;
    return loops_init(loops, server->settings.loops, error);
}

static void init_pools(struct http_server *server) {
    const struct http_server_settings *settings = &server->settings;
    pool_init(&server->workers, &(struct pool_settings){.name = "http-worker",
                                                        .most_workers = settings->max_workers,
                                                        .serve = work,
                                                        .context = server});
    pool_init(&server->handshakes, &(struct pool_settings){.name = "http-handshake",
                                                           .most_workers = settings->loops,
                                                           .serve = shake_hands,
                                                           .context = server});
}

struct http_server *http_server_new(const struct http_server_settings *settings,
                                    struct error *error) {
    struct http_server *server = calloc(1, sizeof *server);
    if (!server) {
        error_set(error, ERROR_MEMORY, "no memory for the server");
        return NULL;
    }
    server->settings = *settings;
    if (server->settings.loops == 0)
        server->settings.loops = processors();
    init_pools(server);
    server->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (server->wake < 0)
        error_set_errno(error, errno, "setting up the server");
    else if (compose_fields(server, error) && open_identity(server, error) &&
             open_listeners(server, error) &&
             bulkheads_init(&server->bulkheads, &server->settings, error) &&
             open_loops(server, error))
        return server;
    http_server_free(server);
    return NULL;
}

void http_server_free(struct http_server *server) {
    if (!server)
        return;
    listeners_close(&server->listeners);
    loops_finish(&server->loops);
    bulkheads_finish(&server->bulkheads);
    tls_identity_free(server->identity);
    buffer_finish(&server->fields);
    pool_finish(&server->handshakes);
    pool_finish(&server->workers);
    if (server->wake >= 0)
        close(server->wake);
    free(server);
}

unsigned http_server_port(const struct http_server *server) {
    return server->port;
}

void http_server_change(struct http_server *server, const struct http_server_settings *settings) {
    server->settings.max_connections = settings->max_connections;
    server->settings.head_timeout_ms = settings->head_timeout_ms;
    server->settings.idle_timeout_ms = settings->idle_timeout_ms;
    server->settings.send_timeout_ms = settings->send_timeout_ms;
    server->settings.grace_ms = settings->grace_ms;
    bulkheads_change(&server->bulkheads, settings);
}

bool http_server_use_certificate(struct http_server *server, const char *certificate,
                                 const char *key, enum http_tls_version minimum,
                                 struct error *error) {
    return server->identity ? tls_identity_use(server->identity, certificate, key, minimum, error)
                            : error_set(error, ERROR_INVALID, "the server has no TLS");
}

const struct pot *http_server_workers(const struct http_server *server) {
    return &server->bulkheads.workers;
}

struct http_server_figures http_server_figures(const struct http_server *shared) {
    struct http_server *server = (struct http_server *)shared; /* for its locks */
    struct http_server_figures figures = {.connections =
                                              atomic_load(&server->bulkheads.connections.taken),
                                          .unsent = atomic_load(&server->loops.unsent)};
    pool_figures(&server->workers, &figures.workers, &figures.workers_busy);
    return figures;
}

/* ---- running ---- */

void http_server_stop(struct http_server *server) {
    int saved = errno;
    atomic_store(&server->stopping, true);
    uint64_t one = 1;
    ssize_t written = write(server->wake, &one, sizeof one);
    (void)written; /* it fails only when the eventfd is readable already */
    errno = saved;
}

static void refuse_overdue(struct http_server *server) {
    struct pool_task *task;
    int64_t now = clock_ms();
    while ((task = pool_take_overdue(&server->workers, now - LINE_MS))) {
        struct connection *connection = connection_of(task);
        loop_give_back(connection, connection_refuse(connection, &server->loops.terms));
    }
    while ((task = pool_take_overdue(&server->handshakes, now - HANDSHAKE_LINE_MS))) {
        bulkheads_count_refusal(&server->bulkheads, REFUSED_HANDSHAKES);
        loop_give_back(connection_of(task), CONNECTION_NEEDS_CLOSE);
    }
}

/* Waits for something to do: a stop, the end of a loop, or a pool that has begun to change. A
 * worker that ends must be joined, because its stack stays until then. */
static void wait_for_work(struct http_server *server) {
    struct loops *loops = &server->loops;
    struct pollfd waited = {.fd = server->wake, .events = POLLIN};
    atomic_store(&loops->server_sleeps, true);
    bool sleeps = pool_is_stable(&server->workers) && pool_is_stable(&server->handshakes);
    if (!sleeps)
        atomic_store(&loops->server_sleeps, false);
    if (poll(&waited, 1, sleeps ? -1 : TICK_MS) > 0) {
        uint64_t count;
        ssize_t n = read(server->wake, &count, sizeof count);
        (void)n; /* the count does not matter */
    }
    atomic_store(&loops->server_sleeps, false);
    refuse_overdue(server);
    pool_tend(&server->workers);
    pool_tend(&server->handshakes);
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
    struct loops *loops = &server->loops;
    bool unblock = block_sigpipe();
    bool started = (!server->identity || tls_identity_watch(server->identity, error)) &&
                   loops_start(loops, error);
    if (!started)
        atomic_store(&server->stopping, true);
    while (!atomic_load(&server->stopping))
        wait_for_work(server);
    loops_wake(loops);
    while (atomic_load(&loops->running) > 0)
        wait_for_work(server);
    loops_join(loops);
    pool_stop(&server->workers);
    pool_stop(&server->handshakes);
    if (server->identity)
        tls_identity_unwatch(server->identity);
    unsigned cut = atomic_load(&loops->cut);
    if (cut > 0)
        log_at(LOG_WARN, "requests were cut by the stop", LOG_NUMBER("requests", cut));
    if (unblock)
        unblock_sigpipe();
    return started;
}
