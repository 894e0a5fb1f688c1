/*
 * Takes another configuration while tarn keep runs, by SIGHUP: as a whole or not at all. First
 * everything is read, checked and made; what follows can fail only for want of memory.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/log.h"
#include "cmd/keep_process.h"

struct keep_config *keep_config_load(const struct config_flags *flags, struct buffer *problems) {
    struct keep_config *loaded = calloc(1, sizeof *loaded);
    if (loaded)
        loaded->config = config_load(flags, environ, problems);
    if (!loaded || !loaded->config) {
        if (!problems->length)
            buffer_append_string(problems, "tarn keep: out of memory\n");
        free(loaded);
        return NULL;
    }
    loaded->keep = loaded->config->keep;
    const char *prefix = getenv("SAFIR_NAME"); /* cachemachine's own name for it */
    if (prefix && *prefix && keep_name_is_valid(prefix) &&
        strcmp(loaded->keep.prefix, KEEP_DEFAULT_PREFIX) == 0)
        loaded->keep.prefix = prefix;
    return loaded;
}

void keep_config_free(void *config) {
    struct keep_config *loaded = config;
    if (!loaded)
        return;
    config_free(loaded->config);
    free(loaded);
}

/* What a new configuration needs. */
struct prepared {
    struct keep_config *config;
    struct upstreams *upstreams;
    struct keeper_change *keeper;
    struct keep_server_change *server;
};

static void prepared_finish(struct prepared *prepared) {
    keep_server_give_up(prepared->server);
    keeper_give_up(prepared->keeper);
    current_upstreams_give_up(prepared->upstreams);
    keep_config_free(prepared->config);
}

static bool make_parts(const struct keep_process *process, struct prepared *prepared,
                       struct error *error) {
    const struct config *config = prepared->config->config;
    prepared->upstreams = current_upstreams_prepare(process->upstreams, config->keep_upstreams,
                                                    config->keep_upstream_count, error);
    if (prepared->upstreams)
        prepared->keeper = keeper_prepare(process->keeper, &prepared->config->keep, error);
    if (prepared->keeper)
        prepared->server =
            keep_server_prepare(process->server, config, &prepared->config->keep, error);
    return prepared->server != NULL;
}

static bool prepare(const struct keep_process *process, struct prepared *prepared,
                    struct buffer *problems) {
    struct error error = {0};
    prepared->config = keep_config_load(process->settings->flags, problems);
    if (!prepared->config || !config_check_change(CONFIG_OF_KEEP, process->config->config,
                                                  prepared->config->config, problems))
        return false;
    if (make_parts(process, prepared, &error))
        return true;
    buffer_printf(problems, "%s\n", error.text);
    return false;
}

/* False: out of memory, and nothing has changed but the settings of upstreams. */
static bool apply(struct keep_process *process, struct prepared *prepared) {
    /* The upstreams first, because the keeper lists at once. Nothing else uses them. */
    current_upstreams_exchange(process->upstreams, take(prepared->upstreams));
    bool is_first = process->config == process->first;
    if (!keeper_change(process->keeper, prepared->keeper, is_first ? NULL : keep_config_free,
                       process->config))
        return false;
    prepared->keeper = NULL;
    process->config = take(prepared->config);
    const struct config *config = process->config->config;
    keep_server_change(process->server, take(prepared->server));
    log_configure(config->log_level, config->log_format);
    config_log_warnings(config);
    log_at(LOG_INFO, "the configuration was reloaded",
           LOG_STRING("config", config->file ? config->file : "built-in"),
           LOG_NUMBER("keeps", (double)config->keep.keep_count));
    return true;
}

bool keep_reload(void *context, const char *file, struct buffer *problems) {
    struct keep_process *process = context;
    struct prepared prepared = {0};
    (void)file; /* nobody names one */
    bool done = prepare(process, &prepared, problems);
    if (done && !apply(process, &prepared)) {
        buffer_append_string(problems, "out of memory\n");
        done = false;
    }
    prepared_finish(&prepared);
    return done;
}

void keep_sweep(void *context) {
    struct keep_process *process = context;
    current_upstreams_sweep(process->upstreams);
}
