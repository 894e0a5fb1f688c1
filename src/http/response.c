/* The response: made from memory at once, composed, or begun; and its end (RFC 9112 §6, §7.1). */
#include <stdio.h>
#include <string.h>
#include "http/exchange.h"
#include "http/head.h"
#include "http/pace.h"
#include "http/remotes.h"
#include "http/tls.h"

enum {
    ERROR_BODY_LIMIT = 1024,
    COPY_LIMIT = 64 << 10,        /* of a body that is copied for a client that does not take it */
    CONTENT_COPY_LIMIT = 8 << 10, /* larger shared content is not copied */
    PATIENCE_MS = 10,             /* how long a worker waits for a client before the loop does */
};

/* ---- the exchange ---- */

void exchange_begin(struct http_exchange *exchange, const struct exchange_parts *parts) {
    exchange->channel = parts->channel;
    exchange->received = parts->received;
    exchange->fields = parts->fields;
    exchange->unsent = parts->unsent;
    exchange->stopping = parts->stopping;
    exchange->on_loop = parts->on_loop;
    exchange->id[0] = '\0';
    exchange->more_fields = parts->more_fields;
    exchange->status = 0;
    exchange->reason = NULL;
    exchange->is_exempt = false;
    exchange->keep_alive = false;
    exchange->without_body = false;
    exchange->chunked = false;
    exchange->cut = false;
    exchange->stalled = false;
    exchange->length = 0;
    exchange->sent = 0;
    exchange->resume = NULL;
    exchange->body_heard_ms = 0;
    exchange->body_taken = 0;
    exchange->body_pace = (struct pace){0};
    exchange->chunks = (struct chunks){0};
    exchange->body_ended = exchange->body_failed = false;
    buffer_clear(parts->fields);
}

const struct http_request *http_exchange_request(const struct http_exchange *exchange) {
    return &exchange->request;
}

const char *http_exchange_client(const struct http_exchange *exchange) {
    return exchange->channel->peer;
}

int http_body_fd(const struct http_exchange *exchange) {
    return exchange->channel->fd;
}

const struct http_address *http_exchange_address(const struct http_exchange *exchange) {
    const struct remote *remote = exchange->channel->from;
    return remote ? &remote->address : NULL;
}

bool http_exchange_is_side(const struct http_exchange *exchange) {
    return exchange->channel->side;
}

const char *http_exchange_certificate_user(const struct http_exchange *exchange) {
    return exchange->channel->tls ? tls_session_user(exchange->channel->tls) : NULL;
}

bool http_exchange_is_loopback(const struct http_exchange *exchange) {
    return exchange->channel->loopback;
}

void http_exempt(struct http_exchange *exchange) {
    exchange->is_exempt = true;
}

void http_close_after(struct http_exchange *exchange) {
    exchange->keep_alive = false;
}

int http_exchange_status(const struct http_exchange *exchange) {
    return exchange->status;
}

uint64_t http_exchange_sent(const struct http_exchange *exchange) {
    return exchange->sent;
}

bool http_client_is_there(const struct http_exchange *exchange) {
    return !exchange->cut && channel_peer_is_there(exchange->channel);
}

/* Sends what has been added, as far as the client takes it. A loop does that later. */
static bool send_added(struct http_exchange *exchange, bool more) {
    if (exchange->cut)
        return false;
    if (!exchange->on_loop && !unsent_send(exchange->unsent, exchange->channel, more))
        exchange->cut = true;
    return !exchange->cut;
}

/* ---- a response from memory ---- */

static void keep_nothing(void *owner) {
    (void)owner;
}

/* Sends what is added as far as the client takes it now, and keeps the rest for the loop. If there
 * is no memory for that, the worker waits for the client. False: the client left, or is too slow.
 */
static bool send_or_keep(struct http_exchange *exchange) {
    struct unsent *unsent = exchange->unsent;
    struct channel *channel = exchange->channel;
    struct pace pace = {0};
    while (unsent_send(unsent, channel, false)) {
        if (unsent_is_empty(unsent))
            return true;
        if (channel_wait_to_send(channel, PATIENCE_MS))
            continue;
        if (channel->bulkheads && unsent_own(unsent, channel->bulkheads))
            return true;
        if (!channel_wait_for_client(channel, &pace, unsent->content_taken, NULL))
            return false;
    }
    return false;
}

/* Sends a body that is too large to be copied at once. */
static bool send_large(struct http_exchange *exchange, const void *body, size_t length) {
    const struct http_content content = {.bytes = body, .length = length, .keep = keep_nothing};
    bool sent = unsent_share(exchange->unsent, &content) && send_or_keep(exchange);
    if (!sent)
        unsent_finish(exchange->unsent);
    exchange->cut = !sent;
    return sent;
}

static void send_whole(struct http_exchange *exchange, const void *body, size_t length) {
    bool sent = false;
    if (length > COPY_LIMIT && !exchange->on_loop) {
        sent = send_large(exchange, body, length);
    } else if (unsent_append(exchange->unsent, body, length)) {
        sent = send_added(exchange, false);
    } else {
        exchange->cut = true;
    }
    if (sent)
        exchange->sent = length;
}

void http_respond(struct http_exchange *exchange, int status, const char *content_type,
                  const void *body, size_t length) {
    if (exchange->status != 0)
        return;
    if (content_type)
        http_add_field(exchange, "Content-Type", "%s", content_type);
    if (!head_add(exchange, status, (int64_t)length))
        return;
    if (exchange->without_body || length == 0)
        send_added(exchange, false);
    else
        send_whole(exchange, body, length);
}

/* ---- a response with shared content ---- */

/* Adds a body whose owner can keep it for as long as the client needs. */
static bool add_content(struct http_exchange *exchange, const struct http_content *content) {
    if (content->length <= CONTENT_COPY_LIMIT)
        return unsent_append(exchange->unsent, content->bytes, content->length);
    return unsent_share(exchange->unsent, content);
}

/* Sends the head that was added, and the content behind it; NULL: none. */
static void send_content(struct http_exchange *exchange, const struct http_content *content) {
    bool with_body = content && !exchange->without_body;
    if (with_body && !add_content(exchange, content))
        exchange->cut = true;
    if (send_added(exchange, false) && with_body)
        exchange->sent = content->length;
}

void http_respond_shared(struct http_exchange *exchange, int status, const char *content_type,
                         const struct http_content *content) {
    if (exchange->status != 0)
        return;
    if (content_type)
        http_add_field(exchange, "Content-Type", "%s", content_type);
    if (head_add(exchange, status, (int64_t)content->length))
        send_content(exchange, content);
}

void http_respond_composed(struct http_exchange *exchange, const struct http_composed *composed,
                           const struct http_content *content) {
    if (exchange->status == 0 && head_add_composed(exchange, composed))
        send_content(exchange, content);
}

/* ---- a response piece by piece ---- */

bool http_begin(struct http_exchange *exchange, int status, const char *content_type,
                int64_t length, struct error *error) {
    if (exchange->status != 0)
        return error_set(error, ERROR_INVALID, "the request already has a response");
    if (length < 0 && exchange->request.minor == 0)
        return error_set(error, ERROR_UNSUPPORTED,
                         "an HTTP/1.0 client cannot take a response of unknown length");
    if (content_type)
        http_add_field(exchange, "Content-Type", "%s", content_type);
    if (!head_add(exchange, status, length < 0 ? HTTP_UNKNOWN_LENGTH : length))
        return error_set(error, ERROR_MEMORY, "out of memory");
    /* The head shares a packet with the body that follows. If no body follows, the kernel sends the
     * head after 200 ms. */
    bool more = !exchange->without_body && (exchange->chunked || exchange->length > 0);
    return send_added(exchange, more) || channel_client_left(exchange->channel, error);
}

/* ---- the end of a response ---- */

static const char *error_body(struct http_exchange *exchange,
                              const struct http_server_settings *settings, int status,
                              const char *why, char out[static ERROR_BODY_LIMIT]) {
    const size_t size = ERROR_BODY_LIMIT;
    out[0] = '\0';
    if (settings->error_body) {
        settings->error_body(status, why, http_exchange_id(exchange), out, size);
        return "application/json";
    }
    snprintf(out, size, "%s\n", why);
    return "text/plain; charset=utf-8";
}

void exchange_refuse(struct http_exchange *exchange, const struct http_server_settings *settings,
                     int status, const char *why) {
    char body[ERROR_BODY_LIMIT];
    const char *type = error_body(exchange, settings, status, why, body);
    exchange->keep_alive = false;
    http_respond(exchange, status, type, body, strnlen(body, sizeof body));
    if (settings->refused)
        settings->refused(settings->context, exchange, why);
}

bool exchange_end(struct http_exchange *exchange, const struct http_server_settings *settings) {
    if (exchange->status == 0 && !exchange->cut) {
        char body[ERROR_BODY_LIMIT];
        const char *why = "the request got no response";
        const char *type = error_body(exchange, settings, 500, why, body);
        buffer_clear(exchange->fields);
        http_respond(exchange, 500, type, body, strnlen(body, sizeof body));
    }
    if (exchange->cut)
        return false;
    if (exchange->without_body)
        return true;
    if (!exchange->chunked)
        return exchange->sent == exchange->length;
    return unsent_append(exchange->unsent, "0\r\n\r\n", 5) && send_added(exchange, false);
}
