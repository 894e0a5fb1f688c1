/* Reads a request's body, for the handlers that ask for it. */
#include <string.h>
#include "base/clock.h"
#include "http/exchange.h"

bool http_body_length(const struct http_exchange *exchange, uint64_t *length) {
    const struct http_request *request = &exchange->request;
    *length = request->content_length;
    return !request->has_body || request->content_length > 0;
}

uint64_t http_exchange_received(const struct http_exchange *exchange) {
    return exchange->body_taken;
}

bool http_body_has_ended(const struct http_exchange *exchange) {
    return !exchange->request.has_body || exchange->body_ended;
}

static bool is_chunked(const struct http_exchange *exchange) {
    return exchange->request.has_body && exchange->request.content_length == 0;
}

/* Takes what arrived together with the head. The head itself stays in place, because the request's
 * texts point at it. */
static size_t take_received(struct http_exchange *exchange, char *out, size_t size) {
    struct buffer *received = exchange->received;
    char *rest = received->bytes + exchange->head_length;
    size_t there = received->length - exchange->head_length;
    size_t taken = there < size ? there : size;
    memcpy(out, rest, taken);
    memmove(rest, rest + taken, there - taken);
    received->length -= taken;
    return taken;
}

static bool send_continue(struct http_exchange *exchange, struct error *error) {
    if (!exchange->expects)
        return true;
    exchange->expects = false;
    return channel_send(exchange->channel, "HTTP/1.1 100 Continue\r\n\r\n", 25, error);
}

/* Fails in mid-body: the start of the next request is unknown. */
static ssize_t fail(struct http_exchange *exchange) {
    exchange->keep_alive = false;
    exchange->body_failed = true;
    return HTTP_BODY_FAILED;
}

/* The bytes as they come, without the coding taken off. */
static ssize_t receive_raw(struct http_exchange *exchange, char *out, size_t size, int wait_ms,
                           struct error *error) {
    struct channel *channel = exchange->channel;
    size_t taken = take_received(exchange, out, size);
    if (taken > 0)
        return (ssize_t)taken;
    ssize_t n = channel_receive(channel, out, size, wait_ms);
    int64_t now = clock_ms();
    if (n > 0 || exchange->body_heard_ms == 0)
        exchange->body_heard_ms = now;
    if (n == CHANNEL_CLOSED) {
        error_set(error, ERROR_CLOSED, "client %s left in the middle of the body", channel->peer);
        return HTTP_BODY_FAILED;
    }
    if (!pace_is_kept(&exchange->body_pace, channel->bulkheads, exchange->body_taken, now)) {
        channel_client_is_slow(channel, error);
        return HTTP_BODY_FAILED;
    }
    if (n == CHANNEL_NOTHING && now - exchange->body_heard_ms >= channel->send_timeout_ms) {
        error_set(error, ERROR_TIMEOUT, "client %s sent nothing of the body for %d ms",
                  channel->peer, channel->send_timeout_ms);
        return HTTP_BODY_FAILED;
    }
    return n > 0 ? n : HTTP_BODY_NOTHING;
}

/* The body is over: the connection may go on behind it. */
static void end_body(struct http_exchange *exchange) {
    exchange->body_ended = true;
    exchange->keep_alive = exchange->request.keep_alive;
}

/* Takes the coding off. Bytes behind the body belong to the next request. */
static ssize_t decode(struct http_exchange *exchange, char *out, size_t length,
                      struct error *error) {
    size_t data = 0, used = 0;
    const char *why = NULL;
    switch (chunks_read(&exchange->chunks, out, length, &data, &used, &why)) {
    case CHUNKS_BAD:
        error_set(error, ERROR_INVALID, "the chunked body of the request is malformed: %s", why);
        return HTTP_BODY_FAILED;
    case CHUNKS_DONE:
        if (used < length && !buffer_append(&exchange->behind, out + used, length - used)) {
            error_set(error, ERROR_MEMORY, "out of memory");
            return HTTP_BODY_FAILED;
        }
        end_body(exchange);
        break;
    case CHUNKS_MORE:
        break;
    }
    if (data == 0)
        return exchange->body_ended ? 0 : HTTP_BODY_NOTHING;
    return (ssize_t)data;
}

ssize_t http_receive(struct http_exchange *exchange, void *out, size_t size, int wait_ms,
                     struct error *error) {
    bool chunked = is_chunked(exchange);
    if (http_body_has_ended(exchange))
        return 0;
    if (exchange->body_failed) {
        error_set(error, ERROR_CLOSED, "the body of the request has failed");
        return HTTP_BODY_FAILED;
    }
    if (exchange->received->length == exchange->head_length && !send_continue(exchange, error))
        return fail(exchange);
    exchange->expects = false; /* the client sends already */
    size_t most = !chunked && exchange->body_left < size ? (size_t)exchange->body_left : size;
    ssize_t n = receive_raw(exchange, out, most, wait_ms, error);
    if (n == HTTP_BODY_NOTHING)
        return n;
    if (n > 0 && chunked) {
        n = decode(exchange, out, (size_t)n, error);
    } else if (n > 0) {
        exchange->body_left -= (uint64_t)n;
        if (exchange->body_left == 0)
            end_body(exchange);
    }
    if (n == HTTP_BODY_FAILED)
        return fail(exchange);
    exchange->body_taken += n > 0 ? (uint64_t)n : 0;
    return n;
}

enum { PIECE = 2048 };

bool http_read_body(struct http_exchange *exchange, size_t limit, struct buffer *body,
                    struct error *error) {
    int64_t deadline = clock_ms() + exchange->body_wait_ms;
    if (is_chunked(exchange))
        return error_set(error, ERROR_UNSUPPORTED,
                         "a chunked body is not accepted here; send it with a Content-Length");
    if (exchange->request.content_length > limit)
        return error_set(error, ERROR_INVALID, "the body is longer than %zu bytes", limit);
    while (!http_body_has_ended(exchange)) {
        char bytes[PIECE];
        int64_t wait_ms = deadline - clock_ms();
        if (wait_ms > PACE_CHECK_MS)
            wait_ms = PACE_CHECK_MS;
        ssize_t n =
            http_receive(exchange, bytes, sizeof bytes, wait_ms > 0 ? (int)wait_ms : 0, error);
        if (n == HTTP_BODY_FAILED)
            return false;
        if (n == HTTP_BODY_NOTHING && clock_ms() >= deadline) {
            fail(exchange);
            return error_set(error, ERROR_TIMEOUT, "client %s did not send the body within %d ms",
                             exchange->channel->peer, exchange->body_wait_ms);
        }
        if (n > 0 && !buffer_append(body, bytes, (size_t)n))
            return error_set(error, ERROR_MEMORY, "out of memory");
    }
    return true;
}
