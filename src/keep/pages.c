/* The pages of `tarn keep`: which path is what. */
#include "keep/pages.h"

#include <stdio.h>
#include <string.h>
#include "base/cleanup.h"
#include "base/metric.h"
#include "keep/compat.h"
#include "keep/status.h"

#define TYPE_JSON "application/json; charset=utf-8"
#define TYPE_TEXT "text/plain; charset=utf-8"

enum { NAME_SIZE = KEEP_NAME_LIMIT * 3 + 1 };

bool keep_pages_is_open(const struct http_request *request) {
    return text_is(request->path, "/livez") || text_is(request->path, "/readyz") ||
           text_is(request->path, "/metrics");
}

bool keep_pages_is_change(const struct http_request *request) {
    return request->method != HTTP_GET && request->method != HTTP_HEAD;
}

static void respond(struct http_exchange *exchange, int status, const char *type,
                    const struct buffer *body) {
    if (body->failed)
        keep_pages_refuse(exchange, 500, "out of memory");
    else
        http_respond(exchange, status, type, body->bytes, body->length);
}

static const char *status_words(int status) {
    switch (status) {
    case 200:
        return "OK";
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 413:
        return "Request Entity Too Large";
    case 429:
        return "Too Many Requests";
    case 503:
        return "Service Unavailable";
    default:
        return "Internal Server Error";
    }
}

void keep_pages_refuse(struct http_exchange *exchange, int status, const char *why) {
    char text[800];
    snprintf(text, sizeof text, "%d: %s", status, why ? why : status_words(status));
    http_respond(exchange, status, TYPE_TEXT, text, strlen(text));
}

/* ---- machines ---- */

static int status_of(const struct error *error) {
    /* What the cluster says of our own request is no fault of the client's, but for the length. */
    if (error->status != 0)
        return error->status == 413 ? 413 : 503;
    switch (error->kind) {
    case ERROR_INVALID:
        return 400;
    case ERROR_NOT_FOUND:
        return 404;
    case ERROR_NO_SPACE:
        return 413;
    case ERROR_MEMORY:
        return 500;
    default:
        return 503;
    }
}

static void post(struct keeper *keeper, struct http_exchange *exchange) {
    cleanup_buffer struct buffer body = {0}, answer = {0};
    struct error error = {0};
    if (http_exchange_request(exchange)->content_length > KEEP_MACHINE_BYTES) {
        keep_pages_refuse(exchange, 413, "the body is longer than 1 MiB");
        return;
    }
    if (!http_read_body(exchange, KEEP_MACHINE_BYTES, &body, &error)) {
        if (error.kind != ERROR_CLOSED)
            keep_pages_refuse(exchange, error.kind == ERROR_UNSUPPORTED ? 411 : 400, error.text);
        return;
    }
    if (keeper_post(keeper, (struct text){body.bytes, body.length}, &answer, &error))
        respond(exchange, 200, TYPE_JSON, &answer);
    else
        keep_pages_refuse(exchange, status_of(&error), error.text);
}

/* As cachemachine, which says the same of a name that it does not know. */
static void delete (struct keeper *keeper, struct http_exchange *exchange, const char *name) {
    struct error error = {0};
    if (keeper_delete(keeper, name, &error))
        keep_pages_refuse(exchange, 200, NULL);
    else
        keep_pages_refuse(exchange, status_of(&error), error.text);
}

static void refuse_method(struct http_exchange *exchange, const char *allowed) {
    http_add_field(exchange, "Allow", "%s", allowed);
    keep_pages_refuse(exchange, 405, NULL);
}

static bool is_read(const struct http_exchange *exchange) {
    enum http_method method = http_exchange_request(exchange)->method;
    return method == HTTP_GET || method == HTTP_HEAD;
}

/* `rest` is what follows "/PREFIX/". */
static void respond_machine(struct keeper *keeper, struct http_exchange *exchange,
                            struct text rest) {
    struct text view, part = text_cut(rest, '/', &view);
    char name[NAME_SIZE];
    cleanup_buffer struct buffer out = {0};
    enum keep_machine_view views = KEEP_MACHINE_WHOLE;
    enum http_method method = http_exchange_request(exchange)->method;
    if (rest.length == 0 && method == HTTP_POST) {
        post(keeper, exchange);
        return;
    }
    if (rest.length == 0) {
        if (!is_read(exchange))
            refuse_method(exchange, "GET, HEAD, POST");
        else if (keep_compat_machines(keeper, &out))
            respond(exchange, 200, TYPE_JSON, &out);
        return;
    }
    if (view.at && text_is(view, "available"))
        views = KEEP_MACHINE_AVAILABLE;
    else if (view.at && text_is(view, "desired"))
        views = KEEP_MACHINE_DESIRED;
    else if (view.at)
        part.length = 0;
    bool is_named = part.length > 0 && text_percent_decode(part, name, sizeof name);
    if (is_named && !view.at && method == HTTP_DELETE)
        delete (keeper, exchange, name);
    else if (is_named && !is_read(exchange))
        refuse_method(exchange, view.at ? "GET, HEAD" : "GET, HEAD, DELETE");
    else if (is_named && (keep_compat_machine(keeper, name, views, &out) || out.failed))
        respond(exchange, 200, TYPE_JSON, &out);
    else
        keep_pages_refuse(exchange, 404, NULL);
}

/* ---- the others ---- */

static void respond_metadata(struct keeper *keeper, const char *prefix,
                             struct http_exchange *exchange) {
    struct text accept = http_field(http_exchange_request(exchange), "Accept");
    cleanup_buffer struct buffer out = {0};
    if (accept.at && memmem(accept.at, accept.length, "text/html", strlen("text/html"))) {
        keep_status_write_page(keeper, &out);
        http_add_field(exchange, "Content-Security-Policy",
                       "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'");
        http_add_field(exchange, "Vary", "Accept");
        respond(exchange, 200, "text/html; charset=utf-8", &out);
        return;
    }
    buffer_printf(&out,
                  "{\"name\": \"%s\", \"version\": \"" TARN_VERSION "\", \"description\": \"Keeps "
                  "images on the nodes of a cluster\", \"repository_url\": \"\", "
                  "\"documentation_url\": \"\"}",
                  prefix);
    http_add_field(exchange, "Vary", "Accept");
    respond(exchange, 200, TYPE_JSON, &out);
}

static void respond_ready(struct keeper *keeper, struct http_exchange *exchange) {
    char why[600];
    if (keeper_is_ready(keeper, why, sizeof why))
        http_respond(exchange, 200, TYPE_TEXT, "ok\n", 3);
    else
        keep_pages_refuse(exchange, 503, why);
}

static void respond_metrics(struct keeper *keeper, struct http_exchange *exchange) {
    cleanup_buffer struct buffer out = {0};
    keep_status_update_metrics(keeper);
    metric_write(&out);
    respond(exchange, 200, "text/plain; version=0.0.4; charset=utf-8", &out);
}

static void respond_keeps(struct keeper *keeper, struct http_exchange *exchange, struct text rest) {
    cleanup_buffer struct buffer out = {0};
    char name[NAME_SIZE];
    if (rest.length == 0) {
        keep_status_write_all(keeper, &out);
        respond(exchange, 200, TYPE_JSON, &out);
        return;
    }
    if (rest.length > 1 && text_percent_decode(text_from(rest, 1), name, sizeof name) &&
        (keep_status_write(keeper, name, &out) || out.failed))
        respond(exchange, 200, TYPE_JSON, &out);
    else
        keep_pages_refuse(exchange, 404, NULL);
}

static void respond_nublado(struct keeper *keeper, struct http_exchange *exchange,
                            bool wants_images) {
    cleanup_buffer struct buffer out = {0};
    bool found = wants_images ? keep_compat_spawner_images(keeper, &out)
                              : keep_compat_prepulls(keeper, &out);
    if (found || out.failed)
        respond(exchange, 200, "application/json", &out);
    else
        keep_pages_refuse(exchange, 404, "there is no keep yet");
}

/* Answers what can only be read. False: there is no such page. */
static bool respond_read(struct keeper *keeper, const char *prefix,
                         struct http_exchange *exchange) {
    static const char keeps[] = "/tarn/v1/keeps";
    const struct text path = http_exchange_request(exchange)->path;
    struct text rest = {0};
    bool is_keeps = text_starts(path, keeps);
    if (is_keeps)
        rest = text_from(path, strlen(keeps));
    is_keeps = is_keeps && (rest.length == 0 || rest.at[0] == '/');
    bool images = text_is(path, "/nublado/spawner/v1/images");
    bool prepulls = text_is(path, "/nublado/spawner/v1/prepulls");
    bool root = text_is(path, "/"), live = text_is(path, "/livez");
    bool ready = text_is(path, "/readyz"), metrics = text_is(path, "/metrics");
    if (!is_keeps && !images && !prepulls && !root && !live && !ready && !metrics)
        return false;
    if (!is_read(exchange))
        refuse_method(exchange, "GET, HEAD");
    else if (is_keeps)
        respond_keeps(keeper, exchange, rest);
    else if (images || prepulls)
        respond_nublado(keeper, exchange, images);
    else if (root)
        respond_metadata(keeper, prefix, exchange);
    else if (live)
        http_respond(exchange, 200, TYPE_TEXT, "ok\n", 3);
    else if (ready)
        respond_ready(keeper, exchange);
    else
        respond_metrics(keeper, exchange);
    return true;
}

void keep_pages_respond(struct keeper *keeper, const char *prefix, struct http_exchange *exchange) {
    const struct text path = http_exchange_request(exchange)->path;
    size_t length = strlen(prefix);
    if (respond_read(keeper, prefix, exchange))
        return;
    if (path.length > length + 1 && memcmp(path.at + 1, prefix, length) == 0 &&
        path.at[length + 1] == '/')
        respond_machine(keeper, exchange, text_from(path, length + 2));
    else
        keep_pages_refuse(exchange, 404, NULL);
}
