/* Answers a connection's requests: in place on its loop, or one at a time on a worker. */
#include "http/connection.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "base/clock.h"
#include "base/log.h"
#include "http/bulkheads.h"
#include "http/exchange.h"
#include "http/tls.h"

enum {
    DISCARD_LIMIT = 64 << 10,    /* a longer unread body ends the connection */
    GATHER_LIMIT = 16 << 10,     /* responses are sent when they are so long together */
    ANSWERS_AT_ONCE = 64,        /* to one connection; then others have their turn */
    LONG_COUNTS = 8,             /* a long answer counts as so many */
    KEPT_MEMORY = 256 << 10,     /* a loop's buffer that has become longer is freed */
    END_BYTES = 32 << 20,        /* how many bytes a client may still send after its end */
    END_STEP = 256 << 10,        /* of them at once; then others have their turn */
    TLS_HANDSHAKE_RECORD = 0x16, /* the first byte of a TLS hello */
};

/* ---- life ---- */

bool connection_scratch_init(struct connection_scratch *scratch) {
    scratch->exchange = calloc(1, sizeof *scratch->exchange);
    return scratch->exchange != NULL;
}

void connection_scratch_finish(struct connection_scratch *scratch) {
    unsent_finish(&scratch->unsent);
    buffer_finish(&scratch->fields);
    free(scratch->exchange);
    scratch->exchange = NULL;
}

void connection_init(struct connection *connection, int fd, const struct sockaddr_storage *address,
                     struct remote *remote, int send_timeout_ms) {
    *connection = (struct connection){.remote = remote};
    listener_name(address, connection->name);
    channel_init(&connection->channel, fd, send_timeout_ms, connection->name);
    connection->channel.from = remote;
}

void connection_finish(struct connection *connection) {
    channel_close(&connection->channel);
    buffer_finish(&connection->received);
    buffer_finish(&connection->fields);
    unsent_finish(&connection->unsent);
    if (connection->exchange)
        buffer_finish(&connection->exchange->behind);
    free(connection->exchange);
    connection->exchange = NULL;
    remote_leave(connection->remote);
    connection->remote = NULL;
}

/* ---- one request ---- */

static enum connection_need refuse(struct http_exchange *exchange,
                                   const struct connection_terms *terms, int status,
                                   const char *why) {
    exchange_refuse(exchange, terms->settings, status, why);
    return CONNECTION_NEEDS_END;
}

/* Refuses a request whose head could not be parsed. What an earlier request has left is forgotten.
 */
static enum connection_need refuse_unread(struct http_exchange *exchange,
                                          const struct connection_terms *terms, int status,
                                          const char *why) {
    struct http_request *request = &exchange->request;
    request->method = HTTP_OTHER;
    request->method_name = request->path = request->query = text_of("");
    request->field_count = 0;
    return refuse(exchange, terms, status, why);
}

/* Refuses a request that another may get through in a moment. */
static enum connection_need refuse_for_now(struct http_exchange *exchange,
                                           const struct connection_terms *terms, enum refusal why) {
    static const struct {
        int status;
        const char *message;
    } responses[REFUSED_KINDS] = {
        [REFUSED_CONNECTIONS] = {503, "too many connections at once, try again"},
        [REFUSED_CLIENT_CONNECTIONS] = {429, "this client's address has too many connections open"},
        [REFUSED_WORKERS] = {503, "too many requests at once, try again"},
        [REFUSED_CLIENT_REQUESTS] = {429,
                                     "this client's address has too many requests in progress"},
    };
    bulkheads_count_refusal(terms->bulkheads, why);
    http_add_field(exchange, "Retry-After", "%d", 1);
    return refuse(exchange, terms, responses[why].status, responses[why].message);
}

/* Whether the request may reach a handler; false: it was refused. */
static bool is_acceptable(struct http_exchange *exchange, const struct connection_terms *terms) {
    const struct http_request *request = &exchange->request;
    struct text expectation = http_field(request, "Expect");
    exchange->expects = expectation.at != NULL;
    if (exchange->expects && !text_is_nocase(expectation, "100-continue")) {
        refuse(exchange, terms, 417, "only the expectation 100-continue is known");
        return false;
    }
    if (request->has_body && (request->method == HTTP_GET || request->method == HTTP_HEAD)) {
        refuse(exchange, terms, 400, "a GET or HEAD request has no body");
        return false;
    }
    return true;
}

/* Whether the connection may go on after the response. A body is thrown away only when its end is
 * certain. A client that waits for 100 may or may not send its body, and a chunked body may be
 * endless. */
static bool may_go_on(const struct http_exchange *exchange) {
    const struct http_request *request = &exchange->request;
    return request->keep_alive &&
           (!request->has_body || (request->content_length > 0 && !exchange->expects &&
                                   request->content_length <= DISCARD_LIMIT));
}

/* ---- on a loop ---- */

/* The bytes that a loop works on: received and not used yet. */
struct arrived {
    char *at;
    size_t length;
};

static void use(struct arrived *arrived, size_t length) {
    arrived->at += length;
    arrived->length -= length;
}

static void discard(struct connection *connection, struct arrived *arrived) {
    size_t step =
        arrived->length < connection->discard ? arrived->length : (size_t)connection->discard;
    connection->discard -= step;
    use(arrived, step);
}

/* Sends the gathered responses. What the client does not take stays with the connection. */
static enum connection_need send_gathered(struct connection *connection,
                                          struct connection_scratch *scratch) {
    struct unsent *unsent = &scratch->unsent;
    bool there = unsent_send(unsent, &connection->channel, false);
    bool taken = unsent_is_empty(unsent);
    bool kept = taken || !there || unsent_move(unsent, &connection->unsent);
    if (!there || !kept || unsent->bytes.capacity > KEPT_MEMORY)
        unsent_finish(unsent);
    if (!there || !kept)
        return CONNECTION_NEEDS_CLOSE;
    return taken ? CONNECTION_NEEDS_TURN : CONNECTION_NEEDS_SPACE;
}

/* Keeps what has arrived and is not used for later, in memory of the connection's own. */
static bool keep_arrived(struct connection *connection, const struct arrived *arrived) {
    struct buffer *received = &connection->received;
    if (arrived->length == 0) {
        buffer_finish(received);
        return true;
    }
    buffer_clear(received);
    return buffer_append(received, arrived->at, arrived->length);
}

/* What a request needs that the loop cannot answer: a worker, unless it is refused one. */
static enum connection_need ask_for_worker(struct connection *connection,
                                           const struct connection_terms *terms,
                                           struct http_exchange *exchange) {
    if (connection->place == PLACE_OVER_LIMIT)
        return refuse_for_now(exchange, terms, REFUSED_CONNECTIONS);
    if (exchange->is_exempt) {
        connection->is_exempt = connection->remote != NULL;
        return CONNECTION_NEEDS_WORKER;
    }
    if (connection->place == PLACE_OVER_SHARE ||
        !bulkheads_may_be_busy(terms->bulkheads, connection->remote))
        return refuse_for_now(exchange, terms, REFUSED_CLIENT_CONNECTIONS);
    if (!bulkheads_may_request(terms->bulkheads, connection->remote))
        return refuse_for_now(exchange, terms, REFUSED_CLIENT_REQUESTS);
    return CONNECTION_NEEDS_WORKER;
}

/* Answers a whole request in place. CONNECTION_NEEDS_TURN: the next one may follow. */
static enum connection_need answer_request(struct connection *connection,
                                           const struct connection_terms *terms,
                                           struct http_exchange *exchange) {
    const struct http_server_settings *settings = terms->settings;
    if (!is_acceptable(exchange, terms))
        return CONNECTION_NEEDS_END;
    exchange->keep_alive = may_go_on(exchange) && connection->place == PLACE_WITHIN;
    bool answered = !exchange->request.has_body && settings->handle_now &&
                    settings->handle_now(settings->context, exchange);
    if (!answered)
        return ask_for_worker(connection, terms, exchange);
    if (!exchange_end(exchange, settings))
        return CONNECTION_NEEDS_CLOSE;
    return exchange->keep_alive ? CONNECTION_NEEDS_TURN : CONNECTION_NEEDS_END;
}

/* Cuts a connection whose answer could not be made whole, because memory is out. The loop's memory
 * must be empty again for the next connection. */
static enum connection_need drop_answers(struct connection *connection,
                                         struct connection_scratch *scratch) {
    unsent_finish(&scratch->unsent);
    channel_cut(&connection->channel);
    return CONNECTION_NEEDS_CLOSE;
}

/* Parses a head. A TLS hello is refused in clear, because clients take that for "this server speaks
 * HTTP" and try again without TLS. */
static enum http_parse parse(const char *bytes, size_t length, struct http_request *out,
                             size_t *used, int *status, const char **why) {
    if ((unsigned char)bytes[0] != TLS_HANDSHAKE_RECORD)
        return http_parse_head(bytes, length, out, used, status, why);
    *status = 400;
    *why = "this port speaks plain HTTP, and the client began a TLS handshake";
    return HTTP_PARSE_BAD;
}

/* Answers the request that the bytes begin with. CONNECTION_NEEDS_BYTES: its head is not whole. */
static enum connection_need answer_one(struct connection *connection,
                                       const struct connection_terms *terms,
                                       struct connection_scratch *scratch,
                                       struct arrived *arrived) {
    struct http_exchange *exchange = scratch->exchange;
    const struct exchange_parts parts = {.channel = &connection->channel,
                                         .fields = &scratch->fields,
                                         .unsent = &scratch->unsent,
                                         .stopping = terms->stopping,
                                         .more_fields = terms->more_fields,
                                         .on_loop = true};
    size_t used = 0;
    int status = 0;
    const char *why = NULL;
    enum http_parse parsed =
        parse(arrived->at, arrived->length, &exchange->request, &used, &status, &why);
    if (parsed == HTTP_PARSE_MORE)
        return CONNECTION_NEEDS_BYTES;
    exchange_begin(exchange, &parts);
    enum connection_need need;
    if (parsed == HTTP_PARSE_BAD) {
        need = refuse_unread(exchange, terms, status, why);
    } else {
        need = answer_request(connection, terms, exchange);
    }
    if (exchange->cut || need == CONNECTION_NEEDS_CLOSE)
        return drop_answers(connection, scratch);
    if (need == CONNECTION_NEEDS_END)
        connection->unread = exchange->request.has_body || arrived->length > used;
    if (need != CONNECTION_NEEDS_WORKER) {
        use(arrived, used); /* from here on the request's texts point at other bytes */
        connection->head_deadline_ms = 0;
    }
    return need;
}

/* Answers requests until one needs something else, or no whole head is left, or other connections
 * have waited for enough answers (CONNECTION_NEEDS_TURN). */
static enum connection_need answer_all(struct connection *connection,
                                       const struct connection_terms *terms,
                                       struct connection_scratch *scratch,
                                       struct arrived *arrived) {
    enum connection_need need = CONNECTION_NEEDS_BYTES, sent = CONNECTION_NEEDS_TURN;
    int left = ANSWERS_AT_ONCE;
    do {
        discard(connection, arrived);
        need = arrived->length > 0 ? answer_one(connection, terms, scratch, arrived)
                                   : CONNECTION_NEEDS_BYTES;
        bool is_long = scratch->unsent.bytes.length > GATHER_LIMIT || scratch->unsent.content.bytes;
        left -= is_long ? LONG_COUNTS : 1;
        if (need != CONNECTION_NEEDS_TURN || is_long || left <= 0)
            sent = send_gathered(connection, scratch);
    } while (sent == CONNECTION_NEEDS_TURN && need == CONNECTION_NEEDS_TURN && left > 0);
    if (sent == CONNECTION_NEEDS_CLOSE || need == CONNECTION_NEEDS_CLOSE)
        return CONNECTION_NEEDS_CLOSE;
    if (need == CONNECTION_NEEDS_END)
        connection->finishing = true;
    return sent == CONNECTION_NEEDS_SPACE ? CONNECTION_NEEDS_SPACE : need;
}

/* Receives behind the bytes that were kept. One TLS record after the other is taken, because epoll
 * does not report those that OpenSSL holds already. False: the client has closed. */
static bool receive(struct connection *connection, struct connection_scratch *scratch,
                    struct arrived *arrived) {
    struct channel *channel = &connection->channel;
    struct buffer *received = &connection->received;
    *arrived = (struct arrived){scratch->received, received->length};
    if (received->length > 0)
        memcpy(scratch->received, received->bytes, received->length);
    ssize_t n = CHANNEL_NOTHING;
    while (arrived->length < sizeof scratch->received) {
        n = channel_receive(channel, scratch->received + arrived->length,
                            sizeof scratch->received - arrived->length, 0);
        if (n <= 0)
            break;
        arrived->length += (size_t)n;
        if (!channel_has_pending(channel))
            break;
    }
    return n != CHANNEL_CLOSED;
}

/* Sends what the client did not take before. CONNECTION_NEEDS_TURN: all of it is sent. */
static enum connection_need send_unsent(struct connection *connection) {
    if (unsent_is_empty(&connection->unsent))
        return CONNECTION_NEEDS_TURN;
    if (!unsent_send(&connection->unsent, &connection->channel, false))
        return CONNECTION_NEEDS_CLOSE;
    if (!unsent_is_empty(&connection->unsent))
        return CONNECTION_NEEDS_SPACE;
    unsent_finish(&connection->unsent);
    return CONNECTION_NEEDS_TURN;
}

/* Sets the deadline of a head that has begun to arrive, unless it is set already. */
static void begin_head(struct connection *connection, const struct connection_terms *terms) {
    if (connection->head_deadline_ms == 0)
        connection->head_deadline_ms = clock_ms() + terms->settings->head_timeout_ms;
}

/* What a connection needs when no whole request is left of what has arrived. */
static enum connection_need wait_for_bytes(struct connection *connection,
                                           const struct connection_terms *terms, size_t left,
                                           bool is_full) {
    if (left > 0 || connection->discard > 0)
        begin_head(connection, terms);
    else
        connection->head_deadline_ms = 0;
    if (connection->channel.must_send)
        return CONNECTION_NEEDS_SPACE;
    return is_full && channel_has_pending(&connection->channel) ? CONNECTION_NEEDS_TURN
                                                                : CONNECTION_NEEDS_BYTES;
}

enum connection_need connection_answer(struct connection *connection,
                                       const struct connection_terms *terms,
                                       struct connection_scratch *scratch) {
    enum connection_need need = send_unsent(connection);
    if (need != CONNECTION_NEEDS_TURN)
        return need;
    if (connection->finishing)
        return CONNECTION_NEEDS_END;
    struct arrived arrived;
    bool is_there = receive(connection, scratch, &arrived);
    bool is_full = arrived.length == sizeof scratch->received;
    need = answer_all(connection, terms, scratch, &arrived);
    if (need == CONNECTION_NEEDS_BYTES)
        need = wait_for_bytes(connection, terms, arrived.length, is_full);
    if (need == CONNECTION_NEEDS_BYTES && !is_there)
        return CONNECTION_NEEDS_CLOSE;
    if (need == CONNECTION_NEEDS_CLOSE || need == CONNECTION_NEEDS_END)
        return need;
    return keep_arrived(connection, &arrived) ? need : CONNECTION_NEEDS_CLOSE;
}

/* ---- on a worker ---- */

/* Gives the connection an exchange, whose request is still to be set. NULL: out of memory. */
static struct http_exchange *add_exchange(struct connection *connection,
                                          const struct connection_terms *terms) {
    struct http_exchange *exchange = calloc(1, sizeof *exchange);
    const struct exchange_parts parts = {.channel = &connection->channel,
                                         .received = &connection->received,
                                         .fields = &connection->fields,
                                         .unsent = &connection->unsent,
                                         .stopping = terms->stopping,
                                         .more_fields = terms->more_fields};
    if (exchange)
        exchange_begin(exchange, &parts);
    connection->exchange = exchange;
    return exchange;
}

/* Prepares the exchange for the request at the start of connection->received, which the loop has
 * parsed before. False: out of memory. */
static bool begin_exchange(struct connection *connection, const struct connection_terms *terms) {
    struct http_exchange *exchange = add_exchange(connection, terms);
    size_t used = 0;
    int status = 0;
    const char *why = NULL;
    if (!exchange || http_parse_head(connection->received.bytes, connection->received.length,
                                     &exchange->request, &used, &status, &why) != HTTP_PARSE_DONE)
        return false;
    exchange->head_length = used;
    exchange->body_left = exchange->request.has_body ? exchange->request.content_length : 0;
    exchange->body_wait_ms = terms->settings->head_timeout_ms;
    exchange->expects = http_field(&exchange->request, "Expect").at != NULL;
    exchange->keep_alive = may_go_on(exchange);
    return true;
}

/* Drops the request's head, and what the handler has read of its body, from the received bytes. */
static void use_up(struct buffer *received, size_t used) {
    received->length -= used;
    if (received->length > 0)
        memmove(received->bytes, received->bytes + used, received->length);
}

/* Puts what was received behind a chunked body in front of what is still to be read. False: no
 * memory. */
static bool put_back(struct buffer *received, struct buffer *behind) {
    if (behind->length == 0) {
        buffer_finish(behind);
        return true;
    }
    bool ok = buffer_append(behind, received->bytes ? received->bytes : "", received->length);
    buffer_finish(received);
    *received = *behind;
    *behind = (struct buffer){0};
    return ok;
}

/* Ends the response that a worker has made. */
static enum connection_need end_exchange(struct connection *connection,
                                         const struct connection_terms *terms) {
    struct http_exchange *exchange = connection->exchange;
    bool whole = exchange_end(exchange, terms->settings);
    bool goes_on = exchange->keep_alive;
    bool unread = !http_body_has_ended(exchange);
    connection->discard = goes_on ? exchange->body_left : 0;
    use_up(&connection->received, exchange->head_length);
    bool kept = put_back(&connection->received, &exchange->behind);
    connection->head_deadline_ms = 0;
    connection->exchange = NULL;
    free(exchange);
    buffer_finish(&connection->fields);
    if (!whole || !kept) {
        channel_cut(&connection->channel);
        return CONNECTION_NEEDS_CLOSE;
    }
    if (goes_on)
        return CONNECTION_NEEDS_TURN;
    connection->finishing = true;
    connection->unread = unread || connection->received.length > 0;
    return unsent_is_empty(&connection->unsent) ? CONNECTION_NEEDS_END : CONNECTION_NEEDS_SPACE;
}

enum connection_need connection_work(struct connection *connection,
                                     const struct connection_terms *terms) {
    struct http_exchange *exchange = connection->exchange;
    if (exchange) {
        void (*resume)(void *state, struct http_exchange *exchange) = exchange->resume;
        exchange->resume = NULL;
        resume(exchange->resume_state, exchange);
    } else {
        if (!begin_exchange(connection, terms))
            return CONNECTION_NEEDS_CLOSE;
        exchange = connection->exchange;
        terms->settings->handle(terms->settings->context, exchange);
    }
    return exchange->resume ? CONNECTION_NEEDS_SPACE : end_exchange(connection, terms);
}

/* Refuses plain HTTP on a TLS port, in clear. */
static enum connection_need refuse_plain_http(struct connection *connection,
                                              const struct connection_terms *terms) {
    struct http_exchange *exchange = add_exchange(connection, terms);
    if (!exchange)
        return CONNECTION_NEEDS_CLOSE;
    tls_session_free(connection->channel.tls);
    connection->channel.tls = NULL;
    connection->plain = true;
    refuse_unread(exchange, terms, 400, "this port speaks TLS, and the client sent plain HTTP");
    enum connection_need need = end_exchange(connection, terms);
    connection->unread = true; /* OpenSSL has taken only a part of the request */
    return need;
}

enum connection_need connection_shake_hands(struct connection *connection,
                                            const struct connection_terms *terms) {
    struct channel *channel = &connection->channel;
    if (!channel_peer_is_there(channel)) /* a step may take milliseconds */
        return CONNECTION_NEEDS_CLOSE;
    if (!channel->tls)
        channel->tls = tls_session_new(terms->identity, channel->fd);
    enum tls_step step = channel->tls ? tls_handshake(channel->tls) : TLS_FAILED;
    channel->handshaken = step == TLS_DONE;
    connection->sends_handshake = step == TLS_WAITS_TO_WRITE;
    if (step == TLS_FAILED)
        return CONNECTION_NEEDS_CLOSE;
    if (step == TLS_MET_PLAIN_HTTP)
        return refuse_plain_http(connection, terms);
    if (step == TLS_DONE) {
        connection->head_deadline_ms = 0;
        return CONNECTION_NEEDS_TURN;
    }
    begin_head(connection, terms);
    return step == TLS_WAITS_TO_WRITE ? CONNECTION_NEEDS_SPACE : CONNECTION_NEEDS_BYTES;
}

enum connection_need connection_refuse(struct connection *connection,
                                       const struct connection_terms *terms, enum refusal why) {
    if (!begin_exchange(connection, terms))
        return CONNECTION_NEEDS_CLOSE;
    refuse_for_now(connection->exchange, terms, why);
    return end_exchange(connection, terms);
}

void connection_stall(struct connection *connection) {
    connection->exchange->stalled = true;
}

/* ---- the end ---- */

/* RFC 9112 §9.6: a close with unread bytes would be an RST, which may destroy the response on its
 * way. TLS sends a close_notify as well, and its client may send one back. */
bool connection_end(struct connection *connection) {
    if (!connection->unread && !connection->channel.tls)
        return false;
    channel_finish(&connection->channel);
    buffer_finish(&connection->received);
    connection->discard = END_BYTES;
    return true;
}

bool connection_throw_away(struct connection *connection) {
    uint64_t *left = &connection->discard;
    char bytes[4096];
    size_t step = 0;
    ssize_t n;
    do {
        n = recv(connection->channel.fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (n > 0) {
            *left -= (uint64_t)n < *left ? (uint64_t)n : *left;
            step += (size_t)n;
        }
    } while (n > 0 && *left > 0 && step < END_STEP);
    return *left > 0 && (n > 0 || (n < 0 && errno == EAGAIN));
}
