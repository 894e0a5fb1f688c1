/* The heads of responses: status line, fields, and the parts that are composed once. */
#include "http/head.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/cleanup.h"
#include "base/log.h"
#include "http/tls.h"

enum {
    FIELDS_LIMIT = 8 << 10,
    FIELDS_START = 1 << 10,
    /* status line, Date, lengths, Connection, NOSNIFF: 300 bytes at most; and X-Request-Id */
    HEAD_LIMIT = 384 + HTTP_REQUEST_ID_LIMIT + 16,
};

/* In every response: no browser guesses a type for bytes that come from somebody else. */
#define NOSNIFF "X-Content-Type-Options: nosniff\r\n"

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

void http_set_reason(struct http_exchange *exchange, const char *reason) {
    exchange->reason = reason;
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
        {421, "Misdirected Request"},
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
    char digits[TEXT_NUMBER_LIMIT];
    const struct text text = text_of_number(number, digits);
    return mempcpy(at, text.at, text.length);
}

static char *append_reason(char *at, const char *reason) {
    for (size_t i = 0; i < HTTP_REASON_LIMIT && reason[i]; i++)
        if (reason[i] >= ' ' && reason[i] <= '~')
            *at++ = reason[i];
    return at;
}

/* `reason`: NULL for the usual one. */
static char *append_status(char *at, int status, const char *reason) {
    at = mempcpy(at, "HTTP/1.1 ", 9);
    at = append_number(at, (uint64_t)status);
    *at++ = ' ';
    at = append_reason(at, reason ? reason : reason_of(status));
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

static char *append_id(char *at, struct http_exchange *exchange) {
    at = mempcpy(at, "X-Request-Id: ", 14);
    at = stpcpy(at, http_exchange_id(exchange));
    return mempcpy(at, "\r\n", 2);
}

static bool status_has_body(int status) {
    return status >= 200 && status != 204 && status != 304;
}

/* Whether the request was refused: 500 says that tarn itself has failed. */
static bool is_refusal(int status) {
    return status >= 400 && status != 500;
}

/* Sets what the status and the length of the body mean for the exchange. A request that is refused
 * with its body unread is the last one: nobody is to wonder where the next would begin. */
static void begin_response(struct http_exchange *exchange, int status, int64_t length) {
    exchange->status = status;
    exchange->keep_alive =
        exchange->keep_alive && !atomic_load(exchange->stopping) &&
        (!is_refusal(status) || http_body_has_ended(exchange)) &&
        !(exchange->channel->tls && tls_session_is_outdated(exchange->channel->tls));
    exchange->without_body = exchange->request.method == HTTP_HEAD || !status_has_body(status);
    exchange->chunked = length == HTTP_UNKNOWN_LENGTH;
    exchange->length = exchange->chunked || exchange->without_body ? 0 : (uint64_t)length;
}

/* Begins the response and writes its head up to the fields of the handler. Returns the end of what
 * is written. */
static char *start_head(struct http_exchange *exchange, int status, int64_t length, char *head) {
    status = status >= 100 && status <= 999 ? status : 500;
    begin_response(exchange, status, length);
    char *at = append_status(head, status, exchange->reason);
    at = mempcpy(at, NOSNIFF, strlen(NOSNIFF));
    at = append_id(append_date(at), exchange);
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
    return more_fields_append(exchange->more_fields, exchange->unsent) &&
           (fields->length == 0 ||
            unsent_append(exchange->unsent, fields->bytes, fields->length)) &&
           unsent_append(exchange->unsent, "\r\n", 2);
}

bool head_add(struct http_exchange *exchange, int status, int64_t length) {
    char head[HEAD_LIMIT];
    char *end = start_head(exchange, status, length, head);
    if (unsent_append(exchange->unsent, head, (size_t)(end - head)) && end_fields(exchange))
        return true;
    exchange->cut = true;
    return false;
}

/* ---- a composed head ---- */

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
    char *end = append_status(start, status, NULL);
    end = mempcpy(end, NOSNIFF, strlen(NOSNIFF));
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

bool head_add_composed(struct http_exchange *exchange, const struct http_composed *composed) {
    begin_response(exchange, composed->status, (int64_t)composed->length);
    char varying[HEAD_LIMIT];
    char *end = append_id(append_connection(append_date(varying), exchange), exchange);
    if (unsent_append(exchange->unsent, composed->head, composed->head_length) &&
        unsent_append(exchange->unsent, varying, (size_t)(end - varying)) && end_fields(exchange))
        return true;
    exchange->cut = true;
    return false;
}
