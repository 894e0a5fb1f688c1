/* Sends the body of a response piece by piece: from memory, and from a file. */
#include <stdlib.h>
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "http/exchange.h"

enum {
    COPY_STEP = 16 << 10, /* bytes that are copied at once, as many as a TLS record holds */
    PATIENCE_MS = 10,     /* how long a worker waits for a client before the loop does */
};

/* ---- from memory ---- */

enum sending { SENDING_GOES_ON, SENDING_NOTHING, SENDING_FAILED };

static enum sending sending_fails(struct http_exchange *exchange, struct error *error) {
    exchange->cut = true;
    if (exchange->stalled)
        channel_client_stalls(exchange->channel, error);
    else
        channel_client_left(exchange->channel, error);
    return SENDING_FAILED;
}

/* Whether `length` more bytes may be sent, and whether there is anything to do for them. */
static enum sending check_sending(struct http_exchange *exchange, uint64_t length,
                                  struct error *error) {
    if (exchange->cut || exchange->stalled)
        return sending_fails(exchange, error);
    if (exchange->status == 0) {
        error_set(error, ERROR_INVALID, "the response has not begun");
        return SENDING_FAILED;
    }
    if (exchange->without_body || length == 0)
        return SENDING_NOTHING;
    if (exchange->chunked || length <= exchange->length - exchange->sent)
        return SENDING_GOES_ON;
    http_abort(exchange);
    log_at(LOG_ERROR, "a response is longer than announced",
           LOG_NUMBER("announced", exchange->length), LOG_NUMBER("bytes", exchange->sent + length));
    error_set(error, ERROR_INVALID, "the response is longer than announced");
    return SENDING_FAILED;
}

/* The size line in front of a chunk; needs 18 bytes. */
static size_t chunk_head(uint64_t length, char *out) {
    size_t digits = 1;
    while (digits < 16 && length >> (4 * digits))
        digits++;
    for (size_t i = 0; i < digits; i++)
        out[i] = "0123456789abcdef"[(length >> (4 * (digits - 1 - i))) & 15];
    out[digits] = '\r';
    out[digits + 1] = '\n';
    return digits + 2;
}

/* Adds bytes of the body to what is to be sent, as a chunk if need be. */
static bool add_piece(struct http_exchange *exchange, const void *bytes, size_t length,
                      struct error *error) {
    char size_line[18];
    struct unsent *unsent = exchange->unsent;
    bool chunked = exchange->chunked;
    if ((!chunked || unsent_append(unsent, size_line, chunk_head(length, size_line))) &&
        unsent_append(unsent, bytes, length) && (!chunked || unsent_append(unsent, "\r\n", 2))) {
        exchange->sent += length;
        return true;
    }
    exchange->cut = true;
    return error_set(error, ERROR_MEMORY, "out of memory");
}

bool exchange_send_all(struct http_exchange *exchange, struct error *error) {
    struct unsent *unsent = exchange->unsent;
    bool sent = channel_send(exchange->channel, unsent->bytes.bytes + unsent->bytes_taken,
                             unsent->bytes.length - unsent->bytes_taken, error);
    unsent_finish(unsent);
    exchange->cut = !sent;
    return sent;
}

bool http_send(struct http_exchange *exchange, const void *bytes, size_t length,
               struct error *error) {
    enum sending sending = check_sending(exchange, length, error);
    if (sending != SENDING_GOES_ON)
        return sending == SENDING_NOTHING;
    const char *from = bytes;
    while (length > 0) {
        size_t step = length < COPY_STEP ? length : COPY_STEP;
        if (!add_piece(exchange, from, step, error) || !exchange_send_all(exchange, error))
            return false;
        from += step;
        length -= step;
    }
    return true;
}

/* ---- bytes of a file ---- */

/* Whether the client takes more. If it does not at once, the worker waits for a moment, because a
 * handover to the loop costs more than that for a client that reads. False: it takes nothing now,
 * or it has left (*error is set). */
static bool client_takes_more(struct http_exchange *exchange, bool more, struct error *error) {
    for (;;) {
        if (!unsent_send(exchange->unsent, exchange->channel, more)) {
            sending_fails(exchange, error);
            return false;
        }
        if (unsent_is_empty(exchange->unsent))
            return true;
        if (!channel_wait_to_send(exchange->channel, PATIENCE_MS))
            return false;
    }
}

/* Adds some bytes of the file to what is to be sent. */
static bool copy_from_file(struct http_exchange *exchange, const struct http_file *file,
                           uint64_t done, uint64_t *taken, struct error *error) {
    uint64_t left = file->length - done;
    size_t step = left < COPY_STEP ? (size_t)left : COPY_STEP;
    cleanup_free char *bytes = malloc(step);
    if (!bytes)
        return error_set(error, ERROR_MEMORY, "out of memory");
    if (!file_read_all_at(file->fd, bytes, step, file->offset + done, error))
        return error_wrap(error, "cannot send from the file");
    *taken = step;
    return add_piece(exchange, bytes, step, error);
}

/* Hands some bytes of the file to the socket. *taken == 0: the socket takes none for the moment. */
static bool send_from_file(struct http_exchange *exchange, const struct http_file *file,
                           uint64_t done, uint64_t *taken, struct error *error) {
    ssize_t n;
    struct channel *channel = exchange->channel;
    do {
        n = channel_send_file_now(channel, file->fd, file->offset + done, file->length - done,
                                  error);
    } while (n == CHANNEL_NOTHING && channel_wait_to_send(channel, PATIENCE_MS));
    *taken = n > 0 ? (uint64_t)n : 0;
    exchange->sent += *taken;
    return n != CHANNEL_CLOSED;
}

bool http_send_file(struct http_exchange *exchange, const struct http_file *file, uint64_t *sent,
                    struct error *error) {
    *sent = 0;
    struct error why = {0};
    enum sending sending = check_sending(exchange, file->length, error);
    if (sending != SENDING_GOES_ON) {
        *sent = sending == SENDING_NOTHING ? file->length : 0;
        return sending == SENDING_NOTHING;
    }
    /* Without the cork each 64 KiB that the kernel reads from the file become a segment, because of
     * TCP_NODELAY: a third more CPU time for a large blob. */
    channel_cork(exchange->channel, true);
    bool copies = file->must_copy || exchange->chunked || channel_must_copy(exchange->channel);
    while (*sent < file->length && client_takes_more(exchange, !copies, &why)) {
        uint64_t taken = 0;
        bool went_on = copies ? copy_from_file(exchange, file, *sent, &taken, &why)
                              : send_from_file(exchange, file, *sent, &taken, &why);
        *sent += taken;
        if (went_on && taken == 0)
            return true; /* the cork stays until the client takes more */
        exchange->cut = exchange->cut || !went_on;
        if (!went_on)
            break;
    }
    if (copies && !exchange->cut && !unsent_send(exchange->unsent, exchange->channel, false))
        sending_fails(exchange, &why);
    channel_cork(exchange->channel, false);
    if (why.kind && error)
        *error = why;
    return !exchange->cut;
}

void http_park(struct http_exchange *exchange,
               void (*resume)(void *state, struct http_exchange *exchange), void *state) {
    exchange->resume = resume;
    exchange->resume_state = state;
}

void http_abort(struct http_exchange *exchange) {
    exchange->cut = true;
    channel_cut(exchange->channel);
}
