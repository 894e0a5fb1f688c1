/* What all writes have in common, and those of manifests and tags. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "client/retry.h"
#include "upstream/push_private.h"
#include "upstream/upstream_private.h"

enum {
    ANSWER_LEAST_MS = 1000,
    ANSWER_MOST_MS = 30000, /* a registry may move a large blob before it answers */
};

/* ---- one request ---- */

static bool make_scope(struct push_call *call, const char *actions, const char *from) {
    const char *prefix = call->peer->authorizers[0].location.prefix;
    int length = snprintf(call->scope, sizeof call->scope, "repository:%s:%s", call->path, actions);
    if (from && length < (int)sizeof call->scope)
        length +=
            snprintf(call->scope + length, sizeof call->scope - (size_t)length,
                     " repository:%s%s%s:pull", prefix ? prefix : "", prefix ? "/" : "", from);
    return length < (int)sizeof call->scope;
}

bool push_call_begin(struct push_call *call, const struct repository *repository,
                     const struct push_settings *settings, const char *actions, const char *from,
                     struct error *error) {
    struct upstream *upstream = repository->upstream;
    *call = (struct push_call){.repository = repository, .settings = settings};
    call->peer = peers_take(upstream->peers_of_all, upstream, repository->name.host, error);
    if (!call->peer)
        return error_wrap(error, "upstream %s", repository->name.host);
    const char *prefix = call->peer->authorizers[0].location.prefix;
    int length = snprintf(call->path, sizeof call->path, "%s%s%s", prefix ? prefix : "",
                          prefix ? "/" : "", repository->name.path);
    call->response = calloc(1, sizeof *call->response);
    if (!call->response)
        return error_set(error, ERROR_MEMORY, "out of memory");
    if (length >= (int)sizeof call->path || !make_scope(call, actions, from))
        return error_set(error, ERROR_INVALID, "upstream %s: the repository is too long",
                         repository->name.host);
    return true;
}

void push_call_end(struct push_call *call) {
    if (call->response)
        write_response_wipe(call->response);
    free(call->response);
    free(call->url);
    if (call->peer)
        peers_give(call->repository->upstream->peers_of_all, call->peer);
    *call = (struct push_call){0};
}

bool push_call_url(struct push_call *call, struct error *error, const char *format, ...) {
    const struct location *location = &call->peer->authorizers[0].location;
    char rest[2 * NAME_LIMIT + 2 * DIGEST_STRING_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(rest, sizeof rest, format, arguments);
    va_end(arguments);
    free(call->url);
    if (asprintf(&call->url, "%s/v2/%s/%s", location->base, call->path, rest) >= 0)
        return true;
    call->url = NULL;
    return error_set(error, ERROR_MEMORY, "out of memory");
}

bool push_call_send(struct push_call *call, const char *method, const char *url,
                    const char *const *fields, const struct client_body *body, int64_t answer_ms,
                    struct error *error) {
    struct write_request request = {
        .method = method,
        .url = url ? url : call->url,
        .repository = call->path,
        .scope = call->scope,
        .fields = fields,
        .body = body ? *body : (struct client_body){.bytes = ""},
        .is_long = body && body->source,
        .answer_ms = answer_ms,
        .cancel = call->settings->cancel,
        .late_ms = call->late_ms,
    };
    error_clear(error);
    return write_perform(call->peer, &request, call->response, error);
}

/* ---- trying again ---- */

static int64_t patience_of(const struct push_settings *settings, const struct error *error) {
    bool refused =
        error->reason == ERROR_REASON_NO_HOST || error->reason == ERROR_REASON_NO_CONNECTION;
    int64_t patience = settings->patience_ms ? settings->patience_ms : PUSH_PATIENCE_MS;
    return refused && settings->refused_patience_ms ? settings->refused_patience_ms : patience;
}

int64_t push_answer_ms(const struct push_settings *settings, const struct push_trouble *trouble) {
    int64_t left = settings->patience_ms ? settings->patience_ms : PUSH_PATIENCE_MS;
    if (trouble->since_ms)
        left -= clock_ms() - trouble->since_ms;
    left /= 2;
    if (left > ANSWER_MOST_MS)
        return ANSWER_MOST_MS;
    return left > ANSWER_LEAST_MS ? left : ANSWER_LEAST_MS;
}

bool push_is_success(int status) {
    return status / 100 == 2;
}

/* A refusal with a 4xx is about the request, but for those about its time. */
bool push_may_pass(const struct error *error) {
    int status = error->status;
    if (status / 100 == 4 && status != 408 && status != 425 && status != 429)
        return false;
    return retry_decide(retry_classify(error), PHASE_ALONE, 0) == RETRY_LATER;
}

bool push_wait(const struct push_call *call, struct push_trouble *trouble, struct error *error) {
    const struct push_settings *settings = call->settings;
    int64_t now = clock_ms();
    if (!push_may_pass(error))
        return false;
    if (!trouble->since_ms)
        trouble->since_ms = now;
    trouble->failures++;
    int64_t left = trouble->since_ms + patience_of(settings, error) - now;
    int64_t wait = retry_backoff_ms(trouble->failures);
    if (wait < (int64_t)error->retry_after_s * 1000)
        wait = (int64_t)error->retry_after_s * 1000;
    if (left <= 0)
        return false;
    metric_add(call->repository->upstream->counts.retries, 1);
    /* The last try is at the end of the patience, also where upstream wants a longer pause. */
    return cancel_sleep(settings->cancel, now + (wait < left ? wait : left), error);
}

/* Puts the upstream and what was to be done in front of an error. */
static bool name_failure(const struct repository *repository, const char *what,
                         const char *reference, struct error *error) {
    counts_failure(&repository->upstream->counts, error->kind);
    error_wrap(error, "upstream %s: %s %s%s%s", repository->name.host, what, repository->name.path,
               strchr(reference, ':') ? "@" : ":", reference);
    return false;
}

/* ---- manifests ---- */

static bool put(struct push_call *call, const struct push_manifest *manifest, struct error *error) {
    const struct client_body body = {.bytes = manifest->bytes, .length = manifest->length};
    char type[sizeof "Content-Type: " + 255];
    snprintf(type, sizeof type, "Content-Type: %s", manifest->media_type);
    const char *const fields[] = {type, NULL};
    struct push_trouble trouble = {0};
    for (;;) {
        bool sent = push_call_send(call, "PUT", NULL, fields, &body,
                                   push_answer_ms(call->settings, &trouble), error);
        if (sent)
            metric_add(call->repository->upstream->counts.sent, (int64_t)manifest->length);
        if (sent && push_is_success(call->response->http.status))
            return true;
        if (sent)
            write_refused(call->peer, call->response, error);
        if (!push_wait(call, &trouble, error))
            return false;
    }
}

bool push_manifest(const struct repository *repository, const struct push_settings *settings,
                   const struct push_manifest *manifest, struct push_stored *out,
                   struct error *error) {
    struct error unwanted = {0};
    struct push_call call;
    struct digest digest;
    error = error ? error : &unwanted;
    bool ok = push_call_begin(&call, repository, settings, "pull,push", NULL, error) &&
              push_call_url(&call, error, "manifests/%s", manifest->reference);
    if (ok && !put(&call, manifest, error))
        ok = name_failure(repository, "put manifest", manifest->reference, error);
    if (ok && out) {
        *out = (struct push_stored){0};
        out->has_digest = digest_parse(text_of(call.response->digest), &out->digest);
        if (digest_parse(text_of(call.response->subject), &digest))
            digest_format(&digest, out->subject);
    }
    push_call_end(&call);
    return ok;
}

/* ---- deleting ---- */

static bool delete (struct push_call *call, struct error *error) {
    struct push_trouble trouble = {0};
    bool lost = false; /* an answer, so that upstream may have done it */
    for (;;) {
        bool sent = push_call_send(call, "DELETE", NULL, NULL, NULL,
                                   push_answer_ms(call->settings, &trouble), error);
        int status = sent ? call->response->http.status : 0;
        if (push_is_success(status) || (lost && status == 404))
            return true;
        if (sent)
            write_refused(call->peer, call->response, error);
        lost = lost || !sent || status >= 500;
        if (!push_wait(call, &trouble, error))
            return false;
    }
}

bool push_delete(const struct repository *repository, const struct push_settings *settings,
                 enum upstream_what what, const char *reference, struct error *error) {
    struct error unwanted = {0};
    struct push_call call;
    error = error ? error : &unwanted;
    const char *kind = what == UPSTREAM_BLOB ? "blobs" : "manifests";
    bool ok = push_call_begin(&call, repository, settings, "pull,delete", NULL, error) &&
              push_call_url(&call, error, "%s/%s", kind, reference);
    if (ok && !delete (&call, error))
        ok = name_failure(repository, "delete", reference, error);
    push_call_end(&call);
    return ok;
}

/* ---- is it there? ---- */

bool push_has_blob(const struct repository *repository, const struct push_settings *settings,
                   const struct digest *digest, uint64_t *size, struct error *error) {
    struct error unwanted = {0};
    struct push_call call;
    struct push_trouble trouble = {0};
    char text[DIGEST_STRING_SIZE];
    error = error ? error : &unwanted;
    digest_format(digest, text);
    bool ok = push_call_begin(&call, repository, settings, "pull,push", NULL, error) &&
              push_call_url(&call, error, "blobs/%s", text);
    bool again = ok;
    while (again) {
        bool sent = push_call_send(&call, "HEAD", NULL, NULL, NULL,
                                   push_answer_ms(settings, &trouble), error);
        ok = sent && push_is_success(call.response->http.status);
        if (sent && !ok)
            write_refused(call.peer, call.response, error);
        again = !ok && push_wait(&call, &trouble, error);
    }
    if (ok && size)
        *size = call.response->http.length;
    if (!ok)
        name_failure(repository, "blob", text, error);
    push_call_end(&call);
    return ok;
}
