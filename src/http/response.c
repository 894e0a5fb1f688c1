/* The response: its fields, its head, and its body in one of three ways (RFC 9112 §6, §7.1). */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/cleanup.h"
#include "base/log.h"
#include "http/exchange.h"

enum {
    FIELDS_LIMIT = 8 << 10,
    FIELDS_START = 1 << 10,
    ERROR_BODY_LIMIT = 1024,
    HEAD_LIMIT = 192, /* status line, Date, lengths, Connection: 160 bytes at most */
};

/* ---- the exchange ---- */

void exchange_begin(struct http_exchange *exchange, struct channel *channel,
                    struct buffer *received, struct buffer *fields) {
    exchange->channel = channel;
    exchange->received = received;
    exchange->fields = fields;
    exchange->status = 0;
    exchange->keep_alive = false;
    exchange->without_body = false;
    exchange->chunked = false;
    exchange->cut = false;
    exchange->length = 0;
    exchange->sent = 0;
    buffer_clear(fields);
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

/* Sets the response's status and writes its head up to the fields of the handler. Returns the end
 * of what is written. */
static char *start_head(struct http_exchange *exchange, int status, int64_t length, char *head) {
    status = status >= 100 && status <= 999 ? status : 500;
    exchange->status = status;
    exchange->keep_alive = exchange->keep_alive && !atomic_load(exchange->stopping);
    exchange->without_body = exchange->request.method == HTTP_HEAD || !status_has_body(status);
    exchange->chunked = length == HTTP_UNKNOWN_LENGTH;
    exchange->length = exchange->chunked || exchange->without_body ? 0 : (uint64_t)length;
    char *at = append_status(head, status);
    at = append_date(at);
    if (!exchange->chunked && status_has_body(status)) {
        at = stpcpy(at, "Content-Length: ");
        at = append_number(at, (uint64_t)length);
        at = mempcpy(at, "\r\n", 2);
    } else if (exchange->chunked && status_has_body(status)) {
        at = stpcpy(at, "Transfer-Encoding: chunked\r\n");
    }
    return append_connection(at, exchange);
}

/* The fields with the empty line behind them. */
static struct iovec end_fields(struct http_exchange *exchange) {
    struct buffer *fields = exchange->fields;
    if (!reserve_fields(fields, 0) && fields->length == 0)
        return (struct iovec){(char *)"\r\n", 2};
    memcpy(fields->bytes + fields->length, "\r\n", 2);
    return (struct iovec){fields->bytes, fields->length + 2};
}

static bool send_pieces(struct http_exchange *exchange, struct iovec *pieces, int count, bool more,
                        struct error *error) {
    if (channel_send(exchange->channel, pieces, count, more, error))
        return true;
    exchange->cut = true;
    return false;
}

/* ---- a response from memory ---- */

void http_respond(struct http_exchange *exchange, int status, const char *content_type,
                  const void *body, size_t length) {
    if (exchange->status != 0)
        return;
    if (content_type)
        http_add_field(exchange, "Content-Type", "%s", content_type);
    char head[HEAD_LIMIT];
    char *end = start_head(exchange, status, (int64_t)length, head);
    bool with_body = !exchange->without_body && length > 0;
    struct iovec pieces[3] = {
        {head, (size_t)(end - head)}, end_fields(exchange), {(void *)body, length}};
    if (send_pieces(exchange, pieces, with_body ? 3 : 2, false, NULL) && with_body)
        exchange->sent = length;
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
    char head[HEAD_LIMIT];
    char *end = start_head(exchange, status, length < 0 ? HTTP_UNKNOWN_LENGTH : length, head);
    struct iovec pieces[2] = {{head, (size_t)(end - head)}, end_fields(exchange)};
    /* The head shares a packet with the body that follows. If no body follows, the kernel sends the
     * head after 200 ms. */
    bool more = !exchange->without_body && (exchange->chunked || exchange->length > 0);
    return send_pieces(exchange, pieces, 2, more, error);
}

enum sending { SENDING_GOES_ON, SENDING_NOTHING, SENDING_FAILED };

/* Whether `length` more bytes may be sent, and whether there is anything to do for them. */
static enum sending check_sending(struct http_exchange *exchange, uint64_t length,
                                  struct error *error) {
    if (exchange->cut) {
        error_set(error, ERROR_CLOSED, "the connection to client %s is cut",
                  exchange->channel->peer);
        return SENDING_FAILED;
    }
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

bool http_send(struct http_exchange *exchange, const void *bytes, size_t length,
               struct error *error) {
    enum sending sending = check_sending(exchange, length, error);
    if (sending != SENDING_GOES_ON)
        return sending == SENDING_NOTHING;
    char size_line[18];
    struct iovec pieces[3] = {
        {size_line, 0}, {(void *)bytes, length}, {(char *)"\r\n", exchange->chunked ? 2 : 0}};
    if (exchange->chunked)
        pieces[0].iov_len = chunk_head(length, size_line);
    if (!send_pieces(exchange, pieces, 3, false, error))
        return false;
    exchange->sent += length;
    return true;
}

bool http_send_file(struct http_exchange *exchange, int fd, uint64_t offset, uint64_t length,
                    struct error *error) {
    enum sending sending = check_sending(exchange, length, error);
    if (sending != SENDING_GOES_ON)
        return sending == SENDING_NOTHING;
    char size_line[18];
    if (exchange->chunked) {
        struct iovec piece = {size_line, chunk_head(length, size_line)};
        if (!send_pieces(exchange, &piece, 1, true, error))
            return false;
    }
    uint64_t sent = 0;
    bool whole = channel_send_file(exchange->channel, fd, offset, length, &sent, error);
    exchange->sent += sent;
    if (!whole) {
        exchange->cut = true;
        return false;
    }
    if (!exchange->chunked)
        return true;
    struct iovec piece = {(char *)"\r\n", 2};
    return send_pieces(exchange, &piece, 1, false, error);
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
    struct iovec piece = {(char *)"0\r\n\r\n", 5};
    return send_pieces(exchange, &piece, 1, false, NULL);
}

size_t response_format_busy(const struct http_server_settings *settings, const char *why, char *out,
                            size_t size) {
    char body[ERROR_BODY_LIMIT];
    const char *type = error_body(settings, 503, why, body, sizeof body);
    int length = snprintf(out, size,
                          "HTTP/1.1 503 Service Unavailable\r\nContent-Type: %s\r\n"
                          "Content-Length: %zu\r\nRetry-After: 1\r\nConnection: close\r\n\r\n%s",
                          type, strnlen(body, sizeof body), body);
    return length > 0 && (size_t)length < size ? (size_t)length : 0;
}
