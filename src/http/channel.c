/* Receives and sends with bounds, on a plain socket or through TLS. */
#include "http/channel.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/log.h"
#include "http/pace.h"
#include "http/tls.h"

enum {
    /* A wait for a slow client has this many parts; after each we look for progress. */
    STALL_PARTS = 4,
    SENDFILE_STEP = 16 << 20,
    TLS_GATHER = 4 << 10, /* smaller pieces share a TLS record */
};

_Static_assert((int)CHANNEL_CLOSED == (int)TLS_CLOSED && (int)CHANNEL_NOTHING == (int)TLS_NOTHING,
               "the functions here hand on what those of tls.h return");

void channel_init(struct channel *channel, int fd, int send_timeout_ms, const char *peer) {
    *channel = (struct channel){.fd = fd, .send_timeout_ms = send_timeout_ms, .peer = peer};
}

void channel_prepare_listener(int fd) {
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
}

static bool wait_for(int fd, short events, int ms) {
    struct pollfd waited = {.fd = fd, .events = events};
    return poll(&waited, 1, ms) > 0;
}

bool channel_client_left(const struct channel *channel, struct error *error) {
    return error_set(error, ERROR_CLOSED, "client %s closed the connection", channel->peer);
}

bool channel_client_stalls(const struct channel *channel, struct error *error) {
    return error_set(error, ERROR_TIMEOUT, "client %s took nothing for %d ms", channel->peer,
                     channel->send_timeout_ms);
}

bool channel_client_is_slow(const struct channel *channel, struct error *error) {
    const struct bulkheads *bulkheads = channel->bulkheads;
    bulkheads_count_refusal(bulkheads, REFUSED_CLIENT_RATE);
    log_at(LOG_INFO,
           "a request was ended, because its client was slower than limits.per_client.least_rate "
           "while all workers were busy",
           LOG_STRING("client", channel->peer),
           LOG_NUMBER("least_rate", (double)bulkheads->least_rate));
    return error_set(error, ERROR_TIMEOUT,
                     "client %s was slower than %" PRIu64
                     " bytes/s while all workers were busy (limits.per_client.least_rate)",
                     channel->peer, bulkheads->least_rate);
}

/* ---- receiving ---- */

static ssize_t receive_tls(struct channel *channel, void *out, size_t size) {
    ssize_t n = tls_receive(channel->tls, out, size);
    channel->must_send = n == TLS_MUST_SEND;
    return channel->must_send ? CHANNEL_NOTHING : n;
}

static ssize_t receive_now(struct channel *channel, void *out, size_t size) {
    if (channel->tls)
        return receive_tls(channel, out, size);
    for (;;) {
        ssize_t n = recv(channel->fd, out, size, MSG_DONTWAIT);
        if (n >= 0)
            return n;
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return CHANNEL_NOTHING;
        if (errno != EINTR)
            return CHANNEL_CLOSED;
    }
}

ssize_t channel_receive(struct channel *channel, void *out, size_t size, int wait_ms) {
    ssize_t n = receive_now(channel, out, size);
    short event = channel->must_send ? POLLOUT : POLLIN;
    if (n == CHANNEL_NOTHING && wait_ms > 0 && wait_for(channel->fd, event, wait_ms))
        n = receive_now(channel, out, size);
    return n;
}

bool channel_has_pending(const struct channel *channel) {
    return channel->tls && tls_has_pending(channel->tls);
}

/* ---- sending from memory ---- */

static ssize_t send_plain(const struct channel *channel, const struct iovec *pieces, int count,
                          bool more) {
    struct msghdr message = {.msg_iov = (struct iovec *)pieces, .msg_iovlen = (size_t)count};
    int flags = MSG_NOSIGNAL | MSG_DONTWAIT | (more ? MSG_MORE : 0);
    for (;;) {
        ssize_t n = sendmsg(channel->fd, &message, flags);
        if (n > 0)
            return n;
        if (n == 0 || errno == EAGAIN || errno == EWOULDBLOCK)
            return CHANNEL_NOTHING;
        if (errno != EINTR)
            return CHANNEL_CLOSED;
    }
}

/* The bytes of the next TLS record. Small pieces share one, because each record costs a cipher call
 * and some 30 bytes. */
static struct iovec next_record(const struct iovec *pieces, int count, char gathered[TLS_GATHER]) {
    size_t length = 0;
    int used = 0;
    for (; used < count && length + pieces[used].iov_len <= TLS_GATHER; used++) {
        memcpy(gathered + length, pieces[used].iov_base, pieces[used].iov_len);
        length += pieces[used].iov_len;
    }
    return used == 0 ? pieces[0] : (struct iovec){gathered, length};
}

static ssize_t send_tls(const struct channel *channel, const struct iovec *pieces, int count) {
    char gathered[TLS_GATHER];
    struct iovec record = next_record(pieces, count, gathered);
    return tls_send(channel->tls, record.iov_base, record.iov_len);
}

ssize_t channel_send_now(struct channel *channel, const struct iovec *pieces, int count,
                         bool more) {
    while (count > 0 && pieces->iov_len == 0) {
        pieces++;
        count--;
    }
    if (count == 0)
        return CHANNEL_NOTHING;
    return channel->tls ? send_tls(channel, pieces, count)
                        : send_plain(channel, pieces, count, more);
}

bool channel_wait_to_send(const struct channel *channel, int ms) {
    return wait_for(channel->fd, POLLOUT, ms);
}

int channel_unacknowledged(const struct channel *channel) {
    int bytes = 0;
    ioctl(channel->fd, SIOCOUTQ, &bytes);
    return bytes;
}

static int stall_part_ms(const struct channel *channel) {
    int ms = channel->send_timeout_ms < STALL_PARTS ? 1 : channel->send_timeout_ms / STALL_PARTS;
    return channel->bulkheads && ms > PACE_CHECK_MS ? PACE_CHECK_MS : ms;
}

/* Whether a client that has been given `sent` bytes takes them fast enough. */
static bool keeps_pace(const struct channel *channel, struct pace *pace, uint64_t sent,
                       int64_t now_ms) {
    uint64_t waiting = (uint64_t)channel_unacknowledged(channel);
    return pace_is_kept(pace, channel->bulkheads, sent > waiting ? sent - waiting : 0, now_ms);
}

/*
 * A wait may time out although the client is reading, because the socket's buffer is large and the
 * kernel wakes a sender only when much of the buffer is free. So a client also makes progress while
 * the bytes that it has not acknowledged become fewer.
 */
bool channel_wait_for_client(const struct channel *channel, struct pace *pace, uint64_t sent,
                             struct error *error) {
    int64_t since_ms = clock_ms();
    int before = channel_unacknowledged(channel);
    if (!keeps_pace(channel, pace, sent, since_ms))
        return channel_client_is_slow(channel, error);
    while (!channel_wait_to_send(channel, stall_part_ms(channel))) {
        int bytes = channel_unacknowledged(channel);
        int64_t now = clock_ms();
        if (bytes < before)
            since_ms = now;
        before = bytes;
        if (!keeps_pace(channel, pace, sent, now))
            return channel_client_is_slow(channel, error);
        if (now - since_ms >= channel->send_timeout_ms)
            return channel_client_stalls(channel, error);
    }
    return true;
}

bool channel_send(struct channel *channel, const void *bytes, size_t length, struct error *error) {
    struct iovec rest = {(void *)bytes, length};
    struct pace pace = {0};
    while (rest.iov_len > 0) {
        ssize_t n = channel_send_now(channel, &rest, 1, false);
        if (n == CHANNEL_CLOSED)
            return channel_client_left(channel, error);
        if (n == CHANNEL_NOTHING) {
            if (!channel_wait_for_client(channel, &pace, length - rest.iov_len, error))
                return false;
            continue;
        }
        rest.iov_base = (char *)rest.iov_base + n;
        rest.iov_len -= (size_t)n;
    }
    return true;
}

/* ---- sending from a file ---- */

void channel_cork(const struct channel *channel, bool corked) {
    setsockopt(channel->fd, IPPROTO_TCP, TCP_CORK, &(int){corked}, sizeof(int));
}

bool channel_must_copy(const struct channel *channel) {
    return channel->tls && !tls_kernel_sends(channel->tls);
}

/* What a failed or empty sendfile means; errno is set. */
static ssize_t sendfile_failed(const struct channel *channel, ssize_t n, struct error *error) {
    if (n == 0)
        error_set(error, ERROR_IO, "the file ends before the announced number of bytes");
    else if (errno == EIO || errno == EINVAL || errno == EOVERFLOW)
        error_set_errno(error, errno, "cannot send from the file");
    else
        channel_client_left(channel, error);
    return CHANNEL_CLOSED;
}

ssize_t channel_send_file_now(struct channel *channel, int file, uint64_t offset, uint64_t length,
                              struct error *error) {
    if (offset > INT64_MAX || length > INT64_MAX - offset) {
        error_set(error, ERROR_INVALID, "no file has so many bytes");
        return CHANNEL_CLOSED;
    }
    size_t step = length < SENDFILE_STEP ? (size_t)length : SENDFILE_STEP;
    off_t from = (off_t)offset;
    for (;;) {
        ssize_t n = channel->tls ? tls_send_file(channel->tls, file, from, step)
                                 : sendfile(channel->fd, file, &from, step);
        if (n > 0)
            return n;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return CHANNEL_NOTHING;
        return sendfile_failed(channel, n, error);
    }
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
