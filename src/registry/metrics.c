/* The metrics at /metrics: sets the gauges that nobody keeps up to date, then writes all. */
#include "base/process.h"
#include "registry/call.h"
#include "registry/sessions.h"

static void set_gauge(const char *name, const char *help, const char *labels, int64_t value) {
    metric_set(metric_get(METRIC_GAUGE, name, help, labels), value);
}

static void update_server(const struct http_server *server) {
    struct http_server_figures figures = http_server_figures(server);
    set_gauge("tarn_client_connections", "Open connections of clients, idle ones included.", "",
              figures.connections);
    set_gauge("tarn_responses_waiting",
              "Responses that wait, without a worker, until their client takes more.", "",
              figures.unsent);
    set_gauge("tarn_workers_busy", "Worker threads that carry a request.", "",
              figures.workers_busy);
}

void call_handle_metrics(struct call *call) {
    cleanup_buffer struct buffer body = {0};
    struct registry *registry = call->registry;
    cache_update_metrics(registry->settings.cache);
    set_gauge("tarn_flights", "Blobs being fetched from upstreams.", "",
              (int64_t)cache_flights(registry->settings.cache, NULL, 0));
    set_gauge("tarn_push_sessions", "Uploads of clients that are in memory.", "",
              sessions_count(registry->sessions));
    set_gauge("tarn_build_info", "Always 1; the label tells the version.",
              "version=\"" TARN_VERSION "\"", 1);
    if (registry->settings.replicas)
        replicas_update_metrics(registry->settings.replicas);
    if (registry->server)
        update_server(registry->server);
    process_update_metrics();
    metric_write(&body);
    http_respond(call->exchange, 200, "text/plain; version=0.0.4; charset=utf-8", body.bytes,
                 body.length);
}
