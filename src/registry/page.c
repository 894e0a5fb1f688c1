/* The page at / and the list of flights. */
#include <stdio.h>
#include <stdlib.h>
#include "base/base64.h"
#include "base/cleanup.h"
#include "base/units.h"
#include "registry/call.h"

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

static void append_flight(struct buffer *body, const struct flight_figures *flight) {
    buffer_printf(body, "{\"digest\":\"%s\",\"upstream\":\"%s\",\"repository\":\"%s\",",
                  flight->digest, flight->upstream, flight->repository);
    if (flight->size)
        buffer_printf(body, "\"size\":%llu,", (unsigned long long)flight->size);
    else
        buffer_append_string(body, "\"size\":null,");
    buffer_printf(body,
                  "\"bytes\":%llu,\"rate\":%.0f,\"connections\":%u,\"readers\":%u,"
                  "\"retries\":%u,\"seconds\":%.3f}",
                  (unsigned long long)flight->present, flight->rate, flight->connections,
                  flight->readers, flight->retries, flight->seconds);
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

static const char page_head[] =
    "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>tarn</title>"
    "<meta name=\"viewport\" content=\"width=device-width\"><style>";

static const char page_style[] =
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "color:#123;background:#f7fafb}h1{font-weight:600}code,td,pre{font-family:ui-monospace,"
    "monospace;font-size:.9em}pre{background:#e6eff2;padding:.8rem;overflow:auto}"
    "table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.2rem .8rem .2rem 0;"
    "border-bottom:1px solid #d5e3e8}progress{width:8rem}";

static const char page_flights[] =
    "<h2>On its way from upstream</h2><table><thead><tr><th>Blob<th>Repository<th>Progress"
    "<th>Rate<th>Connections<th>Readers<th>Retries</thead><tbody id=\"flights\"><tr>"
    "<td colspan=\"7\">Nothing.</tbody></table><script>";

static const char page_script[] =
    "const mb=n=>(n/1048576).toFixed(1)+' MiB',cell=(r,t)=>{const c=r.insertCell();"
    "if(t instanceof Node)c.append(t);else c.textContent=t};"
    "async function show(){try{const a=await(await fetch('tarn/v1/flights')).json(),"
    "b=document.getElementById('flights');b.replaceChildren();"
    "for(const f of a.flights){const r=b.insertRow(),p=document.createElement('progress');"
    "if(f.size){p.max=f.size;p.value=f.bytes}cell(r,f.digest.slice(0,19));"
    "cell(r,f.upstream+'/'+f.repository);cell(r,p);p.after(' '+mb(f.bytes)+(f.size?' of '"
    "+mb(f.size):''));cell(r,mb(f.rate)+'/s');cell(r,f.connections);cell(r,f.readers);"
    "cell(r,f.retries)}if(!a.flights.length){const r=b.insertRow();cell(r,'Nothing.');"
    "r.cells[0].colSpan=7}}catch(e){}setTimeout(show,1000)}show()";

/* The source 'sha256-…' of Content-Security-Policy for one inline text. Out of memory: 'none'. */
static void write_source(const char *text, char *out, size_t size) {
    struct digest digest;
    cleanup_free char *hash = digest_of(DIGEST_SHA256, text, strlen(text), &digest)
                                  ? base64_encode(digest.bytes, 32)
                                  : NULL;
    if (hash)
        snprintf(out, size, "'sha256-%s'", hash);
    else
        snprintf(out, size, "'none'");
}

void page_prepare(struct registry *registry) {
    char style[64], script[64];
    write_source(page_style, style, sizeof style);
    write_source(page_script, script, sizeof script);
    snprintf(registry->page_policy, sizeof registry->page_policy,
             "default-src 'none'; style-src %s; script-src %s; connect-src 'self'; "
             "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
             style, script);
}

static void append_html(struct buffer *body, const char *text) {
    for (; *text; text++) {
        switch (*text) {
        case '<':
            buffer_append_string(body, "&lt;");
            break;
        case '&':
            buffer_append_string(body, "&amp;");
            break;
        case '"':
            buffer_append_string(body, "&quot;");
            break;
        default:
            buffer_append(body, text, 1);
        }
    }
}

static void append_figures(struct buffer *body, const struct registry *registry) {
    static const char *const names[PROXIED_TYPES] = {"Manifests", "Blobs"};
    buffer_append_string(body, "<h2>Since the start</h2><table><tr><th><th>Requests<th>From the "
                               "cache<th>Needed upstream<th>Sent to clients");
    for (int type = 0; type < PROXIED_TYPES; type++) {
        char sent[24];
        units_format_size((uint64_t)metric_value(registry->proxied[type].pushed), sent,
                          sizeof sent);
        buffer_printf(body, "<tr><th>%s<td>%lld<td>%lld<td>%lld<td>%s", names[type],
                      (long long)metric_value(registry->proxied[type].requests),
                      (long long)metric_value(registry->proxied[type].hits),
                      (long long)metric_value(registry->proxied[type].misses), sent);
    }
    buffer_append_string(body, "</table>");
}

static void append_upstreams(struct buffer *body, const struct registry *registry) {
    struct upstream *upstream = NULL;
    char reason[UPSTREAM_REASON_SIZE];
    buffer_append_string(body, "<h2>Upstreams</h2><table><tr><th>Host<th>Where it is"
                               "<th>Credentials<th>State");
    while ((upstream = upstreams_next(registry->settings.upstreams, upstream))) {
        const struct upstream_settings *settings = upstream_settings(upstream);
        buffer_append_string(body, "<tr><td>");
        append_html(body, upstream_name(upstream));
        buffer_append_string(body, settings->is_default ? " (default)<td>" : "<td>");
        append_html(body, settings->url ? settings->url : "https");
        buffer_append_string(body, "<td>");
        append_html(body, settings->credentials ? credential_source_name(settings->credentials)
                                                : "anonymous");
        buffer_append_string(body, "<td>");
        bool is_asked = upstream_is_asked(upstream, reason);
        append_html(body, is_asked ? "asked" : "left alone: ");
        append_html(body, is_asked ? "" : reason);
    }
    buffer_append_string(body, "</table>");
}

void call_handle_page(struct call *call) {
    cleanup_buffer struct buffer body = {0};
    char host[HOST_LIMIT + 1];
    const struct registry *registry = call->registry;
    if (!text_copy(http_field(call->request, "Host"), host, sizeof host) ||
        !reference_is_host(text_of(host)))
        snprintf(host, sizeof host, "localhost:5000");
    buffer_append_string(&body, page_head);
    buffer_append_string(&body, page_style);
    buffer_printf(
        &body,
        "</style><h1>tarn</h1><p>A cache between container registries and the machines that pull "
        "from them. Version " TARN_VERSION ".</p><pre>docker pull %s/",
        host);
    const struct upstream *fallback = upstreams_default(registry->settings.upstreams);
    append_html(&body, fallback                          ? upstream_name(fallback)
                       : registry->settings.listed_count ? registry->settings.listed[0].host
                                                         : "docker.io");
    buffer_append_string(&body,
                         "/NAME:TAG</pre><p>Every response says in <code>Cache-Status</code> "
                         "whether it was a <code>hit</code>. More: <a href=\"metrics\">"
                         "metrics</a>, <a href=\"v2/_catalog\">what is cached</a>.</p>");
    append_figures(&body, registry);
    buffer_append_string(&body, page_flights);
    buffer_append_string(&body, page_script);
    buffer_append_string(&body, "</script>");
    append_upstreams(&body, registry);
    http_add_field(call->exchange, "Cache-Control", "no-store");
    http_add_field(call->exchange, "Content-Security-Policy", "%s", registry->page_policy);
    http_respond(call->exchange, 200, "text/html; charset=utf-8", body.bytes, body.length);
}
