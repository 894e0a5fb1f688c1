/* The watch of a follow: what happens to each of its lines. */
#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "base/json.h"
#include "kubernetes/follow_private.h"
#include "kubernetes/lines.h"
#include "kubernetes/status.h"

enum {
    WATCH_LEAST_S = 300, /* the server ends a watch after this time, and jitter spreads the ends */
    WATCH_JITTER_S = 301,
    SILENCE_S = 30, /* so long after that time a silent watch counts as dead */
};

struct watching {
    struct follow *follow;
    struct lines lines;
    bool heard; /* the head of the response came */
    bool expired;
};

/* An ERROR event: the Status in it ends the watch. */
static bool take_error(struct watching *watching, const json_t *object, struct error *error) {
    status_set(object, error);
    watching->expired = error->status == 410;
    watching->follow->broken = !watching->expired;
    return false;
}

static bool take_event(struct watching *watching, const char *type, const json_t *object,
                       struct error *error) {
    struct follow *follow = watching->follow;
    if (strcmp(type, "ERROR") == 0)
        return take_error(watching, object, error);
    if (strcmp(type, "ADDED") == 0 || strcmp(type, "MODIFIED") == 0) {
        if (!follow_set(follow, object, error))
            return false;
    } else if (strcmp(type, "DELETED") == 0) {
        const char *uid = follow_uid(follow, object, error);
        if (!uid)
            return false;
        follow_remove(follow, uid);
    } else if (strcmp(type, "BOOKMARK") != 0) {
        follow->broken = true;
        return error_set(error, ERROR_INVALID, "an event of the unknown type %.40s", type);
    }
    follow_connect(follow);
    return follow_set_version(follow, json_object_get(object, "metadata"), error);
}

static bool on_line(void *context, struct text line, struct error *error) {
    struct watching *watching = context;
    cleanup_json json_t *event = bounded_json_load(line.at, line.length, error);
    const char *type = json_string_value(json_object_get(event, "type"));
    const json_t *object = json_object_get(event, "object");
    if (!event) {
        watching->follow->broken = error->kind != ERROR_MEMORY;
        return error_wrap(error, "an event");
    }
    if (!type || !json_is_object(object)) {
        watching->follow->broken = true;
        return error_set(error, ERROR_INVALID, "an event without `type` or `object`");
    }
    return take_event(watching, type, object, error);
}

/* The head comes as no bytes. */
static bool on_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    struct watching *watching = context;
    if (length == 0) {
        watching->heard = watching->follow->watched = true;
        follow_connect(watching->follow);
    }
    if (length == 0 || lines_take(&watching->lines, bytes, length, error))
        return true;
    if (error->kind == ERROR_INVALID && !watching->expired)
        watching->follow->broken = true;
    return false;
}

static bool write_path(const struct follow *follow, uint32_t timeout_s, struct buffer *out) {
    const struct follow_settings *settings = &follow->settings;
    buffer_printf(out, "%s?watch=true&allowWatchBookmarks=true&timeoutSeconds=%u", settings->path,
                  timeout_s);
    if (settings->query)
        buffer_printf(out, "&%s", settings->query);
    buffer_append_string(out, "&resourceVersion=");
    return buffer_append_percent(out, follow->version, "");
}

/* What an end of the watch means. */
static enum follow_end judge(const struct watching *watching, bool ok, const struct error *error) {
    if (watching->expired || (!ok && error->status == 410))
        return FOLLOW_EXPIRED;
    if (watching->follow->broken)
        return FOLLOW_BROKEN;
    if (!ok && error->status == 403)
        return FOLLOW_FORBIDDEN;
    /* However it ends after its head, by the server, a cut or silence: it has ended. */
    return ok || (watching->heard && error->kind != ERROR_MEMORY) ? FOLLOW_ENDED : FOLLOW_FAILED;
}

enum follow_end follow_watch(struct follow *follow, struct error *error) {
    struct watching watching = {.follow = follow};
    uint32_t timeout_s = WATCH_LEAST_S + clock_jitter(WATCH_JITTER_S);
    cleanup_buffer struct buffer path = {0};
    json_t *status = NULL;
    follow->broken = false;
    if (!write_path(follow, timeout_s, &path)) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return FOLLOW_FAILED;
    }
    const struct kubernetes_call call = {.verb = "watch",
                                         .resource = follow->settings.resource,
                                         .path = path.bytes,
                                         .timeout_ms = (int64_t)(timeout_s + SILENCE_S) * 1000,
                                         .cancel = &follow->cancel};
    lines_init(&watching.lines, on_line, &watching);
    bool ok = kubernetes_stream(follow->kubernetes, &call, on_bytes, &watching, &status, error);
    if (ok)
        ok = lines_end(&watching.lines, error);
    lines_finish(&watching.lines);
    json_decref(status);
    return judge(&watching, ok, error);
}
