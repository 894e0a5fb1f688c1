/* Private to http/. Listening sockets, from addresses as people write them. */
#ifndef HTTP_LISTENER_H
#define HTTP_LISTENER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include "base/error.h"

enum {
    LISTENER_LIMIT = 16,      /* sockets of one server */
    LISTENER_NAME_LIMIT = 64, /* bytes of "[address]:port", with its NUL */
};

struct listeners {
    int fds[LISTENER_LIMIT];
    const char *paths[LISTENER_LIMIT]; /* of a Unix socket's file, borrowed; NULL: TCP */
    bool loopback[LISTENER_LIMIT];     /* TCP, reached from this machine only */
    size_t side;                       /* the sockets from this one on are of side_listen */
    size_t count;
};

/*
 * Binds and listens on every address of "host:port", "[v6]:port" or ":port" (all addresses), where
 * host may be a name. "[::]" takes IPv4 connections too, unless `other_v4` says that an IPv4
 * wildcard is listened on as well. Port 0 takes a free port, the same for all addresses of the
 * name. False: no socket was added.
 *
 * "unix:/path" is a Unix socket whose file only its owner may use. The socket file of a process
 * that has ended is replaced; if a process still accepts there, the error is ERROR_BUSY. `address`
 * must outlive the listeners.
 */
bool listeners_add(struct listeners *listeners, const char *address, bool other_v4,
                   struct error *error);
/* Closes all of them and removes the files of Unix sockets. */
void listeners_close(struct listeners *listeners);

/* The port that the first socket is bound to; 0 when there is none. */
unsigned listeners_port(const struct listeners *listeners);

/* "1.2.3.4:567" or "[::1]:567"; an IPv4 client of an IPv6 socket is shown as IPv4, and one of a
 * Unix socket as "unix". */
void listener_name(const struct sockaddr_storage *address, char out[LISTENER_NAME_LIMIT]);

#endif
