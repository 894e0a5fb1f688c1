/* Reads a request's body, for the handlers that ask for it. */
#include <string.h>
#include "base/clock.h"
#include "http/exchange.h"
#include "http/pace.h"

/* Moves the part of the body that arrived together with the head to `body`. The head itself stays
 * in place, because the request's texts point at it. */
static bool move_received(struct http_exchange *exchange, struct buffer *body) {
    struct buffer *received = exchange->received;
    char *rest = received->bytes + exchange->head_length;
    size_t there = received->length - exchange->head_length;
    size_t taken = exchange->body_left < there ? (size_t)exchange->body_left : there;
    if (!buffer_append(body, rest, taken))
        return false;
    memmove(rest, rest + taken, there - taken);
    received->length -= taken;
    exchange->body_left -= taken;
    return true;
}

static bool send_continue(struct http_exchange *exchange, struct error *error) {
    return channel_send(exchange->channel, "HTTP/1.1 100 Continue\r\n\r\n", 25, error);
}

static bool receive_rest(struct http_exchange *exchange, struct buffer *body, struct error *error) {
    struct channel *channel = exchange->channel;
    struct pace pace = {0};
    const uint64_t length = exchange->body_left;
    int64_t deadline = clock_ms() + exchange->body_wait_ms;
    while (exchange->body_left > 0) {
        char bytes[2048];
        size_t most =
            exchange->body_left < sizeof bytes ? (size_t)exchange->body_left : sizeof bytes;
        int64_t now = clock_ms(), wait_ms = deadline - now;
        if (wait_ms > PACE_CHECK_MS)
            wait_ms = PACE_CHECK_MS;
        if (!pace_is_kept(&pace, channel->bulkheads, length - exchange->body_left, now))
            return channel_client_is_slow(channel, error);
        ssize_t n =
            wait_ms > 0 ? channel_receive(channel, bytes, most, (int)wait_ms) : CHANNEL_NOTHING;
        if (n == CHANNEL_CLOSED)
            return error_set(error, ERROR_CLOSED, "client %s left in the middle of the body",
                             channel->peer);
        if (n == CHANNEL_NOTHING && clock_ms() >= deadline)
            return error_set(error, ERROR_TIMEOUT, "client %s did not send the body within %d ms",
                             channel->peer, exchange->body_wait_ms);
        if (n <= 0)
            continue;
        if (!buffer_append(body, bytes, (size_t)n))
            return error_set(error, ERROR_MEMORY, "out of memory");
        exchange->body_left -= (uint64_t)n;
    }
    return true;
}

bool http_read_body(struct http_exchange *exchange, size_t limit, struct buffer *body,
                    struct error *error) {
    const struct http_request *request = &exchange->request;
    if (!request->has_body)
        return true;
    if (request->content_length == 0)
        return error_set(error, ERROR_UNSUPPORTED,
                         "a chunked body is not accepted here; send it with a Content-Length");
    if (request->content_length > limit)
        return error_set(error, ERROR_INVALID, "the body is longer than %zu bytes", limit);
    if (!move_received(exchange, body))
        return error_set(error, ERROR_MEMORY, "out of memory");
    if (exchange->expects && exchange->body_left > 0 && !send_continue(exchange, error))
        return false;
    bool read = receive_rest(exchange, body, error);
    if (!read)
        exchange->keep_alive = false; /* the start of the next request is unknown */
    return read;
}
