/* A connection to a cluster's server, and one request over it. */
#include "kubernetes/kubernetes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/metric.h"
#include "client/lane.h"
#include "client/transfer.h"
#include "kubernetes/cluster.h"
#include "kubernetes/identity.h"
#include "kubernetes/status.h"

enum {
    CALL_MS = 20000,
    BODY_LIMIT = 8 << 20, /* bytes of one object, or of a refusal */
};

#define REQUESTS      "tarn_kube_requests_total"
#define REQUESTS_HELP "Requests to the Kubernetes API, by verb, resource and status."

struct kubernetes {
    struct cluster cluster;
    struct client *client;
    struct lanes lanes; /* of its own, because its connections may bear a certificate */
    struct identity *identity;
};

/* ---- life ---- */

struct kubernetes *kubernetes_open(const struct kubernetes_settings *settings,
                                   struct client *client, struct error *error) {
    struct kubernetes *kubernetes = client ? calloc(1, sizeof *kubernetes) : NULL;
    if (!kubernetes) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    if (!cluster_find(settings->kubeconfig, settings->account_folder, &kubernetes->cluster,
                      error)) {
        free(kubernetes);
        return NULL;
    }
    kubernetes->client = client;
    lanes_init(&kubernetes->lanes, client);
    kubernetes->identity = identity_new(&kubernetes->cluster.config, client);
    if (kubernetes->identity)
        return kubernetes;
    error_set(error, ERROR_MEMORY, "out of memory");
    kubernetes_close(kubernetes);
    return NULL;
}

void kubernetes_close(struct kubernetes *kubernetes) {
    if (!kubernetes)
        return;
    lanes_finish(&kubernetes->lanes);
    identity_free(kubernetes->identity);
    cluster_wipe(&kubernetes->cluster);
    free(kubernetes);
}

const char *kubernetes_server(const struct kubernetes *kubernetes) {
    return kubernetes->cluster.config.server;
}

const char *kubernetes_from(const struct kubernetes *kubernetes) {
    return kubernetes->cluster.from;
}

const char *kubernetes_namespace(const struct kubernetes *kubernetes) {
    return kubernetes->cluster.config.namespace;
}

const char *kubernetes_user(const struct kubernetes *kubernetes) {
    return kubernetes->cluster.config.user;
}

const char *kubernetes_credential(const struct kubernetes *kubernetes, char *out, size_t size) {
    return identity_kind(kubernetes->identity, out, size);
}

bool kubernetes_may_run_programs(const struct kubernetes *kubernetes) {
    return kubernetes->cluster.config.exec.command != NULL;
}

void kubernetes_declare_metrics(void) {
    metric_declare(METRIC_COUNTER, REQUESTS, REQUESTS_HELP);
}

/* ---- one request ---- */

static const char *method_of(const char *verb) {
    static const char *const methods[][2] = {
        {"create", "POST"}, {"update", "PUT"}, {"patch", "PATCH"}, {"delete", "DELETE"}};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        if (strcmp(verb, methods[i][0]) == 0)
            return methods[i][1];
    }
    return "GET";
}

static const char *type_of(const struct kubernetes_call *call) {
    if (call->content_type)
        return call->content_type;
    return strcmp(call->verb, "patch") == 0 ? "application/merge-patch+json" : "application/json";
}

/* Counts a request by what came of it. The labels are few, whatever a server sends. */
static void count_request(const struct kubernetes_call *call, int status) {
    static const int known[] = {200, 201, 202, 400, 401, 403, 404, 405, 409,
                                410, 413, 415, 422, 429, 500, 502, 503, 504};
    char labels[160], code[16] = "other";
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (status == known[i])
            snprintf(code, sizeof code, "%d", status);
    }
    if (status == 0)
        snprintf(code, sizeof code, "none");
    snprintf(labels, sizeof labels, "verb=\"%s\",resource=\"%s\",code=\"%s\"", call->verb,
             call->resource, code);
    metric_add(metric_get(METRIC_COUNTER, REQUESTS, REQUESTS_HELP, labels), 1);
}

/* Where a body goes that is not collected. */
struct stream {
    const struct kubernetes_call *call;
    bool (*on_bytes)(void *context, const void *bytes, size_t length, struct error *error);
    void *context;
};

static enum client_verdict on_head(void *context, const struct client_response *response,
                                   struct error *error) {
    const struct stream *stream = context;
    count_request(stream->call, response->status); /* now, because a watch ends late */
    if (response->status != 200)
        return CLIENT_COLLECT;
    return stream->on_bytes(stream->context, NULL, 0, error) ? CLIENT_STREAM : CLIENT_STOP;
}

static bool on_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    const struct stream *stream = context;
    return stream->on_bytes(stream->context, bytes, length, error);
}

/* Sends one request with this proof. True: a whole response, whatever its status. */
static bool send_request(struct kubernetes *kubernetes, const struct kubernetes_call *call,
                         const struct identity_proof *proof, const struct stream *stream,
                         struct client_response *response, struct error *error) {
    cleanup_buffer struct buffer url = {0}, type = {0};
    const char *headers[] = {"Accept: application/json", NULL, NULL, NULL};
    size_t count = 1;
    buffer_printf(&type, "Content-Type: %s", type_of(call));
    if (!buffer_printf(&url, "%s%s", kubernetes_server(kubernetes), call->path) || type.failed)
        return error_set(error, ERROR_MEMORY, "out of memory");
    if (call->body.length)
        headers[count++] = type.bytes;
    if (proof->authorization)
        headers[count++] = proof->authorization;
    struct client_request request = {
        .method = method_of(call->verb),
        .url = url.bytes,
        .headers = headers,
        .body = {.bytes = call->body.at, .length = call->body.length},
        .tls = &proof->tls,
        .proxy = kubernetes->cluster.config.proxy,
        /* An object whose name the server makes would be there twice. */
        .once = strcmp(call->verb, "create") == 0,
        /* A watch is never compressed, and a decoder could hold back an event. */
        .accepts_gzip = strcmp(call->verb, "watch") != 0,
        .total_timeout_ms = call->timeout_ms,
        .bounds_body = true,
        .body_limit = BODY_LIMIT,
        .cancel = call->cancel,
    };
    struct client_sink sink = {(void *)stream, on_head, on_bytes, NULL};
    struct lane *lane = lanes_take(&kubernetes->lanes);
    if (!lane)
        return error_set(error, ERROR_MEMORY, "out of memory");
    bool ok = transfer_run(lane, &request, stream ? &sink : NULL, response, error);
    lanes_give(&kubernetes->lanes, lane);
    if (!stream || response->status == 0)
        count_request(call, response->status);
    return ok;
}

/* Whether the request failed because of what was read from files or a program. */
static bool is_refused(bool sent, const struct client_response *response,
                       const struct error *error) {
    return sent ? response->status == 401
                : response->status == 0 && (error->reason == ERROR_REASON_CERTIFICATE ||
                                            error->reason == ERROR_REASON_TLS);
}

/* Sends the request, and once more with what is read anew when the server, or we, did not take what
 * was read before. */
static bool ask(struct kubernetes *kubernetes, const struct kubernetes_call *call,
                const struct stream *stream, struct client_response *response,
                struct error *error) {
    const struct identity_proof *proof = identity_hold(kubernetes->identity, NULL, error);
    if (!proof)
        return false;
    struct kubernetes_call timed = *call;
    int64_t deadline = clock_ms() + (call->timeout_ms ? call->timeout_ms : CALL_MS);
    timed.timeout_ms = deadline - clock_ms();
    bool ok = send_request(kubernetes, &timed, proof, stream, response, error);
    if (is_refused(ok, response, error) && identity_is_renewable(kubernetes->identity) &&
        clock_ms() < deadline) {
        struct error why = {0};
        const struct identity_proof *renewed = identity_hold(kubernetes->identity, proof, &why);
        timed.timeout_ms = deadline - clock_ms();
        if (renewed && timed.timeout_ms > 0) {
            error_clear(error);
            client_response_wipe(response);
            ok = send_request(kubernetes, &timed, renewed, stream, response, error);
        }
        identity_release(renewed);
    }
    identity_release(proof);
    return ok;
}

bool kubernetes_stream(struct kubernetes *kubernetes, const struct kubernetes_call *call,
                       bool (*on_bytes_of)(void *context, const void *bytes, size_t length,
                                           struct error *error),
                       void *context, json_t **status, struct error *error) {
    cleanup_client_response struct client_response response = {0};
    struct stream stream = {call, on_bytes_of, context};
    struct error unwanted;
    error = error ? error : &unwanted;
    error_clear(error);
    *status = NULL;
    bool ok = ask(kubernetes, call, &stream, &response, error);
    if (ok && response.status == 200)
        return true;
    if (ok)
        status_read(&response, status, error);
    return error_wrap(error, "Kubernetes: %s %s", call->verb, call->resource);
}

/* Reads the object of a response of 200 to 299. */
static bool read_answer(const struct client_response *response, json_t **answer,
                        struct error *error) {
    if (!answer || response->body.length == 0)
        return true;
    *answer = bounded_json_load(response->body.bytes, response->body.length, error);
    return *answer || error_wrap(error, "the response is no JSON");
}

bool kubernetes_call(struct kubernetes *kubernetes, const struct kubernetes_call *call,
                     json_t **answer, struct error *error) {
    cleanup_client_response struct client_response response = {0};
    cleanup_json json_t *status = NULL;
    struct error unwanted;
    error = error ? error : &unwanted;
    error_clear(error);
    if (answer)
        *answer = NULL;
    bool ok = ask(kubernetes, call, NULL, &response, error);
    if (ok)
        ok = response.status / 100 == 2 ? read_answer(&response, answer, error)
                                        : status_read(&response, &status, error);
    return ok || error_wrap(error, "Kubernetes: %s %s", call->verb, call->resource);
}
