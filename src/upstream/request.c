/*
 * One request to a registry, from the queue for a connection to the last byte: attempts, as long as
 * the caller has seen nothing of a response and the failure may pass.
 */
#include "upstream/upstream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "client/retry.h"
#include "upstream/attempt.h"
#include "upstream/upstream_private.h"

enum {
    REPOSITORY_SIZE = 2 * NAME_LIMIT + 2, /* prefix, slash, repository, NUL */
};

/* ---- what is asked ---- */

static bool append_tags(struct buffer *url, const struct upstream_request *request) {
    bool ok = buffer_printf(url, "/v2/%s/tags/list", request->repository);
    if (ok && request->page_size)
        ok = buffer_printf(url, "?n=%u", request->page_size);
    if (ok && request->page_size && request->last) /* a tag needs no escapes */
        ok = buffer_printf(url, "&last=%s", request->last);
    return ok;
}

static bool append_path(struct buffer *url, const struct upstream_request *request,
                        const struct location *location) {
    bool paged = request->what == UPSTREAM_TAGS || request->what == UPSTREAM_REFERRERS;
    if (paged && request->page && *request->page) {
        char host[ORIGIN_HOST_SIZE];
        buffer_clear(url);
        buffer_printf(url, "%s://%s%s", location->origin.https ? "https" : "http",
                      origin_host(&location->origin, host), request->page);
        return *request->page == '/';
    }
    switch (request->what) {
    case UPSTREAM_MANIFEST:
        return buffer_printf(url, "/v2/%s/manifests/%s", request->repository, request->reference);
    case UPSTREAM_BLOB:
        return buffer_printf(url, "/v2/%s/blobs/%s", request->repository, request->reference);
    case UPSTREAM_TAGS:
        return append_tags(url, request);
    case UPSTREAM_REFERRERS:
        return buffer_printf(url, "/v2/%s/referrers/%s", request->repository, request->reference);
    }
    return false;
}

static bool make_url(struct attempt *attempt, struct error *error) {
    const struct location *location = &attempt->authorizer->location;
    struct buffer url = {.limit = URL_LIMIT};
    buffer_append_string(&url, location->base);
    if (!append_path(&url, attempt->request, location) || url.failed) {
        buffer_finish(&url);
        return error_set(error, ERROR_INVALID, "no URL can be made of the request");
    }
    attempt->registry_url = url.bytes;
    return true;
}

static void make_range(struct attempt *attempt) {
    const struct upstream_request *request = attempt->request;
    unsigned long long first = request->range_first, last = request->range_last,
                       suffix = request->range_suffix;
    if (suffix)
        snprintf(attempt->range, sizeof attempt->range, "Range: bytes=-%llu", suffix);
    else if (request->has_range && request->range_last == UINT64_MAX)
        snprintf(attempt->range, sizeof attempt->range, "Range: bytes=%llu-", first);
    else if (request->has_range)
        snprintf(attempt->range, sizeof attempt->range, "Range: bytes=%llu-%llu", first, last);
}

/* ---- attempts ---- */

static bool is_abandoned(const struct attempt *attempt) {
    const atomic_bool *abandoned = attempt->request->abandoned;
    return abandoned && atomic_load(abandoned);
}

/* Whether the request may keep its connection. */
static bool is_wanted(void *context) {
    const struct attempt *attempt = context;
    return !is_abandoned(attempt) || !queue_is_awaited(&attempt->peer->queue);
}

/* Waits before the next attempt, if there is to be one. `error` is the last attempt's; a caller
 * that has left meanwhile puts another in its place. */
static bool may_try_again(const struct attempt *attempt, unsigned attempts, struct error *error) {
    const unsigned limit = attempt->request->attempts ? attempt->request->attempts : RETRY_ATTEMPTS;
    const enum retry_failure failure = retry_classify(error);
    if (attempt->head_given || attempts >= limit || is_abandoned(attempt) ||
        retry_decide(failure, PHASE_REQUEST, 0) != RETRY_LATER)
        return false;
    int64_t now = clock_ms();
    int64_t wait = retry_wait_ms(attempts, error->retry_after_s, now, attempt->deadline_ms);
    return wait >= 0 && cancel_sleep(&attempt->cancel, now + wait, error);
}

/* One attempt, unless the location is left alone for now. */
static bool run_attempt(struct attempt *attempt, struct error *error) {
    const struct health_server server = health_location(&attempt->authorizer->location);
    struct breaker_pass pass;
    if (!health_enter(&server, attempt->request->insists, &pass, error))
        return false;
    bool ok = attempt_run(attempt, error);
    health_leave(&server, &pass, attempt->contact, ok ? NULL : error);
    return ok;
}

static bool run_attempts(struct attempt *attempt, struct error *error) {
    for (unsigned attempts = 1; !run_attempt(attempt, error); attempts++) {
        if (!may_try_again(attempt, attempts, error))
            return false;
        metric_add(attempt->upstream->counts.retries, 1);
    }
    return true;
}

static enum queue_rank rank_of(const struct upstream_request *request) {
    bool is_name = request->what != UPSTREAM_BLOB || request->head_only || request->is_small;
    return is_name ? QUEUE_NAMES : QUEUE_BLOBS;
}

/* Waits for a connection. */
static bool enter_queue(struct queue *queue, const struct attempt *attempt, struct error *error) {
    const struct upstream_request *request = attempt->request;
    const struct queue_wait wait = {
        .deadline_ms = attempt->deadline_ms,
        .stop = request->stop,
        .abandoned = request->abandoned,
        .background = request->background,
    };
    return queue_enter(queue, rank_of(request), &wait, error);
}

/* The request has its connection: it asks for what is wanted of its range now. */
static bool take_turn(struct attempt *attempt, struct error *error) {
    struct upstream_request *request = attempt->request;
    const struct upstream_sink *sink = attempt->sink;
    attempt->sink_failed =
        request->has_range && sink->on_turn &&
        !sink->on_turn(sink->context, &request->range_first, &request->range_last, error);
    make_range(attempt);
    return !attempt->sink_failed;
}

static bool run(struct attempt *attempt, struct error *error) {
    struct peer *peer = attempt->peer;
    const struct health_server server = health_location(&attempt->authorizer->location);
    if (!make_url(attempt, error) ||
        (!attempt_has_target(attempt) && !attempt_check_pause(attempt, error)) ||
        !health_may_ask(&server, attempt->request->insists, error) ||
        !enter_queue(&peer->queue, attempt, error))
        return false;
    attempt->lane = lanes_take(&peer->lanes);
    bool ok = attempt->lane ? take_turn(attempt, error) && run_attempts(attempt, error)
                            : error_set(error, ERROR_MEMORY, "out of memory");
    lanes_give(&peer->lanes, attempt->lane);
    queue_leave(&peer->queue);
    return ok;
}

/* ---- how it ended ---- */

/* Puts in front of the error what was asked of whom. */
static void name_request(const struct attempt *attempt, struct error *error) {
    static const char *const names[] = {"manifest", "blob", "tags", "referrers"};
    const struct upstream_request *request = attempt->request;
    const char *separator = "", *reference = "";
    if (request->what != UPSTREAM_TAGS && request->reference) {
        reference = request->reference;
        separator = strchr(reference, ':') ? "@" : ":";
    }
    error_wrap(error, "%s %s%s%s", names[request->what], request->repository, separator, reference);
    if (request->location > 0)
        error_wrap(error, "mirror %s", attempt->authorizer->location.base);
    error_wrap(error, "upstream %s", attempt->peer->host);
}

static bool run_and_report(struct attempt *attempt, struct error *error) {
    bool ok = run(attempt, error);
    if (ok) {
        error_clear(error); /* an earlier attempt's, or of a refusal that was overcome */
    } else {
        if (!attempt->sink_failed)
            counts_failure(&attempt->upstream->counts, error->kind);
        name_request(attempt, error);
    }
    return ok;
}

/* The request as the location knows it: with the location's prefix in front of the repository. */
static bool translate(const struct location *location, const struct upstream_request *request,
                      struct upstream_request *out, char repository[static REPOSITORY_SIZE]) {
    *out = *request;
    if (!location->prefix)
        return true;
    out->repository = repository;
    int length =
        snprintf(repository, REPOSITORY_SIZE, "%s/%s", location->prefix, request->repository);
    return length > 0 && length < REPOSITORY_SIZE;
}

/* Asks one peer, which the caller has taken for this request. */
static bool perform(struct peer *peer, const struct upstream_request *request,
                    const struct upstream_sink *sink, struct error *error) {
    char repository[REPOSITORY_SIZE];
    struct upstream_request translated;
    if (!translate(&peer->authorizers[request->location].location, request, &translated,
                   repository))
        return error_set(error, ERROR_INVALID, "upstream %s: the repository is too long",
                         peer->host);
    struct attempt *attempt = calloc(1, sizeof *attempt);
    if (!attempt)
        return error_set(error, ERROR_MEMORY, "upstream %s: out of memory", peer->host);
    attempt->upstream = peer->upstream;
    attempt->peer = peer;
    attempt->authorizer = &peer->authorizers[request->location];
    attempt->request = &translated;
    attempt->sink = sink;
    attempt->deadline_ms = request->deadline_ms
                               ? request->deadline_ms
                               : clock_ms() + peer->upstream->settings.first_byte_timeout_ms;
    attempt->cancel =
        (struct cancel){.stop = request->stop, .is_wanted = is_wanted, .context = attempt};
    bool ok = run_and_report(attempt, error);
    attempt_finish(attempt);
    free(attempt);
    return ok;
}

bool upstream_perform(struct upstream *upstream, const struct upstream_request *request,
                      const struct upstream_sink *sink, struct error *error) {
    struct error unwanted;
    const char *host = upstream->own ? upstream->name : request->host;
    if (!error)
        error = &unwanted;
    if (request->location >= upstream->locations_count)
        return error_set(error, ERROR_INVALID, "upstream %s: it has %u locations, none number %u",
                         host, upstream->locations_count, request->location);
    struct peer *peer = peers_take(upstream->peers_of_all, upstream, host, error);
    if (!peer)
        return error_wrap(error, "upstream %s", host);
    bool ok = perform(peer, request, sink, error);
    peers_give(upstream->peers_of_all, peer);
    return ok;
}
