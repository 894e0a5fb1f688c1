/* Serves a connection's requests on a worker: receive, parse, call the handler, go on or end. */
#include "http/connection.h"

#include <string.h>
#include "base/clock.h"
#include "http/exchange.h"
#include "http/tls.h"

enum {
    RECEIVED_START = 2 << 10,   /* bytes; most heads are smaller */
    PROBE_SEND_MS = 1000,       /* a probe's client that accepts nothing for so long is cut */
    DISCARD_LIMIT = 64 << 10,   /* a longer unread body ends the connection */
    TLS_HANDSHAKE_RECORD = 0x16 /* the first byte of a TLS hello */
};

/* ---- life ---- */

void connection_init(struct connection *connection, int fd, const struct sockaddr_storage *peer,
                     bool plain, int receive_wait_ms, int send_timeout_ms) {
    *connection = (struct connection){.plain = plain};
    listener_name(peer, connection->peer);
    channel_init(&connection->channel, fd, receive_wait_ms, send_timeout_ms, connection->peer);
}

void connection_finish(struct connection *connection) {
    channel_close(&connection->channel);
    buffer_finish(&connection->received);
    buffer_finish(&connection->fields);
}

void connection_shrink(struct connection *connection) {
    buffer_finish(&connection->fields);
    if (connection->received.length == 0)
        buffer_finish(&connection->received);
}

void connection_end(struct connection *connection, uint64_t bytes, int64_t deadline_ms) {
    channel_finish(&connection->channel);
    connection->wants_to_write = false;
    connection->received.length = 0;
    connection->discard = bytes;
    connection->deadline_ms = deadline_ms;
}

/* ---- receiving ---- */

/* Makes space behind what has been received: first for a usual head, then for the largest. */
static bool make_space(struct buffer *received) {
    if (received->length + 1 < received->capacity)
        return true;
    size_t size = received->length < RECEIVED_START ? RECEIVED_START : HTTP_HEAD_LIMIT;
    return received->length < size && buffer_reserve(received, size - received->length);
}

/* Drops the first bytes; what the client sent behind them moves to the front. */
static void use_up(struct buffer *received, size_t used) {
    received->length -= used;
    if (received->length > 0)
        memmove(received->bytes, received->bytes + used, received->length);
}

static void discard_body(struct connection *connection) {
    size_t length = connection->received.length;
    size_t step = length < connection->discard ? length : (size_t)connection->discard;
    connection->discard -= step;
    use_up(&connection->received, step);
}

enum reception { RECEPTION_MORE, RECEPTION_NOTHING, RECEPTION_END };

static int linger_ms(const struct connection_terms *terms) {
    return terms->linger_ms ? terms->linger_ms(terms->context) : 0;
}

/* Receives bytes that have arrived. Between requests the worker waits for the first byte for a
 * moment, because a busy client's next request arrives sooner than epoll could report it. */
static enum reception receive_more(struct connection *connection,
                                   const struct connection_terms *terms) {
    struct buffer *received = &connection->received;
    if (!make_space(received))
        return RECEPTION_END;
    bool idle = received->length == 0 && connection->discard == 0;
    int wait_ms = idle ? linger_ms(terms) : 0;
    if (wait_ms > 0)
        atomic_store(&connection->waiting, true);
    /* Either the stop sees `waiting`, or this thread sees the stop. */
    if (atomic_load(terms->stopping))
        wait_ms = 0;
    ssize_t n = channel_receive(&connection->channel, received->bytes + received->length,
                                received->capacity - received->length - 1, wait_ms);
    atomic_store(&connection->waiting, false);
    if (n == CHANNEL_NOTHING)
        return RECEPTION_NOTHING;
    if (n == CHANNEL_CLOSED)
        return RECEPTION_END;
    received->length += (size_t)n;
    return RECEPTION_MORE;
}

/* A connection beyond the limit keeps the deadline that it was given at the start. */
static enum connection_fate park_until(struct connection *connection, int64_t deadline_ms) {
    if (!connection->over_limit)
        connection->deadline_ms = deadline_ms;
    return CONNECTION_PARK;
}

/* Parks the connection. If a head has begun, its deadline still applies. */
static enum connection_fate park(struct connection *connection,
                                 const struct connection_terms *terms) {
    if (connection->head_deadline_ms)
        return park_until(connection, connection->head_deadline_ms);
    return park_until(connection, clock_ms() + terms->settings->idle_timeout_ms);
}

/* ---- one request ---- */

/* RFC 9112 §9.6: a close with unread bytes would be an RST, which may destroy the response on its
 * way. TLS sends a close_notify as well, and its client may send one back. */
static enum connection_fate end(const struct connection *connection, bool unread) {
    bool finish = unread || connection->received.length > 0 || connection->channel.tls;
    return finish ? CONNECTION_FINISH : CONNECTION_CLOSE;
}

static enum connection_fate refuse(struct http_exchange *exchange,
                                   const struct connection_terms *terms, int status,
                                   const char *why) {
    exchange_refuse(exchange, terms->settings, status, why);
    return CONNECTION_FINISH;
}

static bool is_probe(const struct http_request *request, const struct connection_terms *terms) {
    const struct http_server_settings *settings = terms->settings;
    return settings->is_probe && !request->has_body &&
           settings->is_probe(settings->context, request);
}

static enum connection_fate refuse_busy(struct http_exchange *exchange,
                                        const struct connection_terms *terms) {
    http_add_field(exchange, "Retry-After", "%d", 1);
    return refuse(exchange, terms, 503, "too many requests at once, try again");
}

/* Whether the request may reach the handler; false: `*fate` is set. */
static bool is_acceptable(struct http_exchange *exchange, const struct connection_terms *terms,
                          enum connection_fate *fate) {
    const struct http_request *request = &exchange->request;
    struct text expectation = http_field(request, "Expect");
    exchange->expects = expectation.at != NULL;
    if (exchange->expects && !text_is_nocase(expectation, "100-continue")) {
        *fate = refuse(exchange, terms, 417, "only the expectation 100-continue is known");
        return false;
    }
    if (request->has_body && (request->method == HTTP_GET || request->method == HTTP_HEAD)) {
        *fate = refuse(exchange, terms, 400, "a GET or HEAD request has no body");
        return false;
    }
    return true;
}

/* Lets the handler respond to a request, whose head took the first `used` bytes. True: the
 * connection goes on. */
static bool respond(struct connection *connection, struct http_exchange *exchange,
                    const struct connection_terms *terms, size_t used, enum connection_fate *fate) {
    const struct http_request *request = &exchange->request;
    if (!is_acceptable(exchange, terms, fate))
        return false;
    /* A body is thrown away only when its end is certain. A client that waits for 100 may or may
     * not send its body, and a chunked body may be endless. */
    bool discardable = !request->has_body || (request->content_length > 0 && !exchange->expects &&
                                              request->content_length <= DISCARD_LIMIT);
    exchange->keep_alive = request->keep_alive && discardable && !terms->probes_only;
    exchange->head_length = used;
    exchange->body_left = request->has_body ? request->content_length : 0;
    exchange->body_wait_ms = terms->settings->head_timeout_ms;
    terms->settings->handle(terms->settings->context, exchange);
    if (!exchange_end(exchange, terms->settings)) {
        channel_cut(&connection->channel);
        *fate = CONNECTION_CLOSE;
        return false;
    }
    bool goes_on = exchange->keep_alive;
    bool is_chunked = request->has_body && request->content_length == 0;
    bool unread = is_chunked || exchange->body_left > 0;
    connection->discard = goes_on ? exchange->body_left : 0;
    use_up(&connection->received, used); /* from here on the request's texts point at other bytes */
    if (!goes_on)
        *fate = end(connection, unread);
    return goes_on;
}

/* Sets the deadline of the head that has begun to arrive, unless it is set already. */
static void begin_head(struct connection *connection, const struct connection_terms *terms) {
    if (connection->head_deadline_ms == 0)
        connection->head_deadline_ms = clock_ms() + terms->settings->head_timeout_ms;
}

/* Reads a head from the received bytes and responds to it. True: the connection goes on. */
static bool serve_one(struct connection *connection, const struct connection_terms *terms,
                      enum connection_fate *fate, bool *needs_more) {
    struct http_exchange exchange;
    struct buffer *received = &connection->received;
    size_t used = 0;
    int status = 0;
    const char *why = NULL;
    *needs_more = false;
    *fate = CONNECTION_CLOSE;
    if ((unsigned char)received->bytes[0] == TLS_HANDSHAKE_RECORD)
        return false;
    enum http_parse parsed =
        http_parse_head(received->bytes, received->length, &exchange.request, &used, &status, &why);
    if (parsed == HTTP_PARSE_MORE) {
        *needs_more = true;
        begin_head(connection, terms);
        return clock_ms() < connection->head_deadline_ms;
    }
    bool may_go_on =
        !terms->probes_only || (parsed == HTTP_PARSE_DONE && is_probe(&exchange.request, terms));
    if (!may_go_on && !connection->over_limit) {
        *fate = CONNECTION_NO_PROBE;
        return false;
    }
    if (terms->probes_only)
        channel_limit_sending(&connection->channel, PROBE_SEND_MS);
    exchange_begin(&exchange, &connection->channel, received, &connection->fields);
    exchange.stopping = terms->stopping;
    if (parsed == HTTP_PARSE_BAD) {
        exchange.request.method = HTTP_OTHER;
        *fate = refuse(&exchange, terms, status, why);
        return false;
    }
    connection->head_deadline_ms = 0;
    if (!may_go_on) {
        *fate = refuse_busy(&exchange, terms);
        return false;
    }
    return respond(connection, &exchange, terms, used, fate);
}

/* ---- all requests ---- */

/* True: the handshake is done. */
static bool do_handshake(struct connection *connection, const struct connection_terms *terms,
                         enum connection_fate *fate) {
    struct channel *channel = &connection->channel;
    if (!channel->tls)
        channel->tls = tls_session_new(terms->identity, channel->fd);
    enum tls_step step = channel->tls ? tls_handshake(channel->tls) : TLS_FAILED;
    channel->handshaken = step == TLS_DONE;
    connection->wants_to_write = step == TLS_WAITS_TO_WRITE;
    if (step == TLS_DONE) {
        connection->head_deadline_ms = 0;
    } else if (step == TLS_FAILED) {
        *fate = CONNECTION_CLOSE;
    } else {
        begin_head(connection, terms);
        *fate = park_until(connection, connection->head_deadline_ms);
    }
    return step == TLS_DONE;
}

enum connection_fate connection_serve(struct connection *connection,
                                      const struct connection_terms *terms) {
    enum connection_fate fate = CONNECTION_CLOSE;
    if (!connection->plain && !connection->channel.handshaken &&
        !do_handshake(connection, terms, &fate))
        return fate;
    bool needs_more = false;
    for (;;) {
        discard_body(connection);
        if (connection->received.length == 0 || needs_more) {
            /* A connection with an incomplete head keeps no worker: it waits in epoll for the rest.
             */
            switch (receive_more(connection, terms)) {
            case RECEPTION_END:
                return CONNECTION_CLOSE;
            case RECEPTION_NOTHING:
                return park(connection, terms);
            case RECEPTION_MORE:
                break;
            }
            needs_more = false;
            continue;
        }
        if (!serve_one(connection, terms, &fate, &needs_more))
            return fate;
        /* Other connections wait for a worker: what this client has sent meanwhile goes to the end
         * of the line. */
        if (!needs_more && linger_ms(terms) == 0)
            return connection->received.length > 0 || channel_has_pending(&connection->channel)
                       ? CONNECTION_LINE_UP
                       : park(connection, terms);
    }
}
