/*
 * Requests of other replicas: whether their signature is good, what they may ask, and what they are
 * told (replica/ask.h).
 */
#include <inttypes.h>
#include "base/log.h"
#include "registry/call.h"
#include "replica/counts.h"
#include "replica/replicas.h"

enum {
    MAX_AGE_MOST_S = 31536000, /* of what never changes: a year (RFC 9111 §5.3) */
    NAME_SIZE = 2 * (HOST_LIMIT + 1) + NAME_LIMIT + TAG_LIMIT + DIGEST_STRING_SIZE,
};

/* ---- who asks ---- */

static void refuse_signature(struct call *call) {
    http_add_field(call->exchange, "WWW-Authenticate", "Signature realm=\"tarn\"");
    call_fail(call, 401, "UNAUTHORIZED",
              "the signature of this request is not that of a replica: the secrets in "
              "replicas.secret_file or the clocks differ, or the request was changed");
}

static bool is_reading(const struct call *call) {
    return call->request->method == HTTP_GET || call->request->method == HTTP_HEAD;
}

/* Whether the question and the kind of request belong together. */
static bool fits(const struct call *call) {
    if (call->asked == REPLICA_ASK_FORGET || call->asked == REPLICA_ASK_RENEW)
        return !is_reading(call);
    if (call->asked == REPLICA_ASK_UPLOAD)
        return call->route.kind == ROUTE_UPLOAD && call->route.upload[0];
    return !route_is_for_replicas(call->route.kind);
}

static bool is_good(struct call *call) {
    const struct http_request *request = call->request;
    const struct text ask = http_field_alone(request, "Tarn-Ask");
    const struct signed_request signed_request = {
        .method = request->method_name, .path = request->path, .query = request->query, .ask = ask};
    return replica_ask_parse(ask, &call->asked) && fits(call) &&
           replicas_verify(call->registry->settings.replicas, &signed_request,
                           http_field_alone(request, "Signature-Input"),
                           http_field_alone(request, "Signature"));
}

bool call_check_signature(struct call *call) {
    const struct http_request *request = call->request;
    if (!call->registry->settings.replicas)
        return true;
    if (!http_field(request, "Signature-Input").at && !http_field(request, "Signature").at &&
        !route_is_for_replicas(call->route.kind))
        return true;
    call->is_of_replica = true;
    if (!is_good(call)) {
        refuse_signature(call);
        return false;
    }
    call->ask = call->asked;
    http_exempt(call->exchange);
    return true;
}

/* ---- what may be asked ---- */

static bool refuse_method(struct call *call, const char *allowed) {
    http_add_field(call->exchange, "Allow", "%s", allowed);
    call_fail(call, 405, "UNSUPPORTED", "replicas only read from each other");
    return false;
}

bool call_may_ask(struct call *call) {
    switch (call->route.kind) {
    case ROUTE_FORGET:
    case ROUTE_RENEW:
        return call->request->method == HTTP_POST || refuse_method(call, "POST");
    case ROUTE_NONE:
    case ROUTE_LIVE:
    case ROUTE_READY:
    case ROUTE_METRICS:
    case ROUTE_API:
    case ROUTE_MANIFEST:
    case ROUTE_BLOB:
    case ROUTE_TAGS:
    case ROUTE_REFERRERS:
    case ROUTE_UPLOAD:
        return call->ask == REPLICA_ASK_UPLOAD || !call_is_writing(call) ||
               refuse_method(call, "GET, HEAD");
    default:
        call_fail(call, 403, "DENIED",
                  "a replica may ask for manifests, blobs, tags and referrers only");
        return false;
    }
}

/* ---- answers ---- */

void call_set_answer(struct call *call, enum replica_answer answer) {
    if (call->ask == REPLICA_ASK_NONE || answer == REPLICA_ANSWER_NONE)
        return;
    call->answer = answer;
    http_add_field(call->exchange, "Tarn-Answer", "%s", replica_answer_text(answer));
}

void call_set_error_answer(struct call *call, const struct error *error) {
    const enum replica_answer answer = replica_answer_of(error);
    call_set_answer(call, answer);
    if (call->ask != REPLICA_ASK_NONE && answer == REPLICA_ANSWER_UPSTREAM && error->doubtful)
        http_add_field(call->exchange, "Cache-Status", "tarn; fwd=miss; " REPLICA_DOUBTFUL);
}

void call_set_life(struct call *call, int64_t age_ms, int64_t max_age_ms) {
    if (call->ask == REPLICA_ASK_NONE || max_age_ms <= 0)
        return;
    const int64_t most_s = max_age_ms / 1000;
    http_add_field(call->exchange, "Age", "%" PRId64, replica_age_s(age_ms));
    http_add_field(call->exchange, "Cache-Control", "max-age=%" PRId64,
                   most_s < MAX_AGE_MOST_S ? most_s : (int64_t)MAX_AGE_MOST_S);
}

void call_set_link_life(struct call *call) {
    int64_t age_ms, max_age_ms;
    if (call->ask != REPLICA_ASK_NONE &&
        cache_link_life(call->registry->settings.cache, &call->repository, false,
                        &call->route.reference.digest, &age_ms, &max_age_ms))
        call_set_life(call, age_ms, max_age_ms);
}

void call_answer_no(struct call *call) {
    call_set_answer(call, REPLICA_ANSWER_NO);
    call_fail(call, 404, call->route.kind == ROUTE_BLOB ? "BLOB_UNKNOWN" : "MANIFEST_UNKNOWN",
              "it is not arriving at this replica");
}

void call_count_ask(const struct call *call) {
    const int status = http_exchange_status(call->exchange);
    const char *answer = replica_answer_text(call->answer);
    if (!answer)
        answer = status >= 400 && status < 500 ? REPLICA_WAS_REFUSED : REPLICA_WAS_FAULT;
    replica_count_ask(REPLICA_IN, call->asked, answer);
    if (status == 200 || status == 206)
        replica_count_bytes(REPLICA_OUT, http_exchange_sent(call->exchange));
}

/* ---- the order to forget ---- */

bool call_handle_forget(struct call *call) {
    const struct registry_settings *settings = &call->registry->settings;
    char name[NAME_SIZE];
    bool found, had_any;
    struct error error = {0};
    if (call->must_not_wait)
        return false;
    if (!http_query(call->request, "name", name, sizeof name, &found)) {
        call_fail(call, 400, "NAME_INVALID", "name is missing, given twice or too long");
        return true;
    }
    if (!settings->forget(settings->forget_context, name, &had_any, &error)) {
        call_fail_error(call, &error);
        return true;
    }
    call_set_answer(call, had_any ? REPLICA_ANSWER_HELD : REPLICA_ANSWER_NO);
    http_respond(call->exchange, 200, "application/json", "{}", 2);
    return true;
}

/* ---- leaving ---- */

bool call_check_leaving(struct call *call) {
    if (!atomic_load(&call->registry->is_leaving) || call->ask != REPLICA_ASK_NONE ||
        call->route.kind == ROUTE_METRICS)
        return true;
    http_close_after(call->exchange);
    http_add_field(call->exchange, "Retry-After", "%d", 1);
    call_fail(call, 503, "UNAVAILABLE", "this tarn is stopping; another replica serves");
    return false;
}
