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
#include "cmd/confine.h"
#include "cmd/keep_process.h"

enum { DRY_RUN_MS = 60 * 1000 };

/* ---- building the parts ---- */

static bool open_keeper(struct keep_process *process, struct error *error) {
    const char *own = kubernetes_namespace(process->kubernetes);
    const char *pods = process->config->keep.namespace ? process->config->keep.namespace : own;
    const char *secret = getenv("DOCKER_SECRET_NAME");
    struct keeper_settings settings = {
        .keep = &process->config->keep,
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
    const struct config *config = process->config->config;
    const struct kubernetes_settings cluster = {.kubeconfig = process->config->keep.kubeconfig};
    google_declare_metrics();
    kubernetes_declare_metrics();
    process->client = client_new();
    process->kubernetes = kubernetes_open(&cluster, process->client, error);
    if (!process->kubernetes)
        return false;
    process->upstreams = current_upstreams_new(process->client, config->keep_upstreams,
                                               config->keep_upstream_count, error);
    if (!process->upstreams)
        return false;
    process->catalog = catalog_new(process->client, catalog_endpoint());
    if (!process->catalog)
        return error_set(error, ERROR_MEMORY, "out of memory");
    return open_keeper(process, error);
}

static void close_parts(struct keep_process *process) {
    reloader_free(process->reloader);
    keep_server_free(process->server);
    keeper_free(process->keeper);
    catalog_free(process->catalog);
    if (process->upstreams)
        current_upstreams_free(process->upstreams);
    kubernetes_close(process->kubernetes);
    if (process->config != process->first)
        keep_config_free(process->config);
    keep_config_free(process->first);
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
    sigaddset(signals, SIGHUP);
}

static void wait_for_signal(void *context) {
    struct keep_process *process = context;
    sigset_t signals;
    int signal_number = 0;
    fill_signals(&signals);
    while (sigwait(&signals, &signal_number) == 0 && signal_number == SIGHUP)
        reloader_signal(process->reloader);
    log_at(LOG_INFO, "stopping", LOG_STRING("signal", strsignal(signal_number)));
    keep_server_stop(process->server);
}

static void announce(const struct keep_process *process) {
    const struct config *config = process->config->config;
    const char *const *listen = process->config->keep.listen;
    config_log_warnings(config);
    for (size_t i = 0; listen[i]; i++)
        log_at(LOG_INFO, "listening", LOG_STRING("address", listen[i]),
               LOG_NUMBER("port", keep_server_port(process->server)),
               LOG_STRING("cluster", kubernetes_server(process->kubernetes)),
               LOG_STRING("version", TARN_VERSION));
}

static bool start(struct keep_process *process, struct error *error) {
    const struct reloader_work work = {keep_reload, keep_sweep, process};
    process->server =
        keep_server_new(process->keeper, process->config->config, &process->config->keep, error);
    process->reloader = process->server ? reloader_new(&work) : NULL;
    if (process->server && !process->reloader)
        return error_set(error, ERROR_MEMORY, "out of memory");
    return process->server && keeper_start(process->keeper, error) &&
           thread_start("signals", THREAD_STACK, wait_for_signal, process, &process->signals,
                        error);
}

static int serve(struct keep_process *process) {
    struct error error = {0};
    sigset_t signals;
    fill_signals(&signals);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    const char *program =
        kubernetes_may_run_programs(process->kubernetes) ? "the kubeconfig's exec" : NULL;
    if (!confine_keep(process->config->config, program, &error) || !start(process, &error)) {
        fprintf(stderr, "tarn keep: %s\n", error.text);
        keeper_stop(process->keeper);
        return 1;
    }
    log_start();
    announce(process);
    bool ok = reloader_start(process->reloader, &error) && /* from here on it may change */
              keep_server_run(process->server, &error);
    if (!ok)
        log_at(LOG_ERROR, "cannot serve", LOG_STRING("error", error.text));
    pthread_kill(process->signals, SIGTERM); /* no effect if the thread has got a signal already */
    pthread_join(process->signals, NULL);
    reloader_end(process->reloader);
    keeper_stop(process->keeper);
    log_event(LOG_INFO, "stopped", NULL, 0);
    log_stop();
    return ok ? 0 : 1;
}

int keep_run(const struct keep_run_settings *settings) {
    cleanup_buffer struct buffer problems = {0};
    struct keep_process process = {.settings = settings};
    struct error error = {0};
    int status = 1;
    mallopt(M_ARENA_MAX, 2); /* the C library would make a heap for each thread */
    mallopt(M_MMAP_THRESHOLD, 128 << 10);
    mallopt(M_TRIM_THRESHOLD, 1 << 20);
    process.config = process.first = keep_config_load(settings->flags, &problems);
    if (!process.config) {
        fputs(problems.bytes ? problems.bytes : "tarn keep: out of memory\n", stderr);
        return 1;
    }
    log_configure(settings->once || settings->dry_run ? LOG_ERROR
                                                      : process.config->config->log_level,
                  process.config->config->log_format);
    if (!open_parts(&process, &error))
        fprintf(stderr, "tarn keep: %s\n", error.text);
    else
        status = settings->once || settings->dry_run ? run_once(&process) : serve(&process);
    close_parts(&process);
    return status;
}
