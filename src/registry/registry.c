/* Takes a request to its handler, counts it, and writes its line of the access log. */
#include "registry/registry.h"

#include <stdio.h>
#include <stdlib.h>
#include "base/clock.h"
#include "base/log.h"
#include "registry/call.h"

struct registry *registry_new(const struct registry_settings *settings) {
    static const char *const labels[PROXIED_TYPES] = {"type=\"manifest\"", "type=\"blob\""};
    struct registry *registry = calloc(1, sizeof *registry);
    if (!registry)
        return NULL;
    registry->settings = *settings;
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
    return registry;
}

void registry_free(struct registry *registry) {
    free(registry);
}

void registry_set_server(struct registry *registry, const struct http_server *server) {
    registry->server = server;
}

static bool is_probe(enum route_kind kind) {
    return kind == ROUTE_LIVE || kind == ROUTE_READY || kind == ROUTE_METRICS;
}

bool registry_is_probe(void *context, const struct http_request *request) {
    (void)context;
    struct route route;
    route_parse(request->path, &route);
    return is_probe(route.kind);
}

/* ---- metrics and the access log ---- */

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

static void count(const struct call *call) {
    char labels[HOST_LIMIT + 80];
    int status = http_exchange_status(call->exchange);
    snprintf(labels, sizeof labels, "handler=\"%s\",method=\"%s\",code=\"%d\"",
             route_name(call->route.kind),
             call->request->method == HTTP_GET    ? "get"
             : call->request->method == HTTP_HEAD ? "head"
                                                  : "other",
             status);
    metric_add(
        metric_get(METRIC_COUNTER, "registry_http_requests_total", "Requests answered.", labels),
        1);
    if (call->route.kind != ROUTE_MANIFEST && call->route.kind != ROUTE_BLOB)
        return;
    enum proxied type = call->route.kind == ROUTE_BLOB ? PROXIED_BLOB : PROXIED_MANIFEST;
    metric_add(call->registry->proxied[type].requests, 1);
    metric_add(call->registry->proxied[type].pushed, (int64_t)http_exchange_sent(call->exchange));
    if (!call->has_outcome)
        return;
    bool miss = call->outcome == CACHE_MISS || call->outcome == CACHE_JOINED;
    metric_add(miss ? call->registry->proxied[type].misses : call->registry->proxied[type].hits, 1);
    snprintf(labels, sizeof labels, "upstream=\"%s\",type=\"%s\",outcome=\"%s\"",
             upstream_host(call->repository.upstream), route_name(call->route.kind),
             outcome_name(call));
    metric_add(metric_get(METRIC_COUNTER, "tarn_requests_total",
                          "Requests for manifests and blobs by upstream and outcome.", labels),
               1);
}

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

static void log_access(const struct call *call) {
    enum log_level level = access_level(call);
    if (!log_enabled(level))
        return;
    char method[16], path[256];
    snprintf(method, sizeof method, "%.*s", TEXT_PRINT(call->request->method_name));
    snprintf(path, sizeof path, "%.*s", TEXT_PRINT(call->request->path));
    struct log_field fields[12];
    unsigned used = 0;
    fields[used++] = LOG_STRING("client", http_exchange_client(call->exchange));
    fields[used++] = LOG_STRING("method", method);
    if (call->repository.upstream) {
        fields[used++] = LOG_STRING("upstream", upstream_host(call->repository.upstream));
        fields[used++] = LOG_STRING("repository", call->repository.name.path);
        fields[used++] =
            LOG_STRING(call->route.reference.is_digest ? "digest" : "reference", call->reference);
    } else {
        fields[used++] = LOG_STRING("path", path);
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

/* ---- dispatching ---- */

/* Whether the client may make this request. False: 401 was sent. Health and metrics need no
 * password, because probes have none and learn no secret. */
static bool authorize_client(struct call *call) {
    char user[64];
    struct clients *clients = call->registry->settings.clients;
    if (!clients || is_probe(call->route.kind))
        return true;
    if (clients_allow(clients, http_field(call->request, "Authorization"), user, sizeof user))
        return true;
    http_add_field(call->exchange, "WWW-Authenticate", "Basic realm=\"tarn\"");
    call_fail(call, 401, "UNAUTHORIZED", "tarn needs a user and password (docker login)");
    return false;
}

static bool read_ns(struct call *call) {
    bool found;
    if (http_query(call->request, "ns", call->ns, sizeof call->ns, &found) || !found)
        return true;
    call->ns[0] = '\0';
    call_fail(call, 400, "UNSUPPORTED", "ns is given twice, malformed or too long");
    return false;
}

/* Whether `ns` is a host; only then it may be echoed in a field of our response. False: 404 was
 * sent.
 */
static bool check_ns(struct call *call) {
    if (!call->ns[0] || reference_is_host(text_of(call->ns)))
        return true;
    call->ns[0] = '\0';
    call_fail(call, 404, "NAME_UNKNOWN", "ns is no host name");
    return false;
}

static void respond_text(struct call *call, int status, const char *text) {
    http_respond(call->exchange, status, "text/plain; charset=utf-8", text, strlen(text));
}

static void dispatch(struct call *call) {
    enum http_method method = call->request->method;
    enum route_kind kind = call->route.kind;
    if (!authorize_client(call))
        return;
    if (kind == ROUTE_NONE) {
        call_fail(call, 404, "NOT_FOUND", "no such path; the API is under /v2/");
        return;
    }
    if ((method != HTTP_GET && method != HTTP_HEAD) || kind == ROUTE_UPLOAD) {
        http_add_field(call->exchange, "Allow", "GET, HEAD");
        call_fail(call, 405, "UNSUPPORTED", "tarn is a cache for reading; push to the registry");
        return;
    }
    if (!read_ns(call) || !check_ns(call))
        return;
    switch (kind) {
    case ROUTE_LIVE:
    case ROUTE_READY:
        respond_text(call, 200, "ok\n");
        return;
    case ROUTE_METRICS:
        call_handle_metrics(call);
        return;
    case ROUTE_PAGE:
        call_handle_page(call);
        return;
    case ROUTE_FLIGHTS:
        call_handle_flights(call);
        return;
    case ROUTE_API:
        call_add_fields(call);
        http_respond(call->exchange, 200, "application/json", "{}", 2);
        return;
    case ROUTE_CATALOG:
        call_handle_catalog(call);
        return;
    default:
        break;
    }
    if (!call_name_upstream(call))
        return;
    if (kind == ROUTE_MANIFEST)
        call_handle_manifest(call);
    else if (kind == ROUTE_BLOB)
        call_handle_blob(call);
    else if (kind == ROUTE_TAGS)
        call_handle_tags(call);
    else
        call_handle_referrers(call);
}

void registry_handle(void *context, struct http_exchange *exchange) {
    struct call call = {.registry = context,
                        .exchange = exchange,
                        .request = http_exchange_request(exchange),
                        .began_us = clock_us()};
    route_parse(call.request->path, &call.route);
    if (call.route.reference.is_digest)
        digest_format(&call.route.reference.digest, call.reference);
    else
        text_copy(text_of(call.route.reference.tag), call.reference, sizeof call.reference);
    dispatch(&call);
    count(&call);
    log_access(&call);
}
