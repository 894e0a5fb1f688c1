/* A refusal of the Kubernetes API as an error. */
#include "kubernetes/status.h"

#include <stdio.h>
#include <string.h>
#include "base/json.h"
#include "client/response.h"

static enum error_kind kind_of(int status) {
    enum error_kind kind = client_response_error_kind(status);
    return kind == ERROR_UNAVAILABLE && status >= 400 && status < 500 ? ERROR_INVALID : kind;
}

static bool is_status(const json_t *json) {
    const char *kind = json_string_value(json_object_get(json, "kind"));
    return kind && strcmp(kind, "Status") == 0;
}

/* The error of a status code and of the Status that explains it (may be NULL). */
static bool set(int code, const json_t *status, struct error *error) {
    const char *reason = json_string_value(json_object_get(status, "reason"));
    const char *message = json_string_value(json_object_get(status, "message"));
    const json_t *details = json_object_get(status, "details");
    json_int_t wait_s = json_integer_value(json_object_get(details, "retryAfterSeconds"));
    if (code >= 300 && code < 400)
        error_set(error, ERROR_UNAVAILABLE,
                  "status %d: a redirect, which is not followed because it would take the "
                  "credential elsewhere; is `server` right?",
                  code);
    else
        error_set(error, kind_of(code), "status %d%s%.60s%s%.400s", code, reason ? " " : "",
                  reason ? reason : "", message ? ": " : "", message ? message : "");
    error->status = code;
    if (reason)
        snprintf(error->code, sizeof error->code, "%s", reason);
    if (wait_s > 0)
        error->retry_after_s = wait_s > 3600 ? 3600 : (int)wait_s;
    return false;
}

bool status_read(const struct client_response *response, json_t **status, struct error *error) {
    *status = bounded_json_load(response->body.bytes, response->body.length, NULL);
    if (!is_status(*status)) {
        json_decref(*status);
        *status = NULL;
    }
    set(response->status, *status, error);
    if (response->retry_after_s > 0)
        error->retry_after_s = response->retry_after_s;
    return false;
}

bool status_set(const json_t *status, struct error *error) {
    if (!is_status(status))
        return error_set(error, ERROR_UNAVAILABLE, "an ERROR event without a Status");
    json_int_t code = json_integer_value(json_object_get(status, "code"));
    return set(code >= 400 && code <= 599 ? (int)code : 500, status, error);
}
