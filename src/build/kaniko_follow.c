/* Runs the Job of a build: created, followed, removed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "build/kaniko.h"

enum {
    POLL_MS = 1000,
    PATIENCE_MS = 180000, /* without an answer of the API server */
    STREAM_MS = 600000,   /* one request for the log */
    TIME_SIZE = 40,       /* "2026-11-26T10:00:00.123456789Z" */
};

/* ---- the job ---- */

static bool call_job(const struct kaniko_cluster *cluster, const char *verb, bool by_name,
                     struct text body, struct error *error) {
    cleanup_buffer struct buffer path = {0};
    buffer_append_string(&path, "/apis/batch/v1/namespaces/");
    buffer_append_percent(&path, cluster->namespace, "");
    buffer_append_string(&path, "/jobs");
    if (by_name)
        buffer_printf(&path, "/%s", cluster->job);
    if (path.failed)
        return error_set(error, ERROR_MEMORY, "out of memory");
    const struct kubernetes_call call = {.verb = verb,
                                         .resource = "jobs",
                                         .path = path.bytes,
                                         .body = body,
                                         .cancel = by_name ? NULL : cluster->cancel};
    return kubernetes_call(cluster->kubernetes, &call, NULL, error);
}

bool kaniko_create(const struct kaniko_cluster *cluster, const json_t *job, struct error *error) {
    cleanup_buffer struct buffer body = {0};
    if (!bounded_json_dump(job, JSON_COMPACT, &body))
        return error_set(error, ERROR_MEMORY, "out of memory");
    /* A first request whose response was lost has made it. */
    return call_job(cluster, "create", false, (struct text){body.bytes, body.length}, error) ||
           strcmp(error->code, "AlreadyExists") == 0;
}

bool kaniko_remove(const struct kaniko_cluster *cluster, struct error *error) {
    static const char options[] = "{\"kind\":\"DeleteOptions\",\"apiVersion\":\"v1\","
                                  "\"propagationPolicy\":\"Background\"}";
    return call_job(cluster, "delete", true, text_of(options), error) ||
           error->kind == ERROR_NOT_FOUND;
}

/* ---- following ---- */

struct following {
    const struct kaniko_cluster *cluster;
    const struct kaniko_sink *sink;
    char *pod;              /* its name; owned; NULL: there is none yet */
    char state[40];         /* as last told */
    char notice[300];       /* as last told */
    struct buffer line;     /* of the log, whose end has not come yet */
    char last[TIME_SIZE];   /* the time of the last line */
    char before[TIME_SIZE]; /* that of the last line before this request */
    unsigned same, passed;  /* lines of the last time: told, and seen again */
};

/* The state of the pod's one container: {"terminated": …} or another. NULL: none yet. */
static const json_t *container_state(const json_t *pod) {
    const json_t *all = json_object_get(json_object_get(pod, "status"), "containerStatuses");
    return json_object_get(json_array_get(all, 0), "state");
}

/* The job's pod, the caller's to json_decref(); *pod NULL: there is none yet. */
static bool find_pod(struct following *following, json_t **pod, struct error *error) {
    cleanup_buffer struct buffer path = {0};
    json_t *list = NULL;
    buffer_append_string(&path, "/api/v1/namespaces/");
    buffer_append_percent(&path, following->cluster->namespace, "");
    buffer_printf(&path, "/pods?labelSelector=job-name%%3D%s", following->cluster->job);
    if (path.failed)
        return error_set(error, ERROR_MEMORY, "out of memory");
    const struct kubernetes_call call = {.verb = "list",
                                         .resource = "pods",
                                         .path = path.bytes,
                                         .cancel = following->cluster->cancel};
    *pod = NULL;
    if (!kubernetes_call(following->cluster->kubernetes, &call, &list, error))
        return false;
    *pod = json_incref(json_array_get(json_object_get(list, "items"), 0));
    json_decref(list);
    return true;
}

/* ---- the log ---- */

/* Whether a line of the log was told by an earlier request. Lines have the time in front, and a
 * request asks for those since the last one's second. */
static bool is_told(struct following *following, const char *time) {
    if (!following->before[0])
        return false;
    int order = strcmp(time, following->before);
    if (order == 0)
        return following->passed++ < following->same;
    return order < 0;
}

static bool tell_line(struct following *following, const char *line, struct error *error) {
    const char *space = strchr(line, ' ');
    char time[TIME_SIZE];
    if (!space || !text_copy((struct text){line, (size_t)(space - line)}, time, sizeof time))
        return true; /* no line of a log with times */
    if (is_told(following, time))
        return true;
    if (strcmp(time, following->last) == 0) {
        following->same++;
    } else {
        following->same = 1;
        memcpy(following->last, time, sizeof time);
    }
    return following->sink->on_log(following->sink->context, space + 1, strlen(space + 1), error) &&
           following->sink->on_log(following->sink->context, "\n", 1, error);
}

static bool on_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    enum { LINE_LIMIT = 1 << 20 };
    struct following *following = context;
    struct text rest = {bytes, length};
    while (rest.length > 0) {
        const char *end = memchr(rest.at, '\n', rest.length);
        size_t some = end ? (size_t)(end - rest.at) : rest.length;
        if (following->line.length + some < LINE_LIMIT)
            buffer_append(&following->line, rest.at, some);
        if (following->line.failed)
            return error_set(error, ERROR_MEMORY, "out of memory");
        rest = text_from(rest, some + (end != NULL));
        if (!end)
            break;
        if (following->line.length && !tell_line(following, following->line.bytes, error))
            return false;
        buffer_clear(&following->line);
    }
    return true;
}

/* Reads the log until the container ends or the connection does. */
static bool read_log(struct following *following, struct error *error) {
    cleanup_buffer struct buffer path = {0};
    json_t *status = NULL;
    buffer_append_string(&path, "/api/v1/namespaces/");
    buffer_append_percent(&path, following->cluster->namespace, "");
    buffer_printf(&path, "/pods/%s/log?container=kaniko&follow=true&timestamps=true",
                  following->pod);
    if (following->last[0]) {
        buffer_append_string(&path, "&sinceTime=");
        buffer_append_percent(&path, following->last, "");
    }
    if (path.failed)
        return error_set(error, ERROR_MEMORY, "out of memory");
    memcpy(following->before, following->last, sizeof following->before);
    following->passed = 0;
    buffer_clear(&following->line);
    const struct kubernetes_call call = {.verb = "get",
                                         .resource = "pods/log",
                                         .path = path.bytes,
                                         .timeout_ms = STREAM_MS,
                                         .cancel = following->cluster->cancel};
    bool ok = kubernetes_stream(following->cluster->kubernetes, &call, on_bytes, following, &status,
                                error);
    json_decref(status);
    return ok;
}

/* ---- states ---- */

static void tell_state(struct following *following, const char *state) {
    if (strcmp(following->state, state) == 0)
        return;
    snprintf(following->state, sizeof following->state, "%s", state);
    following->sink->on_state(following->sink->context, following->pod, state);
}

static void tell_notice(struct following *following, const char *text) {
    if (!*text || strcmp(following->notice, text) == 0)
        return;
    snprintf(following->notice, sizeof following->notice, "%s", text);
    following->sink->on_notice(following->sink->context, following->notice);
}

/* Why a pod is not placed, for people. */
static void tell_unschedulable(struct following *following, const json_t *pod) {
    size_t index;
    json_t *condition;
    json_array_foreach (json_object_get(json_object_get(pod, "status"), "conditions"), index,
                        condition) {
        char text[300];
        if (strcmp(json_member_text(condition, "type"), "PodScheduled") != 0 ||
            strcmp(json_member_text(condition, "status"), "False") != 0)
            continue;
        snprintf(text, sizeof text, "the pod waits for a node: %.240s",
                 json_member_text(condition, "message"));
        tell_notice(following, text);
    }
}

/* A container that will never start. */
static bool check_waiting(const json_t *pod, struct error *error) {
    static const char *const lasting[] = {"ImagePullBackOff", "InvalidImageName",
                                          "CreateContainerConfigError", "CreateContainerError",
                                          "ErrImageNeverPull"};
    const json_t *waiting = json_object_get(container_state(pod), "waiting");
    const char *reason = json_member_text(waiting, "reason");
    for (size_t i = 0; i < sizeof lasting / sizeof *lasting; i++)
        if (strcmp(reason, lasting[i]) == 0)
            return error_set(error, ERROR_UNAVAILABLE,
                             "the executor does not start: %s: %.300s (--kaniko-image names "
                             "another image)",
                             reason, json_member_text(waiting, "message"));
    return true;
}

static bool fail_evicted(const json_t *pod, struct error *error) {
    const char *message = json_member_text(json_object_get(pod, "status"), "message");
    bool is_storage = strstr(message, "ephemeral") != NULL;
    return error_set(error, ERROR_NO_SPACE, "the pod was evicted: %.250s%s", message,
                     is_storage ? " What works: --with cloudbuild --disk-size, or tarn append for "
                                  "large folders"
                                : "");
}

/* The pod has ended. */
static bool judge_end(const json_t *pod, struct digest *digest, struct error *error) {
    const json_t *status = json_object_get(pod, "status");
    const json_t *ended = json_object_get(container_state(pod), "terminated");
    json_int_t code = json_integer_value(json_object_get(ended, "exitCode"));
    const char *reason = json_member_text(ended, "reason"),
               *message = json_member_text(ended, "message");
    if (strcmp(json_member_text(status, "reason"), "Evicted") == 0)
        return fail_evicted(pod, error);
    if (strcmp(reason, "OOMKilled") == 0)
        return error_set(error, ERROR_UNAVAILABLE,
                         "the executor needed more memory than it has: give it more with --memory, "
                         "or leave --cache out");
    if (strcmp(json_member_text(status, "phase"), "Succeeded") != 0 || code != 0)
        return error_set(error, ERROR_UNAVAILABLE, "the build failed with exit status %lld%s%.300s",
                         (long long)code, *message ? ": " : "",
                         *message ? message : json_member_text(status, "message"));
    return digest_parse(text_trim((struct text){message, strcspn(message, "\n")}), digest) ||
           error_set(error, ERROR_UNAVAILABLE,
                     "the executor has ended without the digest of the image");
}

static bool has_ended(const json_t *pod) {
    const char *phase = json_member_text(json_object_get(pod, "status"), "phase");
    return strcmp(phase, "Succeeded") == 0 || strcmp(phase, "Failed") == 0;
}

/* The job may end without a pod: its time was up, or somebody has removed it. */
static bool check_job(const struct following *following, struct error *error) {
    cleanup_buffer struct buffer path = {0};
    size_t index;
    json_t *condition, *job = NULL;
    buffer_append_string(&path, "/apis/batch/v1/namespaces/");
    buffer_append_percent(&path, following->cluster->namespace, "");
    buffer_printf(&path, "/jobs/%s", following->cluster->job);
    const struct kubernetes_call call = {.verb = "get",
                                         .resource = "jobs",
                                         .path = path.failed ? "/" : path.bytes,
                                         .cancel = following->cluster->cancel};
    if (!kubernetes_call(following->cluster->kubernetes, &call, &job, error))
        return error->kind == ERROR_NOT_FOUND
                   ? error_set(error, ERROR_UNAVAILABLE, "somebody has removed the job")
                   : false;
    bool ok = true;
    json_array_foreach (json_object_get(json_object_get(job, "status"), "conditions"), index,
                        condition) {
        if (strcmp(json_member_text(condition, "type"), "Failed") == 0 &&
            strcmp(json_member_text(condition, "status"), "True") == 0)
            ok = error_set(error, ERROR_UNAVAILABLE, "the job has failed: %s: %.200s%s",
                           json_member_text(condition, "reason"),
                           json_member_text(condition, "message"),
                           strcmp(json_member_text(condition, "reason"), "DeadlineExceeded") == 0
                               ? " (--timeout)"
                               : "");
    }
    json_decref(job);
    return ok;
}

/* ---- all of it ---- */

enum step { STEP_GO_ON, STEP_DONE, STEP_FAILED, STEP_UNREACHED };

/* What the error of a request to the API server means. */
static enum step step_of(const struct error *error) {
    bool passing = error->kind == ERROR_UNAVAILABLE || error->kind == ERROR_TIMEOUT ||
                   error->kind == ERROR_RATE_LIMITED;
    return passing ? STEP_UNREACHED : STEP_FAILED;
}

static enum step take_pod(struct following *following, const json_t *pod, struct digest *digest,
                          struct error *error) {
    const json_t *state = container_state(pod);
    const char *name = json_member_text(json_object_get(pod, "metadata"), "name");
    if (!following->pod && !(following->pod = strdup(name)))
        return error_set(error, ERROR_MEMORY, "out of memory") ? STEP_GO_ON : STEP_FAILED;
    tell_state(following, json_member_text(json_object_get(pod, "status"), "phase"));
    tell_unschedulable(following, pod);
    if (!check_waiting(pod, error))
        return STEP_FAILED;
    bool ended = has_ended(pod);
    if (json_object_get(state, "running") || json_object_get(state, "terminated")) {
        struct error why = {0};
        if (!read_log(following, &why) && step_of(&why) == STEP_FAILED) {
            if (why.kind == ERROR_CLOSED || why.kind == ERROR_MEMORY) {
                *error = why;
                return STEP_FAILED;
            }
            tell_notice(following, why.text); /* the build goes on without its log */
        }
    }
    if (!ended)
        return STEP_GO_ON;
    return judge_end(pod, digest, error) ? STEP_DONE : STEP_FAILED;
}

static enum step look(struct following *following, struct digest *digest, struct error *error) {
    json_t *pod = NULL;
    struct error why = {0};
    if (!find_pod(following, &pod, &why)) {
        *error = why;
        return step_of(&why);
    }
    if (pod) {
        enum step step = take_pod(following, pod, digest, error);
        json_decref(pod);
        return step;
    }
    if (check_job(following, &why))
        return STEP_GO_ON;
    *error = why;
    return why.status ? step_of(&why) : STEP_FAILED;
}

bool kaniko_follow(const struct kaniko_cluster *cluster, const struct kaniko_sink *sink,
                   struct digest *digest, struct error *error) {
    struct following following = {.cluster = cluster, .sink = sink};
    struct error why = {0};
    int64_t last_ms = clock_ms();
    enum step step = STEP_GO_ON;
    while (step == STEP_GO_ON || step == STEP_UNREACHED) {
        step = look(&following, digest, &why);
        if (step == STEP_GO_ON)
            last_ms = clock_ms();
        if (step == STEP_UNREACHED && clock_ms() - last_ms > PATIENCE_MS)
            step = STEP_FAILED;
        if (step <= STEP_GO_ON || step == STEP_UNREACHED)
            if (!cancel_sleep(cluster->cancel, clock_ms() + POLL_MS, &why))
                step = STEP_FAILED;
    }
    free(following.pod);
    buffer_finish(&following.line);
    if (step != STEP_DONE && error)
        *error = why;
    return step == STEP_DONE;
}
