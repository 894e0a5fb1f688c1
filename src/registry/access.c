/* Counts the requests, and writes their lines of the access log. */
#include <stdio.h>
#include "base/clock.h"
#include "base/log.h"
#include "registry/call.h"

/* The most bytes of a method and of a path in the log. */
enum { METHOD_MOST = 15, PATH_MOST = 255 };

void access_prepare(struct registry *registry) {
    static const char *const labels[PROXIED_TYPES] = {"type=\"manifest\"", "type=\"blob\""};
    for (int type = 0; type < PROXIED_TYPES; type++) {
        registry->proxied[type].requests =
            metric_get(METRIC_COUNTER, "registry_proxy_requests_total",
                       "Requests for manifests and blobs.", labels[type]);
        registry->proxied[type].hits =
            metric_get(METRIC_COUNTER, "registry_proxy_hits_total",
                       "Requests answered from the cache.", labels[type]);
        registry->proxied[type].misses = metric_get(METRIC_COUNTER, "registry_proxy_misses_total",
                                                    "Requests that needed upstream.", labels[type]);
        registry->proxied[type].pushed =
            metric_get(METRIC_COUNTER, "registry_proxy_pushed_bytes_total",
                       "Bytes sent to clients.", labels[type]);
    }
}

static const char *outcome_name(const struct call *call) {
    if (!call->has_outcome)
        return "none";
    switch (call->outcome) {
    case CACHE_HIT:
        return "hit";
    case CACHE_MISS:
        return "miss";
    case CACHE_JOINED:
        return "joined";
    case CACHE_REVALIDATED:
        return "revalidated";
    case CACHE_STALE:
        return "stale";
    }
    return "none";
}

/* ---- counting ---- */

/*
 * A counter is found without a lock at a place of its own, which is NULL until a request first
 * needs the counter. Threads that make it at once get the same metric.
 */
static struct metric *counter_at(const _Atomic(struct metric *) *place) {
    return place ? atomic_load_explicit(place, memory_order_acquire) : NULL;
}

static struct metric *make_counter(_Atomic(struct metric *) *place, const char *name,
                                   const char *help, const char *labels) {
    struct metric *metric = metric_get(METRIC_COUNTER, name, help, labels);
    if (place)
        atomic_store_explicit(place, metric, memory_order_release);
    return metric;
}

static enum counted_method counted_method(enum http_method method) {
    return method == HTTP_GET ? COUNTED_GET : method == HTTP_HEAD ? COUNTED_HEAD : COUNTED_OTHER;
}

/* The statuses of tarn's responses, frequent ones first. 0: there was no response. */
static const int statuses[] = {200, 206, 304, 404, 401, 0,   400, 403, 405, 416,
                               421, 429, 500, 502, 503, 504, 414, 417, 431, 501};
_Static_assert(sizeof statuses / sizeof *statuses <= COUNTED_STATUSES, "each has a place");

/* NULL: the status is none of those. */
static _Atomic(struct metric *) *place_of_response(const struct call *call, int status) {
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        if (statuses[i] == status)
            return &call->registry
                        ->answered[call->route.kind][counted_method(call->request->method)][i];
    }
    return NULL;
}

static void count_response(const struct call *call) {
    static const char *const methods[COUNTED_METHODS] = {"get", "head", "other"};
    int status = http_exchange_status(call->exchange);
    _Atomic(struct metric *) *place = place_of_response(call, status);
    struct metric *counter = counter_at(place);
    if (!counter) {
        char labels[80];
        snprintf(labels, sizeof labels, "handler=\"%s\",method=\"%s\",code=\"%d\"",
                 route_name(call->route.kind), methods[counted_method(call->request->method)],
                 status);
        counter = make_counter(place, "registry_http_requests_total", "Requests answered.", labels);
    }
    metric_add(counter, 1);
}

/* Counts by upstream, which keeps the places. The hosts of a pattern are counted together. */
static void count_outcome(const struct call *call, enum proxied type) {
    _Static_assert(PROXIED_TYPES * (CACHE_STALE + 1) == UPSTREAM_COUNTERS, "each has a place");
    _Atomic(struct metric *) *place = &upstream_counters(
        call->repository.upstream)[call->outcome * PROXIED_TYPES + (unsigned)type];
    struct metric *counter = counter_at(place);
    if (!counter) {
        char labels[HOST_LIMIT + 80];
        snprintf(labels, sizeof labels, "upstream=\"%s\",type=\"%s\",outcome=\"%s\"",
                 upstream_name(call->repository.upstream), route_name(call->route.kind),
                 outcome_name(call));
        counter = make_counter(place, "tarn_requests_total",
                               "Requests for manifests and blobs by upstream and outcome.", labels);
    }
    metric_add(counter, 1);
}

void access_count(const struct call *call) {
    count_response(call);
    if (call->route.kind != ROUTE_MANIFEST && call->route.kind != ROUTE_BLOB)
        return;
    enum proxied type = call->route.kind == ROUTE_BLOB ? PROXIED_BLOB : PROXIED_MANIFEST;
    metric_add(call->registry->proxied[type].requests, 1);
    metric_add(call->registry->proxied[type].pushed, (int64_t)http_exchange_sent(call->exchange));
    if (!call->has_outcome)
        return;
    bool miss = call->outcome == CACHE_MISS || call->outcome == CACHE_JOINED;
    metric_add(miss ? call->registry->proxied[type].misses : call->registry->proxied[type].hits, 1);
    count_outcome(call, type);
}

/* ---- the access log ---- */

/* Probes and scrapes come every few seconds, so they are logged at the level debug only. */
static enum log_level access_level(const struct call *call) {
    switch (call->route.kind) {
    case ROUTE_LIVE:
    case ROUTE_READY:
    case ROUTE_METRICS:
    case ROUTE_FLIGHTS:
        return LOG_DEBUG;
    default:
        return LOG_INFO;
    }
}

/* The beginning of a text that a client chose. */
static struct text beginning(struct text text, size_t most) {
    return (struct text){text.at, text.length < most ? text.length : most};
}

void access_log(const struct call *call) {
    enum log_level level = access_level(call);
    if (!call->registry->settings.log_requests || !log_enabled(level))
        return;
    struct log_field fields[12];
    unsigned used = 0;
    fields[used++] = LOG_STRING("client", http_exchange_client(call->exchange));
    fields[used++] = LOG_SLICE("method", beginning(call->request->method_name, METHOD_MOST));
    if (call->repository.upstream) {
        fields[used++] = LOG_STRING("upstream", call->repository.name.host);
        fields[used++] = LOG_STRING("repository", call->repository.name.path);
        fields[used++] =
            LOG_STRING(call->route.reference.is_digest ? "digest" : "reference", call->reference);
    } else {
        fields[used++] = LOG_SLICE("path", beginning(call->request->path, PATH_MOST));
    }
    fields[used++] = LOG_NUMBER("status", http_exchange_status(call->exchange));
    fields[used++] = LOG_NUMBER("bytes", http_exchange_sent(call->exchange));
    fields[used++] = LOG_NUMBER("seconds", (double)(clock_us() - call->began_us) / 1e6);
    if (call->has_outcome)
        fields[used++] = LOG_STRING("cache", outcome_name(call));
    if (call->error[0])
        fields[used++] = LOG_STRING("error", call->error);
    log_event(level, route_name(call->route.kind), fields, used);
}
