/* Makes a call of a Google API: token, attempts, refusals in words. */
#include "build/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "auth/google/google.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/secret.h"
#include "client/origin.h"
#include "client/request.h"
#include "client/retry.h"

enum {
    ATTEMPTS = 5,
    TOKEN_MS = 60000,
    HEAD_MS = 60000,
    STALL_MS = 30000,
    BACKOFF_STEPS = 2,
    MESSAGE_SIZE = 300,
};

struct api {
    struct client *client;
    struct credential_source *source;
    const struct cancel *cancel;
    char *bases[API_SERVICES]; /* of an override; owned; NULL: Google's own */
};

static const struct service {
    const char *host; /* in front of the universe */
    const char *variable;
} services[API_SERVICES] = {
    [API_CLOUDBUILD] = {"cloudbuild", "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDBUILD"},
    [API_STORAGE] = {"storage", "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE"},
    [API_LOGGING] = {"logging", "CLOUDSDK_API_ENDPOINT_OVERRIDES_LOGGING"},
};

/* ---- making one ---- */

/* A URL that a token may be sent to: https, or this machine. */
static bool read_override(struct api *api, enum api_service service, struct error *error) {
    const char *name = services[service].variable, *value = getenv(name);
    struct origin origin;
    if (!value || !*value)
        return true;
    bool sound = origin_parse(value, &origin) && !strpbrk(value, "?#") &&
                 (origin.https || address_classify_host(origin.host) == ADDRESS_LOOPBACK);
    if (!sound)
        return error_set(error, ERROR_INVALID,
                         "%s is no https URL without user, query and fragment; http is for this "
                         "machine only",
                         name);
    struct text base = text_of(value);
    while (text_ends(base, "/"))
        base.length--;
    api->bases[service] = text_dup(base);
    return api->bases[service] || error_set(error, ERROR_MEMORY, "out of memory");
}

struct api *api_new(struct client *client, struct credential_source *source,
                    const struct cancel *cancel, struct error *error) {
    struct api *api = calloc(1, sizeof *api);
    if (!api) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    api->client = client;
    api->source = source;
    api->cancel = cancel;
    for (enum api_service service = 0; service < API_SERVICES; service++) {
        if (!read_override(api, service, error)) {
            api_free(api);
            return NULL;
        }
    }
    return api;
}

void api_free(struct api *api) {
    if (!api)
        return;
    for (enum api_service service = 0; service < API_SERVICES; service++)
        free(api->bases[service]);
    free(api);
}

const struct cancel *api_cancel(const struct api *api) {
    return api->cancel;
}

void api_forget_cancel(struct api *api) {
    api->cancel = NULL;
}

void api_answer_finish(struct api_answer *answer) {
    buffer_finish(&answer->body);
    *answer = (struct api_answer){0};
}

/* ---- one attempt ---- */

/* A call as it is made, with what each attempt needs. */
struct performing {
    struct api *api;
    const struct api_call *call;
    struct credential credential;
    struct buffer url, authorization; /* wiped */
    char base[300];
    const char *headers[6];
    struct address_rule addresses;
};

static bool take_credential(struct performing *performing, bool renew, struct error *error) {
    struct api *api = performing->api;
    credential_wipe(&performing->credential);
    if (!credential_source_get(api->source, "cloudbuild.googleapis.com", renew,
                               clock_ms() + TOKEN_MS, &performing->credential, error))
        return error_wrap(error, "no Google access token");
    if (performing->credential.kind != CREDENTIAL_BASIC)
        return error_set(error, ERROR_DENIED,
                         "there are no Google credentials on this machine: set "
                         "GOOGLE_APPLICATION_CREDENTIALS to a credential file, or run gcloud auth "
                         "application-default login (tarn whoami shows where tarn looked)");
    return true;
}

static bool write_url(struct performing *performing, struct error *error) {
    const struct api_call *call = performing->call;
    const char *own = performing->api->bases[call->service];
    const char *universe = performing->credential.universe;
    struct origin base, origin;
    if (own)
        snprintf(performing->base, sizeof performing->base, "%s", own);
    else
        snprintf(performing->base, sizeof performing->base, "https://%s.%s",
                 services[call->service].host, *universe ? universe : "googleapis.com");
    buffer_clear(&performing->url);
    bool is_url = call->path[0] != '/';
    buffer_printf(&performing->url, "%s%s", is_url ? "" : performing->base, call->path);
    if (performing->url.failed)
        return error_set(error, ERROR_MEMORY, "out of memory");
    if (!origin_parse(performing->base, &base) || !origin_parse(performing->url.bytes, &origin) ||
        !origin_equal(&base, &origin))
        return error_set(error, ERROR_UNAVAILABLE,
                         "%.200s leads elsewhere: the access token is for %.200s alone",
                         performing->url.bytes, performing->base);
    performing->addresses = (struct address_rule){
        .allow_private = true,
        .allow_loopback = address_classify_host(base.host) == ADDRESS_LOOPBACK,
    };
    return true;
}

/* The fields of the request. */
static bool write_headers(struct performing *performing, struct buffer *type, struct buffer *quota,
                          struct error *error) {
    const struct api_call *call = performing->call;
    size_t count = 0;
    buffer_clear(&performing->authorization);
    buffer_reserve(&performing->authorization, strlen(performing->credential.secret) + 32);
    buffer_printf(&performing->authorization, "Authorization: Bearer %s",
                  performing->credential.secret);
    performing->headers[count++] = performing->authorization.bytes;
    if (call->body.length || strcmp(call->method, "POST") == 0) {
        buffer_printf(type, "Content-Type: %s",
                      call->content_type ? call->content_type : "application/json");
        performing->headers[count++] = type->bytes;
    }
    if (performing->credential.quota_project[0]) {
        buffer_printf(quota, "x-goog-user-project: %s", performing->credential.quota_project);
        performing->headers[count++] = quota->bytes;
    }
    if (call->field)
        performing->headers[count++] = call->field;
    performing->headers[count] = NULL;
    return (!performing->authorization.failed && !type->failed && !quota->failed) ||
           error_set(error, ERROR_MEMORY, "out of memory");
}

/* True: a whole response is here, whatever its status. */
static bool attempt(struct performing *performing, struct api_answer *answer, int *retry_after_s,
                    struct error *error) {
    const struct api_call *call = performing->call;
    cleanup_buffer struct buffer type = {0}, quota = {0};
    if (!write_url(performing, error) || !write_headers(performing, &type, &quota, error))
        return false;
    const struct client_request request = {
        .method = call->method,
        .url = performing->url.bytes,
        .headers = performing->headers,
        .body = {.bytes = call->body.length ? call->body.at : "", .length = call->body.length},
        .wanted = {.fields = call->wanted, .count = call->wanted_count},
        .addresses = &performing->addresses,
        .once = call->once,
        .total_timeout_ms = HEAD_MS,
        .stall_timeout_ms = STALL_MS,
        .body_limit = API_ANSWER_LIMIT,
        .cancel = performing->api->cancel,
    };
    cleanup_client_response struct client_response response = {0};
    bool ok = client_request(performing->api->client, &request, &response, error);
    buffer_finish(&answer->body);
    answer->status = response.status;
    *retry_after_s = ok ? response.retry_after_s : 0;
    if (ok) {
        answer->body = response.body;
        response.body = (struct buffer){0};
    }
    return ok;
}

/* ---- refusals ---- */

/* Google's error: {"error": {"code", "status", "message"}}. */
static void read_message(const struct buffer *body, char status[static 60],
                         char message[static MESSAGE_SIZE]) {
    const char *name = NULL, *text = NULL;
    cleanup_json json_t *json =
        body->length ? bounded_json_load(body->bytes, body->length, NULL) : NULL;
    json_t *about = json_object_get(json, "error");
    name = json_string_value(json_object_get(about, "status"));
    text = json_string_value(json_object_get(about, "message"));
    snprintf(status, 60, "%.59s", name ? name : "");
    snprintf(message, MESSAGE_SIZE, "%.*s", MESSAGE_SIZE - 1, text ? text : "");
    for (char *at = message; *at; at++)
        if ((unsigned char)*at < ' ')
            *at = ' ';
}

/* Who was refused: the account's name, where that costs no more than a request. */
static void write_account(struct api *api, char *out, size_t size) {
    cleanup_google_token struct google_token token = {0};
    const struct google_question question = {.client = api->client, .account = true};
    bool known = google_token_fetch(&question, &token, NULL) && token.account[0];
    snprintf(out, size, "%.150s", known ? token.account : "the account");
}

static void write_hint(const struct performing *performing, const struct api_answer *answer,
                       const char *message, char *out, size_t size) {
    const char *service = services[performing->call->service].host;
    out[0] = '\0';
    if (strstr(message, "has not been used in project") || strstr(message, "is disabled"))
        snprintf(out, size, "enable the API: gcloud services enable %s.googleapis.com", service);
    else if (answer->status == 401)
        snprintf(out, size, "see which credentials are used: tarn whoami");
    else if (answer->status == 403 && performing->call->role) {
        char account[160];
        write_account(performing->api, account, sizeof account);
        snprintf(out, size, "grant %s to %s", performing->call->role, account);
    }
    if (answer->status == 429)
        snprintf(out, size, "the quota is used up: try again in a minute");
}

static bool refuse(const struct performing *performing, const struct api_answer *answer,
                   struct error *error) {
    char status[60], message[MESSAGE_SIZE], hint[600];
    read_message(&answer->body, status, message);
    write_hint(performing, answer, message, hint, sizeof hint);
    error_set(error, client_response_error_kind(answer->status), "%d%s%s%s%.250s%s%.500s",
              answer->status, status[0] ? " " : "", status, message[0] ? ": " : "", message,
              hint[0] ? "; " : "", hint);
    error->status = answer->status;
    return false;
}

/* ---- all of it ---- */

static bool is_passing(const struct performing *performing, bool answered, int status,
                       const struct error *error) {
    if (answered)
        return status == 429 || status == 503 ||
               (!performing->call->once &&
                (status == 408 || status == 500 || status == 502 || status == 504));
    return !performing->call->once &&
           retry_decide(retry_classify(error), PHASE_REQUEST, 0) == RETRY_LATER;
}

static bool is_wanted_status(int status, const int *also) {
    if (status >= 200 && status < 300)
        return true;
    for (; also && *also; also++)
        if (status == *also)
            return true;
    return false;
}

/* The status is final: success, or a refusal. False with *again: another attempt is due. */
static bool perform(struct performing *performing, const int *also, struct api_answer *answer,
                    struct error *error) {
    bool renewed = false;
    for (unsigned failures = 1;; failures++) {
        int after_s = 0;
        bool answered = attempt(performing, answer, &after_s, error);
        if (answered && is_wanted_status(answer->status, also))
            return true;
        if (answered && answer->status == 401 && !renewed) {
            renewed = true;
            if (!take_credential(performing, true, error))
                return false;
            continue;
        }
        if (!is_passing(performing, answered, answer->status, error) || failures == ATTEMPTS)
            return answered ? refuse(performing, answer, error) : false;
        int64_t wait_ms = after_s ? (int64_t)(after_s < 60 ? after_s : 60) * 1000
                                  : retry_backoff_ms(failures + BACKOFF_STEPS);
        if (!cancel_sleep(performing->api->cancel, clock_ms() + wait_ms, error))
            return false;
    }
}

bool api_perform(struct api *api, const struct api_call *call, const int *also,
                 struct api_answer *answer, struct error *error) {
    struct performing performing = {.api = api, .call = call};
    bool ok =
        take_credential(&performing, false, error) && perform(&performing, also, answer, error);
    if (!ok && error && error->kind != ERROR_CLOSED && error->kind != ERROR_MEMORY) {
        struct text rest, url = text_cut(text_of(performing.url.bytes), '?', &rest);
        if (url.length > 0) /* a request was made, or would have been */
            error_wrap(error, "%s %.*s", call->method, url.length > 200 ? 200 : (int)url.length,
                       url.at);
    }
    buffer_finish(&performing.url);
    secret_buffer_free(&performing.authorization);
    credential_wipe(&performing.credential);
    return ok;
}

json_t *api_perform_json(struct api *api, const struct api_call *call, struct error *error) {
    cleanup_api_answer struct api_answer answer = {0};
    if (!api_perform(api, call, NULL, &answer, error))
        return NULL;
    json_t *json =
        bounded_json_load(answer.body.bytes ? answer.body.bytes : "", answer.body.length, error);
    if (!json)
        error_wrap(error, "the answer of %s to %s %.200s", services[call->service].host,
                   call->method, call->path);
    return json;
}
