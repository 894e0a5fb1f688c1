/* The page at / with its files, and the list of flights. */
#include <stdio.h>
#include <stdlib.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "registry/call.h"
#include "registry/page/files.h"

enum { FLIGHTS_SHOWN = 200 };

/* Keeps the flights of repositories that the client may read. Returns how many these are. */
static size_t keep_readable(const struct call *call, struct flight_figures *flights, size_t count) {
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        struct repository_name name;
        if (repository_name_parse(text_of(flights[i].upstream), text_of(flights[i].repository),
                                  &name) &&
            call_may_read(call, &name))
            flights[kept++] = flights[i];
    }
    return kept;
}

static const char *place_name(enum flight_place place) {
    switch (place) {
    case FLIGHT_AT_BUCKET:
        return "bucket";
    case FLIGHT_AT_REPLICA:
        return "replica";
    case FLIGHT_ASKING:
        return "asking";
    case FLIGHT_AT_UPSTREAM:
        break;
    }
    return "upstream";
}

static void append_flight(struct buffer *body, const struct flight_figures *flight) {
    buffer_printf(body, "{\"digest\":\"%s\",\"upstream\":\"%s\",\"repository\":\"%s\",",
                  flight->digest, flight->upstream, flight->repository);
    if (flight->size)
        buffer_printf(body, "\"size\":%llu,", (unsigned long long)flight->size);
    else
        buffer_append_string(body, "\"size\":null,");
    buffer_printf(body,
                  "\"bytes\":%llu,\"rate\":%.0f,\"connections\":%u,\"readers\":%u,"
                  "\"retries\":%u,\"seconds\":%.3f,\"place\":\"%s\"}",
                  (unsigned long long)flight->present, flight->rate, flight->connections,
                  flight->readers, flight->retries, flight->seconds, place_name(flight->place));
}

void call_handle_flights(struct call *call) {
    struct cache *cache = call->registry->settings.cache;
    /* Whoever does not see all gets those that he may see out of all. */
    size_t most = call_sees_all(call) ? FLIGHTS_SHOWN : cache_flights(cache, NULL, 0);
    cleanup_free struct flight_figures *flights = calloc(most + 1, sizeof *flights);
    cleanup_buffer struct buffer body = {0};
    if (!flights) {
        call_fail(call, 500, "UNKNOWN", "out of memory");
        return;
    }
    size_t count = cache_flights(cache, flights, most);
    if (!call_sees_all(call))
        count = keep_readable(call, flights, count < most ? count : most);
    buffer_printf(&body, "{\"count\":%zu,\"flights\":[", count);
    for (size_t i = 0; i < count && i < most && i < FLIGHTS_SHOWN; i++) {
        buffer_append_string(&body, i ? "," : "");
        append_flight(&body, &flights[i]);
    }
    buffer_append_string(&body, "]}\n");
    http_add_field(call->exchange, "Cache-Control", "no-store");
    http_respond(call->exchange, 200, "application/json", body.bytes, body.length);
}

/* ---- the replicas ---- */

static void append_member(struct buffer *body, const struct member_figures *member) {
    static const char *const states[] = {
        [MEMBER_SELF] = "self", [MEMBER_LIVE] = "live", [MEMBER_DOWN] = "down"};
    buffer_printf(body, "{\"address\":\"%s\",\"state\":\"%s\",\"share\":%.2f}", member->member.text,
                  states[member->state], member->share);
}

static void append_replicas(struct buffer *body, const struct replicas *replicas) {
    struct member_figures members[MEMBERS_LIMIT];
    const size_t count = members_describe(replicas_members(replicas), clock_ms(), members);
    const char *self = NULL;
    for (size_t i = 0; i < count && !self; i++)
        self = members[i].state == MEMBER_SELF ? members[i].member.text : NULL;
    buffer_printf(body, "{\"self\":%s%s%s,\"source\":\"%s\",\"members\":[", self ? "\"" : "",
                  self ? self : "null", self ? "\"" : "",
                  replicas_settings(replicas)->dns ? "dns" : "peers");
    for (size_t i = 0; i < count; i++) {
        buffer_append_string(body, i ? "," : "");
        append_member(body, &members[i]);
    }
    buffer_append_string(body, "]}\n");
}

void call_handle_replicas(struct call *call) {
    const struct replicas *replicas = call->registry->settings.replicas;
    cleanup_buffer struct buffer body = {0};
    if (replicas)
        append_replicas(&body, replicas);
    else
        buffer_append_string(&body, "{\"self\":null,\"source\":null,\"members\":[]}\n");
    http_add_field(call->exchange, "Cache-Control", "no-store");
    http_respond(call->exchange, 200, "application/json", body.bytes, body.length);
}

/* ---- the page ---- */

/* Nothing from elsewhere is loaded, nothing is sent elsewhere but a search, and no page of others
 * shows this one in a frame. The script copies to the clipboard by itself alone. */
static const char policy[] =
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

static void add_first_bytes(struct history_figures *out, const struct metric *metric,
                            enum history_source source) {
    struct metric_durations durations;
    metric_durations(metric, &durations);
    for (size_t i = 0; i < METRIC_BUCKETS; i++)
        out->first_byte[source][i] += (uint64_t)durations.buckets[i];
}

static void read_figures(void *context, struct history_figures *out) {
    const struct registry *registry = context;
    *out = (struct history_figures){0};
    for (int type = 0; type < PROXIED_TYPES; type++) {
        out->requests += (uint64_t)metric_value(registry->proxied[type].requests);
        out->hits += (uint64_t)metric_value(registry->proxied[type].hits);
        out->misses += (uint64_t)metric_value(registry->proxied[type].misses);
        out->pulled += (uint64_t)metric_value(registry->proxied[type].pulled);
        out->pushed += (uint64_t)metric_value(registry->proxied[type].pushed);
        for (int outcome = 0; outcome < CACHE_OUTCOMES; outcome++)
            add_first_bytes(out, registry->first_byte[type][outcome],
                            outcome == CACHE_MISS || outcome == CACHE_JOINED ? HISTORY_FETCHED
                                                                             : HISTORY_CACHED);
    }
}

struct page *page_make(struct registry *registry) {
    const struct registry_settings *settings = &registry->settings;
    const struct page_settings page_settings = {.cache = settings->cache,
                                                .store = settings->store,
                                                .replicas = settings->replicas,
                                                .is_tls = settings->is_tls,
                                                .read_figures = read_figures,
                                                .context = registry};
    return page_new(&page_settings);
}

static void add_page_fields(struct call *call) {
    http_add_field(call->exchange, "Cache-Control", "no-store");
    http_add_field(call->exchange, "Content-Security-Policy", "%s", policy);
    http_add_field(call->exchange, "Referrer-Policy", "no-referrer");
    http_add_field(call->exchange, "Cross-Origin-Resource-Policy", "same-origin");
    http_add_field(call->exchange, "Cross-Origin-Opener-Policy", "same-origin");
}

static bool may_see(void *context, const struct repository_name *repository) {
    return call_may_read(context, repository);
}

static bool workers_are_scarce(const struct registry *registry) {
    return registry->server && pot_is_scarce(http_server_workers(registry->server));
}

void call_respond_page(struct call *call, int status, const struct buffer *body) {
    add_page_fields(call);
    http_respond(call->exchange, status, "text/html; charset=utf-8", body->bytes, body->length);
}

/* Whether the page of a repository's images is asked for. */
static bool is_of_images(const struct call *call) {
    char name[8];
    bool found;
    (void)http_query(call->request, "images", name, sizeof name, &found);
    return found;
}

bool call_handle_page(struct call *call) {
    cleanup_buffer struct buffer body = {0};
    char host[HOST_LIMIT + 1];
    if (!text_copy(http_field(call->request, "Host"), host, sizeof host) ||
        !reference_is_host(text_of(host)))
        snprintf(host, sizeof host, "localhost:5000");
    const struct page_visitor visitor = {
        .host = host,
        .upstreams = call->view->upstreams,
        .max_size = call->view->settings.max_size,
        .is_hurried = workers_are_scarce(call->registry),
        .may_see = call_sees_all(call) ? NULL : may_see,
        .context = call,
    };
    if (is_of_images(call))
        return call_handle_images_page(call, &visitor);
    const enum page_result result = page_write(call->registry->page, &visitor, call->request->query,
                                               call->must_not_wait, &body);
    if (result == PAGE_MUST_WAIT)
        return false;
    if (result == PAGE_BUSY || body.failed) {
        http_add_field(call->exchange, "Retry-After", "%d", 1);
        call_fail(call, 503, "UNAVAILABLE", "too many visitors of the page at once; try again");
        return true;
    }
    call_respond_page(call, result == PAGE_NOT_FOUND ? 404 : 200, &body);
    return true;
}

/* The name of a file's version is its hash, which the page puts behind the path, so that a browser
 * may keep it for ever; under another name or none it asks each time. */
void call_handle_page_file(struct call *call) {
    const struct files_file *file =
        files_find(text_from(call->request->path, strlen(call->prefix)));
    const struct text wanted = http_field(call->request, "If-None-Match");
    if (!file) {
        call_fail(call, 404, "NOT_FOUND", "no such file");
        return;
    }
    const bool is_named = text_is(call->request->query, file->hash);
    http_add_field(call->exchange, "ETag", "\"%s\"", file->hash);
    http_add_field(call->exchange, "Cache-Control",
                   is_named ? "private, max-age=31536000, immutable" : "no-cache");
    http_add_field(call->exchange, "Cross-Origin-Resource-Policy", "same-origin");
    if (wanted.at && memmem(wanted.at, wanted.length, file->hash, strlen(file->hash)))
        http_respond(call->exchange, 304, NULL, NULL, 0);
    else
        http_respond(call->exchange, 200, file->media_type, file->content.at, file->content.length);
}
