/* The settings of the parts of a running tarn, from a configuration. */
#include "base/log.h"
#include "cmd/serving.h"

enum {
    OWN_DESCRIPTORS = 128,        /* of the log, the store, the listeners, the loops, helpers */
    OVER_LIMIT_DESCRIPTORS = 256, /* of connections over the limit, which http/ answers once */
    FILE_DESCRIPTORS = 4096, /* the most that are kept for the files of clients that download */
};

/* Those that are not a connection's of a client, nor its file's. */
static uint64_t kept_descriptors(const struct config *config) {
    return OWN_DESCRIPTORS + OVER_LIMIT_DESCRIPTORS + config->connections_total;
}

uint64_t serving_wanted_descriptors(const struct config *config, uint64_t max_connections) {
    return kept_descriptors(config) + FILE_DESCRIPTORS + max_connections;
}

/* So many that blobs and upstreams still get their descriptors when all connections are taken. */
uint64_t serving_max_connections(const struct config *config, uint64_t descriptors) {
    if (descriptors == 0)
        return config->max_connections;
    uint64_t kept = kept_descriptors(config);
    if (kept > descriptors / 2)
        kept = descriptors / 2;
    uint64_t rest = descriptors - kept;
    uint64_t most = rest / 2 < FILE_DESCRIPTORS ? rest / 2 : rest - FILE_DESCRIPTORS;
    if (most >= config->max_connections)
        return config->max_connections;
    return most > 0 ? most : 1;
}

struct upkeep_settings serving_upkeep_settings(const struct config *config, uint64_t max_size) {
    return (struct upkeep_settings){
        .max_size = max_size,
        .min_free = config->min_free,
        .max_age_s = (config->max_age_ms + 999) / 1000,
        .scrub_s = (config->scrub_ms + 999) / 1000,
        .pin = config->pin,
    };
}

struct cache_settings serving_cache_settings(const struct config *config) {
    struct cache_settings settings = cache_settings_default();
    settings.document_memory = config->manifest_memory;
    settings.streaming = config->streaming;
    settings.negative_ttl_ms = config->negative_ttl_ms;
    settings.max_flights = (unsigned)config->max_flights;
    settings.max_connections = (unsigned)config->connections_total;
    settings.waiting_per_upstream = config->waiting_per_upstream;
    settings.flights_per_upstream = config->flights_per_upstream;
    return settings;
}

bool serving_make_clients(const struct config *config, const struct clients *before,
                          struct clients **clients, struct error *error) {
    const struct clients_settings settings = {.htpasswd = config->clients_htpasswd,
                                              .realm = config->clients_realm,
                                              .token = config->clients_token,
                                              .certificates = config->clients_ca != NULL,
                                              .limits = config->logins};
    *clients = NULL;
    return !clients_are_asked(&settings) || (*clients = clients_new(&settings, before, error));
}

struct registry_view_settings serving_view_settings(const struct config *config,
                                                    struct clients *clients, uint64_t max_size) {
    return (struct registry_view_settings){
        .clients = clients,
        .path_prefix = config->path_prefix,
        .server_names = config->server_names,
        .ignore_ns = config->ignore_ns,
        .log_requests = config->log_requests,
        .rules = config->rules,
        .rule_count = config->rule_count,
        .max_size = max_size,
        .images_ttl_ms = config->images_ttl_ms,
        .max_blob = config->max_blob,
    };
}

struct http_server_settings serving_http_settings(const struct config *config,
                                                  uint64_t max_connections) {
    struct http_server_settings settings = http_server_settings_default();
    settings.listen = config->listen;
    settings.listen_count = config->listen_count;
    settings.side_listen = config->metrics_listen;
    settings.side_listen_count = config->metrics_listen_count;
    settings.fields = config->headers;
    settings.max_connections = (unsigned)max_connections;
    settings.head_timeout_ms = (int)config->head_timeout_ms;
    settings.idle_timeout_ms = (int)config->idle_timeout_ms;
    settings.send_timeout_ms = (int)config->send_timeout_ms;
    settings.grace_ms = (int)config->grace_ms;
    settings.per_client = config->per_client;
    settings.tls_certificate = config->tls_certificate;
    settings.tls_key = config->tls_key;
    settings.tls_client_ca = config->clients_ca;
    settings.tls_minimum = config->tls_minimum;
    return settings;
}

void serving_log_warnings(const struct serving *serving) {
    const struct config *config = serving->config;
    config_log_warnings(config);
    if (serving->max_connections < config->max_connections)
        log_at(LOG_WARN,
               "max_connections is lowered, because the process may open too few files; raise the "
               "hard limit (ulimit -Hn, LimitNOFILE=), or set max_connections",
               LOG_NUMBER("max_connections", (double)serving->max_connections),
               LOG_NUMBER("configured", (double)config->max_connections),
               LOG_NUMBER("open_files", (double)serving->descriptors));
}
