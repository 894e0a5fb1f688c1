/* Hands a client's request to an upload on to the replica that holds it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "registry/call.h"
#include "registry/sessions.h"
#include "replica/pass.h"

enum {
    ANSWER_LEAST_MS =
        60000, /* beside the patience with upstream, of which each phase has its own */
    PATH_SIZE = sizeof "/v2//blobs/uploads/" + HOST_LIMIT + NAME_LIMIT + SEALED_ID_SIZE + 2,
    LINE_SIZE = 160,
};

/* The client's body on its way. */
struct handed_body {
    struct http_exchange *exchange;
    bool is_begun;           /* some of it was taken */
    enum error_kind failure; /* why it ended too early; NONE: it did not */
};

static ssize_t read_body(void *context, uint64_t offset, void *out, size_t size,
                         struct error *error) {
    struct handed_body *body = context;
    (void)offset;
    ssize_t got = http_receive(body->exchange, out, size, 0, error);
    if (got == HTTP_BODY_NOTHING)
        return CLIENT_SOURCE_NOTHING;
    body->is_begun = true;
    if (got != HTTP_BODY_FAILED)
        return got;
    body->failure = error->kind;
    return CLIENT_SOURCE_FAILED;
}

/* The query without `ns`: the path that is asked for names the host. False: no memory. */
static bool write_query(const struct call *call, struct buffer *out) {
    for (struct text rest = call->request->query; rest.at;) {
        struct text behind, part = text_cut(rest, '&', &rest), key = text_cut(part, '=', &behind);
        char name[8];
        if (text_percent_decode(key, name, sizeof name) && strcmp(name, "ns") == 0)
            continue;
        if (out->length)
            buffer_append(out, "&", 1);
        buffer_append(out, part.at, part.length);
    }
    return !out->failed && out->bytes;
}

/* The lines of the head that are handed on. */
struct handed_lines {
    char range[LINE_SIZE];
    struct trace_lines trace;
    const char *all[REPLICA_PASS_FIELDS + 1];
};

static void write_lines(const struct call *call, struct handed_lines *lines) {
    const struct http_request *request = call->request;
    const struct text range = http_field(request, "Content-Range");
    size_t used = 0;
    if (range.at) {
        /* Two fields, or an endless one, are as malformed as this. */
        bool is_one = http_field_alone(request, "Content-Range").at && range.length < 100;
        const struct text value = is_one ? range : text_of("malformed");
        snprintf(lines->range, sizeof lines->range, "Content-Range: %.*s", TEXT_PRINT(value));
        lines->all[used++] = lines->range;
    }
    used += trace_write_lines(&call->trace, &lines->trace, &lines->all[used]);
    lines->all[used] = NULL;
}

/* ---- the answer ---- */

/* Adds the session's address as the client names it. */
static void add_location(struct call *call, const char *location) {
    struct text query, path = text_cut(text_of(location), '?', &query);
    const char *slash = memrchr(path.at, '/', path.length);
    char id[SEALED_ID_SIZE], rest[sizeof "blobs/uploads/" + SEALED_ID_SIZE];
    cleanup_free char *state = query.at ? strndup(query.at, query.length) : NULL;
    if (!slash || !state ||
        !text_copy(text_from(path, (size_t)(slash - path.at) + 1), id, sizeof id))
        return;
    snprintf(rest, sizeof rest, "blobs/uploads/%s", id);
    call_add_location(call, rest, state);
}

static void add_field(struct call *call, const char *name, const char *value) {
    if (value[0])
        http_add_field(call->exchange, name, "%s", value);
}

static void answer(struct call *call, const struct replica_passed *passed) {
    char rest[sizeof "blobs/" + DIGEST_STRING_SIZE];
    struct digest digest;
    if (passed->status == 201 && digest_parse(text_of(passed->digest), &digest)) {
        snprintf(rest, sizeof rest, "blobs/%s", passed->digest);
        call_add_location(call, rest, "");
        add_field(call, "Docker-Content-Digest", passed->digest);
        call->digest = digest;
    } else if (passed->location[0]) {
        add_location(call, passed->location);
        add_field(call, "Range", passed->range);
        add_field(call, "Docker-Upload-UUID", passed->uuid);
        add_field(call, "OCI-Chunk-Min-Length", passed->least_chunk);
    }
    if (passed->retry_after_s)
        http_add_field(call->exchange, "Retry-After", "%d", passed->retry_after_s);
    if (passed->status / 100 == 2) {
        call_add_fields(call);
        http_respond(call->exchange, passed->status, NULL, passed->status == 204 ? NULL : "", 0);
        return;
    }
    call->is_failing = passed->status >= 500;
    call_fail(call, passed->status >= 400 ? passed->status : 502,
              passed->refusal.code[0] ? passed->refusal.code : "UNKNOWN", "%s",
              passed->refusal.text[0] ? passed->refusal.text : "the replica says no more");
}

static void fail_on_the_way(struct call *call, const struct error *error) {
    http_add_field(call->exchange, "Retry-After", "%d", 1);
    call_fail(call, 503, "UNAVAILABLE",
              "the replica that holds the upload has broken off; GET says where the upload stands "
              "(%s)",
              error->text);
}

/* The client's body, or this tarn itself, has failed. */
static void fail_here(struct call *call, const struct handed_body *body,
                      const struct error *error) {
    if (body->failure == ERROR_INVALID)
        call_fail(call, 400, "BLOB_UPLOAD_INVALID", "%s", error->text);
    else if (body->failure != ERROR_NONE || error->kind == ERROR_CLOSED)
        call_drop(call);
    else
        call_fail_write(call, error);
}

/* ---- the request ---- */

static enum replica_outcome hand_on(struct call *call, const struct member *holder,
                                    struct handed_body *source, struct replica_passed *passed,
                                    struct error *error) {
    const struct repository_name *name = &call->repository.name;
    const struct client_source bytes = {
        .context = source, .read = read_body, .wake_fd = http_body_fd(call->exchange)};
    cleanup_buffer struct buffer query = {0};
    cleanup_free struct handed_lines *lines = malloc(sizeof *lines);
    char path[PATH_SIZE];
    uint64_t length;
    bool known = http_body_length(call->exchange, &length);
    if (!lines || !write_query(call, &query)) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return REPLICA_STOPPED;
    }
    write_lines(call, lines);
    snprintf(path, sizeof path, "/v2/%s/%s/blobs/uploads/%s", name->host, name->path,
             call->route.upload);
    struct client_body body = {.bytes = ""};
    if (!known || length > 0)
        body = (struct client_body){.source = &bytes,
                                    .length = known ? length : CLIENT_LENGTH_UNKNOWN};
    char method[8];
    text_copy(call->request->method_name, method, sizeof method);
    const struct replica_pass pass = {
        .member = holder,
        .method = method,
        .path = path,
        .query = query.bytes,
        .fields = lines->all,
        .body = body,
        .answer_ms =
            ANSWER_LEAST_MS + 4 * upstream_settings(call->repository.upstream)->push_patience_ms,
        .cancel = &call->cancel,
    };
    return replica_asker_pass(call->registry->settings.asker, &pass, passed, error);
}

bool call_hand_on_upload(struct call *call, const struct member *holder) {
    struct handed_body body = {.exchange = call->exchange};
    struct error error = {0};
    cleanup_free struct replica_passed *passed = malloc(sizeof *passed);
    enum replica_outcome outcome = REPLICA_STOPPED;
    if (passed)
        outcome = hand_on(call, holder, &body, passed, &error);
    else
        error_set(&error, ERROR_MEMORY, "out of memory");
    bool is_gone = outcome == REPLICA_DOWN || outcome == REPLICA_REFUSED;
    if (is_gone && !body.is_begun)
        return false;
    if (outcome == REPLICA_GAVE)
        answer(call, passed);
    else if (outcome == REPLICA_STOPPED || body.failure != ERROR_NONE)
        fail_here(call, &body, &error);
    else
        fail_on_the_way(call, &error);
    return true;
}
