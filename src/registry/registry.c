/* Takes a request to its handler. */
#include "registry/registry.h"

#include <stdlib.h>
#include "base/clock.h"
#include "registry/call.h"
#include "registry/image_lists.h"
#include "registry/sessions.h"

struct registry *registry_new(const struct registry_settings *settings) {
    struct registry *registry = calloc(1, sizeof *registry);
    if (!registry)
        return NULL;
    registry->settings = *settings;
    if (!view_init(registry)) {
        free(registry);
        return NULL;
    }
    access_prepare(registry);
    registry->page = page_make(registry);
    registry->image_lists = image_lists_new(registry);
    registry->sessions =
        sessions_new(settings->cache, settings->store, settings->replicas, settings->asker);
    if (registry->page && registry->image_lists && registry->sessions)
        return registry;
    registry_free(registry);
    return NULL;
}

void registry_free(struct registry *registry) {
    if (!registry)
        return;
    page_free(registry->page);
    image_lists_free(registry->image_lists);
    sessions_free(registry->sessions);
    view_finish(registry);
    free(registry);
}

bool registry_start(struct registry *registry, struct error *error) {
    return page_start(registry->page, error);
}

void registry_end_waits(struct registry *registry) {
    image_lists_stop(registry->image_lists);
}

bool registry_stop(struct registry *registry) {
    page_stop(registry->page);
    image_lists_stop(registry->image_lists);
    return sessions_stop(registry->sessions) && image_lists_wait(registry->image_lists);
}

void registry_set_server(struct registry *registry, const struct http_server *server) {
    registry->server = server;
}

void registry_leave(struct registry *registry) {
    atomic_store(&registry->is_leaving, true);
}

/* ---- dispatching ---- */

enum { GONE_MS = 1000 /* after which a client that has closed its side counts as gone */ };

/* Whether the client still waits. One that has only closed its own side of the connection, as `nc
 * -N` does, cannot be told from one that has left, and gets the answer if that takes less than
 * GONE_MS. */
static bool is_there(void *context) {
    struct call *call = context;
    if (http_client_is_there(call->exchange))
        return true;
    if (!call->gone_since_ms)
        call->gone_since_ms = clock_ms();
    return clock_ms() - call->gone_since_ms < GONE_MS;
}

static bool read_ns(struct call *call) {
    bool found;
    call->ns[0] = '\0';
    if (call->view->settings.ignore_ns)
        return true;
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

/* Answers what names no repository. False: the route names one. */
static bool answer_fixed(struct call *call) {
    switch (call->route.kind) {
    case ROUTE_NONE:
    case ROUTE_FORGET: /* there are no replicas */
    case ROUTE_RENEW:
        call_fail(call, 404, "NOT_FOUND", "no such path; the API is under /v2/");
        return true;
    case ROUTE_LIVE:
        respond_text(call, 200, "ok\n");
        return true;
    case ROUTE_READY:
        call_handle_ready(call);
        return true;
    case ROUTE_METRICS:
        call_handle_metrics(call);
        return true;
    case ROUTE_PAGE_FILE:
        call_handle_page_file(call);
        return true;
    case ROUTE_FLIGHTS:
        call_handle_flights(call);
        return true;
    case ROUTE_REPLICAS:
        call_handle_replicas(call);
        return true;
    case ROUTE_API:
        call_add_fields(call);
        http_respond(call->exchange, 200, "application/json", "{}", 2);
        return true;
    default:
        return false;
    }
}

bool call_is_writing(const struct call *call) {
    enum http_method method = call->request->method;
    /* Who may read an image may say what a start of it reads. */
    if (call->route.kind == ROUTE_STREAM_TRACE && method == HTTP_POST)
        return false;
    return (method != HTTP_GET && method != HTTP_HEAD) || call->route.kind == ROUTE_UPLOAD;
}

/* Whether the route is about indexes of a repository's images. Its name has the host, whatever the
 * rest of the request says. */
static bool is_streaming(const struct call *call) {
    enum route_kind kind = call->route.kind;
    return kind == ROUTE_STREAM_LAYER || kind == ROUTE_STREAM_IMAGE || kind == ROUTE_STREAM_COPY ||
           kind == ROUTE_STREAM_TRACE;
}

/* Answers what is in a repository. False: the answer must wait, and the call may not. */
static bool answer_named(struct call *call) {
    if (is_streaming(call) && !call_check_streaming_name(call))
        return true;
    if (!call_name_upstream(call) || !call_check_rules(call))
        return true;
    if (call->must_not_wait && call->ask != REPLICA_ASK_NONE)
        return false; /* the calls that do not wait tell no age */
    if (call->ask == REPLICA_ASK_ARRIVING && call->route.kind != ROUTE_BLOB) {
        call_answer_no(call);
        return true;
    }
    if (is_streaming(call))
        return call_handle_streaming(call);
    call->asks_cache = true;
    switch (call->route.kind) {
    case ROUTE_MANIFEST:
        return call_handle_manifest(call);
    case ROUTE_BLOB:
        return call_handle_blob(call);
    case ROUTE_TAGS:
        return call_handle_tags(call);
    default:
        return call_handle_referrers(call);
    }
}

/* Answers the request. False: the answer must wait, and the call may not; nothing has been sent. */
static bool dispatch(struct call *call) {
    if (!call_check_host(call))
        return true;
    if (http_exchange_is_side(call->exchange) && !route_is_for_probes(call->route.kind)) {
        call_fail(call, 404, "NOT_FOUND", "this address serves health and metrics only");
        return true;
    }
    if (!call_check_signature(call) || !call_check_leaving(call))
        return true;
    if (call->route.kind != ROUTE_NONE && (!read_ns(call) || !check_ns(call)))
        return true;
    enum admission admission = call_admit(call);
    if (admission != ADMISSION_GIVEN)
        return admission != ADMISSION_MUST_WAIT;
    if (call->route.kind == ROUTE_FORGET && call->ask == REPLICA_ASK_FORGET)
        return call_handle_forget(call);
    if (call->route.kind == ROUTE_RENEW && call->ask == REPLICA_ASK_RENEW)
        return call_handle_renew(call);
    if (call_is_writing(call) && call->route.kind != ROUTE_NONE &&
        !route_is_for_replicas(call->route.kind))
        return call_handle_push(call);
    if (answer_fixed(call))
        return true;
    switch (call->route.kind) {
    case ROUTE_PAGE:
        return call_handle_page(call);
    case ROUTE_CATALOG:
        return call_handle_catalog(call);
    case ROUTE_IMAGES:
        return call_handle_images(call);
    case ROUTE_STREAM_CHAIN:
        return call_handle_chain(call);
    default:
        return answer_named(call);
    }
}

struct cache_caller call_caller(const struct call *call) {
    return (struct cache_caller){&call->repository, &call->cancel, call->ask};
}

void call_end(struct call *call) {
    call->ended_us = clock_us();
    access_count(call);
    access_log(call);
    view_release(call->view);
}

/* The path without the configured prefix, which may stand in front of it. */
static struct text cut_prefix(struct call *call) {
    const struct text path = call->request->path;
    const char *prefix = call->view->settings.path_prefix;
    size_t length = prefix ? strlen(prefix) : 0;
    bool is_there =
        length && text_starts(path, prefix) && path.length > length && path.at[length] == '/';
    call->prefix = is_there ? prefix : "";
    return is_there ? text_from(path, length) : path;
}

/* `tracestate` may come in several fields, and means nothing without a right `traceparent`. */
static void read_trace(struct call *call) {
    const struct http_request *request = call->request;
    struct trace *trace = &call->trace;
    bool is_right = trace_parse(http_field_alone(request, "traceparent"), trace->parent);
    for (size_t i = 0; is_right && i < request->field_count; i++)
        if (text_is_nocase(request->fields[i].name, "tracestate"))
            is_right = trace_add_state(request->fields[i].value, trace->state);
}

static void begin(struct call *call, struct registry *registry, struct http_exchange *exchange) {
    call->registry = registry;
    call->exchange = exchange;
    call->request = http_exchange_request(exchange);
    call->cancel = (struct cancel){.is_wanted = is_there, .context = call};
    call->view = view_hold(registry);
    call->began_us = clock_us();
    read_trace(call);
    route_parse(cut_prefix(call), &call->route);
    const struct route *route = &call->route;
    if (route->reference.is_digest && route->fault == ROUTE_FINE)
        call->digest = route->reference.digest;
    if (route->reference.is_digest)
        digest_format(&route->reference.digest, call->reference);
    else
        text_copy(text_of(route->fault ? route->malformed : route->reference.tag), call->reference,
                  sizeof call->reference);
}

void registry_handle(void *context, struct http_exchange *exchange) {
    struct call call = {0};
    begin(&call, context, exchange);
    trace_set(&call.trace);
    dispatch(&call);
    trace_set(NULL);
    if (!call.is_handed_on)
        call_end(&call);
}

void registry_refused(void *context, struct http_exchange *exchange, const char *why) {
    struct call call = {0};
    begin(&call, context, exchange);
    text_copy(text_of(why), call.error, sizeof call.error);
    call_end(&call);
}

bool registry_handle_now(void *context, struct http_exchange *exchange) {
    struct call call = {.must_not_wait = true};
    begin(&call, context, exchange);
    bool is_answered = dispatch(&call);
    if (is_answered)
        call_end(&call);
    else
        view_release(call.view);
    return is_answered;
}
