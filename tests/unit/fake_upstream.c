/* The room upstream/, as far as cache/, registry/ and admin/ call it, under the control of a test.
 */
#include "fake_upstream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"

bool upstream_canonical_host(struct text text, char out[static HOST_LIMIT + 1]) {
    return snprintf(out, HOST_LIMIT + 1, "%.*s", TEXT_PRINT(text)) <= HOST_LIMIT;
}

struct upstream *upstreams_find(const struct upstreams *upstreams, struct text host,
                                char canonical[static HOST_LIMIT + 1]) {
    return text_is(host, upstreams->only->host) && text_copy(host, canonical, HOST_LIMIT + 1)
               ? upstreams->only
               : NULL;
}

bool upstreams_know(const struct upstreams *upstreams, struct text host) {
    return text_is(host, upstreams->only->host);
}

struct upstream *upstreams_default(const struct upstreams *upstreams) {
    return upstreams->only;
}

bool upstream_is_docker_hub(const struct upstream *upstream) {
    (void)upstream;
    return false;
}

struct upstream *upstream_for(const struct upstreams *upstreams, const struct upstream *named,
                              const char *repository) {
    (void)named, (void)repository;
    return upstreams->only;
}

struct upstream *upstream_keep(struct upstream *upstream) {
    atomic_fetch_add(&upstream->references, 1);
    return upstream;
}

void upstream_release(struct upstream *upstream) {
    if (upstream)
        atomic_fetch_sub(&upstream->references, 1);
}

const struct upstreams *current_upstreams_hold(struct current_upstreams *current) {
    return &current->set;
}

void upstreams_release(const struct upstreams *upstreams) {
    (void)upstreams;
}

const char *upstream_name(const struct upstream *upstream) {
    return upstream->host;
}

struct upstream *upstreams_next(const struct upstreams *upstreams, const struct upstream *before) {
    return before ? NULL : upstreams->only;
}

bool upstream_is_asked(struct upstream *upstream, char reason[static UPSTREAM_REASON_SIZE]) {
    (void)upstream;
    reason[0] = '\0';
    return true;
}

struct upstream_held *upstream_held(struct upstream *upstream) {
    return &upstream->held;
}

_Atomic(struct metric *) *upstream_counters(struct upstream *upstream) {
    return upstream->counters;
}

const struct upstream_settings *upstream_settings(const struct upstream *upstream) {
    return &upstream->settings;
}

unsigned upstream_places(const struct upstream *upstream) {
    const char *const *fallbacks = upstream->settings.fallbacks;
    unsigned places = 1;
    while (fallbacks && fallbacks[places - 1])
        places++;
    return places;
}

unsigned upstream_connections(const struct upstream *upstream) {
    return upstream->settings.connections;
}

void upstream_lower_connections(struct upstream *upstream, unsigned connections) {
    (void)upstream, (void)connections;
}

void upstream_target_finish(struct upstream_target *target) {
    free(target->url);
    *target = (struct upstream_target){0};
}

static bool fail(struct error *error, enum error_kind kind) {
    error_set(error, kind, "upstream fake: %s", error_kind_name(kind));
    error->status = kind == ERROR_NOT_FOUND ? 404 : kind == ERROR_DENIED ? 403 : 0;
    return false;
}

/* It refuses HEAD only with 405; every other failure would befall a GET as well. */
enum head_refusal upstream_judge_head(const struct error *error) {
    return error->status == 405 ? HEAD_NOT_OFFERED : HEAD_FAILED;
}

bool upstream_refuses_head(struct upstream *upstream, const struct upstream_request *request) {
    (void)request;
    return upstream->refused_heads > 0;
}

void upstream_note_head(struct upstream *upstream, const struct upstream_request *request,
                        const struct error *refusal) {
    (void)request;
    upstream->refused_heads += refusal != NULL;
}

static bool refuse_head(struct error *error) {
    error_set(error, ERROR_UNAVAILABLE, "upstream fake: 405");
    error->status = 405;
    return false;
}

static bool serve_manifest(struct upstream *upstream, const struct upstream_request *request,
                           const struct upstream_sink *sink, struct error *error) {
    if (request->head_only)
        upstream->heads++;
    else
        upstream->gets++;
    if (request->head_only && upstream->no_heads)
        return refuse_head(error);
    if (!upstream->manifest)
        return fail(error, ERROR_NOT_FOUND);
    struct upstream_head head = {.status = 200,
                                 .has_length = true,
                                 .length = strlen(upstream->manifest),
                                 .has_digest = true,
                                 .digest = upstream->manifest_digest};
    snprintf(head.content_type, sizeof head.content_type, "%s", upstream->media_type);
    return sink->on_head(sink->context, &head, error) &&
           (request->head_only ||
            sink->on_bytes(sink->context, upstream->manifest, head.length, error));
}

static bool send_bytes(struct upstream *upstream, uint64_t at, uint64_t end,
                       const struct upstream_sink *sink, struct error *error) {
    uint64_t pace = upstream->pace ? upstream->pace : 64 << 10;
    unsigned char *copy = malloc(pace);
    bool ok = true;
    while (ok && at < end) {
        while (upstream->hold)
            clock_sleep_ms(2);
        uint64_t step = end - at < pace ? end - at : pace;
        memcpy(copy, upstream->blob + at, step);
        if (upstream->wrong_bytes && at + step == upstream->blob_size)
            copy[step - 1] ^= 1;
        if (upstream->wrong_first && at == 0 && step > 5)
            copy[5] ^= 1;
        upstream->blob_bytes += step;
        ok = sink->on_bytes(sink->context, copy, step, error) &&
             (!sink->on_idle || sink->on_idle(sink->context, error));
        at += step;
        if (upstream->pause_ms)
            clock_sleep_ms(upstream->pause_ms);
    }
    free(copy);
    return ok;
}

/* Like the real upstream: the target is known when on_head runs. */
static void redirect(struct upstream *upstream, const struct upstream_request *request) {
    struct upstream_target *target = request->target;
    if (!target || !upstream->redirect)
        return;
    if (target->url)
        upstream->direct_gets++;
    else
        *target = (struct upstream_target){strdup(upstream->redirect), request->location};
}

static bool serve_blob(struct upstream *upstream, const struct upstream_request *request,
                       const struct upstream_sink *sink, struct error *error) {
    uint64_t size = upstream->blob_size, at = 0, end = size;
    struct upstream_head head = {.status = 200, .has_total = true, .total = size};
    if (request->head_only)
        upstream->blob_heads++;
    else if (upstream->blob_gets++ == 0)
        upstream->first_range = request->range_first;
    if (request->head_only && upstream->no_heads)
        return refuse_head(error);
    while (upstream->hold && !request->head_only && !request->is_small)
        clock_sleep_ms(2);
    redirect(upstream, request);
    if (request->has_range && !upstream->no_ranges && !request->head_only) {
        if (request->range_suffix)
            at = request->range_suffix < size ? size - request->range_suffix : 0;
        else {
            at = request->range_first;
            end = request->range_last < size ? request->range_last + 1 : size;
        }
        if (at >= size) {
            head.status = 416;
            sink->on_head(sink->context, &head, error);
            return fail(error, ERROR_RANGE);
        }
        head.status = 206;
        head.has_range = true;
        head.range_first = at;
        head.range_last = end - 1;
    }
    head.has_length = !upstream->no_length;
    head.length = end - at;
    if (upstream->no_length)
        head.has_total = false;
    snprintf(head.etag, sizeof head.etag, "\"%u\"",
             upstream->etag_changes ? upstream->blob_gets : 0);
    if (!sink->on_head(sink->context, &head, error))
        return false;
    if (request->head_only)
        return true;
    if (upstream->cuts > 0 && upstream->cuts-- > 0) {
        uint64_t length = upstream->cut_at ? upstream->cut_at : (end - at) / 2;
        return send_bytes(upstream, at, at + length < end ? at + length : end, sink, error) &&
               fail(error, ERROR_UNAVAILABLE);
    }
    return send_bytes(upstream, at, end, sink, error);
}

static bool serve_blob_in_turn(struct upstream *upstream, const struct upstream_request *request,
                               const struct upstream_sink *sink, struct error *error) {
    struct upstream_request asked = *request;
    return (!asked.has_range || !sink->on_turn ||
            sink->on_turn(sink->context, &asked.range_first, &asked.range_last, error)) &&
           serve_blob(upstream, &asked, sink, error);
}

static bool serve_list(const char *list, const struct upstream_sink *sink, struct error *error) {
    if (!list)
        return fail(error, ERROR_NOT_FOUND);
    const struct upstream_head head = {.status = 200, .has_length = true, .length = strlen(list)};
    return sink->on_head(sink->context, &head, error) &&
           sink->on_bytes(sink->context, list, head.length, error);
}

static bool is_set(const atomic_bool *flag) {
    return flag && atomic_load(flag);
}

/* Waits for a connection, as in the upstream's queue. */
static bool wait_in_queue(struct upstream *upstream, const struct upstream_request *request,
                          struct error *error) {
    upstream->queued += upstream->in_queue;
    for (; upstream->in_queue; clock_sleep_ms(2)) {
        if (is_set(request->stop))
            return fail(error, ERROR_CLOSED);
        if (!is_set(request->abandoned))
            continue;
        upstream->dropped++;
        while (upstream->hold_drops)
            clock_sleep_ms(2);
        return fail(error, ERROR_CLOSED);
    }
    return true;
}

bool upstream_perform(struct upstream *upstream, const struct upstream_request *request,
                      const struct upstream_sink *sink, struct error *error) {
    if (!wait_in_queue(upstream, request, error))
        return false;
    if (upstream->fail)
        return fail(error, upstream->fail);
    if (strcmp(request->repository, upstream->repository) != 0 &&
        (!upstream->second || strcmp(request->repository, upstream->second) != 0)) {
        if (request->what == UPSTREAM_BLOB)
            upstream->blob_heads += request->head_only;
        return fail(error, ERROR_NOT_FOUND);
    }
    if (request->what == UPSTREAM_MANIFEST)
        return serve_manifest(upstream, request, sink, error);
    if (request->what == UPSTREAM_BLOB)
        return serve_blob_in_turn(upstream, request, sink, error);
    return serve_list(request->what == UPSTREAM_TAGS ? upstream->tags : upstream->referrers, sink,
                      error);
}

const struct repository *fake_repository(struct upstream *upstream, const char *path) {
    static _Thread_local struct repository repository;
    repository.upstream = upstream;
    if (!repository_name_parse(text_of(upstream->host), text_of(path), &repository.name))
        abort();
    return &repository;
}
