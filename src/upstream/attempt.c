/* Runs one chain of transfers. */
#include "upstream/attempt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/trace.h"
#include "client/content_range.h"
#include "client/redirect.h"
#include "client/transfer.h"
#include "oci/manifest.h"
#include "upstream/credential.h"

enum {
    CHALLENGES_LIMIT = 4,  /* 401s of the registry: none, held token, new token, new credential */
    TARGET_CHALLENGES = 2, /* 401s of a redirect's target: none, held token */
    REQUEST_NAME_SIZE = 1024,
};

void attempt_finish(struct attempt *attempt) {
    client_response_wipe(&attempt->response.http);
    free(attempt->registry_url);
    attempt->registry_url = NULL;
}

static struct location *location_of(const struct attempt *attempt) {
    return &attempt->authorizer->location;
}

/* ---- the response as it comes ---- */

static void count_response(struct attempt *attempt) {
    struct counts *counts = &attempt->upstream->counts;
    counts_response(counts, attempt->response.http.status, clock_us() - attempt->asked_us);
    counts_rate_limit(counts, upstream_response_ratelimit(attempt->response.ratelimit_limit),
                      upstream_response_ratelimit(attempt->response.ratelimit_remaining));
}

static bool give_head(struct attempt *attempt, const struct upstream_head *head,
                      struct error *error) {
    const struct upstream_sink *sink = attempt->sink;
    attempt->head_given = true;
    attempt->sink_failed = sink->on_head && !sink->on_head(sink->context, head, error);
    return !attempt->sink_failed;
}

/* Remembers where further ranges of the blob can be had at once: only a URL that needs no
 * Authorization. The caller's on_head sees it. */
static void keep_target(struct attempt *attempt) {
    struct upstream_target *target = attempt->request->target;
    if (!target || !attempt->redirected || attempt->may_authorize || attempt->authorized ||
        attempt->request->head_only || attempt->request->what != UPSTREAM_BLOB)
        return;
    upstream_target_finish(target);
    target->url = strdup(attempt->url); /* out of memory: the registry is asked again */
    target->location = attempt->request->location;
}

/* The body of a 200 or 206 goes to the sink; every other body is a refusal's. */
static enum client_verdict on_head(void *context, const struct client_response *response,
                                   struct error *error) {
    struct attempt *attempt = context;
    struct upstream_head head;
    atomic_store(&attempt->peer->answered, true);
    if (attempt->url == attempt->registry_url)
        attempt->contact = CONTACT_RESPONDED;
    count_response(attempt);
    if (response->status / 100 != 2)
        return CLIENT_COLLECT;
    if (!upstream_response_head(&attempt->response, attempt->request, attempt->url, &head, error)) {
        error->reached = true;
        return CLIENT_STOP;
    }
    head.renewed = attempt->renewed;
    attempt->has_expected = head.has_length && !attempt->request->head_only;
    attempt->expected = head.length;
    keep_target(attempt);
    return give_head(attempt, &head, error) ? CLIENT_STREAM : CLIENT_STOP;
}

static bool on_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    struct attempt *attempt = context;
    const struct upstream_sink *sink = attempt->sink;
    counts_body(&attempt->upstream->counts, attempt->request->what, length);
    if (attempt->has_expected && length > attempt->expected - attempt->delivered)
        return error_set(error, ERROR_UNAVAILABLE, "a body longer than the %llu bytes announced",
                         (unsigned long long)attempt->expected);
    attempt->delivered += length;
    attempt->sink_failed = sink->on_bytes && !sink->on_bytes(sink->context, bytes, length, error);
    return !attempt->sink_failed;
}

static bool on_idle(void *context, struct error *error) {
    struct attempt *attempt = context;
    const struct upstream_sink *sink = attempt->sink;
    attempt->sink_failed = sink->on_idle && !sink->on_idle(sink->context, error);
    return !attempt->sink_failed;
}

static bool check_length(struct attempt *attempt, struct error *error) {
    if (!attempt->head_given || !attempt->has_expected || attempt->delivered == attempt->expected)
        return true;
    return error_set(error, ERROR_UNAVAILABLE, "a body of %llu bytes instead of the %llu announced",
                     (unsigned long long)attempt->delivered, (unsigned long long)attempt->expected);
}

/* ---- one transfer ---- */

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

static bool run_transfer(struct attempt *attempt, const struct client_request *request,
                         struct error *error) {
    const struct client_sink sink = {
        .context = attempt,
        .on_head = on_head,
        .on_bytes = on_bytes,
        .on_idle = on_idle,
    };
    struct client_response *response = &attempt->response.http;
    attempt->url = request->url;
    if (attempt->url == attempt->registry_url && attempt->contact == CONTACT_NONE)
        attempt->contact = CONTACT_ASKED;
    attempt->asked_us = clock_us();
    bool ok = transfer_run(attempt->lane, request, &sink, response, error);
    metric_add(attempt->upstream->counts.bytes, (int64_t)response->body.length);
    if (response->status == 0)
        counts_response(&attempt->upstream->counts, 0, 0);
    return ok;
}

/* True: a response is here, whatever it says. `authorization` may be NULL. */
static bool transfer(struct attempt *attempt, const char *url, const char *authorization,
                     const struct address_rule *addresses, struct error *error) {
    const struct upstream_settings *settings = &attempt->upstream->settings;
    const char *accept = accept_of(attempt->request->what), *headers[6] = {NULL};
    struct trace_lines trace;
    size_t count = 0;
    attempt->authorized = authorization != NULL;
    if (authorization)
        headers[count++] = authorization;
    if (accept)
        headers[count++] = accept;
    if (attempt->range[0])
        headers[count++] = attempt->range;
    if (url == attempt->registry_url) /* no business of other hosts */
        count += trace_write_lines(trace_current(), &trace, &headers[count]);
    int64_t left_ms = attempt->deadline_ms - clock_ms();
    const struct client_request request = {
        .method = attempt->request->head_only ? "HEAD" : "GET",
        .url = url,
        .headers = headers,
        .wanted = upstream_response_wanted(&attempt->response),
        .ca_file = settings->ca_file,
        .addresses = addresses,
        .connect_timeout_ms = settings->connect_timeout_ms,
        .stall_timeout_ms = settings->stall_timeout_ms,
        .total_timeout_ms = left_ms > 0 ? left_ms : 1,
        .body_limit = REFUSAL_BODY_LIMIT,
        /* A manifest or a list is small: who sends it byte by byte holds its readers for ever. */
        .bounds_body = attempt->request->what != UPSTREAM_BLOB,
        .cancel = &attempt->cancel,
    };
    bool ok = run_transfer(attempt, &request, error);
    const struct client_response *response = &attempt->response.http;
    struct location *location = location_of(attempt);
    if (response->has_address && url == attempt->registry_url)
        location_responded(location, response->address);
    /* When a refusal's body breaks off, or is too long, its status is enough. */
    if (!ok && !attempt->head_given && response->status / 100 > 2)
        ok = true;
    if (ok)
        return check_length(attempt, error);
    return false;
}

/* ---- what a response means ---- */

static bool is_redirect(int status) {
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/* A 416 may name the size of the whole content; the sink learns it by a head with status 416. */
static void give_size(struct attempt *attempt) {
    struct content_range range;
    struct error unwanted;
    if (!content_range_parse(text_of(attempt->response.content_range), &range) || !range.has_total)
        return;
    const struct upstream_head head = {.status = 416, .has_total = true, .total = range.total};
    give_head(attempt, &head, &unwanted);
}

/* What a pause is for: the method, the kind of thing, the repository and the reference. */
static const char *name_of(const struct attempt *attempt, char name[static REQUEST_NAME_SIZE]) {
    const struct upstream_request *request = attempt->request;
    snprintf(name, REQUEST_NAME_SIZE, "%s %d %s %s", request->head_only ? "HEAD" : "GET",
             (int)request->what, request->repository,
             request->what != UPSTREAM_TAGS && request->reference ? request->reference : "");
    return name;
}

/* Judges the response at the end of a chain: true when it went to the sink. */
static bool judge(struct attempt *attempt, const struct authorization *sent, struct error *error) {
    const struct client_response *response = &attempt->response.http;
    char name[REQUEST_NAME_SIZE];
    if (attempt->head_given) {
        if (!attempt->request->insists)
            pauses_end(location_of(attempt)->pauses, name_of(attempt, name));
        return true;
    }
    const struct refusal refusal = {
        .status = response->status,
        .retry_after_s = response->retry_after_s,
        .body = response->body.bytes,
        .body_length = response->body.length,
        .anonymous = sent->anonymous,
        .elsewhere = attempt->redirected && !attempt->may_authorize,
        .credentials_from = sent->from,
        .host = location_of(attempt)->credential_host,
        .api_version = attempt->response.api_version,
    };
    upstream_response_error(&refusal, error);
    error->reached = attempt->redirected;
    if (attempt->request->insists && error->kind == ERROR_RATE_LIMITED && !error->retry_after_s)
        error->retry_after_s = 1;
    if (!attempt->request->insists)
        location_refused(location_of(attempt), name_of(attempt, name), error);
    if (error->kind == ERROR_RANGE && !attempt->range[0]) { /* nobody asked for a range */
        error->kind = ERROR_UNAVAILABLE;
        error->lasting = true;
    }
    if (error->kind == ERROR_RANGE)
        give_size(attempt);
    return false;
}

bool attempt_check_pause(const struct attempt *attempt, struct error *error) {
    char name[REQUEST_NAME_SIZE];
    return attempt->request->insists ||
           location_check_pause(location_of(attempt), name_of(attempt, name), error);
}

/* ---- the Authorization ---- */

static bool authorize(struct attempt *attempt, const struct authorization_need *need,
                      struct authorization *out, struct error *error) {
    return authorizer_get(attempt->authorizer, need, out, error);
}

/* ---- redirects ---- */

/* A blob is checked by its digest. What a tag or a list says is checked by nothing, and must not
 * come over a connection that others can write to. */
static bool check_downgrade(const struct attempt *attempt, const char *from, const char *to,
                            struct error *error) {
    bool by_digest = attempt->request->what == UPSTREAM_BLOB;
    if (by_digest || strncmp(from, "https:", 6) != 0 || strncmp(to, "https:", 6) == 0)
        return true;
    return error_set(error, ERROR_DENIED, "a redirect from https to http");
}

/* Where the response leads; the caller's to free(). NULL: nowhere that may be asked. */
static char *next_url(const struct attempt *attempt, const char *from, struct error *error) {
    const struct upstream_response *response = &attempt->response;
    if (response->location[0] == '\0') {
        error_set(error, ERROR_UNAVAILABLE,
                  "a redirect (%d) without a Location of at most %d bytes", response->http.status,
                  URL_LIMIT);
        error->lasting = true;
        return NULL;
    }
    cleanup_free char *next = redirect_resolve(from, response->location, error);
    error->lasting = !next;
    return next && check_downgrade(attempt, from, next, error) ? take(next) : NULL;
}

static struct address_rule addresses_of(const struct location *location,
                                        const struct origin *origin) {
    return origin_equal(&location->origin, origin) ? location_addresses_own(location)
                                                   : location_addresses_redirect(location, origin);
}

/* The repository that a URL of the distribution API names; else the request's. */
static char *repository_of(const struct attempt *attempt, const char *url) {
    static const char *const ends[] = {"/manifests/", "/blobs/", "/referrers/", "/tags/list"};
    const char *path = strstr(url, "://");
    path = path ? strchr(path + 3, '/') : NULL;
    const char *query = path ? path + strcspn(path, "?#") : NULL;
    for (size_t i = 0; path && strncmp(path, "/v2/", 4) == 0 && i < sizeof ends / sizeof *ends;
         i++) {
        const char *end = strstr(path + 4, ends[i]);
        if (end && end > path + 4 && end < query)
            return strndup(path + 4, (size_t)(end - path - 4));
    }
    return strdup(attempt->request->repository);
}

/* The Authorization that answers the 401 of a redirect's target: at the registry's own origin with
 * the registry's credentials, elsewhere without any. */
static bool authorize_target(struct attempt *attempt, const char *url,
                             const struct authorization_need *need, struct authorization *out,
                             struct error *error) {
    const struct challenge challenge = attempt->response.challenge;
    authorization_wipe(out);
    if (!attempt->may_authorize) {
        bool ok = authorizer_get_elsewhere(attempt->authorizer, url, &challenge, need, out, error);
        return ok;
    }
    authorizer_challenged(attempt->authorizer, need->repository, &challenge);
    return authorize(attempt, need, out, error);
}

/* Asks the target of a redirect, and once or twice more if its 401 can be answered. */
static bool ask_elsewhere(struct attempt *attempt, const char *url,
                          const struct address_rule *addresses, struct authorization *sent,
                          struct error *error) {
    cleanup_free char *repository = repository_of(attempt, url), *refused = NULL;
    struct authorization_need need = {.repository = repository,
                                      .effort = TOKEN_HELD,
                                      .deadline_ms = attempt->deadline_ms,
                                      .insists = attempt->request->insists,
                                      .cancel = &attempt->cancel};
    if (!repository)
        return error_set(error, ERROR_MEMORY, "out of memory");
    for (unsigned challenges = 0;; challenges++) {
        if (!transfer(attempt, url, sent->header, addresses, error))
            return false;
        enum challenge_scheme wanted = attempt->response.challenge.scheme;
        bool answerable =
            wanted == CHALLENGE_BEARER || (wanted == CHALLENGE_BASIC && attempt->may_authorize);
        if (attempt->response.http.status != 401 || !answerable || challenges == TARGET_CHALLENGES)
            return true;
        /* A token that was fetched for this very request, and refused, is not fetched again. */
        if (challenges && sent->fresh)
            return true;
        free(refused);
        refused = sent->header ? strdup(sent->header) : NULL;
        need.refused = refused;
        need.effort = challenges ? TOKEN_NEW : TOKEN_HELD;
        if (!authorize_target(attempt, url, &need, sent, error))
            return false;
    }
}

/* Says how to allow a redirect to an address that was refused. */
static void add_hint(const struct origin *origin, struct error *error) {
    char host[ORIGIN_HOST_SIZE];
    size_t length = strlen(error->text);
    snprintf(error->text + length, sizeof error->text - length,
             " (if it is right, add it to the upstream's settings: redirect_hosts: [\"%s\"])",
             origin_host(origin, host));
}

/* Follows the redirects that the registry's response began. `sent` is then what the last request
 * carried. */
static bool follow_redirects(struct attempt *attempt, struct authorization *sent,
                             struct error *error) {
    const struct location *location = location_of(attempt);
    cleanup_free char *url = NULL;
    attempt->may_authorize = true;
    for (unsigned hops = 0; is_redirect(attempt->response.http.status); hops++) {
        struct origin origin = {0};
        if (hops == REDIRECT_LIMIT) {
            error_set(error, ERROR_UNAVAILABLE, "more than %d redirects", REDIRECT_LIMIT);
            error->lasting = true;
            return false;
        }
        char *next = next_url(attempt, url ? url : attempt->registry_url, error);
        if (!next)
            return false;
        free(url);
        url = next;
        attempt->redirected = true;
        /* Once the chain has left the registry's origin the Authorization is not sent again, even
         * when the chain leads back. */
        attempt->may_authorize =
            attempt->may_authorize && redirect_keeps_authorization(&location->origin, url);
        origin_parse(url, &origin);
        if (!attempt->may_authorize) {
            authorization_wipe(sent);
            sent->anonymous = true;
        }
        struct address_rule addresses = addresses_of(location, &origin);
        if (!ask_elsewhere(attempt, url, &addresses, sent, error)) {
            if (error->reason == ERROR_REASON_ADDRESS)
                add_hint(&origin, error);
            return error_wrap(error, "redirected to %s", origin.host);
        }
    }
    return true;
}

/* ---- the registry: challenge, token, redirects ---- */

/* How to go on after a 401. False: the 401 is final. */
static bool try_harder(const struct attempt *attempt, const struct authorization *sent,
                       bool scope_changed, enum token_effort *effort) {
    enum challenge_scheme wanted = attempt->response.challenge.scheme;
    if (wanted == CHALLENGE_NONE)
        return false;
    if (scope_changed || sent->scheme != wanted)
        return true; /* now it is known what the registry wants */
    /* A registry that refuses HEAD alone must not cost the token that its GET accepts. */
    if (attempt->request->head_only && sent->header)
        return false;
    if (wanted == CHALLENGE_BEARER && *effort == TOKEN_HELD && !sent->fresh) {
        *effort = TOKEN_NEW;
        return true;
    }
    bool done = *effort == TOKEN_NEW_CREDENTIAL || (sent->fresh && sent->anonymous);
    *effort = TOKEN_NEW_CREDENTIAL;
    return !done;
}

/* Whether to ask *again with another Authorization. False: the refusal of a request without
 * credentials proves nothing, as the error says. */
static bool go_on(struct attempt *attempt, const struct authorization *sent,
                  struct authorization_need *need, bool *again, struct error *error) {
    int status = attempt->response.http.status;
    *again = false;
    if (status == 401) {
        bool changed = authorizer_challenged(attempt->authorizer, need->repository,
                                             &attempt->response.challenge);
        *again = try_harder(attempt, sent, changed, &need->effort);
        attempt->renewed = attempt->renewed || (*again && sent->header);
    }
    bool refused = status == 401 || status == 403;
    if (*again || !refused || !sent->anonymous || sent->scheme == CHALLENGE_NONE)
        return true;
    enum second_look look = location_look_again(location_of(attempt), need->repository, status,
                                                attempt->deadline_ms, error);
    need->effort = TOKEN_NEW_CREDENTIAL;
    *again = look == LOOK_FOUND;
    return look != LOOK_FAILED;
}

/* Asks the registry until it responds with something else than a refusal that can be answered. */
static bool ask_with_authorization(struct attempt *attempt, struct authorization *sent,
                                   struct error *error) {
    const struct address_rule addresses = location_addresses_own(location_of(attempt));
    cleanup_free char *refused = NULL;
    struct authorization_need need = {
        .repository = attempt->request->repository,
        .effort = TOKEN_HELD,
        .deadline_ms = attempt->deadline_ms,
        .insists = attempt->request->insists,
        .cancel = &attempt->cancel,
    };
    for (unsigned challenges = 0;; challenges++) {
        bool again;
        if (!authorize(attempt, &need, sent, error) ||
            !transfer(attempt, attempt->registry_url, sent->header, &addresses, error) ||
            !go_on(attempt, sent, &need, &again, error))
            return false;
        if (!again || challenges == CHALLENGES_LIMIT)
            return true;
        free(refused);
        refused = sent->header ? strdup(sent->header) : NULL;
        need.refused = refused;
        authorization_wipe(sent);
    }
}

static bool ask_registry(struct attempt *attempt, struct error *error) {
    cleanup_authorization struct authorization sent = {0};
    attempt->redirected = false;
    if (!attempt_check_pause(attempt, error) || !ask_with_authorization(attempt, &sent, error))
        return false;
    if (!follow_redirects(attempt, &sent, error)) {
        error->reached = true;
        return false;
    }
    return judge(attempt, &sent, error);
}

/* ---- a target known from an earlier redirect ---- */

bool attempt_has_target(const struct attempt *attempt) {
    const struct upstream_target *target = attempt->request->target;
    return target && target->url && target->location == attempt->request->location &&
           attempt->request->what == UPSTREAM_BLOB && !attempt->request->head_only;
}

/* True: the chain ends here, with *ok. False: the target no longer serves, because it expired or
 * its host is gone; it is dropped, and the registry is to be asked. */
static bool ask_target(struct attempt *attempt, bool *ok, struct error *error) {
    struct upstream_target *target = attempt->request->target;
    cleanup_free char *url = strdup(target->url);
    const struct authorization nothing = {0};
    struct origin origin;
    *ok = false;
    attempt->redirected = false;
    if (url && origin_parse(url, &origin)) {
        struct address_rule addresses = addresses_of(location_of(attempt), &origin);
        *ok = transfer(attempt, url, NULL, &addresses, error);
        int status = attempt->response.http.status;
        if (attempt->head_given)
            return true;
        if (*ok && (status == 416 || status == 429)) {
            *ok = judge(attempt, &nothing, error);
            return true;
        }
    }
    upstream_target_finish(target);
    return false;
}

bool attempt_run(struct attempt *attempt, struct error *error) {
    bool ok;
    attempt->contact = CONTACT_NONE;
    if (attempt_has_target(attempt) && ask_target(attempt, &ok, error))
        return ok;
    return ask_registry(attempt, error);
}
