/* Receives and sends with bounds, on a plain socket or through TLS. */
#include "http/channel.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "http/tls.h"

enum {
    /* A wait for a slow client has this many parts; after each we look for progress. */
    STALL_PARTS = 4,
    SENDFILE_STEP = 16 << 20,
    LARGE_BUFFER = 1 << 20,
    TLS_RECORD = 16 << 10,
};

_Static_assert((int)CHANNEL_CLOSED == (int)TLS_CLOSED && (int)CHANNEL_NOTHING == (int)TLS_NOTHING,
               "channel_receive() hands on what tls_receive() yields");

/* ---- waiting ---- */

static int stall_part_ms(int send_timeout_ms) {
    return send_timeout_ms < STALL_PARTS ? 1 : send_timeout_ms / STALL_PARTS;
}

static void set_timeout(int fd, int option, int ms) {
    struct timeval time = {.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000};
    setsockopt(fd, SOL_SOCKET, option, &time, sizeof time);
}

void channel_init(struct channel *channel, int fd, int receive_wait_ms, int send_timeout_ms,
                  const char *peer) {
    *channel = (struct channel){.fd = fd,
                                .receive_wait_ms = receive_wait_ms,
                                .send_timeout_ms = send_timeout_ms,
                                .peer = peer};
}

void channel_prepare_listener(int fd, int receive_wait_ms, int send_timeout_ms) {
    set_timeout(fd, SO_RCVTIMEO, receive_wait_ms);
    set_timeout(fd, SO_SNDTIMEO, stall_part_ms(send_timeout_ms));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
}

void channel_limit_sending(struct channel *channel, int send_timeout_ms) {
    channel->send_timeout_ms = send_timeout_ms;
    set_timeout(channel->fd, SO_SNDTIMEO, stall_part_ms(send_timeout_ms));
    setsockopt(channel->fd, SOL_SOCKET, SO_SNDBUF, &(int){LARGE_BUFFER}, sizeof(int));
}

static bool wait_for(int fd, short events, int ms) {
    struct pollfd waited = {.fd = fd, .events = events};
    return poll(&waited, 1, ms) > 0;
}

/*
 * A send may time out although the client is reading, because the socket's buffer is large and the
 * kernel wakes a sender only when much of the buffer is free. Progress is therefore measured by the
 * bytes that the client has not acknowledged: it makes progress while they become fewer.
 */
struct stall {
    int64_t since_ms; /* 0: no wait has timed out since the last progress */
    int unsent;
};

/* Called when a wait has timed out. False: there was no progress for too long. */
static bool stall_may_go_on(struct stall *stall, const struct channel *channel) {
    int unsent = 0;
    ioctl(channel->fd, SIOCOUTQ, &unsent);
    int64_t now = clock_ms();
    if (stall->since_ms == 0)
        stall->since_ms = now - stall_part_ms(channel->send_timeout_ms);
    else if (unsent < stall->unsent)
        stall->since_ms = now;
    stall->unsent = unsent;
    return now - stall->since_ms < channel->send_timeout_ms;
}

static bool client_left(const struct channel *channel, struct error *error) {
    return error_set(error, ERROR_CLOSED, "client %s closed the connection", channel->peer);
}

static bool client_stalls(const struct channel *channel, struct error *error) {
    return error_set(error, ERROR_TIMEOUT, "client %s took nothing for %d ms", channel->peer,
                     channel->send_timeout_ms);
}

/* ---- receiving ---- */

static ssize_t receive_plain(struct channel *channel, void *out, size_t size, int wait_ms) {
    if (wait_ms > 0 && wait_ms != channel->receive_wait_ms) {
        set_timeout(channel->fd, SO_RCVTIMEO, wait_ms);
        channel->receive_wait_ms = wait_ms;
    }
    for (;;) {
        ssize_t n = recv(channel->fd, out, size, wait_ms > 0 ? 0 : MSG_DONTWAIT);
        if (n >= 0)
            return n;
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return CHANNEL_NOTHING;
        if (errno != EINTR)
            return CHANNEL_CLOSED;
    }
}

ssize_t channel_receive(struct channel *channel, void *out, size_t size, int wait_ms) {
    if (!channel->tls)
        return receive_plain(channel, out, size, wait_ms);
    ssize_t n = tls_receive(channel->tls, out, size);
    if (n == CHANNEL_NOTHING && wait_ms > 0 && wait_for(channel->fd, POLLIN, wait_ms))
        n = tls_receive(channel->tls, out, size);
    return n;
}

bool channel_has_pending(const struct channel *channel) {
    return channel->tls && tls_has_pending(channel->tls);
}

/* ---- sending from memory ---- */

static bool send_plain(struct channel *channel, struct iovec *pieces, int count, bool more,
                       struct error *error) {
    struct stall stall = {0, 0};
    int flags = MSG_NOSIGNAL | (more ? MSG_MORE : 0);
    while (count > 0) {
        struct msghdr message = {.msg_iov = pieces, .msg_iovlen = (size_t)count};
        ssize_t n = sendmsg(channel->fd, &message, flags);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            if (errno != EAGAIN && errno != EWOULDBLOCK)
                return client_left(channel, error);
            if (!stall_may_go_on(&stall, channel))
                return client_stalls(channel, error);
            continue;
        }
        stall.since_ms = 0;
        size_t sent = (size_t)n;
        while (count > 0 && sent >= pieces->iov_len) {
            sent -= pieces->iov_len;
            pieces++;
            count--;
        }
        if (count > 0) {
            pieces->iov_base = (char *)pieces->iov_base + sent;
            pieces->iov_len -= sent;
        }
    }
    return true;
}

static bool send_tls(struct channel *channel, const char *bytes, size_t length,
                     struct error *error) {
    struct stall stall = {0, 0};
    while (length > 0) {
        ssize_t n = tls_send(channel->tls, bytes, length);
        if (n == CHANNEL_CLOSED)
            return client_left(channel, error);
        if (n == CHANNEL_NOTHING) {
            if (!wait_for(channel->fd, POLLOUT, stall_part_ms(channel->send_timeout_ms)) &&
                !stall_may_go_on(&stall, channel))
                return client_stalls(channel, error);
            continue;
        }
        stall.since_ms = 0;
        bytes += n;
        length -= (size_t)n;
    }
    return true;
}

/* Small pieces share a TLS record, because each record costs a cipher call and some 30 bytes. */
static bool send_pieces_tls(struct channel *channel, const struct iovec *pieces, int count,
                            struct error *error) {
    char gathered[4096];
    size_t length = 0;
    for (int i = 0; i < count; i++) {
        if (length + pieces[i].iov_len > sizeof gathered) {
            if (!send_tls(channel, gathered, length, error))
                return false;
            length = 0;
        }
        if (pieces[i].iov_len > sizeof gathered) {
            if (!send_tls(channel, pieces[i].iov_base, pieces[i].iov_len, error))
                return false;
        } else if (pieces[i].iov_len > 0) {
            memcpy(gathered + length, pieces[i].iov_base, pieces[i].iov_len);
            length += pieces[i].iov_len;
        }
    }
    return send_tls(channel, gathered, length, error);
}

bool channel_send(struct channel *channel, struct iovec *pieces, int count, bool more,
                  struct error *error) {
    if (channel->tls)
        return send_pieces_tls(channel, pieces, count, error);
    return send_plain(channel, pieces, count, more, error);
}

/* ---- sending from a file ---- */

static bool file_is_short(struct error *error) {
    return error_set(error, ERROR_IO, "the file ends before the announced number of bytes");
}

/* Sends by sendfile(2), or by its counterpart for TLS, until all is sent. */
static bool send_file_by_kernel(struct channel *channel, int file, uint64_t offset, uint64_t length,
                                uint64_t *sent, struct error *error) {
    struct stall stall = {0, 0};
    while (*sent < length) {
        uint64_t left = length - *sent;
        size_t step = left < SENDFILE_STEP ? (size_t)left : SENDFILE_STEP;
        off_t from = (off_t)(offset + *sent);
        ssize_t n = channel->tls ? tls_send_file(channel->tls, file, from, step)
                                 : sendfile(channel->fd, file, &from, step);
        if (n > 0) {
            *sent += (uint64_t)n;
            stall.since_ms = 0;
            continue;
        }
        if (n == 0)
            return file_is_short(error);
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK) {
            if (errno == EIO || errno == EINVAL || errno == EOVERFLOW)
                return error_set_errno(error, errno, "cannot send from the file");
            return client_left(channel, error);
        }
        if (channel->tls && wait_for(channel->fd, POLLOUT, stall_part_ms(channel->send_timeout_ms)))
            continue;
        if (!stall_may_go_on(&stall, channel))
            return client_stalls(channel, error);
    }
    return true;
}

/* For TLS outside the kernel: copies the file through a buffer of one record. */
static bool send_file_by_copy(struct channel *channel, int file, uint64_t offset, uint64_t length,
                              uint64_t *sent, struct error *error) {
    cleanup_free char *record = malloc(TLS_RECORD);
    if (!record)
        return error_set(error, ERROR_MEMORY, "no memory to send a file");
    while (*sent < length) {
        uint64_t left = length - *sent;
        size_t step = left < TLS_RECORD ? (size_t)left : TLS_RECORD;
        ssize_t n = pread(file, record, step, (off_t)(offset + *sent));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno(error, errno, "cannot send from the file");
        if (n == 0)
            return file_is_short(error);
        if (!send_tls(channel, record, (size_t)n, error))
            return false;
        *sent += (uint64_t)n;
    }
    return true;
}

bool channel_send_file(struct channel *channel, int file, uint64_t offset, uint64_t length,
                       uint64_t *sent, struct error *error) {
    *sent = 0;
    if (offset > INT64_MAX || length > INT64_MAX - offset)
        return error_set(error, ERROR_INVALID, "no file has so many bytes");
    if (channel->tls && !tls_kernel_sends(channel->tls))
        return send_file_by_copy(channel, file, offset, length, sent, error);
    return send_file_by_kernel(channel, file, offset, length, sent, error);
}

/* ---- the end ---- */

bool channel_peer_is_there(const struct channel *channel) {
    /* Unlike a peek at the received bytes, this sees a close behind a pipelined request. */
    struct tcp_info info;
    socklen_t size = sizeof info.tcpi_state;
    info.tcpi_state = 0;
    if (getsockopt(channel->fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0)
        return info.tcpi_state == TCP_ESTABLISHED;
    /* It is a Unix socket. */
    return !wait_for(channel->fd, POLLRDHUP, 0);
}

void channel_cut(struct channel *channel) {
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    setsockopt(channel->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

void channel_finish(struct channel *channel) {
    if (channel->tls && channel->handshaken)
        tls_finish(channel->tls);
    shutdown(channel->fd, SHUT_WR);
}

void channel_close(struct channel *channel) {
    if (channel->tls)
        tls_session_free(channel->tls);
    if (channel->fd >= 0)
        close(channel->fd);
    channel->tls = NULL;
    channel->fd = -1;
}
