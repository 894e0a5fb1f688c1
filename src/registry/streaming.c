/* Indexes of layers and images: GET /tarn/v1/streaming/… */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/json.h"
#include "layer/index.h"
#include "registry/call.h"
#include "registry/start_trace.h"
#include "store/aside.h"
#include "store/blobs.h"
#include "store/records.h"

/* ---- names ---- */

bool call_check_streaming_name(struct call *call) {
    char host[HOST_LIMIT + 1];
    struct text rest, first = text_cut(text_of(call->route.name), '/', &rest);
    call->ns[0] = '\0';
    if (call->route.fault == ROUTE_BAD_NAME ||
        (rest.at && upstreams_find(call->view->upstreams, first, host)))
        return true;
    call_fail(call, 404, "NAME_UNKNOWN",
              "%.*s is no configured upstream; write /tarn/v1/streaming/…/HOST/NAME@DIGEST",
              TEXT_PRINT(first));
    return false;
}

/* ---- what is not there ---- */

static const char *explain(const struct stream_verdict *verdict) {
    switch (verdict->state) {
    case STREAM_PENDING:
        return "its index is being made";
    case STREAM_REFUSED:
        return "it cannot stream";
    default:
        return verdict->why == LAYER_OFF ? "streaming is switched off"
                                         : "it is not all in the cache, or nothing that can stream";
    }
}

static void respond_unknown(struct call *call, const struct stream_verdict *verdict) {
    const char *word = layer_refusal_word(verdict->why);
    const char *message = explain(verdict);
    cleanup_json json_t *body = json_pack(
        "{s:[{s:s, s:s, s:{s:s, s:o, s:s}}]}", "errors", "code", "INDEX_UNKNOWN", "message",
        message, "detail", "state", stream_state_name(verdict->state), "reason",
        *word ? json_string(word) : json_null(), "request_id", http_exchange_id(call->exchange));
    cleanup_buffer struct buffer text = {0};
    bounded_json_dump(body, JSON_COMPACT, &text);
    text_copy(text_of(message), call->error, sizeof call->error);
    if (verdict->state == STREAM_PENDING)
        http_add_field(call->exchange, "Retry-After", "1");
    call_add_fields(call);
    http_respond(call->exchange, 404, "application/json", text.bytes, text.length);
}

/* ---- files ---- */

/* A response whose file is being sent; it outlives the worker's turn. */
struct sending {
    struct call call;
    int fd;
    uint64_t at, end;
};

static void send_on(void *state, struct http_exchange *exchange) {
    struct sending *sending = state;
    struct error error = {0};
    while (sending->at < sending->end) {
        const struct http_file file = {
            .fd = sending->fd, .offset = sending->at, .length = sending->end - sending->at};
        uint64_t sent;
        bool went_on = http_send_file(exchange, &file, &sent, &error);
        sending->at += sent;
        if (!went_on) {
            http_abort(exchange);
            break;
        }
        if (sent < file.length) {
            http_park(exchange, send_on, sending);
            return;
        }
    }
    close(sending->fd);
    call_end(&sending->call);
    free(sending);
}

/* Takes over the descriptor. */
static void send_file(struct call *call, int fd, uint64_t first, uint64_t length) {
    struct sending *sending = malloc(sizeof *sending);
    if (!sending) {
        close(fd);
        http_abort(call->exchange);
        return;
    }
    *sending = (struct sending){.call = *call, .fd = fd, .at = first, .end = first + length};
    call->is_handed_on = true;
    sending->call.first_byte_us = clock_us();
    send_on(sending, call->exchange);
}

static bool matches(struct call *call, const char *etag) {
    struct text rest = http_field(call->request, "If-None-Match");
    while (rest.at) {
        struct text one = text_trim(text_cut(rest, ',', &rest));
        if (text_starts(one, "W/"))
            one = text_from(one, 2);
        if (text_is(one, etag) || text_is(one, "*"))
            return true;
    }
    return false;
}

/* Sends a file beside a blob. The ETag is made of the digest that the file is beside, its size and
 * its time: a file is replaced as a whole. Takes over the descriptor. */
static void respond_file(struct call *call, int fd, uint64_t size, const char *type) {
    char etag[DIGEST_STRING_SIZE + 64], digest[DIGEST_STRING_SIZE];
    struct stat state = {0};
    struct error error = {0};
    uint64_t first = 0, length = size;
    fstat(fd, &state);
    snprintf(etag, sizeof etag, "\"%s-%" PRIx64 "-%" PRIx64 "\"",
             digest_format(&call->route.reference.digest, digest), size,
             (uint64_t)state.st_mtim.tv_sec * 1000000000 + (uint64_t)state.st_mtim.tv_nsec);
    call_add_fields(call);
    http_add_field(call->exchange, "ETag", "%s", etag);
    http_add_field(call->exchange, "Accept-Ranges", "bytes");
    if (matches(call, etag)) {
        close(fd);
        http_begin(call->exchange, 304, NULL, 0, NULL);
        return;
    }
    struct text condition = http_field(call->request, "If-Range");
    struct text value = http_field(call->request, "Range");
    struct http_range range = {.kind = HTTP_RANGE_NONE};
    if (value.at && (!condition.at || text_is(text_trim(condition), etag)))
        range = http_range_parse(value);
    if (!http_range_apply(&range, size, &first, &length)) {
        close(fd);
        http_add_field(call->exchange, "Content-Range", "bytes */%" PRIu64, size);
        call_fail(call, 416, "RANGE_INVALID", "the index has %" PRIu64 " bytes", size);
        return;
    }
    bool partial = range.kind != HTTP_RANGE_NONE;
    if (partial)
        http_add_field(call->exchange, "Content-Range", "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64,
                       first, first + length - 1, size);
    if (http_begin(call->exchange, partial ? 206 : 200, type, (int64_t)length, &error) &&
        call->request->method != HTTP_HEAD)
        send_file(call, fd, first, length);
    else
        close(fd);
}

/* ---- indexes ---- */

static struct stream_verdict judge(struct call *call, bool is_manifest) {
    struct cache *cache = call->registry->settings.cache;
    const struct digest *digest = &call->route.reference.digest;
    const struct streams_settings settings = streams_settings_now(cache_streams(cache));
    if (!settings.enabled)
        return (struct stream_verdict){STREAM_ABSENT, LAYER_OFF};
    if (!cache_may_stream(cache, &call->repository, is_manifest, digest))
        return (struct stream_verdict){STREAM_ABSENT, LAYER_FINE};
    return is_manifest
               ? stream_of_manifest(cache_store(cache), &settings, digest)
               : stream_of_layer(cache_store(cache), &settings, &call->repository.name, digest);
}

static void respond_index(struct call *call, bool is_manifest, enum aside_kind kind,
                          const char *type) {
    struct store *store = cache_store(call->registry->settings.cache);
    struct stream_verdict verdict = judge(call, is_manifest);
    uint64_t size;
    int fd = -1;
    if (verdict.state == STREAM_READY) {
        fd = store_aside_open(store, &call->route.reference.digest, kind, &size, NULL);
        verdict = (struct stream_verdict){STREAM_ABSENT, LAYER_FINE};
    }
    if (fd < 0) {
        respond_unknown(call, &verdict);
        return;
    }
    store_blob_touch(store, &call->route.reference.digest);
    respond_file(call, fd, size, type);
}

/* ---- traces ---- */

static void respond_trace(struct call *call) {
    struct store *store = cache_store(call->registry->settings.cache);
    uint64_t size;
    int fd = -1;
    if (cache_may_stream(call->registry->settings.cache, &call->repository, true,
                         &call->route.reference.digest))
        fd = store_aside_open(store, &call->route.reference.digest, ASIDE_TRACE, &size, NULL);
    if (fd >= 0)
        respond_file(call, fd, size, "application/json");
    else
        call_fail(call, 404, "TRACE_UNKNOWN", "nobody has said what a start of this image reads");
}

static void keep_trace(struct call *call) {
    struct cache *cache = call->registry->settings.cache;
    const struct digest *digest = &call->route.reference.digest;
    cleanup_buffer struct buffer body = {0};
    struct error error = {0};
    if (!cache_may_stream(cache, &call->repository, true, digest)) {
        call_fail(call, 404, "MANIFEST_UNKNOWN", "the cache does not have this manifest");
        return;
    }
    if (!http_read_body(call->exchange, START_TRACE_LIMIT, &body, &error)) {
        if (error.kind == ERROR_CLOSED)
            call_drop(call);
        else
            call_fail(call,
                      error.kind == ERROR_INVALID       ? 413
                      : error.kind == ERROR_UNSUPPORTED ? 411
                                                        : 408,
                      "SIZE_INVALID", "%s", error.text);
        return;
    }
    if (!start_trace_check((struct text){body.bytes ? body.bytes : "", body.length}, &error)) {
        call_fail(call, 400, "TRACE_INVALID", "%s", error.text);
        return;
    }
    if (!store_aside_put(cache_store(cache), digest, ASIDE_TRACE, body.bytes, body.length,
                         &error)) {
        call_fail_error(call, &error);
        return;
    }
    call_add_fields(call);
    http_begin(call->exchange, 204, NULL, 0, NULL);
}

bool call_handle_streaming(struct call *call) {
    if (call->must_not_wait)
        return false;
    call->asks_cache = false;
    switch (call->route.kind) {
    case ROUTE_STREAM_LAYER:
        respond_index(call, false, ASIDE_INDEX, LAYER_INDEX_TYPE);
        break;
    case ROUTE_STREAM_IMAGE:
        respond_index(call, true, ASIDE_IMAGE, IMAGE_INDEX_TYPE);
        break;
    case ROUTE_STREAM_COPY:
        respond_index(call, false, ASIDE_COPY, "application/octet-stream");
        break;
    default:
        if (call->request->method == HTTP_POST)
            keep_trace(call);
        else
            respond_trace(call);
    }
    return true;
}

/* ---- chains ---- */

struct chain_answer {
    struct call *call;
    const struct streams_settings *settings;
    json_t *images;
};

static void add_image(void *context, const struct repository_name *repository,
                      const struct digest *manifest, size_t layers) {
    struct chain_answer *answer = context;
    char name[HOST_LIMIT + NAME_LIMIT + DIGEST_STRING_SIZE + 4], digest[DIGEST_STRING_SIZE];
    struct store *store = cache_store(answer->call->registry->settings.cache);
    if (!call_may_read(answer->call, repository) ||
        !store_has_link_manifest(store, repository, manifest, NULL, 0) ||
        stream_of_manifest(store, answer->settings, manifest).state != STREAM_READY)
        return;
    snprintf(name, sizeof name, "%s/%s@%s", repository->host, repository->path,
             digest_format(manifest, digest));
    json_array_append_new(answer->images,
                          json_pack("{s:s, s:I}", "image", name, "layers", (json_int_t)layers));
}

bool call_handle_chain(struct call *call) {
    if (call->route.fault != ROUTE_FINE) {
        call_fail(call, 400, "DIGEST_INVALID", "write /tarn/v1/streaming/chain/ and a chain ID");
        return true;
    }
    if (call->must_not_wait)
        return false;
    struct streams *streams = cache_streams(call->registry->settings.cache);
    const struct streams_settings settings = streams_settings_now(streams);
    cleanup_json json_t *images = json_array();
    struct chain_answer answer = {call, &settings, images};
    if (settings.enabled && images)
        streams_of_chain(streams, &call->route.reference.digest, add_image, &answer);
    if (json_array_size(images) == 0) {
        call_fail(call, 404, "CHAIN_UNKNOWN", "no image that can stream has these layers");
        return true;
    }
    cleanup_json json_t *body = json_pack("{s:O}", "images", images);
    cleanup_buffer struct buffer text = {0};
    bounded_json_dump(body, JSON_COMPACT, &text);
    call_add_fields(call);
    http_respond(call->exchange, 200, "application/json", text.bytes, text.length);
    return true;
}
