/* tarn serve: builds every part from the configuration and serves until a signal ends it. */
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "admin/service.h"
#include "auth/google/google.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/secret.h"
#include "base/thread.h"
#include "cache/cache.h"
#include "client/client.h"
#include "cmd/arguments.h"
#include "cmd/commands.h"
#include "cmd/confine.h"
#include "config/config.h"
#include "http/http.h"
#include "oci/error_body.h"
#include "registry/registry.h"

enum {
    TRIM_PAUSE_S = 15,
    FREE_LIMIT = 4 << 20,         /* free bytes that the C library may keep for the next requests */
    OWN_DESCRIPTORS = 128,        /* of the log, the store, the listeners, the loops, helpers */
    OVER_LIMIT_DESCRIPTORS = 256, /* of connections over the limit, which http/ answers once */
    SPARE_MS = 600,               /* that the end may take after `grace` */
    FILE_DESCRIPTORS = 4096, /* the most that are kept for the files of clients that download */
};

/* Everything that a running tarn is made of. */
struct serving {
    const struct config *config;
    struct client *client;    /* also used by the credential sources in config */
    uint64_t max_size;        /* the limit of the cache in bytes */
    uint64_t max_connections; /* as configured, or as many as the limit of open files allows */
    uint64_t descriptors;     /* that limit */
    struct store *store;
    struct upstreams *upstreams;
    struct upkeep *upkeep;
    struct cache *cache;
    struct clients *clients;
    struct rules *rules;
    struct registry *registry;
    struct http_server *server;
    struct service_settings service_settings;
    struct service *service;

    pthread_t signals;      /* the thread that waits for them, and then for the end */
    struct lock end_lock;   /* guards what follows */
    struct condition moved; /* some of it has changed */
    bool ended;             /* all requests have ended */
    bool closed;            /* all parts have */
    bool is_used;           /* the signals' thread uses the parts */
};

/* Returns free memory to the system, because the C library would keep it after a busy hour. */
static void trim_memory(void) {
    if (mallinfo2().fordblks > FREE_LIMIT)
        malloc_trim(0);
}

/* Waits until the requests have ended or `until_ms`. True: they have. */
static bool wait_for_requests(struct serving *serving, int64_t until_ms) {
    lock_acquire(&serving->end_lock);
    while (!serving->ended && clock_ms() < until_ms)
        condition_wait_until(&serving->moved, &serving->end_lock, until_ms);
    bool ended = serving->ended;
    lock_release(&serving->end_lock);
    return ended;
}

/* Makes sure that the process ends in time. After `grace` nothing waits for an upstream any more. A
 * thread that hangs in a system call or in a library (a resolver, a helper, a disk) cannot be
 * ended: the process then ends without it, which costs no more than a crash. */
static void watch_end(struct serving *serving) {
    const int64_t grace_ends = clock_ms() + (int64_t)serving->config->grace_ms;
    const int64_t until_ms = grace_ends + SPARE_MS;
    if (!wait_for_requests(serving, grace_ends))
        cache_stop(serving->cache);
    lock_acquire(&serving->end_lock);
    serving->is_used = false;
    condition_broadcast(&serving->moved);
    while (!serving->closed && clock_ms() < until_ms)
        condition_wait_until(&serving->moved, &serving->end_lock, until_ms);
    bool closed = serving->closed;
    lock_release(&serving->end_lock);
    if (closed)
        return;
    log_event(LOG_WARN, "stopped without waiting for threads that hang", NULL, 0);
    log_stop();
    _exit(0);
}

/* Says that the requests have ended, and waits until the parts may be closed. */
static void announce_end(struct serving *serving) {
    lock_acquire(&serving->end_lock);
    serving->ended = true;
    condition_broadcast(&serving->moved);
    while (serving->is_used)
        condition_wait(&serving->moved, &serving->end_lock);
    lock_release(&serving->end_lock);
}

/* The parts are closed: ends the signals' thread. */
static void end_watch(struct serving *serving) {
    lock_acquire(&serving->end_lock);
    serving->closed = true;
    condition_broadcast(&serving->moved);
    lock_release(&serving->end_lock);
    pthread_join(serving->signals, NULL);
}

/* Waits for a signal that ends the process, and for the end. All other threads block these signals.
 */
static void wait_for_signal(void *context) {
    struct serving *serving = context;
    static const struct timespec pause = {.tv_sec = TRIM_PAUSE_S};
    sigset_t signals;
    int signal_number;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    while ((signal_number = sigtimedwait(&signals, NULL, &pause)) < 0)
        trim_memory();
    log_at(LOG_INFO, "stopping", LOG_STRING("signal", strsignal(signal_number)));
    service_stop(serving->service);
    http_server_stop(serving->server);
    watch_end(serving);
}

/* ---- building the parts: each step needs those above it ---- */

static bool open_store(struct serving *serving, struct error *error) {
    const struct config *config = serving->config;
    serving->store = store_open(config->root, error);
    return serving->store && config_max_size(config, &serving->max_size, error);
}

static bool open_upstreams(struct serving *serving, struct error *error) {
    const struct config *config = serving->config;
    google_declare_metrics();
    serving->upstreams =
        upstreams_new(serving->client, config->upstreams, config->upstream_count, error);
    return serving->upstreams != NULL;
}

static bool open_clients(struct serving *serving, struct error *error) {
    const struct config *config = serving->config;
    const struct clients_settings settings = {.htpasswd = config->clients_htpasswd,
                                              .realm = config->clients_realm,
                                              .token = config->clients_token,
                                              .certificates = config->clients_ca != NULL,
                                              .limits = config->logins};
    if (clients_are_asked(&settings) && !(serving->clients = clients_new(&settings, error)))
        return false;
    if (config->rules && !(serving->rules = rules_new(config->rules, config->rule_count)))
        return error_set(error, ERROR_MEMORY, "out of memory");
    return true;
}

static bool open_cache(struct serving *serving, struct error *error) {
    const struct config *config = serving->config;
    const struct upkeep_settings upkeep_settings = {
        .max_size = serving->max_size,
        .min_free = config->min_free,
        .max_age_s = (config->max_age_ms + 999) / 1000,
        .scrub_s = (config->scrub_ms + 999) / 1000,
        .pin = config->pin,
    };
    struct cache_settings cache_settings = cache_settings_default();
    cache_settings.document_memory = config->manifest_memory;
    cache_settings.negative_ttl_ms = config->negative_ttl_ms;
    cache_settings.max_flights = (unsigned)config->max_flights;
    cache_settings.max_connections = (unsigned)config->connections_total;
    cache_settings.waiting_per_upstream = config->waiting_per_upstream;
    cache_settings.flights_per_upstream = config->flights_per_upstream;
    serving->upkeep = upkeep_new(&upkeep_settings, serving->store);
    serving->cache = serving->upkeep ? cache_new(&cache_settings, serving->upkeep) : NULL;
    return serving->cache || error_set(error, ERROR_MEMORY, "out of memory");
}

static bool open_registry(struct serving *serving, struct error *error) {
    const struct registry_settings settings = {
        .cache = serving->cache,
        .store = serving->store,
        .upstreams = serving->upstreams,
        .clients = serving->clients,
        .rules = serving->rules,
        .server_names = serving->config->server_names,
        .path_prefix = serving->config->path_prefix,
        .ignore_ns = serving->config->ignore_ns,
        .log_requests = serving->config->log_requests,
        .max_size = serving->max_size,
        .is_tls = serving->config->tls_certificate != NULL,
    };
    serving->registry = registry_new(&settings);
    return serving->registry || error_set(error, ERROR_MEMORY, "out of memory");
}

static bool open_server(struct serving *serving, struct error *error) {
    const struct config *config = serving->config;
    struct http_server_settings settings = http_server_settings_default();
    settings.listen = config->listen;
    settings.listen_count = config->listen_count;
    settings.side_listen = config->metrics_listen;
    settings.side_listen_count = config->metrics_listen_count;
    settings.fields = config->headers;
    settings.max_connections = (unsigned)serving->max_connections;
    settings.head_timeout_ms = (int)config->head_timeout_ms;
    settings.idle_timeout_ms = (int)config->idle_timeout_ms;
    settings.send_timeout_ms = (int)config->send_timeout_ms;
    settings.grace_ms = (int)config->grace_ms;
    settings.per_client = config->per_client;
    settings.tls_certificate = config->tls_certificate;
    settings.tls_key = config->tls_key;
    settings.tls_client_ca = config->clients_ca;
    settings.handle = registry_handle;
    settings.handle_now = registry_handle_now;
    settings.error_body = error_body_of_status;
    settings.refused = registry_refused;
    settings.context = serving->registry;
    serving->server = http_server_new(&settings, error);
    if (!serving->server)
        return false;
    registry_set_server(serving->registry, serving->server);
    cache_set_workers(serving->cache, http_server_workers(serving->server));
    return true;
}

static bool open_service(struct serving *serving, struct error *error) {
    const struct config *config = serving->config;
    serving->service_settings = (struct service_settings){
        .root = config->root,
        .max_size = serving->max_size,
        .store = serving->store,
        .cache = serving->cache,
        .upstreams = serving->upstreams,
        .warm = config->warm,
        .warm_count = config->warm_count,
    };
    serving->service = service_new(&serving->service_settings, error);
    return serving->service != NULL;
}

static bool open_parts(struct serving *serving, struct error *error) {
    return open_store(serving, error) && open_upstreams(serving, error) &&
           open_clients(serving, error) && open_cache(serving, error) &&
           open_registry(serving, error) && open_server(serving, error) &&
           open_service(serving, error);
}

/* ---- running and ending ---- */

/* Frees the parts in reverse order; a part that was never built is NULL. False: a transfer hangs in
 * a system call. The remaining parts are then not freed, because the process ends. */
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
    rules_free(serving->rules);
    clients_free(serving->clients);
    upstreams_free(serving->upstreams);
    store_close(serving->store);
    return true;
}

static bool start_threads(struct serving *serving, struct error *error) {
    return thread_start("signals", THREAD_STACK, wait_for_signal, serving, &serving->signals,
                        error) &&
           upkeep_start(serving->upkeep, error) && registry_start(serving->registry, error) &&
           service_start(serving->service, error);
}

static void end_threads(struct serving *serving) {
    pthread_kill(serving->signals, SIGTERM); /* no effect if the thread has got a signal already */
    announce_end(serving);
    registry_stop(serving->registry);
    upkeep_stop(serving->upkeep);
}

static void announce(const struct serving *serving) {
    const struct config *config = serving->config;
    for (size_t i = 0; config->warnings && config->warnings[i]; i++)
        log_event(LOG_WARN, config->warnings[i], NULL, 0);
    if (serving->max_connections < config->max_connections)
        log_at(LOG_WARN,
               "max_connections is lowered, because the process may open too few files; raise the "
               "hard limit (ulimit -Hn, LimitNOFILE=), or set max_connections",
               LOG_NUMBER("max_connections", (double)serving->max_connections),
               LOG_NUMBER("configured", (double)config->max_connections),
               LOG_NUMBER("open_files", (double)serving->descriptors));
    for (size_t i = 0; i < config->listen_count; i++)
        log_at(LOG_INFO, "listening", LOG_STRING("address", config->listen[i]),
               LOG_NUMBER("port", http_server_port(serving->server)),
               LOG_STRING("root", config->root), LOG_STRING("version", TARN_VERSION),
               LOG_STRING("config", config->file ? config->file : "built-in"));
    for (size_t i = 0; i < config->metrics_listen_count; i++)
        log_at(LOG_INFO, "listening for health and metrics",
               LOG_STRING("address", config->metrics_listen[i]));
}

/* The kernel enlarges the table of descriptors when a new one does not fit, and whoever needs that
 * one waits until all processors have noticed: tens of milliseconds on a busy machine, in an event
 * loop that accepts a connection. One descriptor far up makes the table large before there are
 * threads. */
static void enlarge_descriptor_table(uint64_t descriptors) {
    int far = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, (int)(descriptors - 1));
    if (far >= 0)
        close(far);
}

/* Allows as many descriptors as the system permits, and so many connections that blobs and
 * upstreams still get theirs when all connections are taken. */
static void share_descriptors(struct serving *serving) {
    const struct config *config = serving->config;
    struct rlimit limit;
    serving->max_connections = config->max_connections;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0 && getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    serving->descriptors = limit.rlim_cur;
    if (limit.rlim_cur == RLIM_INFINITY)
        return;
    uint64_t kept = OWN_DESCRIPTORS + OVER_LIMIT_DESCRIPTORS + config->connections_total;
    if (kept > limit.rlim_cur / 2)
        kept = limit.rlim_cur / 2;
    uint64_t rest = limit.rlim_cur - kept;
    uint64_t most = rest / 2 < FILE_DESCRIPTORS ? rest / 2 : rest - FILE_DESCRIPTORS;
    if (most < serving->max_connections)
        serving->max_connections = most > 0 ? most : 1;
    uint64_t wanted = kept + FILE_DESCRIPTORS + serving->max_connections;
    enlarge_descriptor_table(wanted < limit.rlim_cur ? wanted : limit.rlim_cur);
}

static void bound_memory(void) {
    /* The C library would make a heap for each thread, and each request has a thread. */
    mallopt(M_ARENA_MAX, 2);
    /* With the defaults the C library keeps up to 64 MiB once a large buffer has been freed. */
    mallopt(M_MMAP_THRESHOLD, 128 << 10);
    mallopt(M_TRIM_THRESHOLD, 1 << 20);
}

/* Serves until a signal comes. Nothing is printed from here on but by the log's thread, because
 * whoever reads standard error may stand still. */
static bool run_parts(struct serving *serving) {
    struct error error = {0};
    log_start();
    announce(serving);
    bool ok = http_server_run(serving->server, &error);
    end_threads(serving);
    if (!ok)
        log_at(LOG_ERROR, "cannot serve", LOG_STRING("error", error.text));
    log_event(LOG_INFO, "stopped", NULL, 0);
    return ok;
}

/* Says why tarn does not serve: to people, or as a line of JSON to whoever collects these. Before
 * the log's thread is started. */
static void report_failure(enum log_format format, struct text why) {
    if (format == LOG_JSON)
        log_at(LOG_ERROR, "cannot start", LOG_SLICE("error", why));
    else
        fprintf(stderr, "tarn serve: %.*s\n", TEXT_PRINT(why));
}

/* The same for what is wrong with the configuration, a line for each mistake. */
static void report_problems(enum log_format format, const struct buffer *problems) {
    if (!problems->bytes) {
        report_failure(format, text_of("out of memory"));
    } else if (format == LOG_TEXT) {
        fputs(problems->bytes, stderr);
    } else {
        for (struct text rest = {problems->bytes, problems->length}; rest.at;) {
            struct text line = text_cut(rest, '\n', &rest);
            if (line.length)
                report_failure(format, line);
        }
    }
}

static int serve(const struct config *config, struct client *client) {
    struct serving serving = {.config = config, .client = client, .is_used = true};
    struct error error = {0};
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    lock_init(&serving.end_lock);
    condition_init(&serving.moved);
    share_descriptors(&serving);
    bound_memory();
    secret_forbid_core_dumps(); /* this process holds other people's credentials */
    log_configure(config->log_level, config->log_format);

    bool ok =
        open_parts(&serving, &error) && confine(config, &error) && start_threads(&serving, &error);
    if (!ok)
        report_failure(config->log_format, text_of(error.text));
    else
        ok = run_parts(&serving);
    bool closed = close_parts(&serving);
    if (serving.ended)
        end_watch(&serving);
    log_stop(); /* the parts may log until they are closed */
    if (!closed)
        _exit(ok ? 0 : 1);
    return ok ? 0 : 1;
}

/* Passes the options to the configuration. False: out of memory. */
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
    const enum log_format format = config_early_log_format(&flags, environ);
    log_configure(LOG_INFO, format);
    struct config *config = collected ? config_load(&flags, environ, &problems) : NULL;
    config_flags_finish(&flags);
    if (!config) {
        report_problems(format, &problems);
        return 1;
    }
    struct client *client = client_new();
    int status = 1;
    if (client)
        status = serve(config, client);
    else
        report_failure(format, text_of("out of memory"));
    config_free(config);
    client_free(client);
    return status;
}

static const struct command_option options[] = {
    {"config", OPTION_STRING, "FILE",
     "the configuration file; default: $TARN_CONFIG, else " CONFIG_DEFAULT_FILE ", if it exists"},
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
