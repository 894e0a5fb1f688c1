/* The scripted server: its threads, and the requests that it records. */
#include "scripted_server.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

bool server_send(int fd, const void *bytes, size_t length) {
    for (size_t sent = 0; sent < length;) {
        ssize_t now = send(fd, (const char *)bytes + sent, length - sent, MSG_NOSIGNAL);
        if (now <= 0)
            return false;
        sent += (size_t)now;
    }
    return true;
}

bool server_printf(int fd, const char *format, ...) {
    char *text;
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    assert(length >= 0);
    bool ok = server_send(fd, text, (size_t)length);
    free(text);
    return ok;
}

bool server_reply(int fd, int status, const char *headers, const char *body) {
    return server_printf(fd, "HTTP/1.1 %d Scripted\r\n%sContent-Length: %zu\r\n\r\n%s", status,
                         headers, strlen(body), body);
}

bool server_asks(const char *head, const char *line) {
    size_t length = strlen(line);
    return strncmp(head, line, length) == 0 && (head[length] == ' ' || head[length] == '?');
}

bool server_has(const char *head, const char *header) {
    return strcasestr(head, header) != NULL;
}

struct connection {
    struct server *server;
    int fd;
};

static void record(struct server *server, const char *head) {
    pthread_mutex_lock(&server->requests_lock);
    assert(server->count < SERVER_REQUESTS);
    server->requests[server->count++] = strdup(head);
    pthread_mutex_unlock(&server->requests_lock);
}

/* Reads one head and, where there is a Content-Length, the body behind it: both in `head`. */
static bool read_request(int fd, char *head, size_t *held) {
    for (;;) {
        head[*held] = '\0';
        char *end = strstr(head, "\r\n\r\n");
        const char *length = end ? strcasestr(head, "\r\nContent-Length:") : NULL;
        size_t body = length ? strtoul(length + 17, NULL, 10) : 0;
        if (end && *held >= (size_t)(end + 4 - head) + body)
            return true;
        ssize_t got =
            *held < SERVER_HEAD - 1 ? recv(fd, head + *held, SERVER_HEAD - 1 - *held, 0) : 0;
        if (got <= 0)
            return false;
        *held += (size_t)got;
    }
}

static void *serve(void *context) {
    struct connection connection = *(struct connection *)context;
    struct server *server = connection.server;
    char *head = malloc(SERVER_HEAD);
    free(context);
    for (bool open = true; open;) {
        size_t held = 0;
        if (!read_request(connection.fd, head, &held))
            break;
        record(server, head);
        open = server->answer(server, connection.fd, head);
    }
    free(head);
    shutdown(connection.fd, SHUT_RDWR);
    return NULL;
}

static void *accept_connections(void *context) {
    struct server *server = context;
    for (;;) {
        int fd = accept(server->listener, NULL, NULL);
        if (fd < 0)
            return NULL;
        struct connection *connection = malloc(sizeof *connection);
        *connection = (struct connection){server, fd};
        pthread_mutex_lock(&server->requests_lock);
        assert(server->connections < SERVER_CONNECTIONS);
        unsigned slot = server->connections++;
        server->fds[slot] = fd;
        pthread_create(&server->threads[slot], NULL, serve, connection);
        pthread_mutex_unlock(&server->requests_lock);
    }
}

struct server *server_start(server_answer *answer, void *context) {
    struct server *server = calloc(1, sizeof *server);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    server->answer = answer;
    server->context = context;
    pthread_mutex_init(&server->requests_lock, NULL);
    server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int code = bind(server->listener, (struct sockaddr *)&address, sizeof address);
    assert(code == 0);
    code = listen(server->listener, 64);
    assert(code == 0);
    getsockname(server->listener, (struct sockaddr *)&address, &length);
    server->port = ntohs(address.sin_port);
    pthread_create(&server->thread, NULL, accept_connections, server);
    return server;
}

void server_stop(struct server *server) {
    shutdown(server->listener, SHUT_RDWR);
    pthread_join(server->thread, NULL);
    close(server->listener);
    for (unsigned i = 0; i < server->connections; i++) {
        shutdown(server->fds[i], SHUT_RDWR);
        pthread_join(server->threads[i], NULL);
        close(server->fds[i]);
    }
    for (unsigned i = 0; i < server->count; i++)
        free(server->requests[i]);
    pthread_mutex_destroy(&server->requests_lock);
    free(server);
}

unsigned server_count(struct server *server, const char *prefix) {
    unsigned count = 0;
    pthread_mutex_lock(&server->requests_lock);
    for (unsigned i = 0; i < server->count; i++)
        count += strncmp(server->requests[i], prefix, strlen(prefix)) == 0;
    pthread_mutex_unlock(&server->requests_lock);
    return count;
}

const char *server_request(struct server *server, const char *prefix, unsigned nth) {
    const char *found = NULL;
    pthread_mutex_lock(&server->requests_lock);
    for (unsigned i = 0; i < server->count && !found; i++) {
        if (strncmp(server->requests[i], prefix, strlen(prefix)) == 0 && nth-- == 0)
            found = server->requests[i];
    }
    pthread_mutex_unlock(&server->requests_lock);
    return found;
}
