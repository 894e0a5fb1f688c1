/* Sends one signed request and takes its answer. */
#include <stdio.h>
#include <string.h>
#include "base/buffer.h"
#include "base/clock.h"
#include "base/secret.h"
#include "bucket/bucket_private.h"
#include "client/content_range.h"
#include "client/transfer.h"

enum {
    SHORT_MS = 5000,            /* a patience that is for one request alone */
    STALL_MS = 5000,            /* silence in the body of an object */
    SEND_STALL_MS = 20000,      /* of a bucket that takes no byte of ours */
    ANSWER_MS = 30000,          /* for the answer, when all is sent */
    COMPLETE_STALL_MS = 120000, /* of a completion, which sends white space while it works */
    ANSWER_LIMIT = 1 << 20,
    LINES = BUCKET_FIELDS + 8,
};

/* ---- the head of the request ---- */

/* The header lines, which may hold secrets. */
struct lines {
    struct buffer texts[LINES];
    const char *all[LINES + 8];
    size_t count, texts_count;
};

static void lines_wipe(struct lines *lines) {
    for (size_t i = 0; i < lines->texts_count; i++)
        secret_buffer_free(&lines->texts[i]);
}

static void add_line(struct lines *lines, const char *name, const char *value) {
    struct buffer *text = &lines->texts[lines->texts_count++];
    buffer_printf(text, "%s: %s", name, value);
    lines->all[lines->count++] = text->bytes; /* NULL when out of memory, which is looked at */
}

/* Who may read an object, and where it lies: of an object that is made. */
static void add_storage(struct bucket_ask *ask) {
    const struct bucket_settings *settings = &ask->bucket->settings;
    bool google = bucket_bears_token(ask->bucket);
    if (settings->storage_class)
        bucket_ask_field(ask, google ? "x-goog-storage-class" : "x-amz-storage-class",
                         settings->storage_class);
    if (google && settings->kms_key) {
        bucket_ask_field(ask, "x-goog-encryption-kms-key-name", settings->kms_key);
    } else if (!google && settings->encryption) {
        bucket_ask_field(ask, "x-amz-server-side-encryption", settings->encryption);
        if (settings->kms_key)
            bucket_ask_field(ask, "x-amz-server-side-encryption-aws-kms-key-id", settings->kms_key);
    }
}

/* "Only if the key is absent": S3's way, or Google's, which knows it of whole objects alone, and
 * not at all when its requests are signed as AWS does. */
static void add_condition(struct bucket_ask *ask, const struct bucket_endpoint *endpoint,
                          bool unknown) {
    bool bears_token = bucket_bears_token(ask->bucket);
    ask->conditioned = false;
    if (!ask->conditional || unknown || ask->unconditioned)
        return;
    if (bears_token && ask->operation == OPERATION_PUT)
        bucket_ask_field(ask, "x-goog-if-generation-match", "0");
    else if (!bears_token && !endpoint->is_google)
        bucket_ask_field(ask, "If-None-Match", "*");
    else
        return;
    ask->conditioned = true;
}

static bool make_path(const struct bucket_ask *ask, const struct bucket_endpoint *endpoint,
                      struct buffer *path) {
    if (!endpoint->in_path)
        return buffer_printf(path, "/%s", ask->key);
    return buffer_printf(path, "/%s%s%s", ask->bucket->settings.address.name,
                         ask->key[0] ? "/" : "", ask->key);
}

/* Signs, and fills in the lines of the head and the URL. */
static bool compose(struct bucket_ask *ask, const struct bucket_proof *proof, struct buffer *url,
                    struct lines *lines, struct sigv4_fields *signature) {
    cleanup_buffer struct buffer path = {0};
    char *region = ask->signed_region, origin[BUCKET_ENDPOINT_URL_SIZE];
    struct bucket_endpoint endpoint;
    struct bucket_learnt learnt;
    size_t own_fields = ask->field_count;
    bucket_learnt(ask->bucket, &learnt);
    bucket_region(ask->bucket, region);
    bucket_endpoint_make(&ask->bucket->settings, region, &endpoint);
    if (ask->stores)
        add_storage(ask);
    add_condition(ask, &endpoint, learnt.conditions_unknown);
    bool ok = make_path(ask, &endpoint, &path) &&
              buffer_append_string(url, bucket_endpoint_url(&endpoint, origin));
    struct sigv4_request request = {
        .method = bucket_method(ask->operation),
        .host = endpoint.host,
        .path = path.bytes,
        .query = ask->query,
        .query_count = ask->query_count,
        .headers = ask->fields,
        .header_count = ask->field_count,
        .payload_hash = ask->payload ? ask->payload : SIGV4_EMPTY_HASH,
        .region = region,
        .service = "s3",
        .key_id = proof->keys.key_id,
        .secret = proof->keys.secret,
        .session_token = proof->keys.session_token,
        .time_s = clock_wall_s() + learnt.clock_s,
    };
    ok = ok && sigv4_target(&request, url, ask->error);
    if (ok && proof->keys.key_id)
        ok = sigv4_sign(&request, signature, ask->error);
    for (size_t i = 0; i < ask->field_count; i++)
        add_line(lines, ask->fields[i].name, ask->fields[i].value);
    for (size_t i = 0; ok && proof->keys.key_id && signature->lines[i]; i++)
        lines->all[lines->count++] = signature->lines[i];
    if (proof->bearer)
        lines->all[lines->count++] = proof->bearer;
    ask->field_count = own_fields;
    for (size_t i = 0; ok && i < lines->count; i++)
        ok = lines->all[i] != NULL;
    return ok ||
           (ask->error->kind == ERROR_NONE && error_set(ask->error, ERROR_MEMORY, "out of memory"));
}

/* ---- the answer ---- */

static bool read_content_range(const struct bucket_ask *ask, struct bucket_head *head,
                               struct error *error) {
    struct content_range range;
    const struct bucket_range *wanted = ask->range;
    if (!content_range_parse(text_of(ask->content_range), &range))
        return error_set(error, ERROR_UNAVAILABLE, "the answer's Content-Range is none");
    head->has_total = range.has_total;
    head->total = range.total;
    if (head->status == 416)
        return true;
    if (!wanted || !wanted->given || !range.satisfied ||
        !content_range_fits(&range, wanted->first, wanted->last, 0))
        return error_set(error, ERROR_UNAVAILABLE,
                         "the answer's Content-Range is not the range that was asked for");
    head->has_range = true;
    head->first = range.first;
    head->last = range.last;
    return true;
}

static bool read_head(const struct bucket_ask *ask, const struct client_response *response,
                      struct bucket_head *head, struct error *error) {
    *head = (struct bucket_head){
        .status = response->status,
        .has_length = response->has_length,
        .length = response->length,
        .modified_s = bucket_date_parse(ask->modified),
        .date_s = bucket_date_parse(ask->date),
    };
    memcpy(head->content_type, response->content_type, sizeof head->content_type);
    if (response->status != 200)
        return read_content_range(ask, head, error);
    head->has_total = response->has_length;
    head->total = response->length;
    return true;
}

static enum client_verdict on_head(void *context, const struct client_response *response,
                                   struct error *error) {
    struct bucket_ask *ask = context;
    struct bucket_head head;
    bool has_body = response->status == 200 || response->status == 206;
    if (!has_body && (response->status != 416 || !ask->content_range[0]))
        return CLIENT_COLLECT;
    if (!read_head(ask, response, &head, error))
        return CLIENT_STOP;
    ask->head_given = true;
    ask->answered_ms = clock_ms();
    if (ask->sink->on_head && !ask->sink->on_head(ask->sink->context, &head, error)) {
        ask->is_cut = true;
        return CLIENT_STOP;
    }
    return has_body ? CLIENT_STREAM : CLIENT_COLLECT;
}

static bool on_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    struct bucket_ask *ask = context;
    ask->received += length;
    if (ask->sink->on_bytes(ask->sink->context, bytes, length, error))
        return true;
    ask->is_cut = true;
    return false;
}

static bool on_idle(void *context, struct error *error) {
    struct bucket_ask *ask = context;
    /* The patience is for the first byte, not for the head alone. */
    if (ask->head_given && !ask->received && clock_ms() >= ask->deadline_ms)
        return error_set(error, ERROR_TIMEOUT, "no byte behind the head in time");
    if (!ask->sink->on_idle || ask->sink->on_idle(ask->sink->context, error))
        return true;
    /* A caller that has waited for too long tells of the bucket's silence. */
    ask->is_cut = error->kind != ERROR_TIMEOUT;
    return false;
}

/* ---- one request ---- */

static void set_times(const struct bucket_ask *ask, struct client_request *request) {
    int64_t left = ask->deadline_ms - clock_ms();
    request->total_timeout_ms = left > 1 ? left : 1;
    request->stall_timeout_ms = STALL_MS;
    if (ask->operation == OPERATION_COMPLETE) {
        request->stall_timeout_ms = COMPLETE_STALL_MS;
    } else if (ask->body.length) {
        request->stall_timeout_ms =
            left < SEND_STALL_MS ? request->total_timeout_ms : SEND_STALL_MS;
        if (left > ANSWER_MS)
            request->total_timeout_ms = ANSWER_MS;
    }
    if (request->total_timeout_ms < SHORT_MS) {
        request->connect_timeout_ms = request->total_timeout_ms;
        request->asks_once = true; /* a second request would come too late */
    }
}

/* Names what has come of a transfer that failed. */
static enum bucket_outcome outcome_of(const struct bucket_ask *ask) {
    switch (ask->error->kind) {
    case ERROR_CLOSED:
    case ERROR_MEMORY:
    case ERROR_FILES:
    case ERROR_IO: /* the file to send */
        return BUCKET_STOPPED;
    default:
        if (ask->is_cut)
            return BUCKET_STOPPED;
        if (ask->response.body.failed) /* longer than the caller takes */
            return BUCKET_REFUSED;
        return ask->head_given ? BUCKET_CUT : BUCKET_UNREACHABLE;
    }
}

static bool transfer(struct bucket_ask *ask, const char *url, const char *const *headers) {
    const struct client_field fields[] = {
        {"ETag", ask->etag, sizeof ask->etag, false},
        {"Last-Modified", ask->modified, sizeof ask->modified, false},
        {"Date", ask->date, sizeof ask->date, false},
        {"Content-Range", ask->content_range, sizeof ask->content_range, false},
        {"x-amz-bucket-region", ask->region, sizeof ask->region, false},
    };
    struct client_request request = {
        .method = bucket_method(ask->operation),
        .url = url,
        .headers = headers,
        .body = ask->body,
        .wanted = {.fields = fields, .count = sizeof fields / sizeof *fields},
        .ca_file = ask->bucket->settings.ca_file,
        .body_limit = ANSWER_LIMIT,
        .cancel = ask->cancel,
    };
    const struct client_sink sink = {ask, on_head, on_bytes, on_idle};
    set_times(ask, &request);
    struct lane *lane = lanes_take(&ask->bucket->lanes);
    if (!lane)
        return error_set(ask->error, ERROR_MEMORY, "out of memory");
    int64_t began = clock_us();
    bool ok = transfer_run(lane, &request, ask->sink ? &sink : NULL, &ask->response, ask->error);
    bucket_count(ask, clock_us() - began);
    lanes_give(&ask->bucket->lanes, lane);
    return ok;
}

/* Reads what an answer that is a refusal says. The region is kept if it is another one. */
static void read_fault(struct bucket_ask *ask) {
    const struct buffer *body = &ask->response.body;
    bucket_document_fault((struct text){body->bytes, body->length}, &ask->fault);
    if (!ask->fault.region[0] && bucket_region_is_valid(text_of(ask->region)))
        memcpy(ask->fault.region, ask->region, sizeof ask->fault.region);
    if (strcmp(ask->fault.region, ask->signed_region) == 0)
        ask->fault.region[0] = '\0';
}

bool bucket_send(struct bucket_ask *ask) {
    cleanup_bucket_proof struct bucket_proof proof = {.bearer = NULL};
    cleanup_sigv4_fields struct sigv4_fields signature = {0};
    cleanup_buffer struct buffer url = {0};
    struct lines lines = {.count = 0};
    client_response_wipe(&ask->response);
    error_clear(ask->error);
    ask->fault = (struct bucket_fault){.code = ""};
    ask->is_cut = false;
    ask->received = 0;
    if (!bucket_proof_get(ask, &proof))
        return false;
    bool composed = compose(ask, &proof, &url, &lines, &signature);
    bool ok = composed && transfer(ask, url.bytes, lines.all);
    lines_wipe(&lines);
    if (!composed)
        ask->outcome = ask->error->kind == ERROR_MEMORY ? BUCKET_STOPPED : BUCKET_REFUSED;
    else if (!ok)
        ask->outcome = outcome_of(ask);
    if (!ok)
        return false;
    bucket_note_date(ask->bucket, bucket_date_parse(ask->date));
    if (ask->response.status / 100 != 2)
        read_fault(ask);
    return true;
}
