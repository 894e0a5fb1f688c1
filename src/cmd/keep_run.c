/* tarn keep: builds every part from the configuration, and keeps images on nodes. */
#include "cmd/keep_run.h"

#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "auth/google/google.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "catalog/catalog.h"
#include "cmd/confine.h"
#include "cmd/keep_server.h"
#include "config/config.h"
#include "keep/keeper.h"

enum { DRY_RUN_MS = 60 * 1000 };

struct keep_process {
    const struct keep_run_settings *settings;
    struct config *config;
    struct keep_settings keep;
    struct client *client;
    struct kubernetes *kubernetes;
    struct current_upstreams *upstreams;
    struct catalog *catalog;
    struct keeper *keeper;
    struct keep_server *server;
    pthread_t signals;
};

static bool load(struct keep_process *process) {
    const struct config_flags flags = {.file = process->settings->config};
    cleanup_buffer struct buffer problems = {0};
    process->config = config_load(&flags, environ, &problems);
    if (!process->config) {
        fputs(problems.bytes ? problems.bytes : "tarn keep: out of memory\n", stderr);
        return false;
    }
    process->keep = process->config->keep;
    if (process->settings->kubeconfig)
        process->keep.kubeconfig = process->settings->kubeconfig;
    if (process->settings->namespace)
        process->keep.namespace = process->settings->namespace;
    const char *prefix = getenv("SAFIR_NAME"); /* cachemachine's own name for it */
    if (prefix && *prefix && keep_name_is_valid(prefix) &&
        strcmp(process->keep.prefix, KEEP_DEFAULT_PREFIX) == 0)
        process->keep.prefix = prefix;
    return true;
}

/* ---- building the parts ---- */

static bool open_keeper(struct keep_process *process, struct error *error) {
    const char *own = kubernetes_namespace(process->kubernetes);
    const char *pods = process->keep.namespace ? process->keep.namespace : own;
    const char *secret = getenv("DOCKER_SECRET_NAME");
    struct keeper_settings settings = {
        .keep = &process->keep,
        .kubernetes = process->kubernetes,
        .catalog = process->catalog,
        .upstreams = process->upstreams,
        .namespace = pods,
        .own_namespace = own,
        .machine_secret = secret && *secret ? secret : NULL,
        .dry_run = process->settings->dry_run,
        .once = process->settings->once || process->settings->dry_run,
    };
    /* An owner must be in the namespace of what it owns. */
    if (strcmp(own, pods) == 0) {
        settings.owner_name = getenv("POD_NAME");
        settings.owner_uid = getenv("POD_UID");
    }
    process->keeper = keeper_new(&settings, error);
    return process->keeper != NULL;
}

static bool open_parts(struct keep_process *process, struct error *error) {
    const struct config *config = process->config;
    const struct kubernetes_settings cluster = {.kubeconfig = process->keep.kubeconfig};
    google_declare_metrics();
    kubernetes_declare_metrics();
    process->client = client_new();
    process->kubernetes = kubernetes_open(&cluster, process->client, error);
    if (!process->kubernetes)
        return false;
    process->upstreams =
        current_upstreams_new(process->client, config->upstreams, config->upstream_count, error);
    if (!process->upstreams)
        return false;
    process->catalog = catalog_new(process->client, catalog_endpoint());
    if (!process->catalog)
        return error_set(error, ERROR_MEMORY, "out of memory");
    return open_keeper(process, error);
}

static void close_parts(struct keep_process *process) {
    keep_server_free(process->server);
    keeper_free(process->keeper);
    catalog_free(process->catalog);
    if (process->upstreams)
        current_upstreams_free(process->upstreams);
    kubernetes_close(process->kubernetes);
    config_free(process->config);
    client_free(process->client);
}

/* ---- once ---- */

static int64_t deadline_of(const struct keep_run_settings *settings, int64_t otherwise_ms) {
    if (settings->timeout_ms > 0)
        return clock_ms() + settings->timeout_ms;
    return otherwise_ms ? clock_ms() + otherwise_ms : INT64_MAX;
}

static int print_plan(struct keep_process *process) {
    cleanup_buffer struct buffer out = {0};
    char why[500] = "";
    bool done = keeper_write_plan(process->keeper, deadline_of(process->settings, DRY_RUN_MS),
                                  process->settings->json, &out);
    if (done && out.length)
        fwrite(out.bytes, 1, out.length, stdout);
    if (done && fflush(stdout) == 0)
        return 0;
    keeper_is_ready(process->keeper, why, sizeof why);
    fprintf(stderr, "tarn keep: there was no plan in time%s%s\n", *why ? ": " : "", why);
    return 1;
}

static int wait_for_all(struct keep_process *process) {
    cleanup_buffer struct buffer report = {0};
    int status = keeper_wait(process->keeper, deadline_of(process->settings, 0), &report);
    if (report.length)
        fwrite(report.bytes, 1, report.length, stderr);
    return status;
}

static int run_once(struct keep_process *process) {
    struct error error = {0};
    bool started = keeper_start(process->keeper, &error);
    int status = 1;
    if (!started)
        fprintf(stderr, "tarn keep: %s\n", error.text);
    else
        status = process->settings->dry_run ? print_plan(process) : wait_for_all(process);
    keeper_stop(process->keeper);
    return status;
}

/* ---- serving ---- */

static void fill_signals(sigset_t *signals) {
    sigemptyset(signals);
    sigaddset(signals, SIGTERM);
    sigaddset(signals, SIGINT);
}

static void wait_for_signal(void *context) {
    struct keep_process *process = context;
    sigset_t signals;
    int signal_number;
    fill_signals(&signals);
    if (sigwait(&signals, &signal_number) == 0)
        log_at(LOG_INFO, "stopping", LOG_STRING("signal", strsignal(signal_number)));
    keep_server_stop(process->server);
}

static int serve(struct keep_process *process) {
    struct error error = {0};
    sigset_t signals;
    fill_signals(&signals);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    const char *program =
        kubernetes_may_run_programs(process->kubernetes) ? "the kubeconfig's exec" : NULL;
    if (!confine_keep(process->config, program, &error)) {
        fprintf(stderr, "tarn keep: %s\n", error.text);
        return 1;
    }
    process->server = keep_server_new(process->keeper, process->config, &process->keep, &error);
    bool ok =
        process->server && keeper_start(process->keeper, &error) &&
        thread_start("signals", THREAD_STACK, wait_for_signal, process, &process->signals, &error);
    if (!ok) {
        fprintf(stderr, "tarn keep: %s\n", error.text);
        keeper_stop(process->keeper);
        return 1;
    }
    log_start();
    for (size_t i = 0; process->keep.listen[i]; i++)
        log_at(LOG_INFO, "listening", LOG_STRING("address", process->keep.listen[i]),
               LOG_NUMBER("port", keep_server_port(process->server)),
               LOG_STRING("cluster", kubernetes_server(process->kubernetes)),
               LOG_STRING("version", TARN_VERSION));
    ok = keep_server_run(process->server, &error);
    if (!ok)
        log_at(LOG_ERROR, "cannot serve", LOG_STRING("error", error.text));
    pthread_kill(process->signals, SIGTERM); /* no effect if the thread has got a signal already */
    pthread_join(process->signals, NULL);
    keeper_stop(process->keeper);
    log_event(LOG_INFO, "stopped", NULL, 0);
    log_stop();
    return ok ? 0 : 1;
}

int keep_run(const struct keep_run_settings *settings) {
    struct keep_process process = {.settings = settings};
    struct error error = {0};
    int status = 1;
    mallopt(M_ARENA_MAX, 2); /* the C library would make a heap for each thread */
    mallopt(M_MMAP_THRESHOLD, 128 << 10);
    mallopt(M_TRIM_THRESHOLD, 1 << 20);
    if (!load(&process))
        return 1;
    log_configure(settings->once || settings->dry_run ? LOG_ERROR : process.config->log_level,
                  process.config->log_format);
    if (!open_parts(&process, &error))
        fprintf(stderr, "tarn keep: %s\n", error.text);
    else
        status = settings->once || settings->dry_run ? run_once(&process) : serve(&process);
    close_parts(&process);
    return status;
}
