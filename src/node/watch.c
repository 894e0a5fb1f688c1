/* Asks tarn whether it is ready, and installs or removes the mirror accordingly. */
#include "node/watch.h"

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "base/cancel.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/thread.h"
#include "client/request.h"
#include "http/http.h"
#include "node/mark.h"

/* Three questions, one every five seconds at most, and the third's answer: less than 15 s. */
enum {
    EVERY_MS = 5000,
    JITTER = 10, /* a tenth of it, so that the nodes of a cluster do not ask all at once */
    CONNECT_MS = 2000,
    ANSWER_MS = 4000, /* and at most four fifths of the time between two questions */
    FAILURES = 3,
    CONNECTIONS = 64,
    WORKERS = 4,
};

void watch_judge(struct watch_verdict *verdict, bool is_ready) {
    verdict->failures = is_ready ? 0 : verdict->failures + (verdict->failures < UINT_MAX);
    if (is_ready)
        verdict->state = WATCH_IN_PLACE;
    else if (verdict->failures >= (verdict->after ? verdict->after : FAILURES))
        verdict->state = WATCH_TAKEN_OUT;
}

struct watch {
    const struct watch_settings *settings;
    struct mirror_settings mirror;
    sigset_t signals;
    char readyz[MARK_URL_SIZE + sizeof "/readyz"];
    char ca_file[2 * PATH_MAX];
    struct watch_verdict verdict;
    enum watch_state done;        /* the state that the files have */
    struct buffer refused, known; /* lines: what is somebody else's, now and a round before */
    struct buffer own, next_own;  /* paths with a NUL behind each: the files, before and after */
    char failure[sizeof((struct error *)0)->text]; /* the last one that was logged; "": none */
    unsigned changes;                              /* of this round */

    struct http_server *server;
    pthread_t server_thread;
    _Atomic(enum watch_state) shown; /* for /readyz: what `done` was after the last round */
    atomic_bool has_failed;          /* the files could not be changed */

    /* What containerd's configuration said in the last round. The watch's own thread writes it. */
    struct lock containerd_lock;
    struct mirror_containerd containerd GUARDED_BY(containerd_lock);
    bool has_looked;

    struct metric *up, *in_place, *refused_files, *not_read, *ready, *unready;
    struct metric *writes, *restores, *deletions, *errors;
};

/* ---- what is served ---- */

static void respond(struct http_exchange *exchange, int status, const char *text) {
    http_respond(exchange, status, "text/plain; charset=utf-8", text, strlen(text));
}

/* Appends what containerd's configuration lacks. Returns whether it is known to lack something. */
static bool append_containerd(struct watch *watch, bool is_in_place, struct buffer *out) {
    lock_acquire(&watch->containerd_lock);
    const struct mirror_containerd *containerd = &watch->containerd;
    bool lacks = containerd->state == MIRROR_NOT_READ;
    if (lacks)
        buffer_append_string(out, "containerd does not read the files: ");
    if (*containerd->why && (lacks || is_in_place))
        buffer_printf(out, "%s\n%s", containerd->why, containerd->advice);
    lock_release(&watch->containerd_lock);
    return lacks;
}

static void respond_ready(struct watch *watch, struct http_exchange *exchange) {
    enum watch_state shown = atomic_load(&watch->shown);
    cleanup_buffer struct buffer text = {0};
    if (atomic_load(&watch->has_failed)) {
        respond(exchange, 503, "the files cannot be changed; the log says why\n");
        return;
    }
    if (shown == WATCH_UNDECIDED) {
        respond(exchange, 503, "tarn has not been asked often enough yet\n");
        return;
    }
    buffer_append_string(&text, shown == WATCH_IN_PLACE ? "in place\n" : "taken out\n");
    bool lacks = append_containerd(watch, shown == WATCH_IN_PLACE, &text);
    if (text.failed)
        respond(exchange, 503, "out of memory\n");
    else
        http_respond(exchange, lacks ? 503 : 200, "text/plain; charset=utf-8", text.bytes,
                     text.length);
}

static bool handle_now(void *context, struct http_exchange *exchange) {
    struct watch *watch = context;
    const struct http_request *request = http_exchange_request(exchange);
    cleanup_buffer struct buffer metrics = {0};
    if (request->method != HTTP_GET && request->method != HTTP_HEAD) {
        http_add_field(exchange, "Allow", "GET, HEAD");
        respond(exchange, 405, "only GET and HEAD\n");
    } else if (text_is(request->path, "/livez")) {
        respond(exchange, 200, "ok\n");
    } else if (text_is(request->path, "/readyz")) {
        respond_ready(watch, exchange);
    } else if (text_is(request->path, "/metrics")) {
        metric_write(&metrics);
        http_respond(exchange, 200, "text/plain; version=0.0.4; charset=utf-8", metrics.bytes,
                     metrics.length);
    } else {
        respond(exchange, 404, "there are /livez, /readyz and /metrics\n");
    }
    return true;
}

static void handle(void *context, struct http_exchange *exchange) {
    handle_now(context, exchange);
}

static void run_server(void *context) {
    struct watch *watch = context;
    struct error error;
    if (!http_server_run(watch->server, &error))
        log_at(LOG_ERROR, "cannot serve", LOG_STRING("error", error.text));
}

static bool start_server(struct watch *watch, struct error *error) {
    if (!watch->settings->listen)
        return true;
    struct http_server_settings settings = http_server_settings_default();
    settings.listen = &watch->settings->listen;
    settings.listen_count = 1;
    settings.loops = 1;
    settings.max_connections = CONNECTIONS;
    settings.max_workers = WORKERS;
    settings.grace_ms = 0;
    settings.handle = handle;
    settings.handle_now = handle_now;
    settings.context = watch;
    watch->server = http_server_new(&settings, error);
    if (watch->server &&
        thread_start("server", THREAD_STACK, run_server, watch, &watch->server_thread, error)) {
        log_at(LOG_INFO, "listening", LOG_STRING("address", watch->settings->listen),
               LOG_NUMBER("port", http_server_port(watch->server)));
        return true;
    }
    http_server_free(watch->server);
    return false;
}

static void stop_server(struct watch *watch) {
    if (!watch->server)
        return;
    http_server_stop(watch->server);
    pthread_join(watch->server_thread, NULL);
    http_server_free(watch->server);
}

/* ---- the files ---- */

/* Whether this watch wrote the file in the round before. */
static bool is_own(void *context, const char *path) {
    const struct watch *watch = context;
    for (size_t at = 0; at < watch->own.length;) {
        const char *own = watch->own.bytes + at;
        if (strcmp(own, path) == 0)
            return true;
        at += strlen(own) + 1;
    }
    return false;
}

static void remember(struct watch *watch, const struct mirror_change *change) {
    if (change->engine != MIRROR_DOCKER)
        buffer_append(&watch->next_own, change->path, strlen(change->path) + 1);
}

static void swap(struct buffer *a, struct buffer *b) {
    struct buffer old = *a;
    *a = *b;
    *b = old;
}

static void on_change(void *context, const struct mirror_change *change) {
    struct watch *watch = context;
    switch (change->action) {
    case MIRROR_WRITE:
        metric_add(watch->writes, 1);
        log_at(LOG_INFO, "file written", LOG_STRING("file", change->path));
        remember(watch, change);
        watch->changes++;
        break;
    case MIRROR_RESTORE:
        metric_add(watch->restores, 1);
        log_at(LOG_WARN, "file put back, because somebody had changed it",
               LOG_STRING("file", change->path));
        remember(watch, change);
        watch->changes++;
        break;
    case MIRROR_DELETE:
        metric_add(watch->deletions, 1);
        log_at(LOG_INFO, "file deleted", LOG_STRING("file", change->path));
        watch->changes++;
        break;
    case MIRROR_REFUSE:
        buffer_printf(&watch->refused, "%s: %s\n", change->path, change->why);
        break;
    case MIRROR_KEEP:
        remember(watch, change);
        break;
    }
}

/* Logs what is somebody else's when that has changed. */
static void log_refused(struct watch *watch) {
    struct text rest = {watch->refused.bytes, watch->refused.length};
    struct text known = {watch->known.bytes, watch->known.length};
    bool is_known = rest.length == known.length &&
                    (!rest.length || memcmp(rest.at, known.at, rest.length) == 0);
    int64_t count = 0;
    while (rest.length) {
        struct text line = text_cut(rest, '\n', &rest);
        count++;
        if (!is_known)
            log_at(LOG_WARN, "file left alone", LOG_SLICE("reason", line));
    }
    metric_set(watch->refused_files, count);
    swap(&watch->known, &watch->refused);
    buffer_clear(&watch->refused);
}

static void log_failure(struct watch *watch, const struct error *error) {
    metric_add(watch->errors, 1);
    if (strcmp(watch->failure, error->text) != 0)
        log_at(LOG_ERROR, "the files cannot be changed", LOG_STRING("error", error->text));
    snprintf(watch->failure, sizeof watch->failure, "%s", error->text);
}

/* Makes the files be as `state` says. False: they could not be changed; the next round tries
 * again. */
static bool bring_about(struct watch *watch, enum watch_state state, struct error *error) {
    watch->changes = 0;
    buffer_clear(&watch->next_own);
    bool ok = state == WATCH_IN_PLACE ? mirror_install(&watch->mirror, error)
                                      : mirror_remove(&watch->mirror, error);
    log_refused(watch);
    atomic_store(&watch->has_failed, !ok);
    if (!ok) {
        log_failure(watch, error);
        return false;
    }
    watch->failure[0] = '\0';
    swap(&watch->own, &watch->next_own);
    if (watch->done != state)
        log_at(LOG_INFO, state == WATCH_IN_PLACE ? "mirror in place" : "mirror taken out",
               LOG_STRING("url", watch->mirror.url), LOG_NUMBER("files", watch->changes));
    watch->done = state;
    atomic_store(&watch->shown, state);
    metric_set(watch->in_place, state == WATCH_IN_PLACE);
    return true;
}

/* ---- containerd's own configuration ---- */

/* Logs what containerd's configuration says, when that has changed. */
static void log_containerd(const struct mirror_containerd *now, const char *folder) {
    if (now->state == MIRROR_READ)
        log_at(now->why[0] ? LOG_WARN : LOG_INFO, "containerd reads the folder",
               LOG_STRING("folder", folder), LOG_STRING("note", now->why));
    else
        log_at(LOG_WARN,
               now->state == MIRROR_NOT_READ
                   ? "containerd does not read the folder, so that the kubelet's pulls do not use "
                     "the mirror; add the lines and restart containerd"
                   : "containerd's configuration does not say whether it reads the folder",
               LOG_STRING("folder", folder), LOG_STRING("reason", now->why),
               LOG_STRING("lines", now->advice));
}

static void look_at_containerd(struct watch *watch) {
    struct mirror_containerd now;
    if (!(watch->mirror.engines & MIRROR_CONTAINERD))
        return;
    mirror_check_containerd(&watch->mirror, &now);
    const struct mirror_containerd *before = &watch->containerd;
    if (!watch->has_looked || before->state != now.state || strcmp(before->why, now.why) != 0)
        log_containerd(&now, watch->mirror.certs_dir);
    watch->has_looked = true;
    metric_set(watch->not_read, now.state == MIRROR_NOT_READ);
    lock_acquire(&watch->containerd_lock);
    watch->containerd = now;
    lock_release(&watch->containerd_lock);
}

/* ---- the questions ---- */

/* Whether no signal has come. */
static bool goes_on(void *context) {
    const struct watch *watch = context;
    sigset_t pending;
    (void)watch;
    return sigpending(&pending) < 0 ||
           !(sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1);
}

static int64_t every_ms(const struct watch *watch) {
    return watch->settings->every_ms ? watch->settings->every_ms : EVERY_MS;
}

static bool ask(struct watch *watch, struct error *error) {
    const struct cancel cancel = {.is_wanted = goes_on, .context = watch};
    int64_t answer_ms = every_ms(watch) * 4 / 5;
    const struct client_request request = {
        .method = "GET",
        .url = watch->readyz,
        .ca_file = *watch->ca_file ? watch->ca_file : NULL,
        .connect_timeout_ms = CONNECT_MS,
        .total_timeout_ms = answer_ms < ANSWER_MS ? answer_ms : ANSWER_MS,
        .cancel = &cancel,
    };
    cleanup_client_response struct client_response response = {0};
    if (!client_request(watch->settings->client, &request, &response, error))
        return false;
    return response.status == 200 ||
           error_set(error, ERROR_UNAVAILABLE, "%s: status %d", watch->readyz, response.status);
}

/* One round: asks, and does what follows. */
static void go_round(struct watch *watch) {
    struct error error;
    bool is_ready = ask(watch, &error);
    if (!is_ready && !goes_on(watch))
        return;
    watch_judge(&watch->verdict, is_ready);
    metric_add(is_ready ? watch->ready : watch->unready, 1);
    metric_set(watch->up, is_ready);
    if (!is_ready && watch->done != WATCH_TAKEN_OUT)
        log_at(LOG_WARN, "tarn is not ready", LOG_STRING("error", error.text),
               LOG_NUMBER("failures", watch->verdict.failures));
    if (watch->verdict.state == WATCH_IN_PLACE && is_ready)
        bring_about(watch, WATCH_IN_PLACE, &error);
    else if (watch->verdict.state == WATCH_TAKEN_OUT && watch->done != WATCH_TAKEN_OUT)
        bring_about(watch, WATCH_TAKEN_OUT, &error);
}

/* Waits for the next round. Returns the number of the signal that came; 0: none. */
static int wait_until(const struct watch *watch, int64_t when_ms) {
    int64_t left = when_ms - clock_ms();
    if (left < 0)
        left = 0;
    const struct timespec pause = {.tv_sec = left / 1000, .tv_nsec = (left % 1000) * 1000000};
    int number = sigtimedwait(&watch->signals, NULL, &pause);
    return number > 0 ? number : 0;
}

static bool go_rounds(struct watch *watch, struct error *error) {
    int number = 0;
    while (!number) {
        int64_t next = clock_ms() + every_ms(watch) - clock_jitter(every_ms(watch) / JITTER);
        look_at_containerd(watch);
        go_round(watch);
        number = wait_until(watch, next);
    }
    log_at(LOG_INFO, "stopping", LOG_STRING("signal", strsignal(number)));
    return bring_about(watch, WATCH_TAKEN_OUT, error);
}

/* ---- the beginning ---- */

static void make_metrics(struct watch *watch) {
    static const char *const answers = "Answers of tarn's /readyz, by result.";
    static const char *const changes = "Files changed on the node, by action.";
    static const char *const name = "tarn_mirror_answers_total";
    watch->up = metric_get(METRIC_GAUGE, "tarn_mirror_up",
                           "1 when tarn's last answer was that it is ready.", "");
    watch->in_place =
        metric_get(METRIC_GAUGE, "tarn_mirror_in_place", "1 while the node uses the mirror.", "");
    watch->refused_files = metric_get(METRIC_GAUGE, "tarn_mirror_refused_files",
                                      "Files left alone, because tarn did not write them.", "");
    watch->not_read = metric_get(METRIC_GAUGE, "tarn_mirror_config_path_missing",
                                 "1 when containerd's configuration does not name the folder of "
                                 "the files, so that pulls do not use the mirror.",
                                 "");
    watch->ready = metric_get(METRIC_COUNTER, name, answers, "result=\"ready\"");
    watch->unready = metric_get(METRIC_COUNTER, name, answers, "result=\"failed\"");
    watch->writes =
        metric_get(METRIC_COUNTER, "tarn_mirror_changes_total", changes, "action=\"write\"");
    watch->restores =
        metric_get(METRIC_COUNTER, "tarn_mirror_changes_total", changes, "action=\"restore\"");
    watch->deletions =
        metric_get(METRIC_COUNTER, "tarn_mirror_changes_total", changes, "action=\"delete\"");
    watch->errors = metric_get(METRIC_COUNTER, "tarn_mirror_errors_total",
                               "Rounds in which the files could not be changed.", "");
}

bool watch_run(const struct watch_settings *settings, struct error *error) {
    struct watch watch = {
        .settings = settings,
        .mirror = settings->mirror,
        .verdict.after = settings->after,
    };
    const char *folder = settings->mirror.folder ? settings->mirror.folder : "";
    watch.mirror.on_change = on_change;
    watch.mirror.context = &watch;
    watch.mirror.skip_refused = true;
    watch.mirror.restore_edited = true;
    watch.mirror.is_own = is_own;
    lock_init(&watch.containerd_lock);
    snprintf(watch.readyz, sizeof watch.readyz, "%s/readyz", settings->mirror.url);
    if (settings->mirror.ca_file)
        snprintf(watch.ca_file, sizeof watch.ca_file, "%s%s", folder, settings->mirror.ca_file);
    sigemptyset(&watch.signals);
    sigaddset(&watch.signals, SIGTERM);
    sigaddset(&watch.signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &watch.signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    make_metrics(&watch);
    log_start();
    bool ok = start_server(&watch, error);
    if (ok) {
        ok = go_rounds(&watch, error);
        stop_server(&watch);
    }
    buffer_finish(&watch.refused);
    buffer_finish(&watch.known);
    buffer_finish(&watch.own);
    buffer_finish(&watch.next_own);
    lock_finish(&watch.containerd_lock);
    log_stop();
    return ok;
}
