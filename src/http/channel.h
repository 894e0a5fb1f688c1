/*
 * Private to http/. The byte stream between a connection and its client: a plain socket, or TLS on
 * a socket. Every call has a time limit. The callers of these functions need not know which of the
 * two it is.
 *
 * A plain socket blocks in the kernel (its timeouts are socket options), so that a request costs
 * one recv and one sendmsg. A TLS socket does not block, because one record may arrive in many
 * pieces; the waiting is done here, by poll.
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

struct channel {
    int fd;
    SSL *tls;            /* NULL: plain */
    bool handshaken;     /* TLS only */
    int receive_wait_ms; /* SO_RCVTIMEO as the socket has it now; plain only */
    int send_timeout_ms;
    const char *peer; /* for errors; borrowed */
};

/* Owns `fd` from now on, a socket that channel_prepare_listener() has prepared; `peer` must outlive
 * the channel. */
void channel_init(struct channel *channel, int fd, int receive_wait_ms, int send_timeout_ms,
                  const char *peer);

/*
 * For a sender that must not wait for its client: the kernel takes as many bytes at once as it can
 * (net.core.wmem_max, 208 KiB as a rule), and a client that accepts none of the remaining bytes for
 * `send_timeout_ms` is given up. The connection is of little use for large bodies afterwards.
 */
void channel_limit_sending(struct channel *channel, int send_timeout_ms);

/* Sets the socket options that a TCP listener hands on to accepted sockets: timeouts and
 * TCP_NODELAY. */
void channel_prepare_listener(int fd, int receive_wait_ms, int send_timeout_ms);

enum { CHANNEL_CLOSED = 0, CHANNEL_NOTHING = -1 }; /* as tls.h has them */

/* Receives up to `size` bytes, waiting at most `wait_ms` (0: not at all) for the first. Returns
 * their number, CHANNEL_CLOSED (the end, or a failure), or CHANNEL_NOTHING when none came in that
 * time. */
ssize_t channel_receive(struct channel *channel, void *out, size_t size, int wait_ms);

/* Whether TLS holds bytes that were received already. epoll does not report them. */
bool channel_has_pending(const struct channel *channel);

/* Sends all pieces, and changes the array `pieces`. `more`: further bytes follow at once. False:
 * the client left (ERROR_CLOSED), or took nothing for send_timeout_ms (ERROR_TIMEOUT). */
bool channel_send(struct channel *channel, struct iovec *pieces, int count, bool more,
                  struct error *error);

/* Sends `length` bytes of a file; ERROR_IO when the file cannot be read or is too short. *sent is
 * the number of bytes that were sent, even if the call fails. */
bool channel_send_file(struct channel *channel, int file, uint64_t offset, uint64_t length,
                       uint64_t *sent, struct error *error);

/* Whether the connection is still open in both directions. Reads nothing, never blocks. */
bool channel_peer_is_there(const struct channel *channel);

/* Makes the close send an RST. */
void channel_cut(struct channel *channel);

/* Tells the client that nothing more comes. Never blocks. */
void channel_finish(struct channel *channel);

/* Closes and frees; the fd is -1 afterwards. */
void channel_close(struct channel *channel);

#endif
