/* Calls of Cloud Build's API. */
#include "build/cloudbuild.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "base/json.h"

enum { TRIGGER_PAGES = 50, TRIGGER_PAGE_SIZE = 100 };

/* ---- paths ---- */

static void append_parent(const struct cloudbuild *cloudbuild, struct buffer *path) {
    buffer_append_string(path, "/v1/projects/");
    buffer_append_percent(path, cloudbuild->project, ":");
    if (strcmp(cloudbuild->region, "global") != 0) {
        buffer_append_string(path, "/locations/");
        buffer_append_percent(path, cloudbuild->region, "");
    }
}

static json_t *call(const struct cloudbuild *cloudbuild, const char *method,
                    const struct buffer *path, const json_t *body, bool once, struct error *error) {
    char role[400];
    cleanup_buffer struct buffer text = {0};
    if (path->failed || (body && !bounded_json_dump(body, JSON_COMPACT, &text))) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    snprintf(role, sizeof role, "roles/cloudbuild.builds.%s on project %.250s",
             strcmp(method, "GET") == 0 ? "viewer" : "editor", cloudbuild->project);
    return api_perform_json(cloudbuild->api,
                            &(struct api_call){.service = API_CLOUDBUILD,
                                               .method = method,
                                               .path = path->bytes,
                                               .body = {text.bytes, text.length},
                                               .role = role,
                                               .once = once},
                            error);
}

/* The Build inside an Operation, which it takes over. */
static json_t *build_of(json_t *operation, struct error *error) {
    json_t *build = json_object_get(json_object_get(operation, "metadata"), "build");
    const char *failure =
        json_string_value(json_object_get(json_object_get(operation, "error"), "message"));
    if (failure)
        error_set(error, ERROR_INVALID, "Cloud Build did not take the build: %.400s", failure);
    else if (!json_string_length(json_object_get(build, "id")))
        error_set(error, ERROR_UNAVAILABLE, "the answer of Cloud Build names no build");
    else {
        json_incref(build);
        json_decref(operation);
        return build;
    }
    json_decref(operation);
    return NULL;
}

json_t *cloudbuild_submit(const struct cloudbuild *cloudbuild, const json_t *message,
                          struct error *error) {
    cleanup_buffer struct buffer path = {0};
    append_parent(cloudbuild, &path);
    buffer_append_string(&path, "/builds");
    json_t *operation = call(cloudbuild, "POST", &path, message, true, error);
    return operation ? build_of(operation, error) : NULL;
}

/* The path of a build: "REGION/ID" or "ID". */
static void append_build(const struct cloudbuild *cloudbuild, const char *id, struct buffer *path) {
    struct text rest, region = text_cut(text_of(id), '/', &rest);
    char own[64];
    struct cloudbuild elsewhere = *cloudbuild;
    if (rest.at && text_copy(region, own, sizeof own)) {
        elsewhere.region = own;
        id = rest.at;
    }
    append_parent(&elsewhere, path);
    buffer_append_string(path, "/builds/");
    buffer_append_percent(path, id, "");
}

json_t *cloudbuild_get(const struct cloudbuild *cloudbuild, const char *id, struct error *error) {
    cleanup_buffer struct buffer path = {0};
    append_build(cloudbuild, id, &path);
    return call(cloudbuild, "GET", &path, NULL, false, error);
}

json_t *cloudbuild_cancel(const struct cloudbuild *cloudbuild, const char *id,
                          struct error *error) {
    cleanup_buffer struct buffer path = {0};
    cleanup_json json_t *nothing = json_object();
    append_build(cloudbuild, id, &path);
    buffer_append_string(&path, ":cancel");
    return call(cloudbuild, "POST", &path, nothing, false, error);
}

json_t *cloudbuild_retry(const struct cloudbuild *cloudbuild, const char *id, struct error *error) {
    cleanup_buffer struct buffer path = {0};
    cleanup_json json_t *nothing = json_object();
    append_build(cloudbuild, id, &path);
    buffer_append_string(&path, ":retry");
    json_t *operation = call(cloudbuild, "POST", &path, nothing, true, error);
    return operation ? build_of(operation, error) : NULL;
}

json_t *cloudbuild_list(const struct cloudbuild *cloudbuild, const char *what, unsigned page_size,
                        const char *filter, const char *token, struct error *error) {
    cleanup_buffer struct buffer path = {0};
    append_parent(cloudbuild, &path);
    buffer_printf(&path, "/%s?pageSize=%u", what, page_size);
    if (filter) {
        buffer_append_string(&path, "&filter=");
        buffer_append_percent(&path, filter, "");
    }
    if (token) {
        buffer_append_string(&path, "&pageToken=");
        buffer_append_percent(&path, token, "");
    }
    return call(cloudbuild, "GET", &path, NULL, false, error);
}

/* ---- triggers ---- */

/* The id of the trigger with this name or id, the caller's to free. NULL: the error is set. */
static char *find_trigger(const struct cloudbuild *cloudbuild, const char *wanted,
                          struct error *error) {
    cleanup_free char *token = NULL;
    for (unsigned page = 0; page < TRIGGER_PAGES; page++) {
        cleanup_json json_t *list =
            cloudbuild_list(cloudbuild, "triggers", TRIGGER_PAGE_SIZE, NULL, token, error);
        size_t index;
        json_t *item;
        if (!list)
            return NULL;
        json_array_foreach (json_object_get(list, "triggers"), index, item) {
            const char *id = json_string_value(json_object_get(item, "id"));
            const char *name = json_string_value(json_object_get(item, "name"));
            if (id && (strcmp(id, wanted) == 0 || (name && strcmp(name, wanted) == 0)))
                return strdup(id);
        }
        const char *next = json_string_value(json_object_get(list, "nextPageToken"));
        free(token);
        token = next && *next ? strdup(next) : NULL;
        if (!token)
            break;
    }
    error_set(error, ERROR_NOT_FOUND, "project %.100s has no trigger %.100s in %.60s",
              cloudbuild->project, wanted, cloudbuild->region);
    return NULL;
}

static bool is_commit(const char *ref) {
    return strlen(ref) == 40 && strspn(ref, "0123456789abcdef") == 40;
}

/* Which revision the trigger builds (REST reference, RepoSource). */
static json_t *revision_of(const char *project, const char *ref) {
    static const char tag[] = "refs/tags/", branch[] = "refs/heads/";
    if (!ref)
        return json_object();
    if (is_commit(ref))
        return json_pack("{s:s, s:s}", "projectId", project, "commitSha", ref);
    if (strncmp(ref, tag, strlen(tag)) == 0)
        return json_pack("{s:s, s:s}", "projectId", project, "tagName", ref + strlen(tag));
    if (strncmp(ref, branch, strlen(branch)) == 0)
        ref += strlen(branch);
    return json_pack("{s:s, s:s}", "projectId", project, "branchName", ref);
}

json_t *cloudbuild_run_trigger(const struct cloudbuild *cloudbuild, const char *trigger,
                               const char *ref, struct error *error) {
    cleanup_free char *id = find_trigger(cloudbuild, trigger, error);
    cleanup_json json_t *revision = revision_of(cloudbuild->project, ref);
    cleanup_buffer struct buffer path = {0};
    if (!id || !revision)
        return NULL;
    append_parent(cloudbuild, &path);
    buffer_append_string(&path, "/triggers/");
    buffer_append_percent(&path, id, "");
    buffer_append_string(&path, ":run");
    json_t *operation = call(cloudbuild, "POST", &path, revision, true, error);
    return operation ? build_of(operation, error) : NULL;
}

/* ---- what a build says ---- */

static const struct status {
    const char *name;
    enum cloudbuild_state state;
    const char *words; /* of a failure */
} statuses[] = {
    {"STATUS_UNKNOWN", CLOUDBUILD_WAITING, NULL},
    {"PENDING", CLOUDBUILD_WAITING, NULL},
    {"QUEUED", CLOUDBUILD_WAITING, NULL},
    {"WORKING", CLOUDBUILD_WORKING, NULL},
    {"SUCCESS", CLOUDBUILD_DONE, NULL},
    {"FAILURE", CLOUDBUILD_FAILED, "the build failed"},
    {"INTERNAL_ERROR", CLOUDBUILD_FAILED, "Cloud Build had an internal error: try again"},
    {"TIMEOUT", CLOUDBUILD_FAILED, "the build took longer than its timeout (--timeout)"},
    {"CANCELLED", CLOUDBUILD_FAILED, "the build was cancelled"},
    {"EXPIRED", CLOUDBUILD_FAILED, "the build waited in the queue for longer than its queueTtl"},
};

static const struct status *status_of(const json_t *build) {
    const char *name = json_string_value(json_object_get(build, "status"));
    for (size_t i = 0; name && i < sizeof statuses / sizeof *statuses; i++)
        if (strcmp(statuses[i].name, name) == 0)
            return &statuses[i];
    return &statuses[0];
}

enum cloudbuild_state cloudbuild_state(const json_t *build) {
    return status_of(build)->state;
}

/* The first step that did not do what it should. NULL: no step says so. */
static const json_t *failed_step(const json_t *build, size_t *index) {
    const json_t *steps = json_object_get(build, "steps");
    for (*index = 0; *index < json_array_size(steps); (*index)++) {
        const json_t *step = json_array_get(steps, *index);
        const char *status = json_string_value(json_object_get(step, "status"));
        if (status && (strcmp(status, "FAILURE") == 0 || strcmp(status, "TIMEOUT") == 0 ||
                       strcmp(status, "INTERNAL_ERROR") == 0))
            return step;
    }
    return NULL;
}

/* A text of the service, on one line and bounded. */
static void append_words(struct buffer *out, const char *between, const char *text) {
    if (!text || !*text)
        return;
    buffer_append_string(out, between);
    for (size_t i = 0; text[i] && i < 400; i++)
        buffer_append(out, (unsigned char)text[i] < ' ' ? " " : text + i, 1);
}

void cloudbuild_explain(const json_t *build, struct buffer *out) {
    size_t index = 0;
    const json_t *step = failed_step(build, &index);
    const struct status *status = status_of(build);
    const json_t *failure = json_object_get(build, "failureInfo");
    buffer_append_string(out, status->words ? status->words : "the build has not ended");
    if (step) {
        const char *id = json_string_value(json_object_get(step, "id"));
        const char *name = json_string_value(json_object_get(step, "name"));
        buffer_printf(out, " in step %zu", index);
        append_words(out, " ", id ? id : name);
    }
    append_words(out, ": ", json_string_value(json_object_get(build, "statusDetail")));
    append_words(out, "; ", json_string_value(json_object_get(failure, "detail")));
    append_words(out, "; see ", json_string_value(json_object_get(build, "logUrl")));
}

const char *cloudbuild_digest(const json_t *build, const char *image) {
    size_t index;
    json_t *item;
    json_array_foreach (json_object_get(json_object_get(build, "results"), "images"), index, item) {
        const char *name = json_string_value(json_object_get(item, "name"));
        const char *digest = json_string_value(json_object_get(item, "digest"));
        if (name && digest && (!image || strcmp(name, image) == 0))
            return digest;
    }
    return NULL;
}
