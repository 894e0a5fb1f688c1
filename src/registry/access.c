/* Counts the requests, and writes their lines of the access log. */
#include <stdio.h>
#include "base/log.h"
#include "registry/call.h"

/* The most bytes of a method, of a user and of a path in the log. */
enum { METHOD_MOST = 15, USER_MOST = 128, PATH_MOST = 255 };

/* How many counters of outcomes an upstream has; behind them are those of bytes. */
enum { OUTCOME_COUNTERS = PROXIED_TYPES * CACHE_OUTCOMES };
_Static_assert(OUTCOME_COUNTERS + PROXIED_TYPES == UPSTREAM_COUNTERS, "each has a place");

static const char *const type_names[PROXIED_TYPES] = {"manifest", "blob"};

static const char *outcome_name(enum cache_outcome outcome) {
    switch (outcome) {
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
    case CACHE_BUCKET:
        return "bucket";
    case CACHE_REPLICA:
        return "replica";
    case CACHE_REPLICA_JOINED:
        return "replica_joined";
    }
    return "miss";
}

/* A request that failed before its outcome was known is a miss. */
static enum cache_outcome outcome_of(const struct call *call) {
    return call->has_outcome ? call->outcome : CACHE_MISS;
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

static const char responses_name[] = "registry_http_requests_total";
static const char responses_help[] = "Requests answered.";

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
        counter = make_counter(place, responses_name, responses_help, labels);
    }
    metric_add(counter, 1);
}

/* The counter of an upstream, which keeps the places. The hosts of a pattern are counted together.
 */
static struct metric *upstream_counter(struct upstream *upstream, enum proxied type,
                                       enum cache_outcome outcome) {
    _Atomic(struct metric *) *place =
        &upstream_counters(upstream)[(unsigned)outcome * PROXIED_TYPES + (unsigned)type];
    struct metric *counter = counter_at(place);
    if (counter)
        return counter;
    char labels[HOST_LIMIT + 80];
    snprintf(labels, sizeof labels, "upstream=\"%s\",type=\"%s\",outcome=\"%s\"",
             upstream_name(upstream), type_names[type], outcome_name(outcome));
    return make_counter(place, "tarn_requests_total",
                        "Requests for manifests and blobs by upstream and outcome.", labels);
}

static struct metric *pushed_counter(struct upstream *upstream, enum proxied type) {
    _Atomic(struct metric *) *place =
        &upstream_counters(upstream)[OUTCOME_COUNTERS + (unsigned)type];
    struct metric *counter = counter_at(place);
    if (counter)
        return counter;
    char labels[HOST_LIMIT + 80];
    snprintf(labels, sizeof labels, "upstream=\"%s\",type=\"%s\"", upstream_name(upstream),
             type_names[type]);
    return make_counter(place, "tarn_pushed_bytes_total",
                        "Bytes of manifests and blobs sent to clients.", labels);
}

static bool is_success(int status) {
    return status == 200 || status == 206 || status == 304;
}

/* Counts a request for a manifest or a blob. */
static void count_proxied(const struct call *call, enum proxied type) {
    const struct registry *registry = call->registry;
    const enum cache_outcome outcome = outcome_of(call);
    bool is_miss = outcome == CACHE_MISS || outcome == CACHE_JOINED || outcome == CACHE_REPLICA ||
                   outcome == CACHE_REPLICA_JOINED;
    metric_add(registry->proxied[type].requests, 1);
    metric_add(is_miss ? registry->proxied[type].misses : registry->proxied[type].hits, 1);
    metric_add(upstream_counter(call->repository.upstream, type, outcome), 1);
    if (!is_success(http_exchange_status(call->exchange)))
        return;
    int64_t sent = (int64_t)http_exchange_sent(call->exchange);
    metric_add(registry->proxied[type].pushed, sent);
    metric_add(pushed_counter(call->repository.upstream, type), sent);
    int64_t first_byte_us = call->first_byte_us ? call->first_byte_us : call->ended_us;
    metric_observe(registry->first_byte[type][outcome], first_byte_us - call->began_us);
}

/* ---- pushes ---- */

static const char pushes_name[] = "tarn_push_requests_total";
static const char pushes_help[] = "Blobs and manifests that clients pushed or deleted.";
static const char received_name[] = "tarn_push_received_bytes_total";
static const char received_help[] = "Bytes of blobs and manifests that clients pushed.";

/* Whether the response ends a push; a piece of a blob does so only when it fails. */
static bool ends_push(const struct call *call, int status) {
    return call->route.kind != ROUTE_UPLOAD || status == 201 || status == 0 || status >= 400;
}

static const char *push_type(const struct call *call) {
    if (call->route.kind != ROUTE_UPLOAD && call->request->method == HTTP_DELETE)
        return "delete";
    return call->route.kind == ROUTE_MANIFEST ? "manifest" : "blob";
}

static const char *push_outcome(const struct call *call, int status) {
    if (status / 100 == 2)
        return call->is_mounted ? "mounted" : "stored";
    return status / 100 == 4 && status != 429 ? "refused" : "failed";
}

/* Pushes are slow enough to look their counters up. */
static void count_push(const struct call *call) {
    const int status = http_exchange_status(call->exchange);
    const char *name = upstream_name(call->repository.upstream);
    char labels[HOST_LIMIT + 80];
    snprintf(labels, sizeof labels, "upstream=\"%s\"", name);
    metric_add(metric_get(METRIC_COUNTER, received_name, received_help, labels),
               (int64_t)http_exchange_received(call->exchange));
    if (!ends_push(call, status))
        return;
    snprintf(labels, sizeof labels, "upstream=\"%s\",type=\"%s\",outcome=\"%s\"", name,
             push_type(call), push_outcome(call, status));
    metric_add(metric_get(METRIC_COUNTER, pushes_name, pushes_help, labels), 1);
}

/* ---- all ---- */

void access_count(const struct call *call) {
    if (call->is_of_replica) {
        call_count_ask(call);
        return;
    }
    count_response(call);
    if (call->is_push)
        count_push(call);
    if (!call->asks_cache)
        return;
    struct metric *seconds = call->registry->seconds[call->route.kind];
    if (seconds)
        metric_observe(seconds, call->ended_us - call->began_us);
    if (call->route.kind == ROUTE_MANIFEST)
        count_proxied(call, PROXIED_MANIFEST);
    else if (call->route.kind == ROUTE_BLOB)
        count_proxied(call, PROXIED_BLOB);
}

/* ---- the start ---- */

static void prepare_type(struct registry *registry, enum proxied type) {
    char labels[80];
    snprintf(labels, sizeof labels, "type=\"%s\"", type_names[type]);
    registry->proxied[type].requests = metric_get(
        METRIC_COUNTER, "registry_proxy_requests_total",
        "Requests for manifests and blobs for which the cache was asked: hits and misses.", labels);
    registry->proxied[type].hits = metric_get(METRIC_COUNTER, "registry_proxy_hits_total",
                                              "Requests answered from the cache.", labels);
    registry->proxied[type].misses = metric_get(METRIC_COUNTER, "registry_proxy_misses_total",
                                                "Requests that needed upstream.", labels);
    registry->proxied[type].pulled = metric_get(METRIC_COUNTER, "registry_proxy_pulled_bytes_total",
                                                "Bytes pulled from upstreams.", labels);
    registry->proxied[type].pushed = metric_get(METRIC_COUNTER, "registry_proxy_pushed_bytes_total",
                                                "Bytes sent to clients.", labels);
    for (int outcome = 0; outcome < CACHE_OUTCOMES; outcome++) {
        snprintf(labels, sizeof labels, "type=\"%s\",cache=\"%s\"", type_names[type],
                 outcome_name((enum cache_outcome)outcome));
        registry->first_byte[type][outcome] =
            metric_get(METRIC_HISTOGRAM, "tarn_first_byte_seconds",
                       "Time from a request to the first byte of its content.", labels);
    }
}

static void prepare_seconds(struct registry *registry) {
    static const enum route_kind kinds[] = {ROUTE_MANIFEST, ROUTE_BLOB, ROUTE_TAGS,
                                            ROUTE_REFERRERS};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char labels[80];
        snprintf(labels, sizeof labels, "type=\"%s\"", route_name(kinds[i]));
        registry->seconds[kinds[i]] =
            metric_get(METRIC_HISTOGRAM, "tarn_request_seconds",
                       "Time from a request to the last byte of its response.", labels);
    }
}

/* Makes the counters of each upstream, so that the first event is an increase. */
static void prepare_upstream(struct upstream *upstream, enum proxied type) {
    for (int outcome = 0; outcome < CACHE_OUTCOMES; outcome++)
        upstream_counter(upstream, type, (enum cache_outcome)outcome);
    pushed_counter(upstream, type);
}

void access_prepare_upstreams(const struct upstreams *upstreams) {
    struct upstream *upstream = NULL;
    while ((upstream = upstreams_next(upstreams, upstream))) {
        for (int type = 0; type < PROXIED_TYPES; type++)
            prepare_upstream(upstream, (enum proxied)type);
    }
}

void access_prepare(struct registry *registry) {
    for (int type = 0; type < PROXIED_TYPES; type++)
        prepare_type(registry, (enum proxied)type);
    prepare_seconds(registry);
    metric_declare(METRIC_COUNTER, responses_name, responses_help);
    metric_declare(METRIC_COUNTER, pushes_name, pushes_help);
    metric_declare(METRIC_COUNTER, received_name, received_help);
    /* Nobody counts them while clients need no login. */
    metric_declare(METRIC_COUNTER, "tarn_failed_logins_total",
                   "Logins with a wrong password or an unknown user.");
}

/* ---- the access log ---- */

/* Probes and scrapes come every few seconds, so they are logged at the level debug only. */
static enum log_level access_level(const struct call *call) {
    switch (call->route.kind) {
    case ROUTE_LIVE:
    case ROUTE_READY:
    case ROUTE_METRICS:
    case ROUTE_FLIGHTS:
    case ROUTE_REPLICAS:
    case ROUTE_PAGE:
    case ROUTE_PAGE_FILE:
        return LOG_DEBUG;
    default:
        return LOG_INFO;
    }
}

/* The beginning of a text that a client chose. */
static struct text beginning(struct text text, size_t most) {
    return (struct text){text.at, text.length < most ? text.length : most};
}

/* The names that the request has, and the digest of the content once it is known. */
static unsigned add_names(const struct call *call, char digest[static DIGEST_STRING_SIZE],
                          struct log_field *out) {
    unsigned used = 0;
    if (!call->repository.upstream) {
        out[used++] = LOG_SLICE("path", beginning(call->request->path, PATH_MOST));
        return used;
    }
    digest[0] = '\0';
    if (call->digest.algorithm)
        digest_format(&call->digest, digest);
    out[used++] = LOG_STRING("upstream", call->repository.name.host);
    out[used++] = LOG_STRING("repository", call->repository.name.path);
    out[used++] = LOG_STRING("reference", call->reference);
    out[used++] = LOG_STRING("digest", digest);
    return used;
}

void access_log(const struct call *call) {
    enum log_level level = access_level(call);
    if (!call->view->settings.log_requests || !log_enabled(level))
        return;
    struct log_field fields[16];
    char digest[DIGEST_STRING_SIZE];
    unsigned used = 0;
    fields[used++] = LOG_STRING("request_id", http_exchange_id(call->exchange));
    fields[used++] = LOG_STRING("client", http_exchange_client(call->exchange));
    fields[used++] = LOG_SLICE("user", beginning(text_of(call->who.user), USER_MOST));
    fields[used++] = LOG_SLICE("method", beginning(call->request->method_name, METHOD_MOST));
    used += add_names(call, digest, &fields[used]);
    fields[used++] = LOG_NUMBER("status", http_exchange_status(call->exchange));
    fields[used++] = LOG_NUMBER("bytes", http_exchange_sent(call->exchange));
    fields[used++] = LOG_NUMBER("seconds", (double)(call->ended_us - call->began_us) / 1e6);
    if (call->asks_cache || call->has_outcome)
        fields[used++] = LOG_STRING("cache", outcome_name(outcome_of(call)));
    if (call->ask != REPLICA_ASK_NONE)
        fields[used++] = LOG_STRING("ask", replica_ask_text(call->ask));
    if (call->trace.parent[0])
        fields[used++] = LOG_SLICE("trace_id", trace_id(call->trace.parent));
    if (call->error[0])
        fields[used++] = LOG_STRING("error", call->error);
    log_event(level, route_name(call->route.kind), fields, used);
}
