/* The response: its fields, its head, and its body in one of three ways (RFC 9112 §6, §7.1). */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "http/exchange.h"

enum {
    FIELDS_LIMIT = 8 << 10,
    FIELDS_START = 1 << 10,
    ERROR_BODY_LIMIT = 1024,
    HEAD_LIMIT = 192,             /* status line, Date, lengths, Connection: 160 bytes at most */
    COPY_LIMIT = 64 << 10,        /* of a body that is copied for a client that does not take it */
    FILE_COPY_STEP = 64 << 10,    /* bytes of a file that are copied at once */
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
    exchange->status = 0;
    exchange->keep_alive = false;
    exchange->without_body = false;
    exchange->chunked = false;
    exchange->cut = false;
    exchange->stalled = false;
    exchange->length = 0;
    exchange->sent = 0;
    exchange->resume = NULL;
    buffer_clear(parts->fields);
}

const struct http_request *http_exchange_request(const struct http_exchange *exchange) {
    return &exchange->request;
}

const char *http_exchange_client(const struct http_exchange *exchange) {
    return exchange->channel->peer;
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

/* ---- fields ---- */

/* Reserves two bytes more than asked for, for the empty line behind the last field. */
static bool reserve_fields(struct buffer *fields, size_t more) {
    if (fields->length + more + 2 > FIELDS_LIMIT)
        return false;
    return buffer_reserve(fields,
                          fields->length == 0 && more < FIELDS_START ? FIELDS_START : more + 2);
}

static bool may_be_sent(const char *value, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (value[i] == '\r' || value[i] == '\n' || value[i] == '\0')
            return false;
    return true;
}

static bool add_field(struct buffer *fields, const char *name, const char *value, size_t length) {
    size_t name_length = strlen(name);
    if (!may_be_sent(value, length) || !reserve_fields(fields, name_length + length + 4))
        return false;
    char *at = fields->bytes + fields->length;
    at = mempcpy(at, name, name_length);
    at = mempcpy(at, ": ", 2);
    at = mempcpy(at, value, length);
    at = mempcpy(at, "\r\n", 2);
    fields->length = (size_t)(at - fields->bytes);
    return true;
}

static bool add_formatted(struct buffer *fields, const char *name, const char *format,
                          va_list arguments) __attribute__((format(printf, 3, 0)));
static bool add_formatted(struct buffer *fields, const char *name, const char *format,
                          va_list arguments) {
    char small[256];
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf(small, sizeof small, format, arguments);
    const char *value = small;
    cleanup_free char *large = NULL;
    if (length >= (int)sizeof small && length < FIELDS_LIMIT) {
        value = large = malloc((size_t)length + 1);
        if (large)
            vsnprintf(large, (size_t)length + 1, format, again);
    }
    va_end(again);
    return length >= 0 && length < FIELDS_LIMIT && value &&
           add_field(fields, name, value, (size_t)length);
}

void http_add_field(struct http_exchange *exchange, const char *name, const char *format, ...) {
    if (exchange->status != 0)
        return;
    va_list arguments;
    va_start(arguments, format);
    bool added;
    if (strcmp(format, "%s") == 0) { /* most values are one string and need no formatting */
        const char *value = va_arg(arguments, const char *);
        added = add_field(exchange->fields, name, value, strlen(value));
    } else {
        added = add_formatted(exchange->fields, name, format, arguments);
    }
    va_end(arguments);
    if (!added)
        log_at(LOG_WARN, "a field of a response was left out", LOG_STRING("field", name));
}

/* ---- the head ---- */

static const char *reason_of(int status) {
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {416, "Range Not Satisfiable"},
        {417, "Expectation Failed"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (reasons[i].status == status)
            return reasons[i].reason;
    return "";
}

/* "Date: Sat, 21 Nov 2026 03:55:00 GMT\r\n" (RFC 9110 §6.6.1); each thread makes it once a second.
 */
static char *append_date(char *at) {
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    static _Thread_local time_t made_at;
    static _Thread_local char made[48];
    static _Thread_local size_t length;
    time_t now = time(NULL);
    if (now != made_at || length == 0) {
        struct tm parts;
        gmtime_r(&now, &parts);
        int written = snprintf(made, sizeof made, "Date: %s, %02d %s %04d %02d:%02d:%02d GMT\r\n",
                               days[parts.tm_wday], parts.tm_mday, months[parts.tm_mon],
                               parts.tm_year + 1900, parts.tm_hour, parts.tm_min, parts.tm_sec);
        length = written > 0 && (size_t)written < sizeof made ? (size_t)written : 0;
        made_at = now;
    }
    return mempcpy(at, made, length);
}

static char *append_number(char *at, uint64_t number) {
    char digits[20];
    size_t count = 0;
    do {
        digits[sizeof digits - ++count] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    return mempcpy(at, digits + sizeof digits - count, count);
}

static char *append_status(char *at, int status) {
    at = mempcpy(at, "HTTP/1.1 ", 9);
    at = append_number(at, (uint64_t)status);
    *at++ = ' ';
    at = stpcpy(at, reason_of(status));
    return mempcpy(at, "\r\n", 2);
}

static char *append_length(char *at, uint64_t length) {
    at = mempcpy(at, "Content-Length: ", 16);
    at = append_number(at, length);
    return mempcpy(at, "\r\n", 2);
}

static char *append_connection(char *at, const struct http_exchange *exchange) {
    if (!exchange->keep_alive)
        return stpcpy(at, "Connection: close\r\n");
    if (exchange->request.minor == 0)
        return stpcpy(at, "Connection: keep-alive\r\n");
    return at;
}

static bool status_has_body(int status) {
    return status >= 200 && status != 204 && status != 304;
}

/* Sets what the status and the length of the body mean for the exchange. */
static void begin_response(struct http_exchange *exchange, int status, int64_t length) {
    exchange->status = status;
    exchange->keep_alive = exchange->keep_alive && !atomic_load(exchange->stopping);
    exchange->without_body = exchange->request.method == HTTP_HEAD || !status_has_body(status);
    exchange->chunked = length == HTTP_UNKNOWN_LENGTH;
    exchange->length = exchange->chunked || exchange->without_body ? 0 : (uint64_t)length;
}

/* Begins the response and writes its head up to the fields of the handler. Returns the end of what
 * is written. */
static char *start_head(struct http_exchange *exchange, int status, int64_t length, char *head) {
    status = status >= 100 && status <= 999 ? status : 500;
    begin_response(exchange, status, length);
    char *at = append_status(head, status);
    at = append_date(at);
    if (!exchange->chunked && status_has_body(status)) {
        at = append_length(at, (uint64_t)length);
    } else if (exchange->chunked && status_has_body(status)) {
        at = stpcpy(at, "Transfer-Encoding: chunked\r\n");
    }
    return append_connection(at, exchange);
}

/* Adds the fields with the empty line behind them. */
static bool end_fields(struct http_exchange *exchange) {
    const struct buffer *fields = exchange->fields;
    return (fields->length == 0 ||
            unsent_append(exchange->unsent, fields->bytes, fields->length)) &&
           unsent_append(exchange->unsent, "\r\n", 2);
}

/* Adds the head of a response to what is to be sent. False: the response cannot be made, and the
 * connection must be cut. */
static bool add_head(struct http_exchange *exchange, int status, int64_t length) {
    char head[HEAD_LIMIT];
    char *end = start_head(exchange, status, length, head);
    if (unsent_append(exchange->unsent, head, (size_t)(end - head)) && end_fields(exchange))
        return true;
    exchange->cut = true;
    return false;
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

/* Sends a body that is too large to be copied. The worker waits for the client. */
static bool send_large(struct http_exchange *exchange, const void *body, size_t length) {
    struct unsent *unsent = exchange->unsent;
    size_t added = unsent->bytes.length - unsent->bytes_taken;
    bool sent =
        channel_send(exchange->channel, unsent->bytes.bytes + unsent->bytes_taken, added, NULL) &&
        channel_send(exchange->channel, body, length, NULL);
    unsent_finish(unsent);
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
    if (!add_head(exchange, status, (int64_t)length))
        return;
    if (exchange->without_body || length == 0)
        send_added(exchange, false);
    else
        send_whole(exchange, body, length);
}

/* ---- a composed response ---- */

struct http_composed {
    int status;
    uint64_t length; /* of the body */
    size_t head_length;
    char head[]; /* status line and fields */
};

struct http_composed *http_compose(int status, const char *content_type, uint64_t length,
                                   const struct http_field *fields, size_t count) {
    char start[HEAD_LIMIT];
    cleanup_buffer struct buffer added = {0};
    char *end = append_status(start, status);
    if (status_has_body(status))
        end = append_length(end, length);
    bool fits =
        !content_type || add_field(&added, "Content-Type", content_type, strlen(content_type));
    for (size_t i = 0; fits && i < count; i++) {
        char name[64];
        fits = text_copy(fields[i].name, name, sizeof name) &&
               add_field(&added, name, fields[i].value.at, fields[i].value.length);
    }
    size_t head_length = (size_t)(end - start) + added.length;
    struct http_composed *composed = fits ? malloc(sizeof *composed + head_length) : NULL;
    if (!composed)
        return NULL;
    *composed =
        (struct http_composed){.status = status, .length = length, .head_length = head_length};
    char *rest = mempcpy(composed->head, start, (size_t)(end - start));
    if (added.length > 0)
        memcpy(rest, added.bytes, added.length);
    return composed;
}

/* Adds a body whose owner can keep it for as long as the client needs. */
static bool add_content(struct http_exchange *exchange, const struct http_content *content) {
    if (content->length <= CONTENT_COPY_LIMIT)
        return unsent_append(exchange->unsent, content->bytes, content->length);
    return unsent_share(exchange->unsent, content);
}

void http_respond_composed(struct http_exchange *exchange, const struct http_composed *composed,
                           const struct http_content *content) {
    if (exchange->status != 0)
        return;
    begin_response(exchange, composed->status, (int64_t)composed->length);
    char varying[HEAD_LIMIT];
    char *end = append_connection(append_date(varying), exchange);
    bool with_body = content && !exchange->without_body;
    bool added = unsent_append(exchange->unsent, composed->head, composed->head_length) &&
                 unsent_append(exchange->unsent, varying, (size_t)(end - varying)) &&
                 end_fields(exchange) && (!with_body || add_content(exchange, content));
    if (!added)
        exchange->cut = true;
    if (send_added(exchange, false) && with_body)
        exchange->sent = content->length;
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
    if (!add_head(exchange, status, length < 0 ? HTTP_UNKNOWN_LENGTH : length))
        return error_set(error, ERROR_MEMORY, "out of memory");
    /* The head shares a packet with the body that follows. If no body follows, the kernel sends the
     * head after 200 ms. */
    bool more = !exchange->without_body && (exchange->chunked || exchange->length > 0);
    return send_added(exchange, more) || channel_client_left(exchange->channel, error);
}

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

/* Waits until the client has taken all that has been added. */
static bool send_all_added(struct http_exchange *exchange, struct error *error) {
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
        size_t step = length < FILE_COPY_STEP ? length : FILE_COPY_STEP;
        if (!add_piece(exchange, from, step, error) || !send_all_added(exchange, error))
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
    size_t step = left < FILE_COPY_STEP ? (size_t)left : FILE_COPY_STEP;
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
    bool copies = file->must_copy || exchange->chunked || channel_must_copy(exchange->channel);
    while (*sent < file->length && client_takes_more(exchange, !copies, &why)) {
        uint64_t taken = 0;
        bool went_on = copies ? copy_from_file(exchange, file, *sent, &taken, &why)
                              : send_from_file(exchange, file, *sent, &taken, &why);
        *sent += taken;
        if (went_on && taken == 0)
            return true;
        exchange->cut = exchange->cut || !went_on;
        if (!went_on)
            break;
    }
    if (copies && !exchange->cut && !unsent_send(exchange->unsent, exchange->channel, false))
        sending_fails(exchange, &why);
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

/* ---- the end of a response ---- */

static const char *error_body(const struct http_server_settings *settings, int status,
                              const char *why, char *out, size_t size) {
    out[0] = '\0';
    if (settings->error_body) {
        settings->error_body(status, why, out, size);
        return "application/json";
    }
    snprintf(out, size, "%s\n", why);
    return "text/plain; charset=utf-8";
}

void exchange_refuse(struct http_exchange *exchange, const struct http_server_settings *settings,
                     int status, const char *why) {
    char body[ERROR_BODY_LIMIT];
    const char *type = error_body(settings, status, why, body, sizeof body);
    exchange->keep_alive = false;
    http_respond(exchange, status, type, body, strnlen(body, sizeof body));
}

bool exchange_end(struct http_exchange *exchange, const struct http_server_settings *settings) {
    if (exchange->status == 0 && !exchange->cut) {
        char body[ERROR_BODY_LIMIT];
        const char *why = "the request got no response";
        const char *type = error_body(settings, 500, why, body, sizeof body);
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
