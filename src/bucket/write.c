/* Writes and deletes objects. */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "base/buffer.h"
#include "bucket/bucket_private.h"
#include "bucket/payload.h"

#define DATA_TYPE "application/octet-stream"

/* Sets the body, with its hash where a signature needs it. */
static bool set_body(struct bucket_ask *ask, const struct client_body *body, const char *sha256,
                     char hash[static BUCKET_PAYLOAD_SIZE]) {
    ask->body = *body;
    if (sha256 || bucket_bears_token(ask->bucket) || body->length == 0) {
        ask->payload = sha256;
        return true;
    }
    ask->payload = hash;
    if (bucket_payload_hash(body, hash, ask->error))
        return true;
    ask->outcome = BUCKET_STOPPED;
    bucket_tell_failure(ask);
    return false;
}

bool bucket_put(struct bucket *bucket, const struct bucket_put *put,
                const struct bucket_limits *limits, struct bucket_answer *answer,
                struct error *error) {
    struct bucket_ask ask;
    char full[BUCKET_KEY_LIMIT + 1], hash[BUCKET_PAYLOAD_SIZE];
    if (!bucket_ask_init(&ask, bucket, OPERATION_PUT, put->key, full, limits, error) ||
        !set_body(&ask, &put->body, put->sha256, hash))
        return bucket_ask_give_up(&ask, answer);
    ask.stores = true;
    ask.conditional = put->create_only;
    bucket_ask_field(&ask, "Content-Type", put->content_type ? put->content_type : DATA_TYPE);
    bool ok = bucket_ask_run(&ask, answer);
    bucket_ask_finish(&ask);
    return ok;
}

/* What is not there (`gone`) is removed already. */
static bool run_removal(struct bucket_ask *ask, enum bucket_outcome gone,
                        struct bucket_answer *answer) {
    bool ok = bucket_ask_run(ask, answer);
    if (ask->outcome == gone) {
        error_clear(ask->error);
        ok = true;
        if (answer)
            answer->outcome = BUCKET_DONE;
    }
    bucket_ask_finish(ask);
    return ok;
}

bool bucket_delete(struct bucket *bucket, const char *key, const struct bucket_limits *limits,
                   struct bucket_answer *answer, struct error *error) {
    struct bucket_ask ask;
    char full[BUCKET_KEY_LIMIT + 1];
    if (!bucket_ask_init(&ask, bucket, OPERATION_DELETE, key, full, limits, error))
        return bucket_ask_give_up(&ask, answer);
    return run_removal(&ask, BUCKET_ABSENT, answer);
}

/* ---- parts ---- */

bool bucket_upload_begin(struct bucket *bucket, struct bucket_upload *upload,
                         const struct bucket_limits *limits, struct bucket_answer *answer,
                         struct error *error) {
    struct bucket_ask ask;
    char full[BUCKET_KEY_LIMIT + 1];
    upload->id[0] = '\0';
    if (!bucket_ask_init(&ask, bucket, OPERATION_CREATE, upload->key, full, limits, error))
        return bucket_ask_give_up(&ask, answer);
    ask.stores = true;
    bucket_ask_query(&ask, "uploads", NULL);
    bucket_ask_field(&ask, "Content-Type", upload->content_type ? upload->content_type : DATA_TYPE);
    bool ok = bucket_ask_run(&ask, answer);
    if (ok &&
        !bucket_document_upload((struct text){ask.response.body.bytes, ask.response.body.length},
                                upload->id, ask.error)) {
        ok = false;
        bucket_tell_failure(&ask);
        if (answer)
            answer->outcome = ask.error->kind == ERROR_MEMORY ? BUCKET_STOPPED : BUCKET_UNREACHABLE;
    }
    bucket_ask_finish(&ask);
    return ok;
}

bool bucket_upload_part(struct bucket *bucket, const struct bucket_upload *upload, unsigned number,
                        const struct client_body *body, struct bucket_part *part,
                        const struct bucket_limits *limits, struct bucket_answer *answer,
                        struct error *error) {
    struct bucket_ask ask;
    char full[BUCKET_KEY_LIMIT + 1], hash[BUCKET_PAYLOAD_SIZE], numeral[16];
    const char *endpoint = bucket->settings.endpoint;
    bool plain = endpoint && strncasecmp(endpoint, "http://", 7) == 0;
    if (!bucket_ask_init(&ask, bucket, OPERATION_PART, upload->key, full, limits, error) ||
        /* TLS keeps the bytes as they are, so that they need not be hashed once more. */
        !set_body(&ask, body, plain ? NULL : SIGV4_UNSIGNED, hash))
        return bucket_ask_give_up(&ask, answer);
    snprintf(numeral, sizeof numeral, "%u", number);
    bucket_ask_query(&ask, "partNumber", numeral);
    bucket_ask_query(&ask, "uploadId", upload->id);
    bool ok = bucket_ask_run(&ask, answer);
    memcpy(part->etag, ask.etag, sizeof part->etag);
    if (ok && !part->etag[0]) {
        ok = error_set(ask.error, ERROR_UNAVAILABLE, "the answer to a part has no ETag");
        bucket_tell_failure(&ask);
        if (answer)
            answer->outcome = BUCKET_UNREACHABLE;
    }
    bucket_ask_finish(&ask);
    return ok;
}

static bool append_xml(struct buffer *out, const char *text) {
    for (; *text; text++) {
        const char *escaped = *text == '&'   ? "&amp;"
                              : *text == '<' ? "&lt;"
                              : *text == '>' ? "&gt;"
                              : *text == '"' ? "&quot;"
                                             : NULL;
        if (!(escaped ? buffer_append_string(out, escaped) : buffer_append(out, text, 1)))
            return false;
    }
    return true;
}

/* The list of the parts. */
static bool write_parts(const struct bucket_part *parts, unsigned count, struct buffer *out) {
    buffer_append_string(out, "<CompleteMultipartUpload "
                              "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (unsigned i = 0; i < count; i++) {
        buffer_printf(out, "<Part><PartNumber>%u</PartNumber><ETag>", i + 1);
        append_xml(out, parts[i].etag);
        buffer_append_string(out, "</ETag></Part>");
    }
    return buffer_append_string(out, "</CompleteMultipartUpload>");
}

/* A completion whose answer was lost may have worked: then the upload is gone, and the object is
 * there. */
static bool was_completed(struct bucket_ask *ask, const struct bucket_upload *upload,
                          const struct bucket_limits *limits) {
    struct error ignored = {0};
    return ask->outcome == BUCKET_NO_UPLOAD && ask->in_doubt &&
           bucket_head(ask->bucket, upload->key, limits, NULL, &ignored);
}

bool bucket_upload_complete(struct bucket *bucket, const struct bucket_upload *upload,
                            const struct bucket_part *parts, unsigned count,
                            const struct bucket_limits *limits, struct bucket_answer *answer,
                            struct error *error) {
    struct bucket_ask ask;
    cleanup_buffer struct buffer body = {0};
    char full[BUCKET_KEY_LIMIT + 1], hash[BUCKET_PAYLOAD_SIZE];
    if (!bucket_ask_init(&ask, bucket, OPERATION_COMPLETE, upload->key, full, limits, error))
        return bucket_ask_give_up(&ask, answer);
    if (!write_parts(parts, count, &body)) {
        ask.outcome = BUCKET_STOPPED;
        error_set(ask.error, ERROR_MEMORY, "out of memory");
        return bucket_ask_give_up(&ask, answer);
    }
    const struct client_body sent = {.bytes = body.bytes, .length = body.length};
    if (!set_body(&ask, &sent, NULL, hash))
        return bucket_ask_give_up(&ask, answer);
    ask.conditional = upload->create_only;
    bucket_ask_query(&ask, "uploadId", upload->id);
    bucket_ask_field(&ask, "Content-Type", "application/xml");
    bool ok = bucket_ask_run(&ask, answer);
    if (!ok && was_completed(&ask, upload, limits)) {
        ok = true;
        error_clear(ask.error);
        if (answer)
            answer->outcome = BUCKET_DONE;
    }
    bucket_ask_finish(&ask);
    return ok;
}

bool bucket_upload_abort(struct bucket *bucket, const char *key, const char *id,
                         const struct bucket_limits *limits, struct bucket_answer *answer,
                         struct error *error) {
    struct bucket_ask ask;
    char full[BUCKET_KEY_LIMIT + 1];
    if (!bucket_ask_init(&ask, bucket, OPERATION_ABORT, key, full, limits, error))
        return bucket_ask_give_up(&ask, answer);
    bucket_ask_query(&ask, "uploadId", id);
    return run_removal(&ask, BUCKET_NO_UPLOAD, answer);
}
