#include "http/connection.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "http/exchange.h"
#include "http/server.h"
#include "http/tls.h"

enum {
    BYTES_START = 2 << 10,      /* most heads are smaller */
    DISCARD_LIMIT = 64 << 10,   /* a longer body that nobody reads ends the connection */
    TLS_HANDSHAKE_RECORD = 0x16 /* the first byte of a TLS hello */
};

/* ---- life ---- */

struct connection *connection_new(int fd, const struct sockaddr_storage *peer, int receive_wait_ms,
                                  int send_timeout_ms) {
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection) {
        close(fd);
        return NULL;
    }
    connection->source.kind = SOURCE_CONNECTION;
    connection->source.fd = fd;
    listener_name(peer, connection->peer);
    connection->channel = (struct channel){.fd = fd,
                                           .receive_wait_ms = receive_wait_ms,
                                           .send_timeout_ms = send_timeout_ms,
                                           .peer = connection->peer};
    return connection;
}

void connection_free(struct connection *connection) {
    channel_close(&connection->channel);
    free(connection->bytes);
    free(connection->fields);
    free(connection);
}

void connection_shrink(struct connection *connection) {
    free(connection->fields);
    connection->fields = NULL;
    connection->fields_length = connection->fields_capacity = 0;
    if (connection->length > 0)
        return;
    free(connection->bytes);
    connection->bytes = NULL;
    connection->capacity = 0;
}

/* ---- receiving ---- */

static bool make_room(struct connection *connection) {
    if (connection->length < connection->capacity)
        return true;
    size_t capacity = connection->capacity ? HTTP_HEAD_LIMIT : BYTES_START;
    char *bytes = realloc(connection->bytes, capacity);
    if (!bytes)
        return false;
    connection->bytes = bytes;
    connection->capacity = capacity;
    return true;
}

/* Drops the first bytes; what a client sent ahead moves to the front. */
static void use_up(struct connection *connection, size_t used) {
    connection->length -= used;
    if (connection->length > 0)
        memmove(connection->bytes, connection->bytes + used, connection->length);
}

static void discard_body(struct connection *connection) {
    size_t step =
        connection->length < connection->discard ? connection->length : (size_t)connection->discard;
    connection->discard -= step;
    use_up(connection, step);
}

enum reception { RECEPTION_MORE, RECEPTION_NOTHING, RECEPTION_END };

/* Receives what is there, or the first that comes. Between requests the worker lingers: a hot
 * client's next request is here sooner than epoll could tell. */
static enum reception receive_more(struct connection *connection, struct http_server *server) {
    if (!make_room(connection))
        return RECEPTION_END;
    bool idle = connection->length == 0 && connection->discard == 0;
    int wait_ms = idle ? pool_linger_ms(&server->pool) : 0;
    if (idle)
        atomic_store(&connection->waiting, true);
    /* Either the stop sees `waiting`, or this sees the stop. */
    if (atomic_load(&server->stopping))
        wait_ms = 0;
    ssize_t n = channel_receive(&connection->channel, connection->bytes + connection->length,
                                connection->capacity - connection->length, wait_ms);
    if (idle)
        atomic_store(&connection->waiting, false);
    if (n == CHANNEL_NOTHING)
        return RECEPTION_NOTHING;
    if (n == CHANNEL_CLOSED)
        return RECEPTION_END;
    connection->length += (size_t)n;
    return RECEPTION_MORE;
}

static enum connection_fate park_until(struct connection *connection, int64_t deadline_ms) {
    connection->deadline_ms = deadline_ms;
    return CONNECTION_PARK;
}

/* Parks it until more arrives: the deadline of a head that has begun holds on. */
static enum connection_fate park(struct connection *connection, struct http_server *server) {
    if (connection->head_deadline_ms)
        return park_until(connection, connection->head_deadline_ms);
    return park_until(connection, clock_ms() + server->settings.idle_timeout_ms);
}

/* ---- one request ---- */

/* RFC 9112 §9.6: a close with unread bytes would be an RST, which may destroy the answer on its
 * way. TLS says goodbye besides, and its client may answer that. */
static enum connection_fate end(struct connection *connection, bool unread) {
    bool finish = unread || connection->length > 0 || connection->channel.tls;
    return finish ? CONNECTION_FINISH : CONNECTION_CLOSE;
}

static enum connection_fate refuse(struct http_exchange *exchange, struct http_server *server,
                                   int status, const char *why) {
    exchange_refuse(exchange, &server->settings, status, why);
    return CONNECTION_FINISH;
}

static bool is_known_expectation(const struct http_request *request, bool *expects) {
    struct text expectation = http_field(request, "Expect");
    *expects = expectation.at != NULL;
    return !*expects || text_is_nocase(expectation, "100-continue");
}

/* Has a request answered whose head took the first `used` bytes. True: the connection goes on. */
static bool answer(struct http_exchange *exchange, struct http_server *server, size_t used,
                   enum connection_fate *fate) {
    struct connection *connection = exchange->connection;
    const struct http_request *request = &exchange->request;
    bool expects;
    bool known = is_known_expectation(request, &expects);
    *fate = CONNECTION_FINISH;
    if (!known) {
        *fate = refuse(exchange, server, 417, "only the expectation 100-continue is known");
        return false;
    }
    if (request->has_body && (request->method == HTTP_GET || request->method == HTTP_HEAD)) {
        *fate = refuse(exchange, server, 400, "a GET or HEAD request has no body");
        return false;
    }
    /* A body is thrown away only when its end is certain: a client that waits for 100 may send it
     * or not, and a chunked one may be endless. */
    bool discardable = !request->has_body || (request->content_length > 0 && !expects &&
                                              request->content_length <= DISCARD_LIMIT);
    exchange->keep_alive = request->keep_alive && discardable;
    exchange->head_length = used;
    exchange->body_left = request->has_body ? request->content_length : 0;
    exchange->expects = expects;
    exchange->body_wait_ms = server->settings.head_timeout_ms;
    server->settings.handle(server->settings.context, exchange);
    if (!exchange_end(exchange, &server->settings)) {
        channel_cut(&connection->channel);
        *fate = CONNECTION_CLOSE;
        return false;
    }
    bool goes_on = exchange->keep_alive;
    bool is_chunked = request->has_body && request->content_length == 0;
    bool unread = is_chunked || exchange->body_left > 0;
    connection->discard = goes_on ? exchange->body_left : 0;
    use_up(connection, used); /* from here on the request's texts point at other bytes */
    if (!goes_on)
        *fate = end(connection, unread);
    return goes_on;
}

/* Reads a head from what has arrived and has it answered. True: the connection goes on. */
static bool serve_one(struct connection *connection, struct http_server *server,
                      enum connection_fate *fate, bool *needs_more) {
    struct http_exchange exchange;
    size_t used = 0;
    int status = 0;
    const char *why = NULL;
    *needs_more = false;
    if ((unsigned char)connection->bytes[0] == TLS_HANDSHAKE_RECORD) {
        *fate = CONNECTION_CLOSE;
        return false;
    }
    switch (http_parse_head(connection->bytes, connection->length, &exchange.request, &used,
                            &status, &why)) {
    case HTTP_PARSE_MORE:
        *needs_more = true;
        if (connection->head_deadline_ms == 0)
            connection->head_deadline_ms = clock_ms() + server->settings.head_timeout_ms;
        *fate = CONNECTION_CLOSE;
        return clock_ms() < connection->head_deadline_ms;
    case HTTP_PARSE_BAD:
        exchange_begin(&exchange, connection, &server->stopping);
        exchange.request.method = HTTP_OTHER;
        *fate = refuse(&exchange, server, status, why);
        return false;
    case HTTP_PARSE_DONE:
        break;
    }
    connection->head_deadline_ms = 0;
    exchange_begin(&exchange, connection, &server->stopping);
    return answer(&exchange, server, used, fate);
}

/* ---- all requests ---- */

/* True: the handshake is done. */
static bool shake_hands(struct connection *connection, struct http_server *server,
                        enum connection_fate *fate) {
    struct channel *channel = &connection->channel;
    if (!channel->tls)
        channel->tls = tls_session_new(server->identity, channel->fd);
    enum tls_step step = channel->tls ? tls_handshake(channel->tls) : TLS_FAILED;
    channel->handshaken = step == TLS_DONE;
    connection->wants_to_write = step == TLS_WAITS_TO_WRITE;
    if (step == TLS_DONE) {
        connection->head_deadline_ms = 0;
    } else if (step == TLS_FAILED) {
        *fate = CONNECTION_CLOSE;
    } else {
        if (connection->head_deadline_ms == 0)
            connection->head_deadline_ms = clock_ms() + server->settings.head_timeout_ms;
        *fate = park_until(connection, connection->head_deadline_ms);
    }
    return step == TLS_DONE;
}

enum connection_fate connection_serve(struct connection *connection, struct http_server *server) {
    enum connection_fate fate = CONNECTION_CLOSE;
    if (!connection->plain && !connection->channel.handshaken &&
        !shake_hands(connection, server, &fate))
        return fate;
    bool needs_more = false;
    for (;;) {
        discard_body(connection);
        if (connection->length == 0 || needs_more) {
            /* A head in pieces does not keep a worker: it waits in epoll for its rest. */
            switch (receive_more(connection, server)) {
            case RECEPTION_END:
                return CONNECTION_CLOSE;
            case RECEPTION_NOTHING:
                return park(connection, server);
            case RECEPTION_MORE:
                break;
            }
            needs_more = false;
            continue;
        }
        if (!serve_one(connection, server, &fate, &needs_more))
            return fate;
        /* Others wait: whatever this client has sent meanwhile queues up behind them. */
        if (!needs_more && pool_is_short(&server->pool))
            return connection->length > 0 || channel_has_pending(&connection->channel)
                       ? CONNECTION_LINE_UP
                       : park(connection, server);
    }
}
