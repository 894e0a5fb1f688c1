/* Takes a request to its handler. */
#include "registry/registry.h"

#include <stdlib.h>
#include "base/clock.h"
#include "registry/call.h"

struct registry *registry_new(const struct registry_settings *settings) {
    struct registry *registry = calloc(1, sizeof *registry);
    if (!registry)
        return NULL;
    registry->settings = *settings;
    access_prepare(registry);
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
    access_count(&call);
    access_log(&call);
}
