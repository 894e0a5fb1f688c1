/* tarn serve: builds every part from the configuration and serves until a signal ends it. */
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include "admin/service.h"
#include "auth/google/google.h"
#include "base/clock.h"
#include "base/log.h"
#include "cache/cache.h"
#include "cmd/arguments.h"
#include "cmd/commands.h"
#include "cmd/confine.h"
#include "config/config.h"
#include "http/http.h"
#include "oci/error_body.h"
#include "registry/registry.h"

enum {
    GIVE_BACK_S = 15,
    KEPT_FREE = 4 << 20, /* bytes that may lie free for the next requests */
};

/* Everything that a running tarn is made of. */
struct serving {
    const struct config *config;
    struct store *store;
    struct upstreams *upstreams;
    struct upkeep *upkeep;
    struct cache *cache;
    struct clients *clients;
    struct registry *registry;
    struct http_server *server;
    struct service_settings service_settings;
    struct service *service;

    pthread_t signals; /* the thread that waits for them */
};

/* What a busy hour took and nobody uses any more goes back to the system. */
static void give_back_memory(void) {
    if (mallinfo2().fordblks > KEPT_FREE)
        malloc_trim(0);
}

/* Waits for the signals that end the process; all other threads have them blocked. */
static void *wait_for_signal(void *context) {
    struct serving *serving = context;
    static const struct timespec pause = {.tv_sec = GIVE_BACK_S};
    sigset_t signals;
    int signal_number;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    while ((signal_number = sigtimedwait(&signals, NULL, &pause)) < 0)
        give_back_memory();
    log_at(LOG_INFO, "stopping", LOG_STRING("signal", strsignal(signal_number)));
    service_stop(serving->service);
    http_server_stop(serving->server);
    return NULL;
}

static bool open_parts(struct serving *serving, struct error *error) {
    const struct config *config = serving->config;
    struct cache_settings cache_settings = {
        .document_memory = config->manifest_memory,
        .negative_ttl_ms = config->negative_ttl_ms,
        .max_flights = (unsigned)config->max_flights,
        .max_connections = (unsigned)config->connections_total,
    };
    struct upkeep_settings upkeep_settings = {
        .min_free = config->min_free,
        .max_age_s = (config->max_age_ms + 999) / 1000,
        .scrub_s = (config->scrub_ms + 999) / 1000,
        .pin = config->pin,
    };
    serving->store = store_open(config->root, error);
    if (!serving->store || !config_max_size(config, &upkeep_settings.max_size, error))
        return false;
    serving->upstreams = upstreams_new(config->upstreams, config->upstream_count, error);
    if (!serving->upstreams)
        return false;
    if (config->clients_htpasswd &&
        !(serving->clients = clients_new(config->clients_htpasswd, error)))
        return false;
    serving->upkeep = upkeep_new(&upkeep_settings, serving->store);
    serving->cache = serving->upkeep ? cache_new(&cache_settings, serving->upkeep) : NULL;
    const struct registry_settings registry_settings = {
        .cache = serving->cache,
        .store = serving->store,
        .upstreams = serving->upstreams,
        .clients = serving->clients,
        .listed = config->upstreams,
        .listed_count = config->upstream_count,
    };
    serving->registry = serving->cache ? registry_new(&registry_settings) : NULL;
    if (!serving->registry)
        return error_set(error, ERROR_MEMORY, "out of memory");
    const struct http_server_settings server_settings = {
        .listen = config->listen,
        .listen_count = config->listen_count,
        .max_connections = (unsigned)config->max_connections,
        .head_timeout_ms = (int)config->head_timeout_ms,
        .idle_timeout_ms = (int)config->idle_timeout_ms,
        .send_timeout_ms = (int)config->send_timeout_ms,
        .grace_ms = (int)config->grace_ms,
        .tls_certificate = config->tls_certificate,
        .tls_key = config->tls_key,
        .handle = registry_handle,
        .error_body = error_body_of_status,
        .context = serving->registry,
    };
    serving->server = http_server_new(&server_settings, error);
    if (!serving->server)
        return false;
    registry_set_server(serving->registry, serving->server);
    serving->service_settings = (struct service_settings){
        .root = config->root,
        .max_size = upkeep_settings.max_size,
        .store = serving->store,
        .cache = serving->cache,
        .upstreams = serving->upstreams,
        .warm = config->warm,
        .warm_count = config->warm_count,
    };
    serving->service = service_new(&serving->service_settings, error);
    return serving->service != NULL;
}

/* Takes down what stands, in the reverse order; a part that was never built is NULL. False: a
 * transfer hangs in a system call, and the rest is left to the process's end. */
static bool close_parts(struct serving *serving) {
    if (serving->service)
        service_stop(serving->service);
    if (!service_free(serving->service))
        return false;
    http_server_free(serving->server);
    if (!cache_free(serving->cache))
        return false;
    upkeep_free(serving->upkeep);
    registry_free(serving->registry);
    clients_free(serving->clients);
    upstreams_free(serving->upstreams);
    store_close(serving->store);
    return true;
}

static bool start_threads(struct serving *serving, struct error *error) {
    int failed = pthread_create(&serving->signals, NULL, wait_for_signal, serving);
    if (failed)
        return error_set_errno(error, failed, "starting a thread");
    return upkeep_start(serving->upkeep, error) && service_start(serving->service, error);
}

static void end_threads(struct serving *serving) {
    pthread_kill(serving->signals, SIGTERM); /* it may have had one already: then it has ended */
    pthread_join(serving->signals, NULL);
    upkeep_stop(serving->upkeep);
}

static void announce(const struct serving *serving) {
    const struct config *config = serving->config;
    for (size_t i = 0; config->warnings && config->warnings[i]; i++)
        log_event(LOG_WARN, config->warnings[i], NULL, 0);
    for (size_t i = 0; i < config->listen_count; i++)
        log_at(LOG_INFO, "listening", LOG_STRING("address", config->listen[i]),
               LOG_NUMBER("port", http_server_port(serving->server)),
               LOG_STRING("root", config->root), LOG_STRING("version", TARN_VERSION),
               LOG_STRING("config", config->file ? config->file : "built-in"));
}

/* One connection a client and several an upstream: as many descriptors as we may have. */
static void raise_limits(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    /* A thread a request would otherwise mean a heap a thread. */
    mallopt(M_ARENA_MAX, 2);
    /* Left alone, the first large buffer that is freed has the C library keep up to 64 MiB. */
    mallopt(M_MMAP_THRESHOLD, 128 << 10);
    mallopt(M_TRIM_THRESHOLD, 1 << 20);
}

static int serve(const struct config *config) {
    struct serving serving = {.config = config};
    struct error error = {0};
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    raise_limits();
    google_forbid_core_dumps(); /* this process holds other people's credentials */
    log_configure(config->log_level, config->log_format);

    bool ok =
        open_parts(&serving, &error) && confine(config, &error) && start_threads(&serving, &error);
    if (ok) {
        log_start();
        announce(&serving);
        ok = http_server_run(serving.server, &error);
        end_threads(&serving);
        log_event(LOG_INFO, "stopped", NULL, 0);
        log_stop();
    }
    if (!ok)
        fprintf(stderr, "tarn serve: %s\n", error.text);
    fflush(stderr);
    if (!close_parts(&serving))
        _exit(ok ? 0 : 1);
    return ok ? 0 : 1;
}

/* Hands the options on to the configuration. False: out of memory. */
static bool collect_flags(struct config_flags *flags, const struct arguments *arguments) {
    flags->file = arguments_string(arguments, "config");
    for (size_t i = 0; i < arguments->given_count; i++) {
        const struct arguments_given *given = &arguments->given[i];
        if (given->option.setting && !config_flags_add(flags, given->option.setting, given->value))
            return false;
    }
    return true;
}

static int run(const struct arguments *arguments) {
    struct config_flags flags = {0};
    cleanup_buffer struct buffer problems = {0};
    bool collected = collect_flags(&flags, arguments);
    struct config *config = collected ? config_load(&flags, environ, &problems) : NULL;
    config_flags_free(&flags);
    if (!config) {
        fputs(problems.bytes ? problems.bytes : "tarn serve: out of memory\n", stderr);
        return 1;
    }
    int status = serve(config);
    config_free(config);
    return status;
}

static const struct command_option options[] = {
    {"config", OPTION_STRING, "FILE",
     "the configuration file; variable: TARN_CONFIG; default: " CONFIG_DEFAULT_FILE
     ", if there is one"},
};

const struct command serve_command = {
    .name = "serve",
    .arguments = "",
    .summary = "serve images, and fetch those that are not cached yet",
    .text =
        "Without any option tarn serves well-known public registries and Google Artifact Registry\n"
        "on 127.0.0.1:5000. SIGTERM ends it after the requests in progress.\n",
    COMMAND_OPTIONS(options),
    .takes_settings = true,
    .run = run,
};
