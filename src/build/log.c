/* Reads a build's log from its bucket, or from Cloud Logging. */
#include "build/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "base/json.h"

enum {
    RANGE_BYTES = 4 << 20, /* of one request */
    PAGE_ENTRIES = 1000,
    PAGES_AT_ONCE = 50,
    SEEN_LIMIT = 4096, /* entries of one moment that are remembered */
};

enum log_kind { LOG_NOWHERE, LOG_IN_BUCKET, LOG_IN_LOGGING };

struct build_log {
    struct api *api;
    enum log_kind kind;
    char *path; /* of the object, percent-encoded */
    char *bucket;
    uint64_t offset;
    char *project, *id;
    char last[64]; /* the time of the last entry; "": none */
    json_t *seen;  /* the insertIds of that time */
};

/* "gs://bucket/folder" has the object folder/log-ID.txt. */
static bool write_path(struct build_log *log, const char *bucket, const char *id) {
    cleanup_buffer struct buffer path = {0};
    struct text folder, name;
    if (strncmp(bucket, "gs://", 5) == 0)
        bucket += 5;
    name = text_cut(text_of(bucket), '/', &folder);
    log->bucket = text_dup(name);
    buffer_append_string(&path, "/");
    buffer_append_percent(&path, bucket, "/");
    while (text_ends((struct text){path.bytes, path.length}, "/"))
        path.length--;
    buffer_append_string(&path, "/log-");
    buffer_append_percent(&path, id, "");
    buffer_append_string(&path, ".txt");
    log->path = path.failed ? NULL : take(path.bytes);
    path = (struct buffer){0};
    return log->path && log->bucket;
}

static bool fill(struct build_log *log, const json_t *build) {
    const json_t *options = json_object_get(build, "options");
    const char *id = json_string_value(json_object_get(build, "id"));
    const char *project = json_string_value(json_object_get(build, "projectId"));
    const char *bucket = json_string_value(json_object_get(build, "logsBucket"));
    const char *logging = json_string_value(json_object_get(options, "logging"));
    log->id = strdup(id ? id : "");
    log->project = strdup(project ? project : "");
    log->seen = json_object();
    if (!log->id || !log->project || !log->seen)
        return false;
    if (logging && strcmp(logging, "CLOUD_LOGGING_ONLY") == 0)
        log->kind = LOG_IN_LOGGING;
    else if (bucket && *bucket && id && !(logging && strcmp(logging, "NONE") == 0))
        log->kind = LOG_IN_BUCKET;
    return log->kind != LOG_IN_BUCKET || write_path(log, bucket, id);
}

struct build_log *build_log_new(struct api *api, const json_t *build) {
    struct build_log *log = calloc(1, sizeof *log);
    if (!log)
        return NULL;
    log->api = api;
    if (fill(log, build))
        return log;
    build_log_free(log);
    return NULL;
}

void build_log_free(struct build_log *log) {
    if (!log)
        return;
    json_decref(log->seen);
    free(log->path);
    free(log->bucket);
    free(log->project);
    free(log->id);
    free(log);
}

/* ---- the object ---- */

/* What one request has brought. */
enum range_outcome { RANGE_NOTHING, RANGE_SOME, RANGE_FULL, RANGE_FAILED };

static enum range_outcome take_range(struct build_log *log, const struct api_answer *answer,
                                     const struct build_log_sink *sink, struct error *error) {
    struct text bytes = {answer->body.bytes, answer->body.length};
    if (answer->status == 200) { /* the whole object, although a range was asked for */
        if (bytes.length <= log->offset)
            return RANGE_NOTHING;
        bytes = text_from(bytes, (size_t)log->offset);
    }
    log->offset += bytes.length;
    if (bytes.length > 0 && !sink->on_bytes(sink->context, bytes.at, bytes.length, error))
        return RANGE_FAILED;
    return bytes.length == RANGE_BYTES ? RANGE_FULL : bytes.length > 0 ? RANGE_SOME : RANGE_NOTHING;
}

static enum range_outcome read_range(struct build_log *log, const struct build_log_sink *sink,
                                     struct error *error) {
    static const int also[] = {404, 408, 416, 429, 500, 502, 503, 504, 0};
    char field[80];
    cleanup_api_answer struct api_answer answer = {0};
    snprintf(field, sizeof field, "Range: bytes=%" PRIu64 "-%" PRIu64, log->offset,
             log->offset + RANGE_BYTES - 1);
    const struct api_call call = {
        .service = API_STORAGE, .method = "GET", .path = log->path, .field = field, .once = true};
    if (api_perform(log->api, &call, also, &answer, error))
        return answer.status >= 300 ? RANGE_NOTHING : take_range(log, &answer, sink, error);
    if (error->kind == ERROR_UNAVAILABLE || error->kind == ERROR_TIMEOUT)
        return RANGE_NOTHING;
    if (error->status == 403)
        error_set(error, ERROR_DENIED,
                  "the build's log cannot be read: the account may not read the bucket %s. Grant "
                  "roles/storage.objectViewer on it, or name a bucket of your own with "
                  "--logs-bucket; the build goes on",
                  log->bucket);
    return RANGE_FAILED;
}

static bool read_object(struct build_log *log, const struct build_log_sink *sink,
                        struct error *error) {
    for (;;) {
        switch (read_range(log, sink, error)) {
        case RANGE_FULL:
            break;
        case RANGE_FAILED:
            return false;
        default:
            return true;
        }
    }
}

/* ---- Cloud Logging ---- */

static json_t *list_entries(struct build_log *log, const char *token, struct error *error) {
    char filter[700], role[400];
    cleanup_buffer struct buffer body = {0};
    snprintf(filter, sizeof filter,
             "logName=\"projects/%.200s/logs/cloudbuild\" AND resource.type=\"build\" AND "
             "resource.labels.build_id=\"%.100s\"%s%.63s%s",
             log->project, log->id, log->last[0] ? " AND timestamp>=\"" : "", log->last,
             log->last[0] ? "\"" : "");
    cleanup_json json_t *json = json_pack(
        "{s:[o], s:s, s:s, s:i, s:s*}", "resourceNames", json_sprintf("projects/%s", log->project),
        "filter", filter, "orderBy", "timestamp asc", "pageSize", PAGE_ENTRIES, "pageToken", token);
    if (!bounded_json_dump(json, JSON_COMPACT, &body)) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    snprintf(role, sizeof role, "roles/logging.viewer on project %.250s", log->project);
    return api_perform_json(log->api,
                            &(struct api_call){.service = API_LOGGING,
                                               .method = "POST",
                                               .path = "/v2/entries:list",
                                               .body = {body.bytes, body.length},
                                               .role = role},
                            error);
}

/* Whether the entry was handed on already; it is remembered. */
static bool is_known(struct build_log *log, const char *id, const char *time) {
    if (strcmp(time, log->last) != 0) {
        json_object_clear(log->seen);
        snprintf(log->last, sizeof log->last, "%s", time);
    } else if (json_object_get(log->seen, id)) {
        return true;
    }
    if (json_object_size(log->seen) < SEEN_LIMIT)
        json_object_set_new(log->seen, id, json_true());
    return false;
}

static bool take_entries(struct build_log *log, const json_t *page,
                         const struct build_log_sink *sink, struct error *error) {
    size_t index;
    json_t *entry;
    json_array_foreach (json_object_get(page, "entries"), index, entry) {
        const char *text = json_string_value(json_object_get(entry, "textPayload"));
        const char *id = json_string_value(json_object_get(entry, "insertId"));
        const char *time = json_string_value(json_object_get(entry, "timestamp"));
        if (!text || !id || !time || strspn(time, "0123456789-:.TZ+") != strlen(time) ||
            strlen(time) >= sizeof log->last || is_known(log, id, time))
            continue;
        if (!sink->on_bytes(sink->context, text, strlen(text), error) ||
            !sink->on_bytes(sink->context, "\n", 1, error))
            return false;
    }
    return true;
}

static bool read_entries(struct build_log *log, const struct build_log_sink *sink,
                         struct error *error) {
    cleanup_free char *token = NULL;
    for (unsigned page = 0; page < PAGES_AT_ONCE; page++) {
        cleanup_json json_t *list = list_entries(log, token, error);
        if (!list)
            return error->kind == ERROR_UNAVAILABLE || error->kind == ERROR_TIMEOUT ||
                   error->kind == ERROR_RATE_LIMITED;
        if (!take_entries(log, list, sink, error))
            return false;
        const char *next = json_string_value(json_object_get(list, "nextPageToken"));
        free(token);
        token = next && *next ? strdup(next) : NULL;
        if (!token)
            return true;
    }
    return true;
}

bool build_log_read(struct build_log *log, const struct build_log_sink *sink, struct error *error) {
    struct error own = {0};
    bool ok = log->kind == LOG_NOWHERE     ? true
              : log->kind == LOG_IN_BUCKET ? read_object(log, sink, &own)
                                           : read_entries(log, sink, &own);
    if (!ok && error)
        *error = own;
    return ok;
}
