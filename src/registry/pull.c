/* GET and HEAD of manifests and blobs. */
#include <inttypes.h>
#include <stdlib.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "registry/call.h"

enum {
    FIRST_BYTE_MS = 25000, /* a client without a byte of its blob by then gets 504, because
                              containerd >= 2.3 gives up after 30 s without a head */
    COPY_SIZE = 64 << 10,
};

void call_handle_manifest(struct call *call) {
    struct cache_result result;
    struct error error = {0};
    bool is_head = call->request->method == HTTP_HEAD;
    if (!cache_manifest(call->registry->settings.cache, &call->repository, &call->route.reference,
                        is_head, &result, &error)) {
        call_fail_error(call, &error);
        return;
    }
    const struct document *document = result.document;
    call_record_outcome(call, result.outcome);
    if (!call_not_modified(call, &document->digest)) {
        call_add_content_fields(call, &document->digest);
        if (document->has_bytes)
            http_respond(call->exchange, 200, document->media_type, document->bytes,
                         document->length);
        else /* only for HEAD a document may be without bytes */
            http_begin(call->exchange, 200, document->media_type, (int64_t)document->length, NULL);
    }
    document_release(result.document);
}

static void head_blob(struct call *call) {
    uint64_t size;
    enum cache_outcome outcome;
    struct error error = {0};
    const struct digest *digest = &call->route.reference.digest;
    if (!cache_blob_stat(call->registry->settings.cache, &call->repository, digest, &size, &outcome,
                         &error)) {
        call_fail_error(call, &error);
        return;
    }
    call_record_outcome(call, outcome);
    if (call_not_modified(call, digest))
        return;
    call_add_content_fields(call, digest);
    http_begin(call->exchange, 200, "application/octet-stream", (int64_t)size, NULL);
}

/* A client that waits for bytes of a blob, and until when. */
struct waiting {
    const struct http_exchange *exchange;
    int64_t deadline_ms; /* 0: none */
};

static bool still_waiting(void *context) {
    const struct waiting *waiting = context;
    return (waiting->deadline_ms == 0 || clock_ms() < waiting->deadline_ms) &&
           http_client_is_there(waiting->exchange);
}

/* Sends bytes by copying them, because their pages are wiped soon (cache_blob.must_copy). */
static bool send_copy(struct call *call, int fd, uint64_t at, uint64_t end, struct error *error) {
    cleanup_free char *bytes = malloc(COPY_SIZE);
    if (!bytes)
        return error_set(error, ERROR_MEMORY, "no memory to send a blob");
    while (at < end) {
        size_t step = end - at < COPY_SIZE ? (size_t)(end - at) : COPY_SIZE;
        if (!file_read_all_at(fd, bytes, step, at, error))
            return error_wrap(error, "a blob in memory");
        if (!http_send(call->exchange, bytes, step, error))
            return false;
        at += step;
    }
    return true;
}

/* Sends [first, first + length) of the blob as the bytes arrive. Cuts the connection on a failure,
 * so that no client mistakes a part for the whole. */
static void send_blob(struct call *call, struct cache_blob *blob, uint64_t first, uint64_t length) {
    struct waiting waiting = {.exchange = call->exchange};
    const struct cancel cancel = {.is_wanted = still_waiting, .context = &waiting};
    struct error error = {0};
    uint64_t at = first, last = blob->size_known ? first + length : UINT64_MAX, end = first;
    while (at < last) {
        if (!cache_blob_wait(blob, at, &end, &cancel, &error))
            break;
        if (end == at)
            return; /* the end of a blob of unknown size; or nothing is wanted */
        if (end > last)
            end = last;
        if (blob->must_copy ? !send_copy(call, blob->fd, at, end, &error)
                            : !http_send_file(call->exchange, blob->fd, at, end - at, &error)) {
            if (error.kind == ERROR_IO)
                cache_blob_unreadable(blob, &error);
            break;
        }
        at = end;
    }
    if (at < last) {
        text_copy((struct text){error.text, strnlen(error.text, sizeof call->error - 1)},
                  call->error, sizeof call->error);
        http_abort(call->exchange);
    }
}

/* The range that the client asks for, unless If-Range rules it out (RFC 9110 §13.1.5, §14.2). */
static struct http_range wanted_range(struct call *call) {
    char text[DIGEST_STRING_SIZE];
    struct text value = http_field(call->request, "Range");
    struct text condition = http_field(call->request, "If-Range");
    if (!value.at)
        return (struct http_range){.kind = HTTP_RANGE_NONE};
    digest_format(&call->route.reference.digest, text);
    if (condition.at && !memmem(condition.at, condition.length, text, strlen(text)))
        return (struct http_range){.kind = HTTP_RANGE_NONE};
    return http_range_parse(value);
}

static struct blob_range to_blob_range(const struct http_range *range) {
    switch (range->kind) {
    case HTTP_RANGE_NONE:
        break;
    case HTTP_RANGE_FROM:
        return (struct blob_range){.kind = BLOB_FROM, .first = range->first};
    case HTTP_RANGE_FROM_TO:
        return (struct blob_range){
            .kind = BLOB_FROM_TO, .first = range->first, .last = range->last};
    case HTTP_RANGE_LAST:
        return (struct blob_range){.kind = BLOB_LAST, .count = range->count};
    }
    return (struct blob_range){.kind = BLOB_WHOLE};
}

/* Waits for the first byte before the head is sent, so that a failure until then gets a status
 * instead of a cut connection. */
static bool await_first_byte(struct call *call, struct cache_blob *blob, uint64_t first,
                             struct error *error) {
    struct waiting waiting = {.exchange = call->exchange,
                              .deadline_ms = call->began_us / 1000 + FIRST_BYTE_MS};
    const struct cancel cancel = {.is_wanted = still_waiting, .context = &waiting};
    uint64_t end;
    if (cache_blob_wait(blob, first, &end, &cancel, error))
        return true;
    if (error->kind == ERROR_CLOSED && clock_ms() >= waiting.deadline_ms)
        error_set(error, ERROR_TIMEOUT, "upstream %s: no byte of the blob has arrived in time",
                  upstream_host(call->repository.upstream));
    return false;
}

static void send_response(struct call *call, struct cache_blob *blob,
                          const struct http_range *range) {
    struct error error = {0};
    uint64_t first = 0, length = 0;
    const struct digest *digest = &call->route.reference.digest;
    bool partial = range->kind != HTTP_RANGE_NONE && blob->size_known;
    if (blob->size_known && !http_range_apply(range, blob->size, &first, &length)) {
        http_add_field(call->exchange, "Content-Range", "bytes */%" PRIu64, blob->size);
        call_fail(call, 416, "RANGE_INVALID", "the blob has %" PRIu64 " bytes", blob->size);
        return;
    }
    bool whole = !blob->size_known || (first == 0 && length == blob->size);
    cache_blob_want(blob, first, blob->size_known ? first + length : UINT64_MAX, whole);
    if (!await_first_byte(call, blob, first, &error)) {
        call_fail_error(call, &error);
        return;
    }
    call_add_content_fields(call, digest);
    if (partial)
        http_add_field(call->exchange, "Content-Range", "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64,
                       first, first + length - 1, blob->size);
    if (http_begin(call->exchange, partial ? 206 : 200, "application/octet-stream",
                   blob->size_known ? (int64_t)length : HTTP_UNKNOWN_LENGTH, &error))
        send_blob(call, blob, first, length);
    else if (error.kind == ERROR_UNSUPPORTED) /* with HTTP/1.0 and no length, a client cannot tell a
                                                 cut from the end */
        call_fail(call, 502, "UNAVAILABLE",
                  "upstream does not say how long this blob is; send the request with HTTP/1.1");
}

void call_handle_blob(struct call *call) {
    if (call->request->method == HTTP_HEAD) {
        head_blob(call);
        return;
    }
    struct cache_blob blob;
    struct error error = {0};
    struct http_range range = wanted_range(call);
    struct blob_range first = to_blob_range(&range);
    if (!cache_blob_open(call->registry->settings.cache, &call->repository,
                         &call->route.reference.digest, &first, &blob, &error)) {
        call_fail_error(call, &error);
        return;
    }
    call_record_outcome(call, blob.outcome);
    if (!call_not_modified(call, &call->route.reference.digest))
        send_response(call, &blob, &range);
    cache_blob_close(&blob);
}
