/* Follows a build to its end. */
#include "build/watch.h"

#include <string.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "build/log.h"

enum { POLL_MS = 1000, POLL_MOST_MS = 20000, PATIENCE_MS = 180000 };

struct watch {
    const struct cloudbuild *cloudbuild;
    const struct watch_sink *sink;
    json_t *build; /* as last seen */
    struct build_log *log;
    bool log_failed;
};

/* What a change of is told: the build's status, those of its steps, and whether it waits for an
 * approval. */
static bool is_changed(const json_t *before, const json_t *after) {
    size_t index;
    json_t *step;
    const json_t *old = json_object_get(before, "steps");
    if (!json_equal(json_object_get(before, "status"), json_object_get(after, "status")))
        return true;
    if (json_object_get(after, "approval") && !json_object_get(before, "approval"))
        return true;
    json_array_foreach (json_object_get(after, "steps"), index, step) {
        const json_t *status = json_object_get(step, "status");
        const json_t *earlier = json_object_get(json_array_get(old, index), "status");
        if (status && !(earlier && json_equal(status, earlier)))
            return true;
    }
    return false;
}

static bool read_log(struct watch *watch, struct error *error) {
    const struct build_log_sink sink = {watch->sink->on_log, watch->sink->context};
    struct error why = {0};
    if (watch->log_failed)
        return true;
    if (!watch->log && !(watch->log = build_log_new(watch->cloudbuild->api, watch->build)))
        return error_set(error, ERROR_MEMORY, "out of memory");
    if (build_log_read(watch->log, &sink, &why))
        return true;
    if (why.kind == ERROR_CLOSED || why.kind == ERROR_MEMORY || why.kind == ERROR_IO) {
        if (error)
            *error = why;
        return false;
    }
    watch->log_failed = true;
    watch->sink->on_notice(watch->sink->context, why.text);
    return true;
}

/* Where the log is may be known later than the build's submission. */
static void take_state(struct watch *watch, json_t *build) {
    bool changed = is_changed(watch->build, build);
    if (json_object_get(build, "logsBucket") && !json_object_get(watch->build, "logsBucket")) {
        build_log_free(watch->log);
        watch->log = NULL;
    }
    json_decref(watch->build);
    watch->build = build;
    if (changed)
        watch->sink->on_state(watch->sink->context, build);
}

/* Asks for the state. False: it will not come any more. */
static bool ask_state(struct watch *watch, int64_t *wait_ms, int64_t *last_ms,
                      struct error *error) {
    const char *id = json_string_value(json_object_get(watch->build, "id"));
    json_t *build = cloudbuild_get(watch->cloudbuild, id, error);
    if (build) {
        take_state(watch, build);
        *wait_ms = POLL_MS;
        *last_ms = clock_ms();
        return true;
    }
    bool passing = error->kind == ERROR_UNAVAILABLE || error->kind == ERROR_TIMEOUT ||
                   error->kind == ERROR_RATE_LIMITED;
    *wait_ms = *wait_ms * 3 / 2 < POLL_MOST_MS ? *wait_ms * 3 / 2 : POLL_MOST_MS;
    return passing && clock_ms() - *last_ms < PATIENCE_MS;
}

static bool has_ended(const json_t *build) {
    enum cloudbuild_state state = cloudbuild_state(build);
    return state == CLOUDBUILD_DONE || state == CLOUDBUILD_FAILED;
}

static bool follow(struct watch *watch, struct error *error) {
    int64_t wait_ms = POLL_MS, last_ms = clock_ms();
    struct error why = {0};
    while (!has_ended(watch->build)) {
        if (!read_log(watch, error) ||
            !cancel_sleep(api_cancel(watch->cloudbuild->api), clock_ms() + wait_ms, error))
            return false;
        if (!ask_state(watch, &wait_ms, &last_ms, &why)) {
            if (error)
                *error = why;
            return false;
        }
    }
    /* The log is complete only now. */
    return read_log(watch, error);
}

json_t *watch_build(const struct cloudbuild *cloudbuild, json_t *build,
                    const struct watch_sink *sink, struct error *error) {
    struct watch watch = {.cloudbuild = cloudbuild, .sink = sink, .build = build};
    sink->on_state(sink->context, build);
    bool ok = follow(&watch, error);
    build_log_free(watch.log);
    if (ok)
        return watch.build;
    json_decref(watch.build);
    return NULL;
}
