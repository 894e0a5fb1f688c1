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

struct listener {
    int fd;
    char *address;    /* as it was written; owned */
    const char *path; /* of a Unix socket's file, in `address`; NULL: TCP */
    bool other_v4;    /* listeners_open() opened an IPv4 wildcard as well */
    bool is_loopback; /* TCP, reached from this machine only */
    bool is_side;     /* of side_listen */
    bool is_borrowed; /* the descriptor is still that of the listeners before */
};

struct listeners {
    size_t count;
    struct listener each[LISTENER_LIMIT];
    bool are_closed;
    struct listeners *older; /* for server.c */
};

/* The addresses of a server; see struct http_server_settings. */
struct listener_addresses {
    const char *const *listen, *const *side_listen;
    size_t listen_count, side_count;
};

/*
 * Binds and listens on every address: "host:port", "[v6]:port" or ":port" (all addresses), where
 * host may be a name. "[::]" takes IPv4 connections too, unless an IPv4 wildcard is among the
 * addresses. Port 0 takes a free port, the same for all addresses of the name.
 *
 * "unix:/path" is a Unix socket whose file only its owner may use. The socket file of a process
 * that has ended is replaced; if a process still accepts there, the error is ERROR_BUSY.
 *
 * `before` (NULL: none) are open listeners whose place the new ones are to take. The sockets of an
 * address that stays are borrowed from them. One that goes does not stand in the way of a new one
 * ("127.0.0.1:5000" and ":5000"). NULL: nothing was opened, and `before` is what it was.
 */
struct listeners *listeners_open(const struct listener_addresses *addresses,
                                 const struct listeners *before, struct error *error);
/* The new listeners own from now on what they have borrowed. */
void listeners_take_over(struct listeners *listeners, struct listeners *before);
/* Closes all of them that are not borrowed, and removes the files of their Unix sockets. What else
 * is known of them stays, because another thread may read it. */
void listeners_close(struct listeners *listeners);
void listeners_free(struct listeners *listeners); /* closes them; NULL is allowed */
bool listeners_have(const struct listeners *listeners, int fd);

/* The port that the first socket is bound to; 0 when there is none. */
unsigned listeners_port(const struct listeners *listeners);

/* "1.2.3.4:567" or "[::1]:567"; an IPv4 client of an IPv6 socket is shown as IPv4, and one of a
 * Unix socket as "unix". */
void listener_name(const struct sockaddr_storage *address, char out[LISTENER_NAME_LIMIT]);

#endif
