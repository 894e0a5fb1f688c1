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
#include "auth/google/google.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "base/thread.h"
#include "bucket/bucket.h"
#include "cache/janitor.h"
#include "catalog/catalog.h"
#include "cmd/arguments.h"
#include "cmd/commands.h"
#include "cmd/confine.h"
#include "cmd/serving.h"
#include "oci/error_body.h"
#include "replica/counts.h"

enum {
    TRIM_PAUSE_S = 15,
    FREE_LIMIT = 4 << 20, /* free bytes that the C library may keep for the next requests */
    LEAVE_LOOK_MS = 20,   /* between two looks whether flights have ended */
    SPARE_MS = 600,       /* that the end may take after `grace` */
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

/* With replicas the server goes on at first: for the others, which follow flights of this tarn, and
 * to tell clients and probes to go elsewhere. Until the last flight has ended. */
static void leave(struct serving *serving, int64_t until_ms) {
    registry_leave(serving->registry);
    while (clock_ms() < until_ms && cache_flights(serving->cache, NULL, 0) > 0)
        clock_sleep_ms(LEAVE_LOOK_MS);
    const int64_t left_ms = until_ms - clock_ms();
    http_server_stop_within(serving->server, left_ms > 0 ? (int)left_ms : 0);
}

/* Makes sure that the process ends in time. After `grace` nothing waits for an upstream any more. A
 * thread that hangs in a system call or in a library (a resolver, a helper, a disk) cannot be
 * ended: the process then ends without it, which costs no more than a crash. */
static void watch_end(struct serving *serving, int64_t grace_ends) {
    serving->grace_ends_ms = grace_ends; /* announce_end() returns only after this */
    const int64_t until_ms = grace_ends + SPARE_MS;
    if (!wait_for_requests(serving, grace_ends)) {
        cache_stop(serving->cache);
        registry_end_waits(serving->registry);
    }
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

/* The signals that one thread waits for, and all others block. */
static void fill_signals(sigset_t *signals) {
    sigemptyset(signals);
    sigaddset(signals, SIGTERM);
    sigaddset(signals, SIGINT);
    sigaddset(signals, SIGHUP);
}

/* Waits for a signal that ends the process, and for the end. */
static void wait_for_signal(void *context) {
    struct serving *serving = context;
    static const struct timespec pause = {.tv_sec = TRIM_PAUSE_S};
    sigset_t signals;
    int signal_number;
    fill_signals(&signals);
    while ((signal_number = sigtimedwait(&signals, NULL, &pause)) < 0 || signal_number == SIGHUP) {
        if (signal_number == SIGHUP)
            reloader_signal(serving->reloader);
        else
            trim_memory();
    }
    log_at(LOG_INFO, "stopping", LOG_STRING("signal", strsignal(signal_number)));
    const int64_t grace_ends = clock_ms() + serving->grace_ms;
    service_stop(serving->service);
    if (serving->replicas)
        leave(serving, grace_ends);
    http_server_stop(serving->server);
    watch_end(serving, grace_ends);
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
    bucket_declare_metrics();
    cache_declare_metrics();
    replicas_declare_metrics();
    replica_declare_counts();
    janitor_declare_metrics();
    serving->upstreams =
        current_upstreams_new(serving->client, config->upstreams, config->upstream_count, error);
    return serving->upstreams != NULL;
}

static bool open_bucket(struct serving *serving, struct error *error) {
    const struct bucket_settings *settings = &serving->config->bucket;
    if (settings->address.kind == BUCKET_NONE)
        return true;
    serving->bucket = bucket_new(settings, serving->client);
    return serving->bucket || error_set(error, ERROR_MEMORY, "out of memory");
}

static bool sign(void *context, const struct signed_request *request,
                 char input[static SIGNATURE_INPUT_SIZE], char signature[static SIGNATURE_SIZE]) {
    return replicas_sign(context, request, input, signature);
}

static bool open_replicas(struct serving *serving, struct error *error) {
    const struct replicas_settings *settings = &serving->config->replicas;
    if (!replicas_settings_are_given(settings))
        return true;
    serving->replicas = replicas_new(settings, error);
    if (!serving->replicas)
        return false;
    const struct replica_asker_settings asker = {
        .client = serving->client,
        .members = replicas_members(serving->replicas),
        .sign = sign,
        .context = serving->replicas,
        .is_tls = replicas_settings_have_tls(settings),
        .ca_file = settings->tls_ca,
        .server_name = settings->tls_name,
    };
    serving->asker = replica_asker_new(&asker, error);
    return serving->asker != NULL;
}

static bool open_cache(struct serving *serving, struct error *error) {
    const struct config *config = serving->config;
    const struct upkeep_settings upkeep_settings =
        serving_upkeep_settings(config, serving->max_size);
    struct cache_settings cache_settings = serving_cache_settings(config);
    if (!open_bucket(serving, error))
        return false;
    cache_settings.bucket = serving->bucket;
    cache_settings.replicas = serving->asker;
    serving->upkeep = upkeep_new(&upkeep_settings, serving->store);
    serving->cache = serving->upkeep ? cache_new(&cache_settings, serving->upkeep) : NULL;
    return serving->cache || error_set(error, ERROR_MEMORY, "out of memory");
}

static bool open_janitor(struct serving *serving, struct error *error) {
    if (!serving->bucket)
        return true;
    serving->janitor = janitor_new(serving->bucket, serving->replicas);
    return serving->janitor || error_set(error, ERROR_MEMORY, "out of memory");
}

static bool forget(void *context, const char *name, bool *had_any, struct error *error) {
    const struct serving *serving = context;
    return service_forget(serving->service, name, had_any, error);
}

static bool open_registry(struct serving *serving, struct error *error) {
    serving->catalog = catalog_new(serving->client, catalog_endpoint());
    if (!serving->catalog)
        return error_set(error, ERROR_MEMORY, "out of memory");
    const struct registry_settings settings = {
        .cache = serving->cache,
        .store = serving->store,
        .upstreams = serving->upstreams,
        .catalog = serving->catalog,
        .view = serving_view_settings(serving->config, serving->clients, serving->max_size),
        .is_tls = serving->config->tls_certificate != NULL,
        .replicas = serving->replicas,
        .asker = serving->asker,
        .forget = forget,
        .forget_context = serving,
    };
    serving->registry = registry_new(&settings);
    return serving->registry || error_set(error, ERROR_MEMORY, "out of memory");
}

static bool open_server(struct serving *serving, struct error *error) {
    struct http_server_settings settings =
        serving_http_settings(serving->config, serving->max_connections);
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
    const struct reloader_work work = {serving_reload, serving_sweep, serving};
    serving->reloader = reloader_new(&work);
    if (!serving->reloader)
        return error_set(error, ERROR_MEMORY, "out of memory");
    serving->service_settings = (struct service_settings){
        .root = config->root,
        .max_size = serving->max_size,
        .store = serving->store,
        .cache = serving->cache,
        .bucket = serving->bucket,
        .asker = serving->asker,
        .replicas = serving->replicas,
        .upstreams = serving->upstreams,
        .warm = config->warm,
        .warm_count = config->warm_count,
        .reload = reloader_ask,
        .context = serving->reloader,
    };
    serving->service = service_new(&serving->service_settings, error);
    return serving->service != NULL;
}

static bool open_parts(struct serving *serving, struct error *error) {
    return open_store(serving, error) && open_upstreams(serving, error) &&
           serving_make_clients(serving->config, NULL, &serving->clients, error) &&
           open_replicas(serving, error) && open_cache(serving, error) &&
           open_janitor(serving, error) && open_registry(serving, error) &&
           open_server(serving, error) && open_service(serving, error);
}

/* ---- running and ending ---- */

/* Frees the parts in reverse order; a part that was never built is NULL. False: a transfer hangs in
 * a system call. The remaining parts are then not freed, because the process ends. */
static bool close_parts(struct serving *serving) {
    reloader_end(serving->reloader);
    if (serving->service)
        service_stop(serving->service);
    if (!service_free(serving->service))
        return false;
    janitor_free(serving->janitor);
    http_server_free(serving->server);
    if ((serving->registry && !registry_stop(serving->registry)) || !cache_free(serving->cache))
        return false;
    upkeep_free(serving->upkeep);
    replica_asker_free(serving->asker);
    if (!replicas_free(serving->replicas))
        return false;
    bucket_free(serving->bucket);
    registry_free(serving->registry);
    catalog_free(serving->catalog);
    clients_release(serving->clients);
    current_upstreams_free(serving->upstreams);
    store_close(serving->store);
    return true;
}

static bool start_threads(struct serving *serving, struct error *error) {
    thread_allow_rest(); /* from here on a thread begins with the rights that are left */
    return thread_start("signals", THREAD_STACK, wait_for_signal, serving, &serving->signals,
                        error) &&
           upkeep_start(serving->upkeep, error) &&
           (!serving->replicas || replicas_start(serving->replicas, error)) &&
           (!serving->janitor || janitor_start(serving->janitor, error)) &&
           registry_start(serving->registry, error) && service_start(serving->service, error);
}

static void end_threads(struct serving *serving) {
    pthread_kill(serving->signals, SIGTERM); /* no effect if the thread has got a signal already */
    reloader_end(serving->reloader);
    announce_end(serving);
    cache_drain(serving->cache, serving->grace_ends_ms);
    (void)registry_stop(serving->registry); /* close_parts() asks again */
    upkeep_stop(serving->upkeep);
}

static void announce(const struct serving *serving) {
    const struct config *config = serving->config;
    serving_log_warnings(serving);
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

/* Allows as many descriptors as the system permits. */
static void share_descriptors(struct serving *serving) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) == 0 || getrlimit(RLIMIT_NOFILE, &limit) == 0)
            serving->descriptors = limit.rlim_cur == RLIM_INFINITY ? 0 : limit.rlim_cur;
    }
    serving->max_connections = serving_max_connections(serving->config, serving->descriptors);
    uint64_t wanted = serving_wanted_descriptors(serving->config, serving->max_connections);
    if (serving->descriptors)
        enlarge_descriptor_table(wanted < serving->descriptors ? wanted : serving->descriptors);
}

static void bound_memory(void) {
    /* The C library would make a heap for each thread, and each request has a thread. With too few
     * heaps, an event loop waits for a thread that has lost the processor while it allocates. */
    mallopt(M_ARENA_MAX, 4);
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
    cache_start(serving->cache);
    bool ok = reloader_start(serving->reloader, &error) && /* from here on the config may change */
              http_server_run(serving->server, &error);
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

static int serve(struct config *config, const struct config_flags *flags, struct client *client) {
    struct serving serving = {.config = config,
                              .first = config,
                              .flags = flags,
                              .grace_ms = config->grace_ms,
                              .client = client,
                              .is_used = true};
    struct error error = {0};
    sigset_t signals;
    fill_signals(&signals);
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
    reloader_free(serving.reloader);
    if (serving.config != serving.first)
        config_free(serving.config);
    config_free(serving.first);
    free(serving.file);
    return ok ? 0 : 1;
}

static int run(const struct arguments *arguments) {
    struct config_flags flags = {.file = arguments_string(arguments, "config")};
    cleanup_buffer struct buffer problems = {0};
    bool collected = arguments_settings(arguments, &flags);
    const enum log_format format = config_early_log_format(&flags, environ);
    log_configure(LOG_INFO, format);
    struct config *config = collected ? config_load(&flags, environ, &problems) : NULL;
    struct client *client = config ? client_new() : NULL;
    int status = 1;
    if (client) {
        status = serve(config, &flags, client);
    } else {
        if (config)
            report_failure(format, text_of("out of memory"));
        else
            report_problems(format, &problems);
        config_free(config);
    }
    client_free(client);
    config_flags_finish(&flags);
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
        "on 127.0.0.1:5000. SIGTERM ends it after the requests in progress. SIGHUP and tarn "
        "reload\n"
        "make it take a changed configuration file.\n",
    COMMAND_OPTIONS(options),
    .settings = COMMAND_SERVE_SETTINGS,
    .run = run,
};
