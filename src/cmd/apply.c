/*
 * Takes another configuration while tarn serves. First everything is read, checked and made that
 * the new configuration needs. Nothing that follows can fail, so that a configuration is taken as a
 * whole or not at all.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/log.h"
#include "cmd/serving.h"

/* What a new configuration needs. */
struct prepared {
    struct config *config;
    uint64_t max_size;
    struct upstreams *upstreams;
    struct clients *clients;
    struct registry_view *view;
    struct pin_patterns *pins;
    struct warm_schedule *schedule;
    struct http_change *http;
    uint64_t max_connections;
    char *file; /* the one that was named; NULL: none was */
};

static void prepared_finish(struct prepared *prepared) {
    current_upstreams_give_up(prepared->upstreams);
    registry_give_up(prepared->view);
    clients_release(prepared->clients);
    pins_give_up(prepared->pins);
    service_give_up_schedule(prepared->schedule);
    http_server_give_up(prepared->http);
    config_free(prepared->config);
    free(prepared->file);
}

/* ---- preparing ---- */

static struct config *load(const struct serving *serving, const char *file,
                           struct buffer *problems) {
    struct config_flags flags = *serving->flags;
    if (file)
        flags.file = file;
    else if (serving->file)
        flags.file = serving->file;
    struct config *config = config_load(&flags, environ, problems);
    if (!config && !problems->length)
        buffer_append_string(problems, "tarn: out of memory\n");
    return config;
}

static bool make_parts(const struct serving *serving, struct prepared *prepared, const char *file,
                       struct error *error) {
    const struct config *config = prepared->config;
    if (!config_max_size(config, &prepared->max_size, error))
        return false;
    prepared->upstreams = current_upstreams_prepare(serving->upstreams, config->upstreams,
                                                    config->upstream_count, error);
    if (!prepared->upstreams ||
        !serving_make_clients(config, serving->clients, &prepared->clients, error))
        return false;
    const struct registry_view_settings view =
        serving_view_settings(config, prepared->clients, prepared->max_size);
    prepared->view = registry_prepare(&view);
    prepared->pins = pins_prepare(config->pin);
    prepared->schedule = service_prepare_schedule(config->warm, config->warm_count);
    prepared->file = file ? strdup(file) : NULL;
    return (prepared->view && prepared->pins && prepared->schedule && (prepared->file || !file)) ||
           error_set(error, ERROR_MEMORY, "out of memory");
}

static bool make_http(const struct serving *serving, struct prepared *prepared,
                      struct error *error) {
    const struct config *config = prepared->config;
    prepared->max_connections = serving_max_connections(config, serving->descriptors);
    const struct http_server_settings settings =
        serving_http_settings(config, prepared->max_connections);
    prepared->http = http_server_prepare(serving->server, &settings, error);
    return prepared->http;
}

static bool prepare(const struct serving *serving, const char *file, struct prepared *prepared,
                    struct buffer *problems) {
    struct error error = {0};
    prepared->config = load(serving, file, problems);
    if (!prepared->config ||
        !config_check_change(CONFIG_OF_SERVE, serving->config, prepared->config, problems))
        return false;
    if (make_parts(serving, prepared, file, &error) && make_http(serving, prepared, &error))
        return true;
    buffer_printf(problems, "%s: %s\n", prepared->config->file ? prepared->config->file : "tarn",
                  error.text);
    return false;
}

/* ---- taking ---- */

static void change_limits(struct serving *serving, struct prepared *prepared) {
    const struct config *config = prepared->config;
    const struct upkeep_settings upkeep = serving_upkeep_settings(config, prepared->max_size);
    const struct cache_settings cache = serving_cache_settings(config);
    serving->max_size = prepared->max_size;
    serving->max_connections = prepared->max_connections;
    serving->grace_ms = config->grace_ms;
    upkeep_change(serving->upkeep, &upkeep, take(prepared->pins));
    cache_change(serving->cache, &cache);
    service_change_limit(serving->service, serving->max_size);
}

/* The registry's view takes the set of upstreams that is then the current one. */
static void change_upstreams(struct serving *serving, struct prepared *prepared) {
    current_upstreams_exchange(serving->upstreams, take(prepared->upstreams));
    registry_change(serving->registry, take(prepared->view));
    clients_release(serving->clients);
    serving->clients = take(prepared->clients);
}

static void apply(struct serving *serving, struct prepared *prepared) {
    size_t added, removed;
    current_upstreams_compare(serving->upstreams, prepared->upstreams, &added, &removed);
    change_limits(serving, prepared);
    change_upstreams(serving, prepared);
    http_server_change(serving->server, take(prepared->http));
    service_change_schedule(serving->service, take(prepared->schedule));
    struct config *before = serving->config;
    serving->config = take(prepared->config);
    log_configure(serving->config->log_level, serving->config->log_format);
    if (prepared->file) {
        free(serving->file);
        serving->file = take(prepared->file);
    }
    if (before != serving->first)
        config_free(before);
    log_at(LOG_INFO, "the configuration was reloaded",
           LOG_STRING("config", serving->config->file ? serving->config->file : "built-in"),
           LOG_NUMBER("upstreams", serving->config->upstream_count),
           LOG_NUMBER("upstreams_added", added), LOG_NUMBER("upstreams_removed", removed));
    serving_log_warnings(serving);
}

bool serving_reload(void *context, const char *file, struct buffer *problems) {
    struct serving *serving = context;
    struct prepared prepared = {0};
    bool ok = prepare(serving, file, &prepared, problems);
    if (ok)
        apply(serving, &prepared);
    prepared_finish(&prepared);
    return ok;
}

void serving_sweep(void *context) {
    struct serving *serving = context;
    registry_sweep(serving->registry);
    current_upstreams_sweep(serving->upstreams);
}
