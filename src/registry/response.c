/* The common parts of responses: fields, error bodies, and the status of each kind of error. */
#include <stdarg.h>
#include <stdio.h>
#include "oci/error_body.h"
#include "registry/call.h"

static bool is_api(const struct call *call) {
    return call->route.host[0] || text_starts(call->request->path, "/v2");
}

void call_add_fields(struct call *call) {
    if (is_api(call))
        http_add_field(call->exchange, "Docker-Distribution-Api-Version", "registry/2.0");
    if (call->ns[0])
        http_add_field(call->exchange, "OCI-Namespace", "%s", call->ns);
}

/* Cache-Status (RFC 9211). A request is forwarded as `stale` both when upstream then confirms the
 * document, and when upstream fails and the stale document is served. */
const char *call_cache_status(enum cache_outcome outcome) {
    switch (outcome) {
    case CACHE_HIT:
        return "tarn; hit";
    case CACHE_MISS:
        return "tarn; fwd=miss";
    case CACHE_JOINED:
        return "tarn; fwd=miss; collapsed";
    case CACHE_REVALIDATED:
        return "tarn; fwd=stale; fwd-status=304";
    case CACHE_STALE:
        return "tarn; fwd=stale; detail=upstream-failed";
    case CACHE_BUCKET:
        return "tarn; fwd=miss; detail=bucket";
    case CACHE_REPLICA:
        return "tarn; fwd=miss; detail=replica";
    case CACHE_REPLICA_JOINED:
        return "tarn; fwd=miss; collapsed; detail=replica";
    }
    return "tarn";
}

void call_add_content_fields(struct call *call, const struct digest *digest) {
    call_add_fields(call);
    if (digest) {
        char text[DIGEST_STRING_SIZE];
        digest_format(digest, text);
        http_add_field(call->exchange, "Docker-Content-Digest", "%s", text);
        http_add_field(call->exchange, "ETag", "\"%s\"", text);
    }
    http_add_field(call->exchange, "Accept-Ranges", "bytes");
    if (call->has_outcome)
        http_add_field(call->exchange, "Cache-Status", "%s", call_cache_status(call->outcome));
}

bool call_would_be_304(const struct call *call, const struct digest *digest) {
    struct text wanted = http_field(call->request, "If-None-Match");
    char text[DIGEST_STRING_SIZE];
    if (!wanted.at)
        return false;
    digest_format(digest, text);
    return text_is(text_trim(wanted), "*") ||
           memmem(wanted.at, wanted.length, text, strlen(text)) != NULL;
}

bool call_not_modified(struct call *call, const struct digest *digest) {
    if (!call_would_be_304(call, digest))
        return false;
    call_add_content_fields(call, digest);
    http_respond(call->exchange, 304, NULL, NULL, 0);
    return true;
}

void call_fail(struct call *call, int status, const char *code, const char *format, ...) {
    char message[700];
    cleanup_buffer struct buffer body = {0};
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    text_copy((struct text){message, strnlen(message, sizeof call->error - 1)}, call->error,
              sizeof call->error);
    if (call->is_failing)
        page_note_error(call->registry->page, &call->repository, call->reference, status, message);
    error_body_write(&body, code, message, http_exchange_id(call->exchange));
    call_add_fields(call);
    http_respond(call->exchange, status, "application/json", body.bytes, body.length);
}

static const char *unknown_code(const struct call *call, const struct error *error) {
    static const char *const known[] = {"MANIFEST_UNKNOWN", "BLOB_UNKNOWN", "NAME_UNKNOWN"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(error->code, known[i]) == 0)
            return known[i];
    }
    switch (call->route.kind) {
    case ROUTE_BLOB:
        return "BLOB_UNKNOWN";
    case ROUTE_MANIFEST:
        return "MANIFEST_UNKNOWN";
    default:
        return "NAME_UNKNOWN";
    }
}

/* The kind of an upstream's failure in a few words. */
static const char *failure_of(const struct error *error) {
    if (error->kind == ERROR_TIMEOUT)
        return "no response in time";
    if (error->kind == ERROR_BUSY)
        return "too many requests in progress";
    if (error->kind == ERROR_CORRUPT)
        return "wrong bytes";
    const char *reason = error_reason_text(error->reason);
    return reason ? reason : "failed";
}

/* Writes the reason phrase of a 502, 503 or 504: kubelet shows people the status line only. */
static void explain(struct call *call, const struct error *error,
                    char out[static HTTP_REASON_LIMIT + 1]) {
    if (!call->repository.upstream)
        return;
    const char *host = call->repository.name.host;
    if (error->kind == ERROR_UNAVAILABLE && error->status > 0)
        snprintf(out, HTTP_REASON_LIMIT + 1, "upstream %.60s: status %d", host, error->status);
    else
        snprintf(out, HTTP_REASON_LIMIT + 1, "upstream %.60s: %s", host, failure_of(error));
    http_set_reason(call->exchange, out);
}

/* A fault of tarn's own in words for everybody; NULL: the error is none. */
static const char *inside_of(const struct error *error) {
    switch (error->kind) {
    case ERROR_MEMORY:
        return "tarn is out of memory";
    case ERROR_FILES:
        return "tarn has too many open files";
    case ERROR_NO_SPACE:
        return "tarn's disk is full";
    case ERROR_IO:
        return "tarn's disk or system failed";
    case ERROR_CLOSED:
        return "tarn ended the request";
    case ERROR_NONE:
        return "tarn failed";
    default:
        return NULL;
    }
}

/* A fault of tarn's own. Its text names files of this machine, so it goes to the log alone. */
static void fail_inside(struct call *call, const struct error *error) {
    const struct upstream *upstream = call->repository.upstream;
    const bool passes = error->kind == ERROR_FILES; /* as soon as other requests have ended */
    const char *what = inside_of(error);
    if (passes)
        http_add_field(call->exchange, "Retry-After", "%d", 1);
    call_fail(call, passes ? 503 : 500, passes ? "UNAVAILABLE" : "UNKNOWN",
              "%s%s%s%s; its log says why", upstream ? "upstream " : "",
              upstream ? call->repository.name.host : "", upstream ? ": " : "", what);
    text_copy((struct text){error->text, strnlen(error->text, sizeof call->error - 1)}, call->error,
              sizeof call->error);
}

void call_drop(struct call *call) {
    text_copy(text_of("the client has left"), call->error, sizeof call->error);
    http_abort(call->exchange);
}

enum { RETRY_AFTER_MOST_S = 60 }; /* by then tarn asks upstream again */

static void answer_error(struct call *call, const struct error *error) {
    int retry_after_s =
        error->retry_after_s < RETRY_AFTER_MOST_S ? error->retry_after_s : RETRY_AFTER_MOST_S;
    int status = error->reason == ERROR_REASON_NOT_ASKED ? 503 : 502;
    char reason[HTTP_REASON_LIMIT + 1];
    switch (error->kind) {
    case ERROR_NOT_FOUND:
        call_fail(call, 404, unknown_code(call, error), "%s", error->text);
        return;
    case ERROR_DENIED:
        call_fail(call, 403, "DENIED", "%s", error->text);
        return;
    case ERROR_INVALID:
        call_fail(call, 400, "UNSUPPORTED", "%s", error->text);
        return;
    case ERROR_RATE_LIMITED:
        http_add_field(call->exchange, "Retry-After", "%d", retry_after_s > 0 ? retry_after_s : 1);
        call_fail(call, 429, "TOOMANYREQUESTS", "%s", error->text);
        return;
    case ERROR_TIMEOUT:
        explain(call, error, reason);
        call_fail(call, 504, "UNAVAILABLE", "%s", error->text);
        return;
    case ERROR_BUSY:
        explain(call, error, reason);
        http_add_field(call->exchange, "Retry-After", "%d", retry_after_s > 0 ? retry_after_s : 1);
        call_fail(call, 503, "UNAVAILABLE", "%s", error->text);
        return;
    case ERROR_UNAVAILABLE:
        if (retry_after_s > 0)
            http_add_field(call->exchange, "Retry-After", "%d", retry_after_s);
        /* fall through */
    case ERROR_CORRUPT:
    case ERROR_RANGE:
    case ERROR_UNSUPPORTED:
        explain(call, error, reason);
        call_fail(call, status, "UNAVAILABLE", "%s", error->text);
        return;
    case ERROR_CLOSED:
        if (!cancel_check(&call->cancel, NULL)) {
            call_drop(call);
            return;
        }
        break;
    case ERROR_NONE:
    case ERROR_NO_SPACE:
    case ERROR_IO:
    case ERROR_MEMORY:
    case ERROR_FILES:
        break;
    }
    fail_inside(call, error);
}

/* Whether people who look after tarn should know of it. */
static bool is_failure(const struct call *call, const struct error *error) {
    return call->repository.upstream && error->kind != ERROR_NOT_FOUND &&
           error->kind != ERROR_INVALID && error->kind != ERROR_CLOSED;
}

void call_fail_error(struct call *call, const struct error *error) {
    call->is_failing = is_failure(call, error);
    if (call->answer == REPLICA_ANSWER_NONE && call->asks_cache)
        call_set_error_answer(call, error);
    answer_error(call, error);
    call->is_failing = false;
}

void call_note_cut(struct call *call, const struct error *error) {
    if (is_failure(call, error))
        page_note_error(call->registry->page, &call->repository, call->reference,
                        http_exchange_status(call->exchange),
                        inside_of(error) ? inside_of(error) : error->text);
}

void call_record_outcome(struct call *call, enum cache_outcome outcome) {
    call->has_outcome = true;
    call->outcome = outcome;
}
