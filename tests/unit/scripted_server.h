/*
 * An HTTP server on loopback whose responses a test writes by hand, byte for byte: each connection
 * has a thread, each request is handed to the test's function and recorded.
 */
#ifndef TESTS_SCRIPTED_SERVER_H
#define TESTS_SCRIPTED_SERVER_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

enum { SERVER_REQUESTS = 256, SERVER_CONNECTIONS = 256, SERVER_HEAD = 16384 };

struct server;

/* Responds to one request on `fd`; `head` is its head, and the body behind it, as text with a NUL.
 * False closes the connection. */
typedef bool server_answer(struct server *server, int fd, const char *head);

struct server {
    int listener;
    unsigned port;
    server_answer *answer;
    void *context;
    pthread_t thread;
    pthread_mutex_t requests_lock; /* guards all below */
    char *requests[SERVER_REQUESTS];
    unsigned count, connections;
    pthread_t threads[SERVER_CONNECTIONS];
    int fds[SERVER_CONNECTIONS];
};

struct server *server_start(server_answer *answer, void *context);
/* Cuts all connections, waits for all threads, and frees everything. */
void server_stop(struct server *server);

bool server_send(int fd, const void *bytes, size_t length);
bool server_printf(int fd, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A whole response with its Content-Length; `headers` are whole lines, or "". */
bool server_reply(int fd, int status, const char *headers, const char *body);

/* Whether the request is exactly "METHOD path", or begins with it and has a query. */
bool server_asks(const char *head, const char *line);
bool server_has(const char *head, const char *header);

/* How many requests so far begin with `prefix`. */
unsigned server_count(struct server *server, const char *prefix);

/* The nth request that begins with `prefix`, valid until the server stops; NULL when there is none.
 */
const char *server_request(struct server *server, const char *prefix, unsigned nth);

#endif
