/* Sends one request that writes. */
#include "upstream/write.h"

#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/trace.h"
#include "client/redirect.h"
#include "client/transfer.h"
#include "upstream/credential.h"
#include "upstream/health.h"
#include "upstream/response.h"
#include "upstream/upstream_private.h"

enum {
    CHALLENGES_LIMIT = 4, /* 401s: none, held token, new token, new credential */
    LINES = 8,            /* and two of the trace */
};

/* One request under way. */
struct writing {
    struct peer *peer;
    struct authorizer *authorizer;
    const struct write_request *request;
    struct write_response *response;
    struct lane *lane;
    int64_t deadline_ms; /* for tokens */
    enum health_contact contact;
};

void write_response_wipe(struct write_response *response) {
    client_response_wipe(&response->http);
    free(response->url);
    response->url = NULL;
}

static struct client_wanted wanted_of(struct write_response *response) {
#define FIELD(name, member)                                                                        \
    { (name), response->member, sizeof response->member, false }
    const struct client_field fields[] = {
        FIELD("Location", location),
        FIELD("Range", range),
        FIELD("Docker-Content-Digest", digest),
        FIELD("OCI-Subject", subject),
        FIELD("Docker-Upload-UUID", uuid),
        FIELD("OCI-Chunk-Min-Length", least_chunk),
        FIELD("Docker-Distribution-Api-Version", api_version),
    };
#undef FIELD
    _Static_assert(sizeof fields == sizeof response->fields, "one entry for each field");
    memcpy(response->fields, fields, sizeof fields);
    return (struct client_wanted){.fields = response->fields,
                                  .count = sizeof fields / sizeof *fields,
                                  .challenge = &response->challenge};
}

bool write_refused(const struct peer *peer, const struct write_response *response,
                   struct error *error) {
    const struct refusal refusal = {
        .status = response->http.status,
        .retry_after_s = response->http.retry_after_s,
        .body = response->http.body.bytes,
        .body_length = response->http.body.length,
        .anonymous = response->anonymous,
        .elsewhere = response->elsewhere,
        .credentials_from = response->from,
        .host = peer->authorizers[0].location.credential_host,
        .api_version = response->api_version,
    };
    return upstream_response_error(&refusal, error);
}

/* ---- one transfer ---- */

/* A request under way whose response is waited for although the request was cancelled. */
struct late {
    const struct write_request *request;
    int64_t until_ms; /* 0: it was not cancelled yet */
};

static bool is_late_wanted(void *context) {
    struct late *late = context;
    struct error unwanted;
    if (cancel_check(late->request->cancel, &unwanted))
        return true;
    if (!late->until_ms)
        late->until_ms = clock_ms() + late->request->late_ms;
    return clock_ms() < late->until_ms;
}

static bool transfer(struct writing *writing, const char *authorization, struct error *error) {
    const struct write_request *request = writing->request;
    const struct upstream_settings *settings = &writing->peer->upstream->settings;
    struct location *location = &writing->authorizer->location;
    struct client_response *response = &writing->response->http;
    const char *lines[LINES + 2 + 1] = {NULL}, *url = writing->response->url;
    struct origin origin = {0};
    struct trace_lines trace;
    size_t count = 0;
    struct late late = {.request = request};
    const struct cancel late_cancel = {.is_wanted = is_late_wanted, .context = &late};
    if (!cancel_check(request->cancel, error))
        return false;
    if (authorization)
        lines[count++] = authorization;
    for (size_t i = 0; request->fields && request->fields[i] && count < LINES; i++)
        lines[count++] = request->fields[i];
    origin_parse(url, &origin);
    bool is_own = origin_equal(&origin, &location->origin);
    if (is_own)
        count += trace_write_lines(trace_current(), &trace, &lines[count]);
    const struct address_rule addresses =
        is_own ? location_addresses_own(location) : location_addresses_redirect(location, &origin);
    const struct client_request sent = {
        .method = request->method,
        .url = url,
        .headers = lines,
        .body = request->body,
        .wanted = wanted_of(writing->response),
        .ca_file = settings->ca_file,
        .addresses = &addresses,
        .connect_timeout_ms = settings->connect_timeout_ms,
        .stall_timeout_ms = settings->stall_timeout_ms < request->answer_ms
                                ? settings->stall_timeout_ms
                                : request->answer_ms,
        .total_timeout_ms = request->answer_ms,
        .body_limit = REFUSAL_BODY_LIMIT,
        .asks_once = true,
        /* Whoever sends a stream asks first how much of it has come. */
        .once = request->body.source != NULL,
        .bounds_body = !request->body.source,
        .cancel = request->late_ms ? &late_cancel : request->cancel,
    };
    if (is_own && writing->contact == CONTACT_NONE)
        writing->contact = CONTACT_ASKED;
    int64_t asked_us = clock_us();
    bool ok = transfer_run(writing->lane, &sent, NULL, response, error);
    if (late.until_ms && !ok) /* the reason is what cancelled the request */
        cancel_check(request->cancel, error);
    struct counts *counts = &writing->peer->upstream->counts;
    counts_response(counts, response->status, clock_us() - asked_us);
    if (response->status)
        atomic_store(&writing->peer->answered, true);
    if (response->status && is_own)
        writing->contact = CONTACT_RESPONDED;
    if (response->has_address && is_own)
        location_responded(location, response->address);
    /* When a refusal's body breaks off, or is too long, its status is enough. */
    return ok || response->status / 100 > 2;
}

/* ---- the Authorization ---- */

/* How to go on after a 401. False: it is final. */
static bool try_harder(const struct writing *writing, const struct authorization *sent,
                       bool scope_changed, enum token_effort *effort) {
    enum challenge_scheme wanted = writing->response->challenge.scheme;
    if (wanted == CHALLENGE_NONE)
        return false;
    if (scope_changed || sent->scheme != wanted)
        return true;
    if (wanted == CHALLENGE_BEARER && *effort == TOKEN_HELD && !sent->fresh) {
        *effort = TOKEN_NEW;
        return true;
    }
    bool done = *effort == TOKEN_NEW_CREDENTIAL || (sent->fresh && sent->anonymous);
    *effort = TOKEN_NEW_CREDENTIAL;
    return !done;
}

/* Asks at the registry's own origin until the response is no 401 that can be answered. */
static bool ask_own(struct writing *writing, struct error *error) {
    const struct write_request *request = writing->request;
    struct write_response *response = writing->response;
    char *refused = NULL;
    struct authorization_need need = {.repository = request->repository,
                                      .scope = request->scope,
                                      .effort = TOKEN_HELD,
                                      .deadline_ms = writing->deadline_ms,
                                      .insists = true,
                                      .cancel = request->cancel};
    bool ok = true, again = true;
    for (unsigned challenges = 0; ok && again; challenges++) {
        cleanup_authorization struct authorization sent = {0};
        ok = authorizer_get(writing->authorizer, &need, &sent, error) &&
             transfer(writing, sent.header, error);
        response->anonymous = sent.anonymous;
        memcpy(response->from, sent.from, sizeof response->from);
        again = ok && response->http.status == 401 && challenges < CHALLENGES_LIMIT;
        if (!again)
            break;
        bool changed =
            authorizer_challenged(writing->authorizer, request->scope, &response->challenge);
        again = try_harder(writing, &sent, changed, &need.effort);
        free(refused);
        refused = sent.header ? strdup(sent.header) : NULL;
        need.refused = refused;
    }
    free(refused);
    return ok;
}

/* ---- redirects ---- */

/* Asks the URL in the response, which is the registry's own or another host's. */
static bool ask(struct writing *writing, struct error *error) {
    struct write_response *response = writing->response;
    const struct origin *own = &writing->authorizer->location.origin;
    response->elsewhere = response->elsewhere || !redirect_keeps_authorization(own, response->url);
    if (!response->elsewhere)
        return ask_own(writing, error);
    response->anonymous = true;
    response->from[0] = '\0';
    return transfer(writing, NULL, error);
}

static bool ask_and_follow(struct writing *writing, struct error *error) {
    struct write_response *response = writing->response;
    for (unsigned hops = 0;; hops++) {
        if (!ask(writing, error))
            return false;
        int status = response->http.status;
        if (status / 100 != 3)
            return true;
        if (hops == REDIRECT_LIMIT || (status != 307 && status != 308) || !response->location[0]) {
            error_set(error, ERROR_UNAVAILABLE, "a redirect (%d) that cannot be followed", status);
            error->lasting = true;
            return false;
        }
        char *next = redirect_resolve(response->url, response->location, error);
        if (!next)
            return false;
        bool in_clear = strncmp(response->url, "https:", 6) == 0 && strncmp(next, "https:", 6) != 0;
        free(response->url);
        response->url = next;
        if (in_clear)
            return error_set(error, ERROR_DENIED, "a redirect from https to http");
    }
}

static bool enter_queue(struct writing *writing, struct error *error) {
    static const atomic_bool comes_last = true;
    const struct queue_wait wait = {
        .deadline_ms = writing->deadline_ms,
        .stop = writing->request->cancel ? writing->request->cancel->stop : NULL,
        /* Bodies that come at their client's speed leave half of the
         * connections to others. */
        .background = writing->request->is_long ? &comes_last : NULL};
    return queue_enter(&writing->peer->queue, QUEUE_NAMES, &wait, error);
}

bool write_perform(struct peer *peer, const struct write_request *request,
                   struct write_response *response, struct error *error) {
    struct writing writing = {.peer = peer,
                              .authorizer = &peer->authorizers[0],
                              .request = request,
                              .response = response,
                              .deadline_ms = clock_ms() + request->answer_ms,
                              .contact = CONTACT_NONE};
    const struct health_server server = health_location(&writing.authorizer->location);
    struct breaker_pass pass;
    write_response_wipe(response);
    *response = (struct write_response){.url = strdup(request->url)};
    if (!response->url)
        return error_set(error, ERROR_MEMORY, "out of memory");
    if (!enter_queue(&writing, error))
        return false;
    writing.lane = lanes_take(&peer->lanes);
    bool ok = writing.lane != NULL || error_set(error, ERROR_MEMORY, "out of memory");
    if (ok && health_enter(&server, true, &pass, error)) {
        ok = ask_and_follow(&writing, error);
        health_leave(&server, &pass, writing.contact, ok ? NULL : error);
    } else {
        ok = false;
    }
    lanes_give(&peer->lanes, writing.lane);
    queue_leave(&peer->queue);
    return ok;
}
