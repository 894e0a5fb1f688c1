/* Makes the metrics of an upstream, and finds them again. */
#include "upstream/counts.h"

#include <stdio.h>
#include "base/clock.h"

/* ---- names ---- */

static struct metric *counter(const char *name, const char *help, const char *labels) {
    return metric_get(METRIC_COUNTER, name, help, labels);
}

static const char seconds_name[] = "tarn_upstream_first_byte_seconds";
static const char seconds_help[] = "Time from a request to the head of upstream's response.";
static const char limit_name[] = "tarn_upstream_ratelimit_limit";
static const char limit_help[] = "Pulls that upstream allows in its window.";
static const char remaining_name[] = "tarn_upstream_ratelimit_remaining";
static const char remaining_help[] = "Pulls that upstream still allows.";
static const char expiry_name[] = "tarn_token_expiry_timestamp_seconds";
static const char expiry_help[] = "Until when the upstream's newest token is used, in Unix time.";

/* The metric at a place of its own, which is NULL until the metric is first needed. Threads that
 * make it at once get the same one. */
static struct metric *at(_Atomic(struct metric *) *place, enum metric_type type, const char *name,
                         const char *help, const char *labels) {
    struct metric *metric = atomic_load_explicit(place, memory_order_acquire);
    if (!metric) {
        metric = metric_get(type, name, help, labels);
        atomic_store_explicit(place, metric, memory_order_release);
    }
    return metric;
}

/* ---- responses ---- */

/* The statuses that are counted alone; 0: no response. Others are counted by their class. */
static const int statuses[] = {200, 0,   206, 307, 401, 404, 302, 429, 301, 303, 304, 308, 400,
                               403, 405, 406, 408, 410, 416, 451, 500, 501, 502, 503, 504};
enum { STATUSES = sizeof statuses / sizeof *statuses, CLASSES = 6 /* 1xx to 5xx, others */ };
_Static_assert(STATUSES + CLASSES <= COUNTS_STATUSES, "each has a place");

static size_t place_of(int status) {
    size_t i = 0;
    while (i < STATUSES && statuses[i] != status)
        i++;
    if (i < STATUSES)
        return i;
    return STATUSES + (status >= 100 && status <= 599 ? (size_t)(status / 100 - 1) : CLASSES - 1);
}

static struct metric *responses(struct counts *counts, int status) {
    static const char *const classes[CLASSES] = {"1xx", "2xx", "3xx", "4xx", "5xx", "other"};
    const size_t place = place_of(status);
    struct metric *metric = atomic_load_explicit(&counts->responses[place], memory_order_acquire);
    if (metric)
        return metric;
    char code[8] = "none", labels[sizeof counts->label + 16];
    if (place >= STATUSES)
        snprintf(code, sizeof code, "%s", classes[place - STATUSES]);
    else if (status)
        snprintf(code, sizeof code, "%03d", status);
    snprintf(labels, sizeof labels, "%s,code=\"%s\"", counts->label, code);
    return at(&counts->responses[place], METRIC_COUNTER, "tarn_upstream_requests_total",
              "Requests to upstream by the status of the response, redirects and challenges "
              "included.",
              labels);
}

void counts_response(struct counts *counts, int status, int64_t us) {
    metric_add(responses(counts, status), 1);
    if (status)
        metric_observe(
            at(&counts->seconds, METRIC_HISTOGRAM, seconds_name, seconds_help, counts->label), us);
}

/* ---- failures ---- */

static const enum error_kind kinds[] = {ERROR_UNAVAILABLE, ERROR_TIMEOUT, ERROR_DENIED,
                                        ERROR_RATE_LIMITED, ERROR_UNSUPPORTED};
_Static_assert(sizeof kinds / sizeof *kinds == COUNTS_KINDS, "each has a counter");

static void make_errors(struct counts *counts) {
    char labels[sizeof counts->label + 32];
    for (size_t i = 0; i < COUNTS_KINDS; i++) {
        snprintf(labels, sizeof labels, "%s,kind=\"%s\"", counts->label, error_kind_name(kinds[i]));
        counts->errors[i] = counter("tarn_upstream_errors_total",
                                    "Requests to upstream that failed in the end.", labels);
    }
}

void counts_failure(struct counts *counts, enum error_kind kind) {
    for (size_t i = 0; i < COUNTS_KINDS; i++) {
        if (kinds[i] == kind)
            metric_add(counts->errors[i], 1);
    }
}

/* ---- bytes ---- */

static void make_bytes(struct counts *counts, const char *type, struct metric *out[static 2]) {
    char labels[sizeof counts->label + 32];
    snprintf(labels, sizeof labels, "%s,type=\"%s\"", counts->label, type);
    out[0] = counter("tarn_pulled_bytes_total",
                     "Bytes of manifests and blobs received from upstream.", labels);
    snprintf(labels, sizeof labels, "type=\"%s\"", type);
    out[1] = counter("registry_proxy_pulled_bytes_total", "Bytes pulled from upstreams.", labels);
}

void counts_body(struct counts *counts, enum upstream_what what, size_t length) {
    metric_add(counts->bytes, (int64_t)length);
    for (size_t i = 0; i < 2; i++) {
        if (what == UPSTREAM_BLOB)
            metric_add(counts->blob_bytes[i], (int64_t)length);
        else if (what == UPSTREAM_MANIFEST)
            metric_add(counts->manifest_bytes[i], (int64_t)length);
    }
}

/* ---- the start ---- */

void counts_init(struct counts *counts, const char *name) {
    snprintf(counts->label, sizeof counts->label, "upstream=\"%s\"", name);
    make_bytes(counts, "manifest", counts->manifest_bytes);
    make_bytes(counts, "blob", counts->blob_bytes);
    counts->bytes = counter("tarn_upstream_bytes_total",
                            "Bytes of every body received from upstream.", counts->label);
    counts->retries = counter("tarn_upstream_retries_total",
                              "Requests to upstream that were tried again.", counts->label);
    counts->token_requests =
        counter("tarn_token_requests_total", "Requests to token services.", counts->label);
    counts->token_errors =
        counter("tarn_token_errors_total", "Requests to token services that brought no token.",
                counts->label);
    counts->sent = counter("tarn_push_sent_bytes_total",
                           "Bytes of blobs and manifests sent to upstream, repetitions included.",
                           counts->label);
    counts->mended =
        counter("tarn_push_mended_total",
                "Uploads that went on, or began anew, after upstream had failed.", counts->label);
    make_errors(counts);
    responses(counts, 200);
    responses(counts, 0);
    metric_declare(METRIC_HISTOGRAM, seconds_name, seconds_help);
    metric_declare(METRIC_GAUGE, limit_name, limit_help);
    metric_declare(METRIC_GAUGE, remaining_name, remaining_help);
    metric_declare(METRIC_GAUGE, expiry_name, expiry_help);
}

/* ---- gauges ---- */

void counts_rate_limit(struct counts *counts, int64_t limit, int64_t remaining) {
    if (limit >= 0)
        metric_set(
            at(&counts->ratelimit_limit, METRIC_GAUGE, limit_name, limit_help, counts->label),
            limit);
    if (remaining >= 0)
        metric_set(at(&counts->ratelimit_remaining, METRIC_GAUGE, remaining_name, remaining_help,
                      counts->label),
                   remaining);
}

void counts_token(struct counts *counts, int64_t expires_ms) {
    metric_set(at(&counts->token_expiry, METRIC_GAUGE, expiry_name, expiry_help, counts->label),
               clock_wall_s() + (expires_ms - clock_ms()) / 1000);
}
