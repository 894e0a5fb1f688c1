/* What tarn build shows: text on a terminal, lines of JSON elsewhere. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "build/watch.h"
#include "cmd/build.h"

enum { TAIL_LINES = 10, TAIL_SIZE = 4096 };

/* ---- one event ---- */

static void print_step(const json_t *event) {
    const json_t *seconds = json_object_get(event, "seconds");
    fprintf(stderr, "step %lld %s: %s",
            (long long)json_integer_value(json_object_get(event, "index")),
            json_member_text(event, "name"), json_member_text(event, "status"));
    if (seconds)
        fprintf(stderr, " (%lld s)", (long long)json_integer_value(seconds));
    fputc('\n', stderr);
}

static void print_text(const json_t *event) {
    const char *kind = json_member_text(event, "event");
    if (strcmp(kind, "context") == 0)
        fprintf(stderr, "context: %lld files, %lld bytes: %s\n",
                (long long)json_integer_value(json_object_get(event, "files")),
                (long long)json_integer_value(json_object_get(event, "bytes")),
                json_member_text(event, "state"));
    else if (strcmp(kind, "build") == 0)
        fprintf(stderr, "build %s: %s  %s\n", json_member_text(event, "id"),
                json_member_text(event, "status"), json_member_text(event, "log_url"));
    else if (strcmp(kind, "step") == 0)
        print_step(event);
    else if (strcmp(kind, "result") == 0 && json_member_text(event, "digest")[0])
        printf("%s\n", json_member_text(event, "digest"));
}

void build_show_event(const struct build_run *run, json_t *event) {
    cleanup_buffer struct buffer line = {0};
    if (!run->json)
        print_text(event);
    else if (bounded_json_dump(event, JSON_COMPACT, &line))
        printf("%s\n", line.bytes);
    fflush(stdout);
    json_decref(event);
}

void build_show_log(const struct build_run *run, const void *bytes, size_t length) {
    if (!run->json) {
        fwrite(bytes, 1, length, stderr);
        return;
    }
    cleanup_buffer struct buffer line = {0};
    buffer_append_string(&line, "{\"event\":\"log\",\"text\":\"");
    buffer_append_json(&line, (struct text){bytes, length});
    buffer_append_string(&line, "\"}\n");
    if (!line.failed)
        fwrite(line.bytes, 1, line.length, stdout);
    fflush(stdout);
}

void build_show_notice(const struct build_run *run, const char *text) {
    (void)run;
    fprintf(stderr, "tarn build: %s\n", text);
}

/* ---- a build ---- */

struct following {
    struct build_run *run;
    json_t *shown;      /* the steps' statuses that were shown */
    struct buffer tail; /* the log's last bytes */
    struct buffer part; /* of a line of the log whose end has not come yet */
    char status[40];
};

static void keep_tail(struct following *following, const void *bytes, size_t length) {
    buffer_append(&following->tail, bytes, length);
    if (following->tail.length <= 2 * (size_t)TAIL_SIZE)
        return;
    size_t gone = following->tail.length - TAIL_SIZE;
    memmove(following->tail.bytes, following->tail.bytes + gone, TAIL_SIZE);
    following->tail.length = TAIL_SIZE;
    following->tail.bytes[TAIL_SIZE] = '\0';
}

/* Shows whole lines, so that a line of JSON holds no half character. */
static bool on_log(void *context, const void *bytes, size_t length, struct error *error) {
    struct following *following = context;
    const char *end = memrchr(bytes, '\n', length);
    keep_tail(following, bytes, length);
    size_t whole = end ? (size_t)(end - (const char *)bytes) + 1 : 0;
    if (end || following->part.length + length > TAIL_SIZE) {
        whole = end ? whole : length;
        buffer_append(&following->part, bytes, whole);
        build_show_log(following->run, following->part.bytes, following->part.length);
        buffer_clear(&following->part);
    }
    buffer_append(&following->part, (const char *)bytes + whole, length - whole);
    return !following->part.failed || error_set(error, ERROR_MEMORY, "out of memory");
}

/* How long a step took, in whole seconds. NULL: it is not known. */
static json_t *seconds_of(const json_t *step) {
    const json_t *timing = json_object_get(step, "timing");
    int64_t begin, end;
    bool known = clock_parse_rfc3339(json_member_text(timing, "startTime"), &begin) &&
                 clock_parse_rfc3339(json_member_text(timing, "endTime"), &end) && end >= begin;
    return known ? json_integer((json_int_t)(end - begin)) : NULL;
}

static void show_steps(struct following *following, const json_t *build) {
    size_t index;
    json_t *step;
    json_array_foreach (json_object_get(build, "steps"), index, step) {
        char key[24];
        snprintf(key, sizeof key, "%zu", index);
        json_t *status = json_object_get(step, "status");
        const char *id = json_member_text(step, "id");
        if (!status || json_equal(json_object_get(following->shown, key), status))
            continue;
        json_object_set(following->shown, key, status);
        build_show_event(following->run, json_pack("{s:s, s:I, s:s, s:O, s:o*}", "event", "step",
                                                   "index", (json_int_t)index, "name",
                                                   *id ? id : json_member_text(step, "name"),
                                                   "status", status, "seconds", seconds_of(step)));
    }
}

static void on_state(void *context, const json_t *build) {
    struct following *following = context;
    const char *status = json_member_text(build, "status");
    if (strcmp(following->status, status) != 0)
        build_show_event(following->run, json_pack("{s:s, s:s, s:s, s:s}", "event", "build", "id",
                                                   json_member_text(build, "id"), "status", status,
                                                   "log_url", json_member_text(build, "logUrl")));
    snprintf(following->status, sizeof following->status, "%s", status);
    if (json_is_object(json_object_get(build, "approval")) && strcmp(status, "PENDING") == 0)
        build_show_notice(following->run, "the build waits for an approval in the console");
    show_steps(following, build);
}

static void on_notice(void *context, const char *text) {
    struct following *following = context;
    build_show_notice(following->run, text);
}

/* The log's last lines, for those who did not see it come. */
static const char *last_lines(const struct buffer *tail) {
    const char *at = tail->length ? tail->bytes + tail->length : "";
    for (unsigned lines = 0; tail->length && at > tail->bytes; at--) {
        if (at[-1] == '\n' && ++lines > TAIL_LINES)
            break;
    }
    return at;
}

static void show_result(struct following *following, const json_t *build,
                        const char *const *images) {
    cleanup_buffer struct buffer message = {0};
    bool done = cloudbuild_state(build) == CLOUDBUILD_DONE;
    const char *digest = cloudbuild_digest(build, images && images[0] ? images[0] : NULL);
    json_t *list = json_object_get(json_object_get(build, "results"), "images");
    if (!done)
        cloudbuild_explain(build, &message);
    if (!done) {
        if (following->run->json && following->tail.length)
            fprintf(stderr, "%s\n", last_lines(&following->tail));
        build_complain("%s", message.bytes ? message.bytes : "out of memory");
    }
    json_t *event =
        json_pack("{s:s, s:s, s:s*, s:s, s:s, s:s*}", "event", "result", "state",
                  done ? "done" : "failed", "digest", digest, "id", json_member_text(build, "id"),
                  "log_url", json_member_text(build, "logUrl"), "message", message.bytes);
    if (json_is_array(list))
        json_object_set(event, "images", list);
    build_show_event(following->run, event);
}

/* ---- Ctrl-C ---- */

bool build_wants_cancel(const struct build_run *run) {
    char answer[8] = "";
    if (arguments_flag(run->arguments, "cancel-on-interrupt"))
        return true;
    if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
        return false;
    fputs("\nCancel the build? [y/N] ", stderr);
    return fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

static int end_interrupted(struct build_run *run, const char *id) {
    struct error error = {0};
    if (!build_wants_cancel(run)) {
        fprintf(stderr, "tarn build: the build goes on: tarn build logs %s --follow\n", id);
        return BUILD_INTERRUPTED;
    }
    api_forget_cancel(run->api); /* the cancelling itself is not interrupted */
    const struct cloudbuild cloudbuild = build_run_cloudbuild(run);
    cleanup_json json_t *build = cloudbuild_cancel(&cloudbuild, id, &error);
    if (!build)
        build_complain("the build goes on, because it cannot be cancelled: %s", error.text);
    else
        fputs("tarn build: the build is cancelled\n", stderr);
    return BUILD_INTERRUPTED;
}

int build_follow(struct build_run *run, json_t *build, const char *const *images) {
    struct following following = {.run = run, .shown = json_object()};
    const struct cloudbuild cloudbuild = build_run_cloudbuild(run);
    const struct watch_sink sink = {&following, on_state, on_log, on_notice};
    cleanup_free char *id = strdup(json_member_text(build, "id"));
    struct error error = {0};
    int status = 1;
    json_t *ended = watch_build(&cloudbuild, build, &sink, &error);
    if (following.part.length)
        build_show_log(run, following.part.bytes, following.part.length);
    if (ended) {
        show_result(&following, ended, images);
        status = cloudbuild_state(ended) == CLOUDBUILD_DONE ? 0 : 1;
    } else if (error.kind == ERROR_CLOSED && id) {
        status = end_interrupted(run, id);
    } else {
        build_complain("build %s: %s", id ? id : "", error.text);
    }
    json_decref(ended);
    json_decref(following.shown);
    buffer_finish(&following.tail);
    buffer_finish(&following.part);
    return status;
}
