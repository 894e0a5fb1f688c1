/* The server: its life, its loops and pools, and the thread that looks after the workers. */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "base/cleanup.h"
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
    struct listeners *listeners; /* those of now; `older` are those before */
    atomic_uint port;
    struct more_fields fields;     /* settings.fields */
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
    const struct connection_terms *terms = &server->loops.terms;
    if (connection->exchange)
        bulkheads_take_worker(&server->bulkheads, connection->remote);
    else if (!bulkheads_begin_request(&server->bulkheads, connection->remote)) {
        loop_give_back(connection, connection_refuse(connection, terms, REFUSED_CLIENT_REQUESTS));
        return;
    }
    connection->counts_as_request = true;
    loop_give_back(connection, connection_work(connection, terms));
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

static struct listeners *make_listeners(const struct http_server_settings *settings,
                                        const struct listeners *before, struct error *error) {
    const struct listener_addresses addresses = {.listen = settings->listen,
                                                 .listen_count = settings->listen_count,
                                                 .side_listen = settings->side_listen,
                                                 .side_count = settings->side_listen_count};
    struct listeners *listeners = listeners_open(&addresses, before, error);
    for (size_t i = 0; listeners && i < listeners->count; i++)
        channel_prepare_listener(listeners->each[i].fd);
    return listeners;
}

static bool open_listeners(struct http_server *server, struct error *error) {
    server->listeners = make_listeners(&server->settings, NULL, error);
    if (server->listeners)
        server->port = listeners_port(server->listeners);
    return server->listeners != NULL;
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
    struct composed_fields *fields = more_fields_compose(server->settings.fields);
    if (!fields)
        return error_set(error, ERROR_MEMORY, "no memory for the server");
    more_fields_init(&server->fields, fields);
    return true;
}

static unsigned processors(void) {
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return count < 1 ? 1 : count > LOOPS_LIMIT ? LOOPS_LIMIT : (unsigned)count;
}

static bool open_loops(struct http_server *server, struct error *error) {
    struct loops *loops = &server->loops;
    loops->settings = &server->settings;
    loops->terms = (struct connection_terms){.settings = &server->settings,
                                             .identity = server->identity,
                                             .bulkheads = &server->bulkheads,
                                             .stopping = &server->stopping,
                                             .more_fields = &server->fields};
    atomic_init(&loops->listeners, server->listeners);
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
    while (server->listeners) {
        struct listeners *listeners = server->listeners;
        server->listeners = listeners->older;
        listeners_free(listeners);
    }
    loops_finish(&server->loops);
    bulkheads_finish(&server->bulkheads);
    tls_identity_free(server->identity);
    more_fields_finish(&server->fields);
    pool_finish(&server->handshakes);
    pool_finish(&server->workers);
    if (server->wake >= 0)
        close(server->wake);
    free(server);
}

unsigned http_server_port(const struct http_server *server) {
    return server->port;
}

/* ---- another configuration ---- */

struct http_change {
    struct http_server_settings settings; /* the numbers */
    struct listeners *listeners;
    struct composed_fields *fields;
    struct tls_change *tls; /* NULL: the server has none */
};

static bool prepare_tls(const struct http_server *server, struct http_change *change,
                        const struct http_server_settings *settings, struct error *error) {
    if (!server->identity)
        return true;
    if (!settings->tls_certificate)
        return error_set(error, ERROR_INVALID, "TLS cannot end while the server runs");
    change->tls = tls_change_new(server->identity, settings->tls_certificate, settings->tls_key,
                                 settings->tls_client_ca, settings->tls_minimum, error);
    return change->tls;
}

struct http_change *http_server_prepare(const struct http_server *server,
                                        const struct http_server_settings *settings,
                                        struct error *error) {
    struct http_change *change = calloc(1, sizeof *change);
    if (!change) {
        error_set(error, ERROR_MEMORY, "no memory for the server");
        return NULL;
    }
    change->settings = *settings;
    change->fields = more_fields_compose(settings->fields);
    if (!change->fields)
        error_set(error, ERROR_MEMORY, "no memory for the server");
    else if (prepare_tls(server, change, settings, error) &&
             (change->listeners = make_listeners(settings, server->listeners, error)))
        return change;
    http_server_give_up(change);
    return NULL;
}

void http_server_give_up(struct http_change *change) {
    if (!change)
        return;
    listeners_free(change->listeners);
    more_fields_drop(change->fields);
    tls_change_free(change->tls);
    free(change);
}

/* Frees the listeners that no loop watches any more. */
static void free_old_listeners(struct http_server *server) {
    struct listeners **place = &server->listeners->older;
    while (*place) {
        struct listeners *old = *place;
        if (!loops_have_left(&server->loops, old)) {
            place = &old->older;
            continue;
        }
        *place = old->older;
        listeners_free(old);
    }
}

/* Waits until the sockets that go are closed: then nobody can connect to them any more. A loop
 * takes a moment, unless the server stops. */
static void change_listeners(struct http_server *server, struct listeners *next) {
    struct listeners *before = server->listeners;
    if (!loops_change_listeners(&server->loops, next)) {
        listeners_free(next);
        return;
    }
    next->older = before;
    server->listeners = next;
    server->port = listeners_port(next);
    while (!loops_have_left(&server->loops, before) && !atomic_load(&server->stopping))
        clock_sleep_ms(1);
    free_old_listeners(server);
}

void http_server_change(struct http_server *server, struct http_change *change) {
    const struct http_server_settings *settings = &change->settings;
    server->settings.max_connections = settings->max_connections;
    server->settings.head_timeout_ms = settings->head_timeout_ms;
    server->settings.idle_timeout_ms = settings->idle_timeout_ms;
    server->settings.send_timeout_ms = settings->send_timeout_ms;
    server->settings.grace_ms = settings->grace_ms;
    bulkheads_change(&server->bulkheads, settings);
    more_fields_change(&server->fields, take(change->fields));
    if (change->tls)
        tls_identity_change(server->identity, take(change->tls));
    change_listeners(server, take(change->listeners));
    http_server_give_up(change);
}

const struct pot *http_server_workers(const struct http_server *server) {
    return &server->bulkheads.workers;
}

struct http_server_figures http_server_figures(const struct http_server *server) {
    struct http_server_figures figures = {
        .connections = atomic_load(&server->bulkheads.connections.taken),
        .workers = atomic_load(&server->workers.worker_count),
        .workers_busy = atomic_load(&server->bulkheads.workers.taken),
        .unsent = atomic_load(&server->loops.unsent)};
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

void http_server_stop_within(struct http_server *server, int grace_ms) {
    server->settings.grace_ms = grace_ms;
    http_server_stop(server);
}

static void refuse_overdue(struct http_server *server) {
    struct pool_task *task;
    int64_t now = clock_ms();
    while ((task = pool_take_overdue(&server->workers, now - LINE_MS))) {
        struct connection *connection = connection_of(task);
        loop_give_back(connection,
                       connection_refuse(connection, &server->loops.terms, REFUSED_WORKERS));
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
