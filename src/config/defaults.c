/* The default of every setting. Each room has the defaults of its own settings. */
#include "config/defaults.h"

#include "cache/cache.h"
#include "http/http.h"
#include "registry/registry.h"

void config_set_defaults(struct config_loaded *loaded) {
    static const char *const listen[] = {"127.0.0.1:5000", NULL};
    const struct http_server_settings server = http_server_settings_default();
    const struct cache_settings cache = cache_settings_default();
    const struct registry_view_settings view = registry_view_settings_default();
    struct config *config = &loaded->config;
    config->listen = listen;
    config->max_connections = server.max_connections;
    config->head_timeout_ms = server.head_timeout_ms;
    config->idle_timeout_ms = server.idle_timeout_ms;
    config->send_timeout_ms = server.send_timeout_ms;
    config->grace_ms = server.grace_ms;
    config->tls_minimum = server.tls_minimum;
    config->log_level = LOG_INFO;
    config->log_format = LOG_TEXT;
    config->log_requests = view.log_requests;
    config->confine = CONFIG_CONFINE_AUTO;
    config->manifest_memory = cache.document_memory;
    config->streaming = cache.streaming;
    config->negative_ttl_ms = cache.negative_ttl_ms;
    config->images_ttl_ms = view.images_ttl_ms;
    config->max_flights = cache.max_flights;
    config->connections_total = cache.max_connections;
    config->waiting_per_upstream = cache.waiting_per_upstream;
    config->flights_per_upstream = cache.flights_per_upstream;
    config->per_client = server.per_client;
    config->logins = clients_limits_default();
    config->keep = keep_settings_default();
    config->bucket = bucket_settings_default();
    config->node = agent_settings_default();
    loaded->defaults = upstream_settings_default();
}
