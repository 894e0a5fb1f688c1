/*
 * One request to a registry, from the queue to the last byte: a chain of transfers (the known
 * target; or the registry, its 401 and the token; then up to five redirects), tried again as long
 * as the caller has seen nothing of an answer.
 */
#include "upstream/upstream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "client/content_range.h"
#include "client/redirect.h"
#include "client/transfer.h"
#include "oci/manifest.h"
#include "upstream/response.h"
#include "upstream/token.h"
#include "upstream/upstream_private.h"

enum {
    ATTEMPTS = 3,
    BACKOFF_MS = 100,     /* before the second try; four times as long before each further one */
    CHALLENGES_LIMIT = 4, /* 401s in one try: none, held token, new token, new credential */
};

/* On the heap: the head alone is larger than a worker's stack likes. */
struct work {
    struct upstream *upstream;
    struct location *location;
    const struct upstream_request *request;
    const struct upstream_sink *sink;
    struct lane *lane;
    int64_t deadline_ms;
    char range[64];
    char *registry_url;

    /* of the transfer under way */
    const char *url;
    struct upstream_response response;
    uint64_t delivered; /* bytes */
    bool has_expected;
    uint64_t expected; /* bytes that the head announced */

    bool redirected; /* the answer comes from where the registry sent us */
    bool carries;    /* and Authorization could still go there */

    bool answered;     /* the caller has seen a head: no other try may follow */
    bool sink_refused; /* the caller's own callback ended it */
    bool retry;        /* the failure may pass */
};

/* ---- what is asked ---- */

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
        return buffer_printf(url, "/v2/%s/tags/list", request->repository);
    case UPSTREAM_REFERRERS:
        return buffer_printf(url, "/v2/%s/referrers/%s", request->repository, request->reference);
    }
    return false;
}

static bool make_url(struct work *work, struct error *error) {
    struct buffer url = {.limit = URL_LIMIT};
    buffer_append_string(&url, work->location->base);
    if (!append_path(&url, work->request, work->location) || url.failed) {
        buffer_finish(&url);
        return error_set(error, ERROR_INVALID, "no URL can be made of the request");
    }
    work->registry_url = url.bytes;
    return true;
}

static void make_range(struct work *work) {
    const struct upstream_request *request = work->request;
    if (request->range_suffix)
        snprintf(work->range, sizeof work->range, "Range: bytes=-%llu",
                 (unsigned long long)request->range_suffix);
    else if (request->has_range && request->range_last == UINT64_MAX)
        snprintf(work->range, sizeof work->range, "Range: bytes=%llu-",
                 (unsigned long long)request->range_first);
    else if (request->has_range)
        snprintf(work->range, sizeof work->range, "Range: bytes=%llu-%llu",
                 (unsigned long long)request->range_first, (unsigned long long)request->range_last);
}

static const char *accept_of(enum upstream_what what) {
    switch (what) {
    case UPSTREAM_MANIFEST:
        return "Accept: " MEDIA_ACCEPT_MANIFESTS;
    case UPSTREAM_TAGS:
        return "Accept: application/json";
    case UPSTREAM_REFERRERS:
        return "Accept: " MEDIA_OCI_INDEX;
    case UPSTREAM_BLOB:
        break;
    }
    return NULL;
}

/* ---- one transfer ---- */

static void count_answer(struct work *work) {
    char labels[sizeof work->upstream->label + 16];
    snprintf(labels, sizeof labels, "%s,code=\"%d\"", work->upstream->label,
             work->response.http.status);
    metric_add(metric_get(METRIC_COUNTER, "tarn_upstream_requests_total",
                          "Answers of upstream, redirects and challenges included.", labels),
               1);
    int64_t limit = upstream_response_ratelimit(work->response.ratelimit_limit);
    int64_t remaining = upstream_response_ratelimit(work->response.ratelimit_remaining);
    if (limit >= 0)
        metric_set(metric_get(METRIC_GAUGE, "tarn_upstream_ratelimit_limit",
                              "Pulls that upstream allows in its window.", work->upstream->label),
                   limit);
    if (remaining >= 0)
        metric_set(metric_get(METRIC_GAUGE, "tarn_upstream_ratelimit_remaining",
                              "Pulls that upstream still allows.", work->upstream->label),
                   remaining);
}

static bool tell_head(struct work *work, const struct upstream_head *head, struct error *error) {
    work->answered = true;
    if (!work->sink->on_head || work->sink->on_head(work->sink->context, head, error))
        return true;
    work->sink_refused = true;
    return false;
}

/* Where further ranges of the blob can be had at once: only a place that needs no Authorization. It
 * is known when the caller's on_head runs. */
static void keep_target(struct work *work) {
    struct upstream_target *target = work->request->target;
    if (!target || !work->redirected || work->carries || work->request->head_only ||
        work->request->what != UPSTREAM_BLOB)
        return;
    upstream_target_free(target);
    target->url = strdup(work->url); /* out of memory: the registry is asked again */
    target->location = work->request->location;
}

/* A 200 or 206 goes to the caller; everything else is read by ourselves. */
static enum client_verdict on_head(void *context, const struct client_response *from,
                                   struct error *error) {
    struct work *work = context;
    struct upstream_head head;
    count_answer(work);
    if (from->status / 100 != 2)
        return CLIENT_COLLECT;
    if (!upstream_response_head(&work->response, work->request, work->url, &head, error))
        return CLIENT_STOP;
    work->has_expected = head.has_length && !work->request->head_only;
    work->expected = head.length;
    keep_target(work);
    return tell_head(work, &head, error) ? CLIENT_STREAM : CLIENT_STOP;
}

static bool on_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    struct work *work = context;
    metric_add(work->upstream->bytes, (int64_t)length);
    if (work->has_expected && length > work->expected - work->delivered)
        return error_set(error, ERROR_UNAVAILABLE, "a body longer than the %llu bytes announced",
                         (unsigned long long)work->expected);
    work->delivered += length;
    if (!work->sink->on_bytes || work->sink->on_bytes(work->sink->context, bytes, length, error))
        return true;
    work->sink_refused = true;
    return false;
}

static bool on_idle(void *context, struct error *error) {
    struct work *work = context;
    if (!work->sink->on_idle || work->sink->on_idle(work->sink->context, error))
        return true;
    work->sink_refused = true;
    return false;
}

static bool check_length(struct work *work, struct error *error) {
    if (!work->answered || !work->has_expected || work->delivered == work->expected)
        return true;
    return error_set(error, ERROR_UNAVAILABLE, "a body of %llu bytes instead of the %llu announced",
                     (unsigned long long)work->delivered, (unsigned long long)work->expected);
}

/* True: a whole answer is here, whatever it says. */
static bool transfer(struct work *work, const char *url, const char *authorization,
                     struct address_rule addresses, struct error *error) {
    const struct upstream_settings *settings = &work->upstream->settings;
    const char *accept = accept_of(work->request->what), *headers[4] = {NULL};
    size_t count = 0;
    if (authorization)
        headers[count++] = authorization;
    if (accept)
        headers[count++] = accept;
    if (work->range[0])
        headers[count++] = work->range;
    const struct cancel cancel = {.stop = work->request->stop};
    int64_t left_ms = work->deadline_ms - clock_ms();
    const struct client_request request = {
        .method = work->request->head_only ? "HEAD" : "GET",
        .url = url,
        .headers = headers,
        .wanted = upstream_response_wanted(&work->response),
        .ca_file = settings->ca_file,
        .addresses = &addresses,
        .connect_timeout_ms = settings->connect_timeout_ms,
        .stall_timeout_ms = settings->stall_timeout_ms,
        .total_timeout_ms = left_ms > 0 ? left_ms : 1,
        .body_limit = REFUSAL_BODY_LIMIT,
        .cancel = &cancel,
    };
    const struct client_sink sink = {
        .context = work,
        .on_head = on_head,
        .on_bytes = on_bytes,
        .on_idle = on_idle,
    };
    work->url = url;
    bool ok = transfer_run(work->lane, &request, &sink, &work->response.http, error);
    metric_add(work->upstream->bytes, (int64_t)work->response.http.body.length);
    if (work->response.http.from_loopback && url == work->registry_url &&
        work->location->configured)
        atomic_store(&work->location->is_loopback, true);
    /* A refusal's body may break off: its status stands. */
    if (!ok && !work->answered && work->response.http.status / 100 > 2)
        ok = true;
    if (ok)
        return check_length(work, error);
    work->retry = error->kind == ERROR_UNAVAILABLE || error->kind == ERROR_TIMEOUT;
    return false;
}

/* ---- what an answer means ---- */

static bool is_redirect(int status) {
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/* A 416 tells the size of what there is; the caller may learn it. */
static void tell_size(struct work *work) {
    struct content_range range;
    struct error unwanted;
    if (!content_range_parse(text_of(work->response.content_range), &range) || !range.has_total)
        return;
    const struct upstream_head head = {.status = 416, .has_total = true, .total = range.total};
    tell_head(work, &head, &unwanted);
}

/* Some registries that do not know the referrers API say so with another status than 404. */
static int judged_status(const struct work *work) {
    int status = work->response.http.status;
    bool unknown = status == 405 || status == 501;
    return work->request->what == UPSTREAM_REFERRERS && unknown ? 404 : status;
}

/* The answer at the end of a chain: true when it went to the caller. */
static bool judge(struct work *work, const struct authorization *sent, bool by_registry,
                  struct error *error) {
    if (work->answered)
        return true;
    const struct refusal refusal = {
        .status = judged_status(work),
        .retry_after_s = work->response.http.retry_after_s,
        .body = work->response.http.body.bytes,
        .body_length = work->response.http.body.length,
        .anonymous = sent->anonymous,
        .credentials_from = sent->from,
        .host = work->location->credential_host,
    };
    upstream_response_error(&refusal, error);
    work->retry = refusal.status == 408 || (refusal.status >= 500 && refusal.status != 501);
    if (error->kind == ERROR_RATE_LIMITED && by_registry)
        location_quieten(work->location, error->retry_after_s);
    if (error->kind == ERROR_RANGE)
        tell_size(work);
    return false;
}

static bool check_quiet(const struct work *work, struct error *error) {
    int seconds = location_quiet_for(work->location);
    if (seconds == 0)
        return true;
    error_set(error, ERROR_RATE_LIMITED, "it asked for no requests in the next %d s (429)",
              seconds);
    error->retry_after_s = seconds;
    return false;
}

/* ---- redirects ---- */

/* Bytes named by a digest are checked by it; what a tag or a list says is not, and must not come
 * over a connection that anybody can write to. */
static bool check_downgrade(const struct work *work, const char *from, const char *to,
                            struct error *error) {
    bool by_digest = work->request->what == UPSTREAM_BLOB;
    if (by_digest || strncmp(from, "https:", 6) != 0 || strncmp(to, "https:", 6) == 0)
        return true;
    return error_set(error, ERROR_DENIED, "a redirect from https to http");
}

/* Follows the redirects that the registry's answer began. *url is the caller's to free(). */
static bool follow(struct work *work, const struct authorization *sent, char **url,
                   struct error *error) {
    const struct origin *own = &work->location->origin;
    work->carries = true;
    for (unsigned hops = 0; is_redirect(work->response.http.status); hops++) {
        struct origin origin = {0};
        if (hops == REDIRECT_LIMIT)
            return error_set(error, ERROR_UNAVAILABLE, "more than %d redirects", REDIRECT_LIMIT);
        if (work->response.location[0] == '\0')
            return error_set(error, ERROR_UNAVAILABLE,
                             "a redirect (%d) without a Location of at most %d bytes",
                             work->response.http.status, URL_LIMIT);
        const char *from = *url ? *url : work->registry_url;
        char *next = redirect_resolve(from, work->response.location, error);
        if (!next || !check_downgrade(work, from, next, error)) {
            free(next);
            return false;
        }
        free(*url);
        *url = next;
        work->redirected = true;
        /* Once it was left behind it is not taken up again, wherever the chain leads. */
        work->carries = work->carries && redirect_keeps_authorization(own, next);
        origin_parse(next, &origin);
        struct address_rule addresses =
            origin_equal(own, &origin) ? location_addresses_own(work->location)
                                       : location_addresses_elsewhere(work->location, origin.host);
        if (!transfer(work, next, work->carries ? sent->header : NULL, addresses, error))
            return error_wrap(error, "redirected to %s", origin.host);
    }
    return true;
}

/* ---- the registry: challenge, token, redirects ---- */

/* How to go on after a 401, or false: it is final. */
static bool try_harder(const struct work *work, const struct authorization *sent,
                       bool scope_changed, enum token_effort *effort) {
    enum challenge_scheme wanted = work->response.challenge.scheme;
    if (wanted == CHALLENGE_NONE)
        return false;
    if (scope_changed || sent->scheme != wanted)
        return true; /* now it is known what is wanted */
    if (wanted == CHALLENGE_BEARER && *effort == TOKEN_HELD && !sent->fresh) {
        *effort = TOKEN_NEW;
        return true;
    }
    bool done = *effort == TOKEN_NEW_CREDENTIAL || (sent->fresh && sent->anonymous);
    *effort = TOKEN_NEW_CREDENTIAL;
    return !done;
}

static bool ask_with_authorization(struct work *work, struct authorization *sent,
                                   struct error *error) {
    struct location *location = work->location;
    const char *repository = work->request->repository;
    enum token_effort effort = TOKEN_HELD;
    cleanup_free char *refused = NULL;
    for (unsigned challenges = 0;; challenges++) {
        if (!authorization_get(location, repository, effort, refused, work->deadline_ms, sent,
                               &work->retry, error)) {
            if (error->kind == ERROR_RATE_LIMITED)
                location_quieten(location, error->retry_after_s);
            return false;
        }
        if (!transfer(work, work->registry_url, sent->header, location_addresses_own(location),
                      error))
            return false;
        if (work->response.http.status != 401 || challenges == CHALLENGES_LIMIT)
            return true;
        bool changed = authorization_challenged(location, repository, &work->response.challenge);
        if (!try_harder(work, sent, changed, &effort))
            return true;
        free(refused);
        refused = sent->header ? strdup(sent->header) : NULL;
        authorization_wipe(sent);
    }
}

static bool ask_registry(struct work *work, struct error *error) {
    __attribute__((cleanup(authorization_wipe))) struct authorization sent = {0};
    cleanup_free char *url = NULL;
    work->redirected = false;
    if (!check_quiet(work, error) || !ask_with_authorization(work, &sent, error) ||
        !follow(work, &sent, &url, error))
        return false;
    return judge(work, &sent, !work->redirected, error);
}

/* ---- a target known from an earlier redirect ---- */

static bool target_is_usable(const struct work *work) {
    const struct upstream_target *target = work->request->target;
    return target && target->url && target->location == work->request->location &&
           work->request->what == UPSTREAM_BLOB && !work->request->head_only;
}

/* True: the chain ends here, with *ok. Else the target is dropped, and the registry is to be asked:
 * it may have expired, or its host be gone. */
static bool ask_target(struct work *work, bool *ok, struct error *error) {
    struct upstream_target *target = work->request->target;
    cleanup_free char *url = strdup(target->url);
    struct authorization nothing = {0};
    struct origin origin;
    *ok = false;
    work->redirected = false;
    if (url && origin_parse(url, &origin)) {
        struct address_rule addresses =
            origin_equal(&work->location->origin, &origin)
                ? location_addresses_own(work->location)
                : location_addresses_elsewhere(work->location, origin.host);
        *ok = transfer(work, url, NULL, addresses, error);
        bool final = work->response.http.status == 416 || work->response.http.status == 429;
        if (work->answered)
            return true;
        if (*ok && final) {
            *ok = judge(work, &nothing, false, error);
            return true;
        }
    }
    upstream_target_free(target);
    return false;
}

static bool ask(struct work *work, struct error *error) {
    bool ok;
    work->retry = false;
    if (target_is_usable(work) && ask_target(work, &ok, error))
        return ok;
    return ask_registry(work, error);
}

/* ---- tries ---- */

/* Waits before the next try. False: it would come too late. */
static bool back_off(const struct work *work, unsigned tries, const struct error *error) {
    int64_t wait = (int64_t)BACKOFF_MS << (2 * (tries - 1));
    wait += clock_jitter((uint32_t)wait);
    if (wait < (int64_t)error->retry_after_s * 1000)
        wait = (int64_t)error->retry_after_s * 1000;
    if (clock_ms() + wait >= work->deadline_ms)
        return false;
    clock_sleep_ms(wait);
    return true;
}

static bool ask_until_answered(struct work *work, struct error *error) {
    unsigned attempts = work->request->attempts ? work->request->attempts : ATTEMPTS;
    for (unsigned tries = 1;; tries++) {
        if (ask(work, error))
            return true;
        if (work->answered || !work->retry || tries >= attempts || !back_off(work, tries, error))
            return false;
        metric_add(work->upstream->retries, 1);
    }
}

static enum queue_rank rank_of(const struct upstream_request *request) {
    if (request->background)
        return QUEUE_BACKGROUND;
    return request->what == UPSTREAM_BLOB && !request->head_only ? QUEUE_BLOBS : QUEUE_NAMES;
}

static bool perform(struct work *work, struct error *error) {
    struct upstream *upstream = work->upstream;
    if (!make_url(work, error) || (!target_is_usable(work) && !check_quiet(work, error)) ||
        !queue_enter(&upstream->queue, rank_of(work->request), work->deadline_ms, error))
        return false;
    work->lane = lanes_take(&upstream->lanes);
    bool ok = work->lane ? ask_until_answered(work, error)
                         : error_set(error, ERROR_MEMORY, "out of memory");
    lanes_give(&upstream->lanes, work->lane);
    queue_leave(&upstream->queue);
    return ok;
}

static void describe(const struct work *work, struct error *error) {
    static const char *const names[] = {"manifest", "blob", "tags", "referrers"};
    const struct upstream_request *request = work->request;
    bool named = request->what != UPSTREAM_TAGS && request->reference;
    error_wrap(error, "%s %s%s%s", names[request->what], request->repository,
               !named                            ? ""
               : strchr(request->reference, ':') ? "@"
                                                 : ":",
               named ? request->reference : "");
    if (request->location > 0)
        error_wrap(error, "mirror %s", work->location->base);
    error_wrap(error, "upstream %s", work->upstream->host);
}

static void count_error(const struct work *work, const struct error *error) {
    char labels[sizeof work->upstream->label + 32];
    snprintf(labels, sizeof labels, "%s,kind=\"%s\"", work->upstream->label,
             error_kind_name(error->kind));
    metric_add(metric_get(METRIC_COUNTER, "tarn_upstream_errors_total",
                          "Requests to upstream that failed in the end.", labels),
               1);
}

bool upstream_perform(struct upstream *upstream, const struct upstream_request *request,
                      const struct upstream_sink *sink, struct error *error) {
    struct error unwanted;
    if (!error)
        error = &unwanted;
    if (request->location >= upstream->locations_count)
        return error_set(error, ERROR_INVALID, "upstream %s: it has %u locations, none number %u",
                         upstream->host, upstream->locations_count, request->location);
    struct work *work = calloc(1, sizeof *work);
    if (!work)
        return error_set(error, ERROR_MEMORY, "upstream %s: out of memory", upstream->host);
    work->upstream = upstream;
    work->location = &upstream->locations[request->location];
    work->request = request;
    work->sink = sink;
    work->deadline_ms = request->deadline_ms
                            ? request->deadline_ms
                            : clock_ms() + upstream->settings.first_byte_timeout_ms;
    make_range(work);
    bool ok = perform(work, error);
    if (ok) { /* of an earlier try, or a refusal that was got over */
        error_clear(error);
    } else {
        if (!work->sink_refused)
            count_error(work, error);
        describe(work, error);
    }
    client_response_free(&work->response.http);
    free(work->registry_url);
    free(work);
    return ok;
}
