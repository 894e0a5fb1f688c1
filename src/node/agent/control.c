/* Answers orders, health and metrics. */
#include "node/agent/control.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/process.h"
#include "base/thread.h"
#include "http/http.h"
#include "oci/error_body.h"

enum {
    BODY_LIMIT = 64 << 10,
    ORDERS_AT_ONCE = 256, /* each may wait for a whole image */
    ASKERS = 64,
    GRACE_MS = 1000,
};

struct server {
    struct http_server *http;
    pthread_t thread;
    bool started;
};

struct control {
    struct mounts *mounts;
    atomic_bool is_ready;
    struct server asked, ordered; /* the addresses; the socket */
};

static void fail(struct http_exchange *exchange, int status, const char *code,
                 const char *message) {
    cleanup_buffer struct buffer body = {0};
    error_body_write(&body, code, message, NULL);
    http_respond(exchange, status, "application/json", body.bytes, body.length);
}

static int status_of(enum error_kind kind) {
    switch (kind) {
    case ERROR_INVALID:
        return 400;
    case ERROR_DENIED:
        return 403;
    case ERROR_NOT_FOUND:
        return 404;
    case ERROR_BUSY:
        return 409;
    case ERROR_NO_SPACE:
        return 507;
    case ERROR_TIMEOUT:
        return 504;
    case ERROR_UNAVAILABLE:
    case ERROR_CORRUPT:
        return 502;
    default:
        return 500;
    }
}

static void fail_by(struct http_exchange *exchange, const struct error *error) {
    fail(exchange, status_of(error->kind), "UNAVAILABLE", error->text);
}

/* ---- orders ---- */

static bool is_wanted(void *exchange) {
    return http_client_is_there(exchange);
}

/* The member's text; NULL: it is absent, or none. */
static const char *text_member(const json_t *order, const char *name) {
    return json_string_value(json_object_get(order, name));
}

/* NULL: an error response was sent. */
static json_t *read_order(struct http_exchange *exchange) {
    cleanup_buffer struct buffer body = {0};
    struct error error = {0};
    if (!http_read_body(exchange, BODY_LIMIT, &body, &error)) {
        fail(exchange, 400, "UNSUPPORTED", error.text);
        return NULL;
    }
    cleanup_json json_t *order =
        bounded_json_load_by(0, body.bytes ? body.bytes : "", body.length, &error);
    const char *folder = text_member(order, "dir");
    if (text_member(order, "image") && folder && folder[0] == '/')
        return take(order);
    fail(exchange, 400, "UNSUPPORTED",
         order ? "expected {\"image\": \"HOST/NAME:TAG\", \"dir\": \"/FOLDER\"}" : error.text);
    return NULL;
}

static void add_mount(struct control *control, struct http_exchange *exchange) {
    cleanup_json json_t *order = read_order(exchange);
    cleanup_buffer struct buffer note = {0}, body = {0};
    struct error error = {0};
    if (!order)
        return;
    const struct mounts_wanted wanted = {
        .image = text_member(order, "image"),
        .folder = text_member(order, "dir"),
        .platform = text_member(order, "platform"),
        .from = text_member(order, "from"),
        .token = text_member(order, "token"),
        .writable = json_is_true(json_object_get(order, "rw")),
        .is_wanted = is_wanted,
        .context = exchange,
    };
    if (!mounts_add(control->mounts, &wanted, &note, &error)) {
        fail_by(exchange, &error);
        return;
    }
    cleanup_json json_t *answer = json_pack("{s:s?}", "note", note.length ? note.bytes : NULL);
    bounded_json_dump(answer, JSON_COMPACT, &body);
    http_respond(exchange, 200, "application/json", body.bytes, body.length);
}

static void remove_mount(struct control *control, struct http_exchange *exchange) {
    char folder[PATH_MAX];
    bool found;
    struct error error = {0};
    if (!http_query(http_exchange_request(exchange), "dir", folder, sizeof folder, &found))
        fail(exchange, 400, "UNSUPPORTED", "expected ?dir=FOLDER");
    else if (!mounts_remove(control->mounts, folder, &error))
        fail_by(exchange, &error);
    else
        http_respond(exchange, 200, "application/json", "{}\n", 3);
}

static void list_mounts(struct control *control, struct http_exchange *exchange) {
    cleanup_buffer struct buffer body = {0};
    if (mounts_write(control->mounts, &body))
        http_respond(exchange, 200, "application/x-ndjson", body.bytes ? body.bytes : "",
                     body.length);
    else
        fail(exchange, 503, "UNAVAILABLE", "out of memory");
}

static void handle_order(void *context, struct http_exchange *exchange) {
    const struct http_request *request = http_exchange_request(exchange);
    if (!text_is(request->path, CONTROL_MOUNTS))
        fail(exchange, 404, "UNSUPPORTED", "there is no such path");
    else if (request->method == HTTP_POST)
        add_mount(context, exchange);
    else if (request->method == HTTP_DELETE)
        remove_mount(context, exchange);
    else if (request->method == HTTP_GET)
        list_mounts(context, exchange);
    else
        fail(exchange, 405, "UNSUPPORTED", "there is no such method here");
}

/* ---- health and metrics ---- */

static void respond_text(struct http_exchange *exchange, int status, const char *text) {
    http_respond(exchange, status, "text/plain; charset=utf-8", text, strlen(text));
}

static void write_metrics(struct control *control, struct http_exchange *exchange) {
    cleanup_buffer struct buffer body = {0};
    mounts_update_metrics(control->mounts);
    metric_set(metric_get(METRIC_GAUGE, "tarn_build_info", "Always 1; the label tells the version.",
                          "version=\"" TARN_VERSION "\""),
               1);
    process_update_metrics();
    metric_write(&body);
    http_respond(exchange, 200, "text/plain; version=0.0.4; charset=utf-8", body.bytes,
                 body.length);
}

static void handle_question(void *context, struct http_exchange *exchange) {
    struct control *control = context;
    const struct http_request *request = http_exchange_request(exchange);
    if (request->method != HTTP_GET && request->method != HTTP_HEAD)
        respond_text(exchange, 405, "only GET and HEAD are answered here\n");
    else if (text_is(request->path, "/livez"))
        respond_text(exchange, 200, "ok\n");
    else if (text_is(request->path, "/readyz") && atomic_load(&control->is_ready))
        respond_text(exchange, 200, "ok\n");
    else if (text_is(request->path, "/readyz"))
        respond_text(exchange, 503, "the mounts of earlier are not back yet\n");
    else if (text_is(request->path, "/metrics"))
        write_metrics(control, exchange);
    else
        respond_text(exchange, 404, "/livez, /readyz and /metrics are here\n");
}

/* ---- life ---- */

static void run_server(void *context) {
    struct server *server = context;
    struct error error = {0};
    if (!http_server_run(server->http, &error))
        log_at(LOG_ERROR, "cannot serve", LOG_STRING("error", error.text));
}

static struct http_server_settings settings_of(struct control *control) {
    struct http_server_settings settings = http_server_settings_default();
    settings.loops = 1;
    settings.grace_ms = GRACE_MS;
    settings.error_body = error_body_of_status;
    settings.context = control;
    return settings;
}

struct control *control_open(const char *const *listen, struct mounts *mounts,
                             struct error *error) {
    struct control *control = calloc(1, sizeof *control);
    if (!control) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    control->mounts = mounts;
    struct http_server_settings settings = settings_of(control);
    settings.listen = listen;
    while (listen && listen[settings.listen_count])
        settings.listen_count++;
    settings.max_connections = ASKERS;
    settings.max_workers = ASKERS / 4;
    settings.handle = handle_question;
    if (!settings.listen_count || (control->asked.http = http_server_new(&settings, error)))
        return control;
    free(control);
    return NULL;
}

static bool start_server(struct server *server, const char *name, struct error *error) {
    server->started =
        thread_start(name, THREAD_STACK_SYSTEM, run_server, server, &server->thread, error);
    return server->started;
}

bool control_start(struct control *control, struct error *error) {
    return !control->asked.http || start_server(&control->asked, "health", error);
}

bool control_take_orders(struct control *control, const char *run, struct error *error) {
    cleanup_free char *address = NULL;
    if (asprintf(&address, "unix:%s/" CONTROL_SOCKET, run) < 0) {
        address = NULL;
        return error_set(error, ERROR_MEMORY, "out of memory");
    }
    const char *const listen[] = {address, NULL};
    struct http_server_settings settings = settings_of(control);
    settings.listen = listen;
    settings.listen_count = 1;
    settings.max_connections = ORDERS_AT_ONCE;
    settings.max_workers = ORDERS_AT_ONCE;
    settings.handle = handle_order;
    control->ordered.http = http_server_new(&settings, error);
    if (!control->ordered.http || !start_server(&control->ordered, "orders", error))
        return false;
    atomic_store(&control->is_ready, true);
    return true;
}

static void close_server(struct server *server) {
    if (server->started) {
        http_server_stop(server->http);
        pthread_join(server->thread, NULL);
    }
    http_server_free(server->http);
}

void control_close(struct control *control) {
    if (!control)
        return;
    close_server(&control->ordered);
    close_server(&control->asked);
    free(control);
}
