/* Requests to a tarn about the inside of an image. */
#include "node/spans/stream_source.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/base64.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/secret.h"
#include "client/origin.h"
#include "layer/index.h"
#include "oci/manifest.h"

enum {
    WHOLE_MS = 600000,
    LOGIN_MS = 5000,
    PENDING_MS = 500,         /* between two questions for an index that is being made */
    TRACE_LIMIT = 256 << 10,  /* bytes */
    REFUSAL_LIMIT = 64 << 10, /* bytes of a body that says why not */
};

/* ---- life ---- */

/* The host of the URL, with its port. */
static bool host_of(const char *url, char *out, size_t size) {
    struct text text = text_of(url), rest;
    if (text_starts(text, "https://"))
        text = text_from(text, strlen("https://"));
    else if (text_starts(text, "http://"))
        text = text_from(text, strlen("http://"));
    else
        return false;
    text = text_cut(text, '/', &rest);
    return reference_is_host(text) && text_copy(text, out, size);
}

bool stream_source_open(struct stream_source *source, const char *url, struct client *client,
                        struct error *error) {
    *source = (struct stream_source){.client = client};
    struct text text = text_of(url ? url : STREAM_DEFAULT_URL);
    while (text_ends(text, "/"))
        text.length--;
    source->url = text_dup(text);
    source->logins = credential_source_docker(NULL);
    if (!source->url || !source->logins)
        return error_set(error, ERROR_MEMORY, "out of memory");
    return host_of(source->url, source->host, sizeof source->host) ||
           error_set(error, ERROR_INVALID, "%s is no URL of a tarn, like %s", source->url,
                     STREAM_DEFAULT_URL);
}

void stream_source_close(struct stream_source *source) {
    credential_source_free(source->logins);
    free(source->url);
    *source = (struct stream_source){0};
}

bool stream_source_is_safe(const struct stream_source *source) {
    struct origin origin;
    return origin_parse(source->url, &origin) &&
           (origin.https || address_classify_host(origin.host) == ADDRESS_LOOPBACK);
}

bool stream_source_parse_name(const char *text, struct image_name *out, struct error *error) {
    if (!image_name_parse(text_of(text), out, error))
        return false;
    return out->host[0] || error_set(error, ERROR_INVALID,
                                     "%s: write the whole name, with the registry's host", text);
}

/* ---- requests ---- */

/* "Authorization: Basic …", for secret_free(); *out NULL: nobody logs in. */
static bool find_login(const struct stream_source *source, char **out, struct error *error) {
    cleanup_credential struct credential credential = {0};
    *out = NULL;
    if (!credential_source_get(source->logins, source->host, false, clock_ms() + LOGIN_MS,
                               &credential, error))
        return false;
    if (credential.kind != CREDENTIAL_BASIC)
        return true;
    cleanup_secret_buffer struct buffer pair = {0};
    buffer_reserve(&pair, strlen(credential.username) + strlen(credential.secret) + 2);
    buffer_printf(&pair, "%s:%s", credential.username, credential.secret);
    char *encoded = pair.failed ? NULL : base64_encode(pair.bytes, pair.length);
    if (!encoded || asprintf(out, "Authorization: Basic %s", encoded) < 0)
        *out = NULL;
    secret_free(&encoded);
    return *out || error_set(error, ERROR_MEMORY, "out of memory");
}

struct question {
    const char *method; /* NULL: GET */
    const char *path;
    const char *accept, *range; /* fields; may be NULL */
    size_t limit;               /* bytes of an answer that comes whole */
    const struct buffer *body;
    const struct client_sink *sink; /* NULL: it comes whole */
};

static bool ask(const struct stream_asking *asking, const struct question *question,
                struct client_response *response, struct error *error) {
    const char *headers[5] = {0};
    size_t count = 0;
    cleanup_free char *url = NULL;
    char *login;
    if (!find_login(asking->source, &login, error))
        return false;
    const char *const all[] = {login, question->accept, question->range,
                               question->body ? "Content-Type: application/json" : NULL};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i])
            headers[count++] = all[i];
    if (asprintf(&url, "%s%s", asking->source->url, question->path) < 0)
        url = NULL;
    struct client_request request = {.method = question->method ? question->method : "GET",
                                     .url = url,
                                     .headers = headers,
                                     .connect_timeout_ms = asking->silence_ms,
                                     .total_timeout_ms =
                                         question->sink ? asking->silence_ms : WHOLE_MS,
                                     .stall_timeout_ms = asking->silence_ms,
                                     .body_limit = question->limit,
                                     .cancel = asking->cancel};
    if (question->body)
        request.body =
            (struct client_body){.bytes = question->body->bytes, .length = question->body->length};
    bool ok = url ? client_stream(asking->source->client, &request, question->sink, response, error)
                  : error_set(error, ERROR_MEMORY, "out of memory");
    secret_free(&login);
    return ok;
}

/* What a refusal says, in words. */
static bool refuse(const struct client_response *response, struct error *error) {
    cleanup_json json_t *root = bounded_json_load(response->body.bytes ? response->body.bytes : "",
                                                  response->body.length, NULL);
    const json_t *first = json_array_get(json_object_get(root, "errors"), 0);
    const char *message = json_string_value(json_object_get(first, "message"));
    const json_t *detail = json_object_get(first, "detail");
    const char *reason = json_string_value(json_object_get(detail, "reason"));
    const char *state = json_string_value(json_object_get(detail, "state"));
    enum error_kind kind = client_response_error_kind(response->status);
    if (reason)
        error_set(error, kind, "cannot stream (%s): %s", reason,
                  message ? message : "tarn says so");
    else
        error_set(error, kind, "%d: %s", response->status,
                  message ? message : "tarn gives no reason");
    error->status = response->status;
    error->retry_after_s = response->retry_after_s;
    if (reason || state)
        text_copy(text_of(reason ? reason : state), error->code, sizeof error->code);
    return false;
}

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "out of memory");
}

static bool take_body(struct client_response *response, struct buffer *out, struct error *error) {
    out->length = 0;
    return buffer_append(out, response->body.bytes ? response->body.bytes : "",
                         response->body.length) ||
           no_memory(error);
}

/* One answer that comes whole. */
static bool get(const struct stream_asking *asking, const struct question *question,
                struct buffer *out, struct error *error) {
    cleanup_client_response struct client_response response = {0};
    if (!question->path)
        return no_memory(error);
    if (!ask(asking, question, &response, error))
        return false;
    return response.status == 200 ? take_body(&response, out, error) : refuse(&response, error);
}

/* The path of something of the image below /v2/. NULL: out of memory. */
static char *registry_path(const struct stream_asking *asking, const char *what,
                           const char *reference) {
    char *path;
    return asprintf(&path, "/v2/%s/%s/%s/%s", asking->image->host, asking->image->repository, what,
                    reference) < 0
               ? NULL
               : path;
}

/* The path of something of the image below /tarn/v1/streaming/. NULL: out of memory. */
static char *streaming_path(const struct stream_asking *asking, const char *what,
                            const struct digest *digest) {
    char *path, text[DIGEST_STRING_SIZE];
    return asprintf(&path, "/tarn/v1/streaming/%s/%s/%s@%s", what, asking->image->host,
                    asking->image->repository, digest_format(digest, text)) < 0
               ? NULL
               : path;
}

bool stream_source_manifest(const struct stream_asking *asking, const char *reference,
                            struct buffer *out, struct digest *digest, struct error *error) {
    cleanup_free char *path = registry_path(asking, "manifests", reference);
    struct digest wanted;
    const struct question question = {
        .path = path, .accept = "Accept: " MEDIA_ACCEPT_MANIFESTS, .limit = MANIFEST_SIZE_LIMIT};
    if (!get(asking, &question, out, error))
        return false;
    bool by_digest = digest_parse(text_of(reference), &wanted);
    if (!digest_of(by_digest ? wanted.algorithm : DIGEST_SHA256, out->bytes ? out->bytes : "",
                   out->length, digest))
        return no_memory(error);
    return !by_digest || digest_equal(digest, &wanted) ||
           error_set(error, ERROR_CORRUPT, "the manifest does not have the digest %s", reference);
}

bool stream_source_blob(const struct stream_asking *asking, const struct digest *digest,
                        size_t limit, struct buffer *out, struct error *error) {
    char text[DIGEST_STRING_SIZE];
    cleanup_free char *path = registry_path(asking, "blobs", digest_format(digest, text));
    const struct question question = {.path = path, .limit = limit};
    return get(asking, &question, out, error);
}

bool stream_source_index(const struct stream_asking *asking, const char *what,
                         const struct digest *digest, struct buffer *out, struct error *error) {
    cleanup_free char *path = streaming_path(asking, what, digest);
    const struct question question = {.path = path, .limit = INDEX_FILE_LIMIT};
    int64_t until_ms = clock_ms() + asking->pending_ms;
    for (;;) {
        struct error why = {0};
        if (get(asking, &question, out, &why))
            return true;
        if (error)
            *error = why;
        if (why.status != 404 || why.retry_after_s == 0 || clock_ms() > until_ms ||
            !cancel_sleep(asking->cancel, clock_ms() + PENDING_MS, error))
            return false;
    }
}

bool stream_source_trace(const struct stream_asking *asking, const struct digest *manifest,
                         struct buffer *out, struct error *error) {
    cleanup_free char *path = streaming_path(asking, "trace", manifest);
    const struct question question = {.path = path, .limit = TRACE_LIMIT};
    return get(asking, &question, out, error);
}

bool stream_source_post_trace(const struct stream_asking *asking, const struct digest *manifest,
                              const struct buffer *json, struct error *error) {
    cleanup_client_response struct client_response response = {0};
    cleanup_free char *path = streaming_path(asking, "trace", manifest);
    const struct question question = {
        .method = "POST", .path = path, .limit = REFUSAL_LIMIT, .body = json};
    if (!path)
        return no_memory(error);
    if (!ask(asking, &question, &response, error))
        return false;
    return response.status / 100 == 2 || refuse(&response, error);
}

/* ---- ranges ---- */

struct taking {
    const struct stream_range *range;
    stream_taker *taker;
    void *context;
    uint64_t taken; /* bytes */
};

static enum client_verdict on_head(void *context, const struct client_response *response,
                                   struct error *error) {
    const struct taking *taking = context;
    if (response->status != (taking->range->length ? 206 : 200)) {
        if (response->status != 200)
            return CLIENT_COLLECT;
        error_set(error, ERROR_UNAVAILABLE, "the server ignores ranges");
        return CLIENT_STOP;
    }
    if (!taking->range->length || !response->has_length ||
        response->length == taking->range->length)
        return CLIENT_STREAM;
    error_set(error, ERROR_UNAVAILABLE, "the range has %" PRIu64 " bytes in place of %" PRIu64,
              response->length, taking->range->length);
    return CLIENT_STOP;
}

static bool on_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    struct taking *taking = context;
    taking->taken += length;
    if (taking->range->length && taking->taken > taking->range->length)
        return error_set(error, ERROR_UNAVAILABLE, "more bytes came than were asked for");
    return taking->taker(taking->context, bytes, length, error);
}

bool stream_source_stream(const struct stream_asking *asking, const struct stream_range *range,
                          stream_taker *take, void *context, struct error *error) {
    char text[DIGEST_STRING_SIZE], field[80];
    cleanup_client_response struct client_response response = {0};
    cleanup_free char *path =
        range->is_copy ? streaming_path(asking, "frames", range->layer)
                       : registry_path(asking, "blobs", digest_format(range->layer, text));
    struct taking taking = {range, take, context, 0};
    const struct client_sink sink = {&taking, on_head, on_bytes, NULL};
    snprintf(field, sizeof field, "Range: bytes=%" PRIu64 "-%" PRIu64, range->first,
             range->first + range->length - 1);
    const struct question question = {
        .path = path, .range = range->length ? field : NULL, .limit = REFUSAL_LIMIT, .sink = &sink};
    if (!path)
        return no_memory(error);
    if (!ask(asking, &question, &response, error))
        return false;
    if (response.status != (range->length ? 206 : 200))
        return refuse(&response, error);
    return !range->length || taking.taken == range->length ||
           error_set(error, ERROR_UNAVAILABLE, "only %" PRIu64 " bytes of the range came",
                     taking.taken);
}

static bool append(void *context, const void *bytes, size_t length, struct error *error) {
    return buffer_append(context, bytes, length) || no_memory(error);
}

bool stream_source_range(const struct stream_asking *asking, const struct stream_range *range,
                         struct buffer *out, struct error *error) {
    out->length = 0;
    return stream_source_stream(asking, range, append, out, error);
}
