/* Takes orders over the socket, and writes the responses. */
#include "admin/admin.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "admin/warm_image.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "oci/error_body.h"

enum { BODY_LIMIT = 256 << 10, IMAGES_LIMIT = 1000 };

static void fail(struct http_exchange *exchange, int status, const char *message) {
    cleanup_buffer struct buffer body = {0};
    error_body_write(&body, "UNSUPPORTED", message, NULL);
    http_respond(exchange, status, "application/json", body.bytes, body.length);
}

/* Reads the JSON that the client sends. NULL: an error response was sent. */
static json_t *read_json(struct http_exchange *exchange) {
    cleanup_buffer struct buffer body = {0};
    struct error error = {0};
    if (!http_read_body(exchange, BODY_LIMIT, &body, &error)) {
        int status = error.kind == ERROR_UNSUPPORTED ? 411
                     : error.kind == ERROR_INVALID   ? 413
                                                     : 408;
        fail(exchange, status, error.text);
        return NULL;
    }
    json_t *json = bounded_json_load(body.bytes ? body.bytes : "", body.length, &error);
    if (!json)
        fail(exchange, error.kind == ERROR_MEMORY ? 503 : 400, error.text);
    return json;
}

/* ---- warm: the order ---- */

/* {"images":[…],"platforms":[…]}; platforms is optional. False: an error response was sent. */
static bool read_order(struct http_exchange *exchange, json_t **json, const char ***images,
                       const char ***platforms) {
    *json = read_json(exchange);
    if (!*json)
        return false;
    const json_t *listed = json_object_get(*json, "platforms");
    *images = line_read_strings(json_object_get(*json, "images"), IMAGES_LIMIT);
    *platforms = listed ? line_read_strings(listed, WARM_PLATFORM_LIMIT) : NULL;
    if (*images && **images && (!listed || *platforms))
        return true;
    fail(exchange, 400, "expected {\"images\":[\"NAME\",…],\"platforms\":[\"os/arch\",…]}");
    return false;
}

/* ---- warm: the response ---- */

struct warm_response {
    struct http_exchange *exchange;
    const char *image;
    bool client_left;
};

static void begin_line(struct buffer *line, const char *image) {
    buffer_append_string(line, "{\"image\":\"");
    buffer_append_json(line, text_of(image));
    buffer_append_string(line, "\",");
}

static void end_line(struct warm_response *response, struct buffer *line, const char *error) {
    if (error) {
        buffer_append_string(line, ",\"error\":\"");
        buffer_append_json(line, text_of(error));
        buffer_append_string(line, "\"");
    }
    buffer_append_string(line, "}\n");
    response->client_left = response->client_left || line->failed ||
                            !http_send(response->exchange, line->bytes, line->length, NULL);
}

static void send_part(void *context, const struct warm_part *part) {
    struct warm_response *response = context;
    char digest[DIGEST_STRING_SIZE];
    cleanup_buffer struct buffer line = {0};
    begin_line(&line, response->image);
    buffer_printf(&line,
                  "\"digest\":\"%s\",\"role\":\"%s\",\"size\":%" PRIu64 ",\"bytes\":%" PRIu64
                  ",\"state\":\"%s\"",
                  digest_format(&part->digest, digest), part->role, part->size, part->bytes,
                  warm_state_name(part->state));
    if (part->state == WARM_CACHED)
        buffer_printf(&line, ",\"was_cached\":%s", part->was_cached ? "true" : "false");
    end_line(response, &line, part->error);
}

static void send_result(struct warm_response *response, const struct warm_result *result,
                        const char *error) {
    cleanup_buffer struct buffer line = {0};
    begin_line(&line, response->image);
    buffer_printf(&line,
                  "\"state\":\"%s\",\"bytes_fetched\":%" PRIu64 ",\"bytes_cached\":%" PRIu64
                  ",\"seconds\":%.3f",
                  error ? "failed" : "done", result->bytes_fetched, result->bytes_cached,
                  result->seconds);
    end_line(response, &line, error);
}

static bool is_wanted(void *context) {
    const struct warm_response *response = context;
    return !response->client_left && http_client_is_there(response->exchange);
}

static void warm_all(struct warmer *warmer, struct http_exchange *exchange,
                     const char *const *images, const char *const *platforms) {
    struct warm_response response = {.exchange = exchange};
    struct error error = {0};
    if (!http_begin(exchange, 200, "application/x-ndjson", HTTP_UNKNOWN_LENGTH, &error)) {
        if (error.kind == ERROR_UNSUPPORTED)
            fail(exchange, 505, error.text);
        return;
    }
    for (size_t i = 0; images[i] && !response.client_left; i++) {
        struct warm_result result;
        response.image = images[i];
        const struct warm_request request = {
            .image = images[i],
            .platforms = platforms,
            .on_part = send_part,
            .is_wanted = is_wanted,
            .context = &response,
        };
        bool ok = warm_image(warmer, &request, &result, &error);
        send_result(&response, &result, ok ? NULL : error.text);
    }
}

static void handle_warm(struct admin *admin, struct http_exchange *exchange) {
    cleanup_json json_t *json = NULL;
    cleanup_free const char **images = NULL, **platforms = NULL;
    if (read_order(exchange, &json, &images, &platforms))
        warm_all(admin->warmer, exchange, images, platforms);
}

/* ---- the other orders ---- */

/* The response to an order. Its head is sent with the first line. */
struct lines {
    struct http_exchange *exchange;
    bool begun;
    bool refused; /* the client cannot take a response of unknown length */
};

static bool send_line(void *context, const char *bytes, size_t length) {
    struct lines *lines = context;
    struct error error = {0};
    if (!lines->begun && !lines->refused) {
        lines->begun =
            http_begin(lines->exchange, 200, "application/x-ndjson", HTTP_UNKNOWN_LENGTH, &error);
        lines->refused = !lines->begun;
        if (error.kind == ERROR_UNSUPPORTED)
            fail(lines->exchange, 505, error.text);
    }
    return lines->begun && http_send(lines->exchange, bytes, length, NULL);
}

static bool is_there(void *context) {
    const struct lines *lines = context;
    return http_client_is_there(lines->exchange);
}

static int status_of(enum error_kind kind) {
    return kind == ERROR_INVALID ? 400 : kind == ERROR_BUSY || kind == ERROR_CLOSED ? 503 : 500;
}

static void send_failure(struct lines *lines, const struct error *error) {
    cleanup_buffer struct buffer line = {0};
    if (lines->refused)
        return;
    if (!lines->begun) {
        fail(lines->exchange, status_of(error->kind), error->text);
        return;
    }
    buffer_append_string(&line, "{\"error\":\"");
    buffer_append_json(&line, text_of(error->text));
    buffer_append_string(&line, "\"}\n");
    http_send(lines->exchange, line.bytes, line.length, NULL);
}

static void handle_order(struct admin *admin, struct http_exchange *exchange, const char *what,
                         const json_t *order) {
    struct lines lines = {.exchange = exchange};
    const struct line_sink sink = {.write = send_line, .is_wanted = is_there, .context = &lines};
    struct error error = {0};
    if (!order_run(admin->target, what, order, &sink, &error))
        send_failure(&lines, &error);
}

/* Adds "bucket":true for the query's bucket=1. False: an error response was sent. */
static bool read_bucket(struct http_exchange *exchange, json_t *order) {
    char value[8];
    bool found;
    bool ok = http_query(http_exchange_request(exchange), "bucket", value, sizeof value, &found);
    if (!ok && !found)
        return true;
    if (ok && strcmp(value, "1") == 0)
        return json_object_set_new(order, "bucket", json_true()) == 0;
    fail(exchange, 400, "expected no bucket in the query, or bucket=1 once");
    return false;
}

/* Makes {"names":[…]} of the query's names=A,B. NULL: an error response was sent. */
static json_t *read_query(struct http_exchange *exchange) {
    char names[HTTP_TARGET_LIMIT];
    bool found;
    json_t *list = json_array();
    bool ok = http_query(http_exchange_request(exchange), "names", names, sizeof names, &found);
    for (struct text rest = text_of(ok ? names : NULL), name; rest.at;) {
        name = text_cut(rest, ',', &rest);
        if (name.length)
            json_array_append_new(list, json_stringn(name.at, name.length));
    }
    if (ok || !found)
        return json_pack("{s:o}", "names", list);
    json_decref(list);
    fail(exchange, 400, "expected no query, or names=NAME,… once");
    return NULL;
}

static void handle_ls(struct admin *admin, struct http_exchange *exchange) {
    cleanup_json json_t *order = read_query(exchange);
    if (order && read_bucket(exchange, order))
        handle_order(admin, exchange, "ls", order);
}

static void handle_du(struct admin *admin, struct http_exchange *exchange) {
    cleanup_json json_t *order = json_object();
    if (read_bucket(exchange, order))
        handle_order(admin, exchange, "du", order);
}

static void handle_with_body(struct admin *admin, struct http_exchange *exchange,
                             const char *what) {
    cleanup_json json_t *order = read_json(exchange);
    if (order)
        handle_order(admin, exchange, what, order);
}

static void handle_rm(struct admin *admin, struct http_exchange *exchange) {
    handle_with_body(admin, exchange, "rm");
}

static void handle_prune(struct admin *admin, struct http_exchange *exchange) {
    handle_with_body(admin, exchange, "prune");
}

static void handle_verify(struct admin *admin, struct http_exchange *exchange) {
    handle_with_body(admin, exchange, "verify");
}

/* ---- reload ---- */

/* {"config":FILE}, or {}. False: an error response was sent. */
static bool read_file_name(struct http_exchange *exchange, const json_t *order, const char **file) {
    const json_t *name = json_object_get(order, "config");
    *file = json_string_value(name);
    bool is_absolute = *file && **file == '/';
    if (json_object_size(order) == (name ? 1 : 0) && json_is_object(order) &&
        (!name || is_absolute))
        return true;
    fail(exchange, 400, "expected {\"config\":\"/FILE\"}, with an absolute path, or {}");
    return false;
}

static void respond_reload(struct http_exchange *exchange, bool reloaded, struct text problems) {
    cleanup_buffer struct buffer body = {0};
    while (problems.length) {
        struct text line = text_cut(problems, '\n', &problems);
        buffer_append_string(&body, "{\"problem\":\"");
        buffer_append_json(&body, line);
        buffer_append_string(&body, "\"}\n");
    }
    buffer_printf(&body, "{\"done\":true,\"reloaded\":%s}\n", reloaded ? "true" : "false");
    if (body.failed)
        fail(exchange, 503, "out of memory");
    else
        http_respond(exchange, 200, "application/x-ndjson", body.bytes, body.length);
}

static void handle_reload(struct admin *admin, struct http_exchange *exchange) {
    const struct service_settings *settings = admin->settings;
    cleanup_buffer struct buffer problems = {0};
    const char *file;
    cleanup_json json_t *order = read_json(exchange);
    if (!order || !read_file_name(exchange, order, &file))
        return;
    if (!settings->reload) {
        fail(exchange, 404, "this tarn cannot take another configuration");
        return;
    }
    bool reloaded = settings->reload(settings->context, file, &problems);
    respond_reload(exchange, reloaded, (struct text){problems.bytes, problems.length});
}

/* ---- routes ---- */

static const struct admin_route {
    const char *path, *method_name;
    enum http_method method;
    void (*handle)(struct admin *admin, struct http_exchange *exchange);
} routes[] = {
    {"/tarn/v1/warm", "POST", HTTP_POST, handle_warm},
    {"/tarn/v1/ls", "GET", HTTP_GET, handle_ls},
    {"/tarn/v1/du", "GET", HTTP_GET, handle_du},
    {"/tarn/v1/rm", "POST", HTTP_POST, handle_rm},
    {"/tarn/v1/prune", "POST", HTTP_POST, handle_prune},
    {"/tarn/v1/verify", "POST", HTTP_POST, handle_verify},
    {"/tarn/v1/reload", "POST", HTTP_POST, handle_reload},
};

void admin_handle(void *context, struct http_exchange *exchange) {
    const struct http_request *request = http_exchange_request(exchange);
    const struct admin_route *route = NULL;
    for (size_t i = 0; i < sizeof routes / sizeof *routes && !route; i++) {
        if (text_is(request->path, routes[i].path))
            route = &routes[i];
    }
    if (!route) {
        fail(exchange, 404,
             "no such path; this socket takes /tarn/v1/ with warm, ls, du, rm, prune, verify or "
             "reload");
        return;
    }
    if (request->method != route->method) {
        http_add_field(exchange, "Allow", "%s", route->method_name);
        fail(exchange, 405, "wrong method; the field Allow says which one is right");
        return;
    }
    route->handle(context, exchange);
}
