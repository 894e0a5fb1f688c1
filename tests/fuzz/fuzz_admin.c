/* Orders on the admin socket: the first byte chooses the order, the rest is its body, or for ls its
 * query. Each order is refused or run, and the response is JSON. The arguments with which an order
 * is run keep to the limits that the headers promise. */
#include <stdlib.h>
#include <string.h>
#include "admin/admin.h"
#include "admin/image_pattern.h"
#include "admin/ls.h"
#include "admin/prune.h"
#include "admin/rm.h"
#include "admin/verify.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "fuzz.h"

static struct http_request request;
static struct text body;
static unsigned answers;

static void must_be_json(const void *bytes, size_t length) {
    cleanup_json json_t *json = bounded_json_load(bytes, length, NULL);
    MUST(json_is_object(json));
}

/* ---- in place of the HTTP server ---- */

const struct http_request *__wrap_http_exchange_request(const struct http_exchange *exchange);
const struct http_request *__wrap_http_exchange_request(const struct http_exchange *exchange) {
    (void)exchange;
    return &request;
}

bool __wrap_http_read_body(struct http_exchange *exchange, size_t limit, struct buffer *out,
                           struct error *error);
bool __wrap_http_read_body(struct http_exchange *exchange, size_t limit, struct buffer *out,
                           struct error *error) {
    (void)exchange;
    return (body.length <= limit && buffer_append(out, body.at, body.length)) ||
           error_set(error, ERROR_INVALID, "too large");
}

void __wrap_http_respond(struct http_exchange *exchange, int status, const char *content_type,
                         const void *bytes, size_t length);
void __wrap_http_respond(struct http_exchange *exchange, int status, const char *content_type,
                         const void *bytes, size_t length) {
    (void)exchange, (void)content_type;
    MUST(status >= 400 && status < 500);
    must_be_json(bytes, length);
    answers++;
}

bool __wrap_http_begin(struct http_exchange *exchange, int status, const char *content_type,
                       int64_t length, struct error *error);
bool __wrap_http_begin(struct http_exchange *exchange, int status, const char *content_type,
                       int64_t length, struct error *error) {
    (void)exchange, (void)content_type, (void)length, (void)error;
    MUST(status == 200);
    answers++;
    return true;
}

bool __wrap_http_send(struct http_exchange *exchange, const void *bytes, size_t length,
                      struct error *error);
bool __wrap_http_send(struct http_exchange *exchange, const void *bytes, size_t length,
                      struct error *error) {
    (void)exchange, (void)error;
    MUST(answers == 1);
    must_be_json(bytes, length);
    return true;
}

bool __wrap_http_client_is_there(const struct http_exchange *exchange);
bool __wrap_http_client_is_there(const struct http_exchange *exchange) {
    (void)exchange;
    return true;
}

/* ---- in place of the functions that run orders ---- */

bool __wrap_warm_image(struct warmer *warmer, const struct warm_request *order,
                       struct warm_result *result, struct error *error);
bool __wrap_warm_image(struct warmer *warmer, const struct warm_request *order,
                       struct warm_result *result, struct error *error) {
    (void)warmer;
    *result = (struct warm_result){0};
    return error_set(error, ERROR_INVALID, "%s", order->image);
}

static bool finish(const struct line_sink *sink) {
    return sink->write(sink->context, "{\"done\":true}\n", strlen("{\"done\":true}\n"));
}

static bool take_names(const char *const *names, const struct line_sink *sink,
                       struct error *error) {
    size_t count = 0;
    cleanup_free struct image_pattern *parsed = image_patterns_parse(names, &count, error);
    for (size_t i = 0; parsed && i < count; i++)
        MUST(strnlen(parsed[i].repository, sizeof parsed[i].repository) <
                 sizeof parsed[i].repository &&
             strnlen(parsed[i].tag, sizeof parsed[i].tag) < sizeof parsed[i].tag);
    MUST(parsed || error->kind != ERROR_NONE);
    return parsed && finish(sink);
}

bool __wrap_order_ls(struct order_target *target, const char *const *names,
                     const struct line_sink *sink, struct error *error);
bool __wrap_order_ls(struct order_target *target, const char *const *names,
                     const struct line_sink *sink, struct error *error) {
    (void)target;
    return take_names(names, sink, error);
}

bool __wrap_order_du(struct order_target *target, bool with_bucket, const struct line_sink *sink,
                     struct error *error);
bool __wrap_order_du(struct order_target *target, bool with_bucket, const struct line_sink *sink,
                     struct error *error) {
    (void)target, (void)with_bucket, (void)error;
    return finish(sink);
}

bool __wrap_order_rm(struct order_target *target, const char *const *names,
                     const struct line_sink *sink, struct error *error);
bool __wrap_order_rm(struct order_target *target, const char *const *names,
                     const struct line_sink *sink, struct error *error) {
    (void)target;
    return take_names(names, sink, error);
}

bool __wrap_order_prune(struct order_target *target, const struct prune_options *what,
                        const struct line_sink *sink, struct error *error);
bool __wrap_order_prune(struct order_target *target, const struct prune_options *what,
                        const struct line_sink *sink, struct error *error) {
    (void)target, (void)error;
    MUST(what->older_than_ms >= -1 && what->to_size >= -1);
    return finish(sink);
}

bool __wrap_order_verify(struct order_target *target, const struct verify_options *what,
                         const struct line_sink *sink, struct error *error);
bool __wrap_order_verify(struct order_target *target, const struct verify_options *what,
                         const struct line_sink *sink, struct error *error) {
    (void)target, (void)error;
    MUST(what->rate >= -1);
    return finish(sink);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    static const char *const paths[] = {"/tarn/v1/warm", "/tarn/v1/ls",    "/tarn/v1/du",
                                        "/tarn/v1/rm",   "/tarn/v1/prune", "/tarn/v1/verify"};
    if (length == 0)
        return 0;
    size_t chosen = *bytes % (sizeof paths / sizeof *paths);
    body = (struct text){(const char *)bytes + 1, length - 1};
    request = (struct http_request){.path = text_of(paths[chosen]),
                                    .method = chosen == 1 || chosen == 2 ? HTTP_GET : HTTP_POST,
                                    .query = chosen == 1 ? body : text_of(NULL)};
    struct order_target target = {0};
    struct admin admin = {.target = &target};
    answers = 0;
    admin_handle(&admin, NULL);
    MUST(answers == 1);
    return 0;
}
