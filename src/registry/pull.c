/* GET and HEAD of manifests and blobs. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/clock.h"
#include "registry/call.h"
#include "upstream/push.h"

enum {
    FIRST_BYTE_MS = 25000, /* a client without a byte of its blob by then gets 504, because
                              containerd >= 2.3 gives up after 30 s without a head */
};

/* ---- manifests ---- */

static void keep_document(void *owner) {
    document_keep(owner);
}

static void release_document(void *owner) {
    document_release(owner);
}

/* The head of a response with a document that was found in memory; one for each document. */
struct hit_head {
    struct document_derived derived;
    struct http_composed *composed;
};

static void free_hit_head(struct document_derived *derived) {
    struct hit_head *head = (struct hit_head *)derived;
    free(head->composed);
    free(head);
}

static struct http_composed *compose(const struct document *document, const char *type) {
    char digest[DIGEST_STRING_SIZE], etag[DIGEST_STRING_SIZE + 2];
    digest_format(&document->digest, digest);
    snprintf(etag, sizeof etag, "\"%s\"", digest);
    const struct http_field fields[] = {
        {text_of("Docker-Distribution-Api-Version"), text_of("registry/2.0")},
        {text_of("Docker-Content-Digest"), text_of(digest)},
        {text_of("ETag"), text_of(etag)},
        {text_of("Accept-Ranges"), text_of("bytes")},
        {text_of("Cache-Status"), text_of(call_cache_status(CACHE_HIT))},
    };
    return http_compose(200, type, document->length, fields, sizeof fields / sizeof *fields);
}

/* `blob_type`: the media type; NULL: that of a manifest. NULL: out of memory. */
static const struct http_composed *head_of(struct document *document, const char *blob_type) {
    char type[MEDIA_TYPE_SIZE];
    struct document_derived *derived = document_derived(document);
    if (derived)
        return ((struct hit_head *)derived)->composed;
    struct hit_head *made = malloc(sizeof *made);
    struct http_composed *composed =
        compose(document, blob_type ? blob_type : media_type_of(document, type));
    if (!made || !composed) {
        free(made);
        free(composed);
        return NULL;
    }
    *made = (struct hit_head){{free_hit_head}, composed};
    return ((struct hit_head *)document_set_derived(document, &made->derived))->composed;
}

/* The document's bytes, which a slow client keeps in memory instead of a worker. */
static struct http_content content_of(struct document *document) {
    return (struct http_content){.bytes = document->bytes,
                                 .length = document->length,
                                 .owner = document,
                                 .keep = keep_document,
                                 .release = release_document};
}

static void respond_hit(struct call *call, struct document *document,
                        const struct http_composed *head) {
    const struct http_content content = content_of(document);
    if (call->ns[0])
        http_add_field(call->exchange, "OCI-Namespace", "%s", call->ns);
    http_respond_composed(call->exchange, head, document->has_bytes ? &content : NULL);
}

static void respond_document(struct call *call, struct document *document) {
    call->digest = document->digest;
    if (call_not_modified(call, &document->digest))
        return;
    if (call->request->method == HTTP_GET && call->ask == REPLICA_ASK_NONE)
        page_note_pull(call->registry->page, &call->repository.name, &document->digest);
    const struct http_composed *head = call->outcome == CACHE_HIT ? head_of(document, NULL) : NULL;
    if (head) {
        respond_hit(call, document, head);
        return;
    }
    char space[MEDIA_TYPE_SIZE];
    const char *type = media_type_of(document, space);
    const struct http_content content = content_of(document);
    call_add_content_fields(call, &document->digest);
    if (document->has_bytes)
        http_respond_shared(call->exchange, 200, type, &content);
    else /* only for HEAD a document may be without bytes */
        http_begin(call->exchange, 200, type, (int64_t)document->length, NULL);
}

/* Finds the manifest; CACHE_HELD_ABSENT stands for every failure. */
static enum cache_held find_manifest(struct call *call, struct cache_result *result,
                                     struct error *error) {
    struct cache *cache = call->registry->settings.cache;
    bool is_head = call->request->method == HTTP_HEAD;
    if (call->must_not_wait)
        return cache_manifest_held(cache, &call->repository, &call->route.reference, is_head,
                                   result, error);
    const struct cache_caller caller = call_caller(call);
    return cache_manifest(cache, &caller, &call->route.reference, is_head, result, error)
               ? CACHE_HELD
               : CACHE_HELD_ABSENT;
}

bool call_handle_manifest(struct call *call) {
    struct cache_result result = {0};
    struct error error = {0};
    switch (find_manifest(call, &result, &error)) {
    case CACHE_NOT_HELD:
        return false;
    case CACHE_HELD_ABSENT:
        call_set_life(call, result.age_ms, result.max_age_ms);
        call_fail_error(call, &error);
        return true;
    case CACHE_HELD:
        break;
    }
    if (call->must_not_wait && !document_derived(result.document) &&
        media_type_is_costly(result.document)) {
        document_release(result.document);
        return false;
    }
    call_record_outcome(call, result.outcome);
    call_set_answer(call, REPLICA_ANSWER_HELD);
    call_set_life(call, result.age_ms, result.max_age_ms);
    respond_document(call, result.document);
    document_release(result.document);
    return true;
}

/* ---- the head of a blob ---- */

static const char blob_type[] = "application/octet-stream";

static void respond_head(struct call *call, uint64_t size, enum cache_outcome outcome) {
    const struct digest *digest = &call->route.reference.digest;
    call_record_outcome(call, outcome);
    call_set_answer(call, REPLICA_ANSWER_HELD);
    call_set_link_life(call);
    if (call_not_modified(call, digest))
        return;
    call_add_content_fields(call, digest);
    http_begin(call->exchange, 200, blob_type, (int64_t)size, NULL);
}

static void head_blob(struct call *call) {
    uint64_t size;
    enum cache_outcome outcome;
    struct error error = {0};
    if (call->ask == REPLICA_ASK_ARRIVING) { /* nobody asks for a head of what is arriving */
        call_answer_no(call);
        return;
    }
    const struct cache_caller caller = call_caller(call);
    if (cache_blob_stat(call->registry->settings.cache, &caller, &call->route.reference.digest,
                        &size, &outcome, &error))
        respond_head(call, size, outcome);
    else
        call_fail_error(call, &error);
}

/* Answers without waiting: HEAD, and a condition that makes the response 304. */
static bool answer_known_blob(struct call *call) {
    uint64_t size;
    const struct digest *digest = &call->route.reference.digest;
    bool is_head = call->request->method == HTTP_HEAD;
    if ((!is_head && !call_would_be_304(call, digest)) ||
        !cache_blob_known(call->registry->settings.cache, &call->repository, digest, &size))
        return false;
    respond_head(call, size, CACHE_HIT);
    return true;
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

/* ---- the body of a blob ---- */

/* A response whose body is being sent. It outlives the worker's turn, because a client that takes
 * no more for the moment waits without a worker. */
struct download {
    struct call call;
    struct cache_blob blob;
    uint64_t at, last; /* the next byte, and the end; UINT64_MAX: the end is not known yet */
};

enum progress { PROGRESS_DONE, PROGRESS_PARKED, PROGRESS_FAILED };

/* Sends bytes as they arrive, as long as the client takes them. */
static enum progress send_bytes(struct download *download, struct error *error) {
    struct cache_blob *blob = &download->blob;
    struct http_exchange *exchange = download->call.exchange;
    struct waiting waiting = {.exchange = exchange};
    const struct cancel cancel = {.is_wanted = still_waiting, .context = &waiting};
    while (download->at < download->last) {
        uint64_t end = download->at, sent;
        if (!cache_blob_wait(blob, download->at, &end, &cancel, error)) {
            call_note_cut(&download->call, error);
            return PROGRESS_FAILED;
        }
        if (end == download->at)
            return PROGRESS_DONE; /* the end of a blob of unknown size; or nothing is wanted */
        if (end > download->last)
            end = download->last;
        const struct http_file file = {.fd = blob->fd,
                                       .offset = download->at,
                                       .length = end - download->at,
                                       .must_copy = blob->must_copy};
        bool went_on = http_send_file(exchange, &file, &sent, error);
        download->at += sent;
        if (!went_on && error->kind == ERROR_IO)
            cache_blob_unreadable(blob, error);
        if (!went_on)
            return PROGRESS_FAILED;
        if (sent < file.length)
            return PROGRESS_PARKED;
    }
    return PROGRESS_DONE;
}

static void end_download(struct download *download) {
    cache_blob_close(&download->blob);
    call_end(&download->call);
    free(download);
}

/* Goes on with a body. Cuts the connection on a failure, so that no client mistakes a part for the
 * whole. */
static void send_on(void *state, struct http_exchange *exchange) {
    struct download *download = state;
    struct error error = {0};
    trace_set(&download->call.trace); /* the blob may have to be asked for again */
    enum progress progress = send_bytes(download, &error);
    trace_set(NULL);
    if (progress == PROGRESS_PARKED) {
        http_park(exchange, send_on, download);
        return;
    }
    if (progress == PROGRESS_FAILED) {
        char *out = download->call.error;
        size_t size = sizeof download->call.error;
        text_copy((struct text){error.text, strnlen(error.text, size - 1)}, out, size);
        http_abort(exchange);
    }
    end_download(download);
}

/* Sends [first, first + length) of the blob. The download takes over the blob and the call. */
static void send_blob(struct call *call, struct cache_blob *blob, uint64_t first, uint64_t length) {
    struct download *download = malloc(sizeof *download);
    if (!download) {
        text_copy(text_of("out of memory"), call->error, sizeof call->error);
        http_abort(call->exchange);
        return;
    }
    download->call = *call;
    download->blob = *blob;
    download->at = first;
    download->last = blob->size_known ? first + length : UINT64_MAX;
    *blob = (struct cache_blob){.fd = -1};
    call->is_handed_on = true;
    download->call.first_byte_us = clock_us(); /* its bytes are here */
    send_on(download, call->exchange);
}

/* ---- the response to a blob ---- */

/* Whether the condition is our ETag. The comparison is the strong one, so that a weak tag
 * (W/"…") never matches (RFC 9110 §13.1.5). */
static bool is_own_tag(struct text condition, const char *digest) {
    size_t length = strlen(digest);
    return condition.length == length + 2 && condition.at[0] == '"' &&
           condition.at[length + 1] == '"' && memcmp(condition.at + 1, digest, length) == 0;
}

/* The range that the client asks for, unless If-Range rules it out (RFC 9110 §13.1.5, §14.2). */
static struct http_range wanted_range(struct call *call) {
    char text[DIGEST_STRING_SIZE];
    struct text value = http_field(call->request, "Range");
    struct text condition = http_field(call->request, "If-Range");
    if (!value.at)
        return (struct http_range){.kind = HTTP_RANGE_NONE};
    digest_format(&call->route.reference.digest, text);
    if (condition.at && !is_own_tag(text_trim(condition), text))
        return (struct http_range){.kind = HTTP_RANGE_NONE};
    return http_range_parse(value);
}

static void refuse_range(struct call *call, uint64_t size) {
    http_add_field(call->exchange, "Content-Range", "bytes */%" PRIu64, size);
    call_fail(call, 416, "RANGE_INVALID", "the blob has %" PRIu64 " bytes", size);
}

static void add_content_range(struct call *call, uint64_t first, uint64_t length, uint64_t size) {
    http_add_field(call->exchange, "Content-Range", "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, first,
                   first + length - 1, size);
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
    case HTTP_RANGE_SEVERAL:
        if (range->count > 0) /* the size decides where the covering range begins */
            break;
        return (struct blob_range){
            .kind = BLOB_FROM_TO, .first = range->first, .last = range->last};
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
                  call->repository.name.host);
    return false;
}

static void send_response(struct call *call, struct cache_blob *blob,
                          const struct http_range *range) {
    struct error error = {0};
    uint64_t first = 0, length = 0;
    const struct digest *digest = &call->route.reference.digest;
    bool partial = range->kind != HTTP_RANGE_NONE && blob->size_known;
    if (blob->size_known && !http_range_apply(range, blob->size, &first, &length)) {
        call_set_answer(call, blob->answer);
        refuse_range(call, blob->size);
        return;
    }
    bool whole = !blob->size_known || (first == 0 && length == blob->size);
    cache_blob_want(blob, first, blob->size_known ? first + length : UINT64_MAX, whole);
    if (!await_first_byte(call, blob, first, &error)) {
        call_fail_error(call, &error);
        return;
    }
    call_set_answer(call, blob->answer);
    if (blob->answer == REPLICA_ANSWER_HELD)
        call_set_link_life(call);
    call_add_content_fields(call, digest);
    if (partial)
        add_content_range(call, first, length, blob->size);
    if (http_begin(call->exchange, partial ? 206 : 200, blob_type,
                   blob->size_known ? (int64_t)length : HTTP_UNKNOWN_LENGTH, &error))
        send_blob(call, blob, first, length);
    else if (error.kind == ERROR_UNSUPPORTED) /* with HTTP/1.0 and no length, a client cannot tell a
                                                 cut from the end */
        call_fail(call, 502, "UNAVAILABLE",
                  "upstream does not say how long this blob is; send the request with HTTP/1.1");
}

static void get_blob(struct call *call) {
    struct cache_blob blob;
    struct error error = {0};
    struct http_range range = wanted_range(call);
    struct blob_range first = to_blob_range(&range);
    const struct cache_caller caller = call_caller(call);
    if (!cache_blob_open(call->registry->settings.cache, &caller, &call->route.reference.digest,
                         &first, &blob, &error)) {
        if (blob.answer == REPLICA_ANSWER_NO)
            call_answer_no(call);
        else
            call_fail_error(call, &error);
        return;
    }
    call_record_outcome(call, blob.outcome);
    if (!call_not_modified(call, &call->route.reference.digest))
        send_response(call, &blob, &range);
    cache_blob_close(&blob);
}

/* HEAD of a client that may push: the answer decides whether it sends the blob, so upstream gives
 * it. */
static void head_for_push(struct call *call) {
    const struct digest *digest = &call->route.reference.digest;
    const struct push_settings settings = {
        .patience_ms = FIRST_BYTE_MS / 2,
        .cancel = &call->cancel,
    };
    struct error error = {0};
    uint64_t size;
    if (push_has_blob(&call->repository, &settings, digest, &size, &error))
        respond_head(call, size, CACHE_MISS);
    else
        call_fail_error(call, &error);
}

/* ---- a blob in memory ---- */

/* Sends what the client wants of the blob. */
static void respond_held(struct call *call, struct document *document) {
    const struct digest *digest = &document->digest;
    struct http_content content = content_of(document);
    const struct http_range range = wanted_range(call);
    uint64_t first, length;
    call_record_outcome(call, CACHE_HIT);
    if (!http_range_apply(&range, document->length, &first, &length)) {
        refuse_range(call, document->length);
        return;
    }
    const bool partial = range.kind != HTTP_RANGE_NONE;
    const struct http_composed *head = partial ? NULL : head_of(document, blob_type);
    if (head) {
        respond_hit(call, document, head);
        return;
    }
    content.bytes = document->bytes + first;
    content.length = (size_t)length;
    call_add_content_fields(call, digest);
    if (partial)
        add_content_range(call, first, length, document->length);
    http_respond_shared(call->exchange, partial ? 206 : 200, blob_type, &content);
}

/* Answers from memory alone. False: only a call that may wait can answer. */
static bool answer_held_blob(struct call *call) {
    struct cache_result result;
    if (answer_known_blob(call))
        return true;
    if (call->request->method != HTTP_GET ||
        cache_blob_held(call->registry->settings.cache, &call->repository,
                        &call->route.reference.digest, &result) != CACHE_HELD)
        return false;
    respond_held(call, result.document);
    document_release(result.document);
    return true;
}

bool call_handle_blob(struct call *call) {
    bool is_head = call->request->method == HTTP_HEAD, pushes = is_head && call_may_push(call);
    if (call->must_not_wait)
        return !pushes && answer_held_blob(call);
    if (pushes)
        head_for_push(call);
    else if (is_head)
        head_blob(call);
    else
        get_blob(call);
    return true;
}
