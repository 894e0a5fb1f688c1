/* Sockets and threads of the gRPC server. */
#include "node/snapshot/grpc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <utlist.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/thread.h"
#include "node/snapshot/grpc_session.h"

enum {
    BACKLOG = 64,
    RECEIVE_SIZE = 16 << 10,
    /* A pause after accept() failed because descriptors or memory are out. */
    ACCEPT_PAUSE_MS = 100,
};

struct connection {
    struct grpc_server *server;
    int fd;
    int wake; /* an eventfd: a call has ended, or the server stops */
    struct grpc_session *session;
    const char *unsent; /* bytes of the session that the socket did not take yet */
    size_t unsent_length;
    struct lock calls_lock; /* guards what follows */
    struct grpc_call *done; /* calls that have ended, and wait for the connection's thread */
    unsigned running;       /* calls on threads of their own */
    struct connection *prev, *next; /* of the server */
};

/* A call on its thread. */
struct running {
    struct connection *connection;
    struct grpc_call *call;
};

struct grpc_server {
    int fd;   /* the caller's */
    int wake; /* an eventfd: the server stops */
    grpc_handler *handler;
    void *context;
    atomic_size_t gathered;
    pthread_t acceptor;
    struct lock connections_lock; /* guards what follows */
    struct condition ended;       /* a connection has ended */
    struct connection *connections;
    unsigned count;
    bool stopping;
};

static void wake(int eventfd) {
    const uint64_t one = 1;
    ssize_t ignored = write(eventfd, &one, sizeof one);
    (void)ignored; /* the counter cannot overflow; full means awake */
}

/* ---- calls ---- */

static void run_call(void *argument) {
    struct running running = *(struct running *)argument;
    struct connection *connection = running.connection;
    free(argument);
    grpc_call_run(running.call, connection->server->handler, connection->server->context);
    /* Afterwards the connection may be gone. */
    lock_acquire(&connection->calls_lock);
    LL_APPEND2(connection->done, running.call, next_done);
    connection->running--;
    wake(connection->wake);
    lock_release(&connection->calls_lock);
}

static bool start_call(void *context, struct grpc_call *call) {
    struct connection *connection = context;
    struct running *running = malloc(sizeof *running);
    struct error error;
    if (!running)
        return false;
    *running = (struct running){connection, call};
    lock_acquire(&connection->calls_lock);
    connection->running++;
    lock_release(&connection->calls_lock);
    if (thread_start_detached("snapshot call", run_call, running, &error))
        return true;
    lock_acquire(&connection->calls_lock);
    connection->running--;
    lock_release(&connection->calls_lock);
    free(running);
    return false;
}

/* Answers the calls that have ended. Returns how many still run. */
static unsigned answer_calls(struct connection *connection) {
    uint64_t count;
    ssize_t ignored = read(connection->wake, &count, sizeof count);
    (void)ignored; /* it need not have been woken */
    lock_acquire(&connection->calls_lock);
    struct grpc_call *done = connection->done;
    unsigned running = connection->running;
    connection->done = NULL;
    lock_release(&connection->calls_lock);
    for (struct grpc_call *call; (call = done);) {
        done = call->next_done;
        grpc_session_answer(connection->session, call);
    }
    return running;
}

/* ---- a connection ---- */

/* Sends what the socket takes. False: the connection is broken. */
static bool send_output(struct connection *connection) {
    for (;;) {
        if (connection->unsent_length == 0)
            connection->unsent = grpc_session_send(connection->session, &connection->unsent_length);
        if (connection->unsent_length == 0)
            return true;
        ssize_t sent = send(connection->fd, connection->unsent, connection->unsent_length,
                            MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK;
        connection->unsent += sent;
        connection->unsent_length -= (size_t)sent;
    }
}

/* Takes what has arrived. False: the connection is to be closed. */
static bool receive_input(struct connection *connection) {
    char bytes[RECEIVE_SIZE];
    ssize_t received = recv(connection->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (received < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
    return received > 0 && grpc_session_receive(connection->session, bytes, (size_t)received);
}

static bool is_stopping(struct grpc_server *server) {
    lock_acquire(&server->connections_lock);
    bool stopping = server->stopping;
    lock_release(&server->connections_lock);
    return stopping;
}

static void serve(struct connection *connection) {
    while (!is_stopping(connection->server)) {
        answer_calls(connection);
        if (!send_output(connection) || !grpc_session_is_open(connection->session))
            return;
        /* While the client does not take what there is, nothing more is read from it: nghttp2 may
         * answer to what it reads, and the bytes that wait are its own. */
        struct pollfd polled[] = {
            {.fd = connection->fd, .events = connection->unsent_length > 0 ? POLLOUT : POLLIN},
            {.fd = connection->wake, .events = POLLIN}};
        if (poll(polled, 2, -1) < 0 && errno != EINTR)
            return;
        if (polled[0].revents && connection->unsent_length == 0 && !receive_input(connection))
            return;
        if (polled[0].revents & (POLLERR | POLLNVAL))
            return;
    }
}

static void free_connection(struct connection *connection) {
    grpc_session_free(connection->session);
    if (connection->wake >= 0)
        close(connection->wake);
    close(connection->fd);
    lock_finish(&connection->calls_lock);
    free(connection);
}

static void run_connection(void *argument) {
    struct connection *connection = argument;
    struct grpc_server *server = connection->server;
    serve(connection);
    shutdown(connection->fd, SHUT_RDWR);
    grpc_session_abandon(connection->session);
    while (answer_calls(connection) > 0) {
        struct pollfd polled = {.fd = connection->wake, .events = POLLIN};
        poll(&polled, 1, -1);
    }
    lock_acquire(&server->connections_lock);
    DL_DELETE(server->connections, connection);
    server->count--;
    free_connection(connection);
    condition_broadcast(&server->ended);
    lock_release(&server->connections_lock);
}

/* Owns `fd`. NULL: memory or descriptors are out. */
static struct connection *new_connection(struct grpc_server *server, int fd) {
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection) {
        close(fd);
        return NULL;
    }
    const struct grpc_session_settings settings = {
        .dispatch = start_call, .context = connection, .gathered = &server->gathered};
    connection->server = server;
    connection->fd = fd;
    lock_init(&connection->calls_lock);
    connection->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    connection->session = grpc_session_new(&settings);
    if (connection->wake >= 0 && connection->session)
        return connection;
    free_connection(connection);
    return NULL;
}

/* ---- the server ---- */

static void take_connection(struct grpc_server *server, int fd) {
    struct connection *connection = new_connection(server, fd);
    struct error error = {0};
    if (!connection)
        return;
    lock_acquire(&server->connections_lock);
    bool is_free = !server->stopping && server->count < GRPC_CONNECTION_LIMIT;
    if (is_free) {
        DL_APPEND(server->connections, connection);
        server->count++;
    }
    lock_release(&server->connections_lock);
    if (is_free && thread_start_detached("snapshots", run_connection, connection, &error))
        return;
    log_at(LOG_WARN, "snapshot connection refused",
           LOG_STRING("error", is_free ? error.text : "there are too many"));
    lock_acquire(&server->connections_lock);
    if (is_free) {
        DL_DELETE(server->connections, connection);
        server->count--;
    }
    free_connection(connection);
    lock_release(&server->connections_lock);
}

static void run_acceptor(void *argument) {
    struct grpc_server *server = argument;
    while (!is_stopping(server)) {
        struct pollfd polled[] = {{.fd = server->fd, .events = POLLIN},
                                  {.fd = server->wake, .events = POLLIN}};
        if (poll(polled, 2, -1) < 0 || !polled[0].revents)
            continue;
        int fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0)
            take_connection(server, fd);
        else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
            clock_sleep_ms(ACCEPT_PAUSE_MS);
    }
}

static void free_server(struct grpc_server *server) {
    condition_finish(&server->ended);
    lock_finish(&server->connections_lock);
    if (server->wake >= 0)
        close(server->wake);
    free(server);
}

struct grpc_server *grpc_server_start(int fd, grpc_handler *handler, void *context,
                                      struct error *error) {
    struct grpc_server *server = calloc(1, sizeof *server);
    if (!server) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    server->fd = fd;
    server->handler = handler;
    server->context = context;
    lock_init(&server->connections_lock);
    condition_init(&server->ended);
    server->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (server->wake < 0)
        error_set_errno(error, errno, "starting the server of snapshots");
    else if (thread_start("snapshot accept", THREAD_STACK, run_acceptor, server, &server->acceptor,
                          error))
        return server;
    free_server(server);
    return NULL;
}

bool grpc_server_stop(struct grpc_server *server, int64_t wait_ms) {
    struct connection *connection;
    const int64_t deadline_ms = clock_ms() + wait_ms;
    if (!server)
        return true;
    lock_acquire(&server->connections_lock);
    server->stopping = true;
    DL_FOREACH (server->connections, connection)
        wake(connection->wake);
    lock_release(&server->connections_lock);
    wake(server->wake);
    pthread_join(server->acceptor, NULL);
    lock_acquire(&server->connections_lock);
    while (server->connections &&
           condition_wait_until(&server->ended, &server->connections_lock, deadline_ms))
        ;
    bool has_ended = !server->connections;
    lock_release(&server->connections_lock);
    if (has_ended)
        free_server(server);
    return has_ended;
}

/* ---- the socket ---- */

/* Whether a process accepts connections there. */
static bool is_in_use(const struct sockaddr_un *address) {
    cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return fd >= 0 && (connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 ||
                       errno == EAGAIN); /* its backlog is full */
}

int grpc_listen(const char *path, struct error *error) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat found;
    if (!text_copy(text_of(path), address.sun_path, sizeof address.sun_path)) {
        error_set(error, ERROR_INVALID, "listening on %s: a socket's path has less than %zu bytes",
                  path, sizeof address.sun_path);
        return -1;
    }
    if (lstat(path, &found) == 0 && (!S_ISSOCK(found.st_mode) || is_in_use(&address))) {
        error_set(error, S_ISSOCK(found.st_mode) ? ERROR_BUSY : ERROR_INVALID,
                  "listening on %s: %s", path,
                  S_ISSOCK(found.st_mode) ? "another process listens there"
                                          : "a file of that name exists and is no socket");
        return -1;
    }
    cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    /* The mode is set before the socket has a name, so that at no moment anybody else can use it.
     */
    if (fd < 0 || (unlink(path) != 0 && errno != ENOENT) || fchmod(fd, 0600) != 0 ||
        bind(fd, (const struct sockaddr *)&address, sizeof address) != 0 ||
        listen(fd, BACKLOG) != 0) {
        error_set_errno(error, errno, "listening on %s", path);
        return -1;
    }
    return take_fd(fd);
}
