/*
 * Private to http/. The byte stream between a connection and its client: a plain socket, or TLS on
 * a socket. The callers of these functions need not know which of the two it is.
 *
 * The socket never blocks. A function that may wait says for how long, and waits by poll. The
 * functions whose names end in _now never wait, so that an event loop may call them.
 *
 * Not thread-safe: a channel belongs to the holder of its connection.
 */
#ifndef HTTP_CHANNEL_H
#define HTTP_CHANNEL_H

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include "base/error.h"

struct bulkheads;
struct pace;
struct remote;

struct channel {
    int fd;
    SSL *tls;        /* NULL: plain */
    bool handshaken; /* TLS only */
    bool must_send;  /* the last receive got nothing, and can go on only when the socket takes bytes
                        of TLS itself; that the socket has bytes to receive means nothing then */
    int send_timeout_ms;
    const char *peer;            /* for errors; borrowed */
    bool loopback;               /* it came by an address that only this machine reaches */
    bool side;                   /* it came by an address of side_listen */
    const struct remote *from;   /* the client's address; NULL: none; borrowed */
    struct bulkheads *bulkheads; /* for the least rate; NULL: there is none; borrowed */
};

/* Owns `fd` from now on, a socket that does not block; `peer` must outlive the channel. */
void channel_init(struct channel *channel, int fd, int send_timeout_ms, const char *peer);

/* Sets the socket option that a TCP listener hands on to accepted sockets: TCP_NODELAY. */
void channel_prepare_listener(int fd);

enum { CHANNEL_CLOSED = 0, CHANNEL_NOTHING = -1 }; /* as tls.h has them */

/* Receives up to `size` bytes, waiting at most `wait_ms` (0: not at all) for the first. Returns
 * their number, CHANNEL_CLOSED (the end, or a failure), or CHANNEL_NOTHING when none came in that
 * time. */
ssize_t channel_receive(struct channel *channel, void *out, size_t size, int wait_ms);

/* Whether TLS holds bytes that were received already. epoll does not report them. */
bool channel_has_pending(const struct channel *channel);

/*
 * Sends as many bytes of the pieces as the socket takes. Returns their number, CHANNEL_CLOSED when
 * the client left, or CHANNEL_NOTHING when the socket takes none. After CHANNEL_NOTHING the next
 * call must begin with the same bytes, because TLS has encrypted some of them already. `more`:
 * further bytes follow at once.
 */
ssize_t channel_send_now(struct channel *channel, const struct iovec *pieces, int count, bool more);

/* Sends all bytes. False: the client left (ERROR_CLOSED), took nothing for send_timeout_ms, or was
 * slower than the least rate (ERROR_TIMEOUT). */
bool channel_send(struct channel *channel, const void *bytes, size_t length, struct error *error);

/* While corked, the kernel sends full segments only, and what is left when the cork is taken off.
 */
void channel_cork(const struct channel *channel, bool corked);

/* Whether the bytes of a file must be copied to be sent: TLS outside the kernel. */
bool channel_must_copy(const struct channel *channel);

/* Sends bytes of a file without copying them. Returns their number, CHANNEL_NOTHING when the socket
 * takes none, or CHANNEL_CLOSED with *error set: the client left, or ERROR_IO when the file cannot
 * be read or is too short. */
ssize_t channel_send_file_now(struct channel *channel, int file, uint64_t offset, uint64_t length,
                              struct error *error);

/* Waits until the socket takes bytes. False: not within that time. */
bool channel_wait_to_send(const struct channel *channel, int ms);

/* Waits until the socket takes bytes, of which the client has been given `sent` so far. False: as
 * channel_send(). */
bool channel_wait_for_client(const struct channel *channel, struct pace *pace, uint64_t sent,
                             struct error *error);

/* The number of bytes that the client has not acknowledged. A client that reads makes it smaller,
 * even while the socket takes no further bytes. */
int channel_unacknowledged(const struct channel *channel);

/* Set the error to what is known about a client, and return false. */
bool channel_client_left(const struct channel *channel, struct error *error);
bool channel_client_stalls(const struct channel *channel, struct error *error);
/* The same for a client that was too slow while all workers were taken, which is also logged and
 * counted. */
bool channel_client_is_slow(const struct channel *channel, struct error *error);

/* Whether the connection is still open in both directions. Reads nothing, never blocks. */
bool channel_peer_is_there(const struct channel *channel);

/* Makes the close send an RST. */
void channel_cut(struct channel *channel);

/* Tells the client that nothing more comes. Never blocks. */
void channel_finish(struct channel *channel);

/* Closes and frees; the fd is -1 afterwards. */
void channel_close(struct channel *channel);

#endif
