#include "registry/admin.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include "base/cleanup.h"
#include "oci/error_body.h"
#include "registry/warm.h"
#include "registry/warm_parts.h"

enum { BODY_LIMIT = 256 << 10, IMAGES_LIMIT = 1000 };

static void fail(struct http_exchange *exchange, int status, const char *message) {
    cleanup_buffer struct buffer body = {0};
    error_body_write(&body, "UNSUPPORTED", message);
    http_reply(exchange, status, "application/json", body.bytes, body.length);
}

/* ---- the order ---- */

/* Pointers to the strings of a JSON array (whose they stay), NULL-terminated; NULL when it holds
 * anything else, or more than `limit`. */
static const char **read_strings(const json_t *array, size_t limit) {
    size_t count = json_array_size(array);
    if (!json_is_array(array) || count > limit)
        return NULL;
    cleanup_free const char **strings = calloc(count + 1, sizeof *strings);
    for (size_t i = 0; strings && i < count; i++) {
        strings[i] = json_string_value(json_array_get(array, i));
        if (!strings[i])
            return NULL;
    }
    return take(strings);
}

/* {"images":[…],"platforms":[…]}, the latter optional. False: answered. */
static bool read_order(struct http_exchange *exchange, json_t **json, const char ***images,
                       const char ***platforms) {
    cleanup_buffer struct buffer body = {0};
    struct error error = {0};
    if (!http_read_body(exchange, BODY_LIMIT, &body, &error)) {
        int status = error.kind == ERROR_UNSUPPORTED ? 411
                     : error.kind == ERROR_INVALID   ? 413
                                                     : 408;
        fail(exchange, status, error.text);
        return false;
    }
    *json = json_loadb(body.bytes ? body.bytes : "", body.length, JSON_REJECT_DUPLICATES, NULL);
    const json_t *listed = json_object_get(*json, "platforms");
    *images = read_strings(json_object_get(*json, "images"), IMAGES_LIMIT);
    *platforms = listed ? read_strings(listed, WARM_PLATFORM_LIMIT) : NULL;
    if (*images && **images && (!listed || *platforms))
        return true;
    fail(exchange, 400, "expected {\"images\":[\"NAME\",…],\"platforms\":[\"os/arch\",…]}");
    return false;
}

/* ---- the answer ---- */

struct answer {
    struct http_exchange *exchange;
    const char *image;
    bool client_left;
};

static void begin_line(struct buffer *line, const char *image) {
    buffer_append_string(line, "{\"image\":\"");
    buffer_append_json(line, text_of(image));
    buffer_append_string(line, "\",");
}

static void end_line(struct answer *answer, struct buffer *line, const char *error) {
    if (error) {
        buffer_append_string(line, ",\"error\":\"");
        buffer_append_json(line, text_of(error));
        buffer_append_string(line, "\"");
    }
    buffer_append_string(line, "}\n");
    answer->client_left = answer->client_left || line->failed ||
                          !http_send(answer->exchange, line->bytes, line->length, NULL);
}

static void send_part(void *context, const struct warm_part *part) {
    struct answer *answer = context;
    char digest[DIGEST_STRING_SIZE];
    cleanup_buffer struct buffer line = {0};
    begin_line(&line, answer->image);
    buffer_printf(&line,
                  "\"digest\":\"%s\",\"role\":\"%s\",\"size\":%" PRIu64 ",\"bytes\":%" PRIu64
                  ",\"state\":\"%s\"",
                  digest_format(&part->digest, digest), part->role, part->size, part->bytes,
                  warm_state_name(part->state));
    if (part->state == WARM_CACHED)
        buffer_printf(&line, ",\"was_cached\":%s", part->was_cached ? "true" : "false");
    end_line(answer, &line, part->error);
}

static void send_result(struct answer *answer, const struct warm_result *result,
                        const char *error) {
    cleanup_buffer struct buffer line = {0};
    begin_line(&line, answer->image);
    buffer_printf(&line,
                  "\"state\":\"%s\",\"bytes_fetched\":%" PRIu64 ",\"bytes_cached\":%" PRIu64
                  ",\"seconds\":%.3f",
                  error ? "failed" : "done", result->bytes_fetched, result->bytes_cached,
                  result->seconds);
    end_line(answer, &line, error);
}

static bool is_wanted(void *context) {
    const struct answer *answer = context;
    return !answer->client_left && http_client_is_there(answer->exchange);
}

static void warm_all(struct warmer *warmer, struct http_exchange *exchange,
                     const char *const *images, const char *const *platforms) {
    struct answer answer = {.exchange = exchange};
    struct error error = {0};
    if (!http_begin(exchange, 200, "application/x-ndjson", HTTP_UNKNOWN_LENGTH, &error)) {
        if (error.kind == ERROR_UNSUPPORTED)
            fail(exchange, 505, error.text);
        return;
    }
    for (size_t i = 0; images[i] && !answer.client_left; i++) {
        struct warm_result result;
        answer.image = images[i];
        const struct warm_request request = {
            .image = images[i],
            .platforms = platforms,
            .on_part = send_part,
            .is_wanted = is_wanted,
            .context = &answer,
        };
        bool ok = warm_image(warmer, &request, &result, &error);
        send_result(&answer, &result, ok ? NULL : error.text);
    }
}

void admin_handle(void *context, struct http_exchange *exchange) {
    const struct http_request *request = http_exchange_request(exchange);
    if (!text_is(request->path, "/tarn/v1/warm")) {
        fail(exchange, 404, "no such path; this socket takes POST /tarn/v1/warm");
        return;
    }
    if (request->method != HTTP_POST) {
        http_add_field(exchange, "Allow", "POST");
        fail(exchange, 405, "warming is asked for with POST");
        return;
    }
    cleanup_json json_t *json = NULL;
    cleanup_free const char **images = NULL, **platforms = NULL;
    if (read_order(exchange, &json, &images, &platforms))
        warm_all(context, exchange, images, platforms);
}
