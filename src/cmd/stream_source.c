/* Requests to a tarn about the inside of an image. */
#include "cmd/stream_source.h"

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
#include "client/request.h"
#include "layer/index.h"
#include "oci/manifest.h"

enum {
    WAIT_MS = 120000, /* that an index may still take */
    WHOLE_MS = 600000,
    SILENCE_MS = 30000,
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

static bool find_login(struct stream_source *source, const char *host, struct error *error) {
    cleanup_credential struct credential credential = {0};
    struct credential_source *docker = credential_source_docker(NULL);
    bool ok = docker && credential_source_get(docker, host, false, clock_ms() + SILENCE_MS,
                                              &credential, error);
    credential_source_free(docker);
    if (!ok)
        return docker ? false : error_set(error, ERROR_MEMORY, "out of memory");
    if (credential.kind != CREDENTIAL_BASIC)
        return true;
    cleanup_secret_buffer struct buffer pair = {0};
    buffer_reserve(&pair, strlen(credential.username) + strlen(credential.secret) + 2);
    buffer_printf(&pair, "%s:%s", credential.username, credential.secret);
    char *encoded = pair.failed ? NULL : base64_encode(pair.bytes, pair.length);
    if (!encoded || asprintf(&source->authorization, "Authorization: Basic %s", encoded) < 0)
        source->authorization = NULL;
    secret_free(&encoded);
    return source->authorization || error_set(error, ERROR_MEMORY, "out of memory");
}

bool stream_source_open(struct stream_source *source, const char *url, const char *image,
                        struct error *error) {
    char host[HOST_LIMIT + 1];
    *source = (struct stream_source){0};
    struct text text = text_of(url ? url : STREAM_DEFAULT_URL);
    while (text_ends(text, "/"))
        text.length--;
    if (!image_name_parse(text_of(image), &source->image, error))
        return false;
    if (!source->image.host[0])
        return error_set(error, ERROR_INVALID, "%s: write the whole name, with the registry's host",
                         image);
    source->url = text_dup(text);
    source->client = client_new();
    if (!source->url || !source->client)
        return error_set(error, ERROR_MEMORY, "out of memory");
    if (!host_of(source->url, host, sizeof host))
        return error_set(error, ERROR_INVALID, "%s is no URL of a tarn, like %s", source->url,
                         STREAM_DEFAULT_URL);
    return find_login(source, host, error);
}

void stream_source_close(struct stream_source *source) {
    secret_free(&source->authorization);
    client_free(source->client);
    free((void *)(uintptr_t)source->url);
    *source = (struct stream_source){0};
}

/* ---- requests ---- */

struct question {
    const char *path;
    const char *accept, *range; /* fields; may be NULL */
    size_t limit;               /* bytes of the answer */
};

static bool ask(struct stream_source *source, const struct question *question,
                struct client_response *response, struct error *error) {
    const char *headers[4] = {0};
    size_t count = 0;
    cleanup_free char *url = NULL;
    const char *const all[] = {source->authorization, question->accept, question->range};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i])
            headers[count++] = all[i];
    if (asprintf(&url, "%s%s", source->url, question->path) < 0) {
        url = NULL;
        return error_set(error, ERROR_MEMORY, "out of memory");
    }
    const struct client_request request = {.method = "GET",
                                           .url = url,
                                           .headers = headers,
                                           .total_timeout_ms = WHOLE_MS,
                                           .stall_timeout_ms = SILENCE_MS,
                                           .body_limit = question->limit};
    return client_request(source->client, &request, response, error);
}

/* What a refusal says, in words. */
static bool refuse(const struct client_response *response, struct error *error) {
    cleanup_json json_t *root = bounded_json_load(response->body.bytes ? response->body.bytes : "",
                                                  response->body.length, NULL);
    const json_t *first = json_array_get(json_object_get(root, "errors"), 0);
    const char *message = json_string_value(json_object_get(first, "message"));
    const json_t *detail = json_object_get(first, "detail");
    const char *reason = json_string_value(json_object_get(detail, "reason"));
    enum error_kind kind = client_response_error_kind(response->status);
    if (reason)
        return error_set(error, kind, "cannot stream (%s): %s", reason,
                         message ? message : "tarn says so");
    return error_set(error, kind, "%d: %s", response->status,
                     message ? message : "tarn gives no reason");
}

static bool take_body(struct client_response *response, struct buffer *out, struct error *error) {
    out->length = 0;
    return buffer_append(out, response->body.bytes ? response->body.bytes : "",
                         response->body.length) ||
           error_set(error, ERROR_MEMORY, "out of memory");
}

bool stream_source_manifest(struct stream_source *source, const char *reference, struct buffer *out,
                            struct digest *digest, struct error *error) {
    cleanup_client_response struct client_response response = {0};
    cleanup_free char *path = NULL;
    struct digest wanted;
    if (asprintf(&path, "/v2/%s/%s/manifests/%s", source->image.host, source->image.repository,
                 reference) < 0) {
        path = NULL;
        return error_set(error, ERROR_MEMORY, "out of memory");
    }
    const struct question question = {
        .path = path, .accept = "Accept: " MEDIA_ACCEPT_MANIFESTS, .limit = MANIFEST_SIZE_LIMIT};
    if (!ask(source, &question, &response, error))
        return false;
    if (response.status != 200)
        return refuse(&response, error);
    bool by_digest = digest_parse(text_of(reference), &wanted);
    if (!take_body(&response, out, error) ||
        !digest_of(by_digest ? wanted.algorithm : DIGEST_SHA256, out->bytes, out->length, digest))
        return error_set(error, ERROR_MEMORY, "out of memory");
    return !by_digest || digest_equal(digest, &wanted) ||
           error_set(error, ERROR_CORRUPT, "the manifest does not have the digest %s", reference);
}

bool stream_source_index(struct stream_source *source, const char *what,
                         const struct digest *digest, struct buffer *out, struct error *error) {
    char text[DIGEST_STRING_SIZE];
    cleanup_free char *path = NULL;
    int64_t until_ms = clock_ms() + WAIT_MS;
    if (asprintf(&path, "/tarn/v1/streaming/%s/%s/%s@%s", what, source->image.host,
                 source->image.repository, digest_format(digest, text)) < 0) {
        path = NULL;
        return error_set(error, ERROR_MEMORY, "out of memory");
    }
    const struct question question = {.path = path, .limit = INDEX_FILE_LIMIT};
    for (;;) {
        cleanup_client_response struct client_response response = {0};
        if (!ask(source, &question, &response, error))
            return false;
        if (response.status == 200)
            return take_body(&response, out, error);
        if (response.status != 404 || response.retry_after_s == 0 || clock_ms() > until_ms)
            return refuse(&response, error);
        clock_sleep_ms(500);
    }
}

bool stream_source_range(struct stream_source *source, bool is_copy, const struct digest *layer,
                         uint64_t first, uint64_t length, struct buffer *out, struct error *error) {
    char text[DIGEST_STRING_SIZE], range[80];
    cleanup_client_response struct client_response response = {0};
    cleanup_free char *path = NULL;
    digest_format(layer, text);
    if ((is_copy ? asprintf(&path, "/tarn/v1/streaming/frames/%s/%s@%s", source->image.host,
                            source->image.repository, text)
                 : asprintf(&path, "/v2/%s/%s/blobs/%s", source->image.host,
                            source->image.repository, text)) < 0) {
        path = NULL;
        return error_set(error, ERROR_MEMORY, "out of memory");
    }
    snprintf(range, sizeof range, "Range: bytes=%" PRIu64 "-%" PRIu64, first, first + length - 1);
    const struct question question = {.path = path, .range = range, .limit = length};
    if (!ask(source, &question, &response, error))
        return false;
    if (response.status != 206)
        return response.status == 200
                   ? error_set(error, ERROR_UNAVAILABLE, "the server ignores ranges")
                   : refuse(&response, error);
    if (response.body.length != length)
        return error_set(error, ERROR_UNAVAILABLE, "the range of %s is %zu bytes long", text,
                         response.body.length);
    return take_body(&response, out, error);
}
