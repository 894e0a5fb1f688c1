/* The worker: builds its parts, serves, and ends. */
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/log.h"
#include "base/thread.h"
#include "node/agent/agent.h"
#include "node/agent/control.h"
#include "node/agent/reads.h"
#include "node/agent/snapshotter.h"
#include "node/agent/supervisor.h"
#include "node/agent/takeover.h"

#define RUN_DEFAULT    "/run/tarn"
#define ROOT_DEFAULT   "/var/lib/tarn-node"
#define LISTEN_DEFAULT "127.0.0.1:5001"

struct worker {
    const struct agent_settings *settings;
    const struct supervisor_worker *given;
    struct takeover takeover;
    struct spans *spans;
    struct mounts *mounts;
    struct control *control;
    struct reads *reads;
    struct snapshotter *snapshotter;
};

struct agent_settings agent_settings_default(void) {
    static const char *const listen[] = {LISTEN_DEFAULT, NULL};
    struct agent_settings settings = {
        .run = RUN_DEFAULT, .spans = spans_settings_default(), .listen = listen};
    settings.spans.root = ROOT_DEFAULT;
    return settings;
}

/* ---- beginning ---- */

static void announce(const struct worker *worker) {
    const struct supervisor_worker *given = worker->given;
    if (given->restarts)
        log_at(LOG_WARN, "worker started again",
               LOG_STRING("signal", given->ended_by ? strsignal(given->ended_by) : ""),
               LOG_NUMBER("restarts", given->restarts));
    log_at(LOG_INFO, "serving mounts", LOG_STRING("run", given->place->run),
           LOG_STRING("root", given->place->root),
           LOG_STRING("mounts", given->is_taken ? "taken over" : "mounted anew"),
           LOG_STRING("version", TARN_VERSION));
}

static bool open_parts(struct worker *worker, struct error *error) {
    const struct supervisor_worker *given = worker->given;
    struct spans_settings spans = worker->settings->spans;
    spans.root = given->place->root;
    if (!takeover_open(&worker->takeover, given->place->run, given->connection, error) ||
        (worker->settings->confine &&
         !worker->settings->confine(worker->settings->context, given->place, error)))
        return false;
    log_start();
    thread_allow_rest();
    worker->spans = spans_open(&spans, error);
    worker->mounts = worker->spans ? mounts_open(given, worker->spans, spans.wait_ms, error) : NULL;
    worker->control =
        worker->mounts ? control_open(worker->settings->listen, worker->mounts, error) : NULL;
    if (worker->mounts && !worker->control && given->is_taken) {
        /* Containers depend on this worker. */
        log_at(LOG_ERROR, "health and metrics are not served", LOG_STRING("error", error->text));
        worker->control = control_open(NULL, worker->mounts, error);
    }
    return worker->control != NULL;
}

/* Answers reads first, because mounts of earlier workers are in use, and making a mount reads. */
static bool start_parts(struct worker *worker, struct error *error) {
    const struct supervisor_worker *given = worker->given;
    const struct reads_source source = trees_source(mounts_trees(worker->mounts));
    const struct mount_order ready = {.kind = MOUNT_ORDER_READY};
    if (given->is_taken)
        fuse_resend(given->connection);
    worker->reads = reads_start(given->connection, &source, error);
    return worker->reads && takeover_start(&worker->takeover, error) &&
           supervisor_write_pid(given->place->run, "node.pid", getpid(), error) &&
           control_start(worker->control, error) && mounts_restore(worker->mounts, error) &&
           control_take_orders(worker->control, given->place->run, error) &&
           mount_order_send(given->supervisor, &ready, error);
}

/* The agent is of use without it. */
static void start_snapshotter(struct worker *worker) {
    struct error error = {0};
    worker->snapshotter =
        snapshotter_start(worker->mounts, worker->spans, worker->given->place, &error);
    if (!worker->snapshotter)
        log_at(LOG_ERROR, "snapshots are not served", LOG_STRING("error", error.text));
}

/* ---- ending ---- */

static void close_parts(struct worker *worker) {
    if (worker->mounts)
        mounts_stop(worker->mounts);
    snapshotter_stop(worker->snapshotter);
    control_close(worker->control);
    takeover_close(&worker->takeover);
    reads_free(worker->reads);
    mounts_close(worker->mounts);
    if (worker->spans)
        spans_close(worker->spans);
}

static void bound_memory(void) {
    mallopt(M_ARENA_MAX, 2); /* the C library would make a heap for each thread */
    mallopt(M_MMAP_THRESHOLD, 128 << 10);
    mallopt(M_TRIM_THRESHOLD, 1 << 20);
}

static int work(void *context, const struct supervisor_worker *given) {
    struct worker worker = {.settings = context, .given = given};
    struct error error = {0};
    sigset_t signals;
    int signal_number = 0;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT); /* Ctrl-C reaches both processes; the supervisor decides */
    pthread_sigmask(SIG_SETMASK, &signals, NULL);
    sigdelset(&signals, SIGINT);
    bound_memory();
    worker.takeover.lock = worker.takeover.socket = -1;
    bool ok = open_parts(&worker, &error) && start_parts(&worker, &error);
    if (ok) {
        start_snapshotter(&worker);
        announce(&worker);
        sigwait(&signals, &signal_number);
        log_at(LOG_INFO, "stopping", LOG_STRING("signal", strsignal(signal_number)));
    } else if (given->restarts) {
        log_at(LOG_ERROR, "cannot start", LOG_STRING("error", error.text));
    } else {
        fprintf(stderr, "tarn node: %s\n", error.text);
    }
    close_parts(&worker);
    log_stop();
    return ok ? 0 : 1;
}

int agent_run(const struct agent_settings *settings) {
    const struct supervisor_settings supervisor = {
        .run = settings->run,
        .root = settings->spans.root,
        .work = work,
        .context = (void *)(uintptr_t)settings,
    };
    return supervisor_run(&supervisor);
}
