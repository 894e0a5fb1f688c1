/* Says what became of requests: in the error, in the log, and in the metrics. */
#include <curl/curl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "bucket/bucket_private.h"

static const struct {
    const char *name, *method, *verb, *right;
} operations[OPERATIONS] = {
    [OPERATION_GET] = {"get", "GET", "GET", "s3:GetObject"},
    [OPERATION_HEAD] = {"head", "HEAD", "HEAD", "s3:GetObject"},
    [OPERATION_PUT] = {"put", "PUT", "PUT", "s3:PutObject"},
    [OPERATION_PART] = {"part", "PUT", "PUT", "s3:PutObject"},
    [OPERATION_CREATE] = {"create", "POST", "POST", "s3:PutObject"},
    [OPERATION_COMPLETE] = {"complete", "POST", "POST", "s3:PutObject"},
    [OPERATION_ABORT] = {"abort", "DELETE", "DELETE", "s3:AbortMultipartUpload"},
    [OPERATION_LIST] = {"list", "GET", "LIST", "s3:ListBucket"},
    [OPERATION_DELETE] = {"delete", "DELETE", "DELETE", "s3:DeleteObject"},
};

const char *bucket_method(enum bucket_operation operation) {
    return operations[operation].method;
}

/* ---- metrics ---- */

static const char requests_name[] = "tarn_bucket_requests_total";
static const char requests_help[] = "Requests to the bucket, by operation and status (000: none).";
static const char seconds_name[] = "tarn_bucket_request_seconds";
static const char seconds_help[] = "How long requests to the bucket took, their bodies included.";
static const char bytes_name[] = "tarn_bucket_bytes_total";
static const char bytes_help[] = "Bytes of bodies from and to the bucket.";
static const char up_name[] = "tarn_bucket_up";
static const char up_help[] = "Whether the bucket is asked: 0 after three faults in a row.";

void bucket_declare_metrics(void) {
    metric_declare(METRIC_COUNTER, requests_name, requests_help);
    metric_declare(METRIC_HISTOGRAM, seconds_name, seconds_help);
    metric_declare(METRIC_COUNTER, bytes_name, bytes_help);
    metric_declare(METRIC_GAUGE, up_name, up_help);
}

void bucket_show_up(struct bucket *bucket, bool up) {
    atomic_store(&bucket->is_up, up);
    metric_set(metric_get(METRIC_GAUGE, up_name, up_help, ""), up);
}

/* The statuses are few, whatever the bucket sends: any other one is its class's first one
 * (RFC 9110 §15). */
static int known_status(int status) {
    static const int known[] = {200, 204, 206, 301, 307, 400, 401, 403, 404, 405, 408,
                                409, 411, 412, 413, 416, 429, 500, 501, 502, 503, 504};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (status == known[i])
            return status;
    }
    return status / 100 * 100;
}

void bucket_count(const struct bucket_ask *ask, int64_t duration_us) {
    const char *name = operations[ask->operation].name;
    char labels[64];
    snprintf(labels, sizeof labels, "operation=\"%s\",code=\"%03d\"", name,
             known_status(ask->response.status));
    metric_add(metric_get(METRIC_COUNTER, requests_name, requests_help, labels), 1);
    snprintf(labels, sizeof labels, "operation=\"%s\"", name);
    metric_observe(metric_get(METRIC_HISTOGRAM, seconds_name, seconds_help, labels), duration_us);
    int64_t in = (int64_t)(ask->received + ask->response.body.length);
    if (in)
        metric_add(metric_get(METRIC_COUNTER, bytes_name, bytes_help, "direction=\"in\""), in);
    if (ask->body.length && ask->response.status)
        metric_add(metric_get(METRIC_COUNTER, bytes_name, bytes_help, "direction=\"out\""),
                   (int64_t)ask->body.length);
}

/* ---- errors ---- */

/* In place of a code, of an answer without one. */
static const char *word_of(int status) {
    switch (status) {
    case 301:
    case 307:
        return "Redirect";
    case 400:
        return "BadRequest";
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 404:
        return "NotFound";
    case 412:
        return "PreconditionFailed";
    case 416:
        return "InvalidRange";
    case 429:
        return "TooManyRequests";
    case 501:
        return "NotImplemented";
    default:
        return status >= 500 ? "ServerError" : "Refused";
    }
}

/* What to do about a refusal; "" : nothing is known. */
static void write_hint(const struct bucket_ask *ask, const char *code, char *out, size_t size) {
    int64_t ahead = atomic_load(&ask->bucket->ahead_s);
    int64_t off = ahead < 0 ? -ahead : ahead;
    out[0] = '\0';
    if (strcmp(code, "SignatureDoesNotMatch") == 0)
        snprintf(out, size, " (check the secret key; clock differs by %" PRId64 " s)", off);
    else if (strcmp(code, "RequestTimeTooSkewed") == 0)
        snprintf(out, size, " (set the clock; clock differs by %" PRId64 " s)", off);
    else if (strcmp(code, "InvalidAccessKeyId") == 0)
        snprintf(out, size, " (check the key id)");
    else if (strcmp(code, "ExpiredToken") == 0 || strcmp(code, "InvalidToken") == 0)
        snprintf(out, size, " (check the credentials: they were asked for again, and refused)");
    else if (strcmp(code, "NoSuchBucket") == 0)
        snprintf(out, size, " (check the bucket's name in bucket.url)");
    else if (ask->response.status == 401)
        snprintf(out, size, " (check the credentials)");
    else if (ask->response.status / 100 == 3)
        snprintf(out, size,
                 " (redirects are not followed: check bucket.endpoint and "
                 "bucket.region)");
    else if (ask->response.status == 403)
        snprintf(out, size, " (check the rights: %s is needed)", operations[ask->operation].right);
}

static enum error_kind kind_of(enum bucket_outcome outcome) {
    switch (outcome) {
    case BUCKET_ABSENT:
    case BUCKET_NO_UPLOAD:
        return ERROR_NOT_FOUND;
    case BUCKET_FORBIDDEN:
        return ERROR_DENIED;
    case BUCKET_OUTSIDE:
        return ERROR_RANGE;
    case BUCKET_BUSY:
        return ERROR_RATE_LIMITED;
    default:
        return ERROR_INVALID;
    }
}

static void name_request(const struct bucket_ask *ask) {
    error_wrap(ask->error, "bucket %s: %s %.300s", ask->bucket->label,
               operations[ask->operation].verb, ask->shown);
}

void bucket_tell_status(const struct bucket_ask *ask) {
    char hint[128];
    int status = ask->response.status;
    const char *code = ask->fault.code[0] ? ask->fault.code : word_of(status);
    write_hint(ask, code, hint, sizeof hint);
    error_set(ask->error, kind_of(ask->outcome), "%d %s%s", status, code, hint);
    ask->error->status = status;
    if (ask->outcome == BUCKET_BUSY)
        ask->error->retry_after_s = ask->response.retry_after_s ? ask->response.retry_after_s : 1;
    name_request(ask);
}

void bucket_tell_failure(const struct bucket_ask *ask) {
    name_request(ask);
}

/* ---- the log ---- */

/* The pause of refusals of this kind. */
static struct log_pause *pause_of(const struct bucket_ask *ask) {
    unsigned kind = (unsigned)ask->operation + (unsigned)ask->response.status;
    for (const char *at = ask->fault.code; *at; at++)
        kind = 31 * kind + (unsigned char)*at;
    return &ask->bucket->refused[kind % REFUSALS];
}

void bucket_log_refusal(const struct bucket_ask *ask) {
    unsigned more = 0;
    /* Who deletes says once a day that it may not. */
    if (ask->inside || ask->operation == OPERATION_DELETE || ask->operation == OPERATION_ABORT ||
        !log_is_due(pause_of(ask), &more))
        return;
    log_at(LOG_WARN, "the bucket refuses a request", LOG_STRING("error", ask->error->text),
           LOG_NUMBER("more", more));
}

void bucket_log_lists(const struct bucket_ask *ask) {
    char text[600];
    if (atomic_exchange(&ask->bucket->lists_told, true))
        return;
    snprintf(text, sizeof text,
             "bucket %s: %s %.300s: 403 %s (s3:ListBucket is missing: absent keys look forbidden)",
             ask->bucket->label, operations[ask->operation].verb, ask->shown,
             ask->fault.code[0] ? ask->fault.code : "AccessDenied");
    log_at(LOG_WARN, "the bucket may not be listed", LOG_STRING("error", text));
}

void bucket_warn_down(struct bucket *bucket) {
    unsigned more = 0;
    if (log_is_due(&bucket->down, &more))
        log_at(LOG_WARN,
               atomic_load(&bucket->is_slow)
                   ? BUCKET_SLOW
                   : "the bucket does not work: it is left alone for a while",
               LOG_STRING("bucket", bucket->label), LOG_NUMBER("not_asked", more));
}

int64_t bucket_date_parse(const char *text) {
    time_t seconds = *text ? curl_getdate(text, NULL) : -1;
    return seconds > 0 ? (int64_t)seconds : 0;
}
