/* Asks a token service for a token, with the location's credential or without any. */
#include "upstream/token_fetch.h"

#include <stdio.h>
#include <string.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/metric.h"
#include "base/secret.h"
#include "client/request.h"
#include "upstream/counts.h"
#include "upstream/credential.h"
#include "upstream/health.h"
#include "upstream/realm.h"
#include "upstream/response.h"

enum {
    LIFE_S = 60,          /* of a token whose life is not said (Docker's token spec) */
    LIFE_LIMIT_S = 86400, /* tarn asks for a new token after this time at the latest */
    /* A token is no longer used this long before its end, or a tenth of its life if that is less.
     */
    MARGIN_LIMIT_MS = 30000,
    TOKEN_LIMIT = 32 * 1024, /* bytes */
    REQUEST_NAME_SIZE = 1100,
    RESPONSE_TIMEOUT_MS = 15000, /* or the time that is left, if that is less */
};

/* ---- the response ---- */

static const char *token_member(const json_t *root) {
    const char *token = json_string_value(json_object_get(root, "token"));
    if (!token || !*token)
        token = json_string_value(json_object_get(root, "access_token"));
    if (!token || !*token || strlen(token) > TOKEN_LIMIT)
        return NULL;
    for (const char *c = token; *c; c++) { /* it becomes part of a header */
        if (*c <= ' ' || *c >= 0x7f)
            return NULL;
    }
    return token;
}

bool token_read(const void *bytes, size_t length, char **value, int64_t *life_s,
                struct error *error) {
    cleanup_json json_t *root = bounded_json_load(bytes, length, NULL);
    const char *token = root ? token_member(root) : NULL;
    if (!token)
        return error_set(error, ERROR_UNAVAILABLE, "the response has no usable \"token\"");
    const json_t *expires = json_object_get(root, "expires_in");
    double life = json_is_number(expires) ? json_number_value(expires) : LIFE_S;
    if (!(life >= 1)) /* also true of NaN */
        life = LIFE_S;
    *life_s = life > LIFE_LIMIT_S ? LIFE_LIMIT_S : (int64_t)life;
    *value = strdup(token);
    return *value || error_set(error, ERROR_MEMORY, "out of memory");
}

static int64_t usable_until(int64_t asked_ms, int64_t life_s, const struct credential *credential) {
    int64_t life_ms = life_s * 1000;
    int64_t margin = life_ms / 10 < MARGIN_LIMIT_MS ? life_ms / 10 : MARGIN_LIMIT_MS;
    int64_t until = asked_ms + life_ms - margin;
    if (credential->expires_ms && credential->expires_ms < until)
        until = credential->expires_ms; /* a token ends with its credential */
    return until;
}

/* ---- the request ---- */

/* One question to the token service, on the caller's stack. */
struct realm_question {
    struct location *location;
    const struct token_wish *wish;
    struct address_rule addresses; /* which may be connected to */
};

/* ':' and '/' are easier to read in logs. */
static void append_escaped(struct buffer *out, const char *value) {
    buffer_append_percent(out, value, ":/");
}

/* What belongs into the body of an identity token's request, where a list of scopes is one value
 * (RFC 6749 §3.3), or into the query, where each scope has a parameter (Docker's token spec). */
static void append_question(struct buffer *out, const struct realm_question *question,
                            bool is_query) {
    const struct challenge *challenge = question->wish->challenge;
    buffer_append_string(out, "service=");
    append_escaped(out, challenge->service[0] ? challenge->service : question->location->service);
    buffer_append_string(out, "&scope=");
    for (const char *at = question->wish->scope; *at; at += *at == ' ') {
        char one[sizeof challenge->scope];
        size_t length = is_query ? strcspn(at, " ") : strlen(at);
        text_copy((struct text){at, length}, one, sizeof one);
        append_escaped(out, one);
        at += length;
        if (*at && at[1])
            buffer_append_string(out, "&scope=");
    }
}

/* GET REALM?service=&scope= with Basic, or without a credential. */
static bool ask_with_get(const struct realm_question *question, struct client_request request,
                         const struct credential *credential, struct client_response *response,
                         struct error *error) {
    const char *realm = question->wish->challenge->realm;
    cleanup_buffer struct buffer url = {0};
    cleanup_secret char *header = NULL;
    buffer_printf(&url, "%.*s%c", (int)strcspn(realm, "#"), realm, strchr(realm, '?') ? '&' : '?');
    append_question(&url, question, true);
    if (credential->kind == CREDENTIAL_BASIC)
        header = credential_basic_header(credential);
    if (url.failed || (credential->kind == CREDENTIAL_BASIC && !header))
        return error_set(error, ERROR_MEMORY, "out of memory");
    request.method = "GET";
    request.url = url.bytes;
    request.headers = (const char *const[]){header, NULL};
    return client_request(question->location->client, &request, response, error);
}

/* POST grant_type=refresh_token (Docker's "Token Authentication: OAuth2"). */
static bool ask_with_post(const struct realm_question *question, struct client_request request,
                          const struct credential *credential, struct client_response *response,
                          struct error *error) {
    cleanup_secret_buffer struct buffer body = {0};
    buffer_reserve(&body, 3 * strlen(credential->secret) + 4096);
    buffer_append_string(&body, "grant_type=refresh_token&client_id=tarn&");
    append_question(&body, question, false);
    buffer_append_string(&body, "&refresh_token=");
    append_escaped(&body, credential->secret);
    if (body.failed)
        return error_set(error, ERROR_MEMORY, "out of memory");
    request.method = "POST";
    request.url = question->wish->challenge->realm;
    request.headers =
        (const char *const[]){"Content-Type: application/x-www-form-urlencoded", NULL};
    request.body = (struct client_body){.bytes = body.bytes, .length = body.length};
    return client_request(question->location->client, &request, response, error);
}

static bool is_googles(const struct location *location) {
    return realm_host_is_google(location->credential_host) ||
           realm_host_is_google(location->origin.host) ||
           strcmp(credential_source_name(location->credentials), "google") == 0;
}

/* Says why the realm is not asked, and what would change that. */
static bool refuse_realm(const struct location *location, const char *realm,
                         const struct origin *origin, enum realm_verdict verdict,
                         struct error *error) {
    char host[ORIGIN_HOST_SIZE];
    int length = (int)strcspn(realm, "?#");
    origin_host(origin, host);
    if (verdict == REALM_IN_CLEAR)
        return error_set(
            error, ERROR_DENIED,
            "its token service %.*s is http:// while %s is https://: not asked, because "
            "tokens would travel in clear (let the registry name an https:// realm; or "
            "accept that with token_hosts: [\"%s%s\"])",
            length, realm, location->service, host, origin->port == 80 ? ":80" : "");
    return error_set(error, ERROR_DENIED,
                     is_googles(location)
                         ? "its token service %.*s is not at %s itself, and a Google registry's "
                           "must be (token_hosts does not change that)"
                         : "its token service %.*s is on a host that does not belong to %s: "
                           "not asked (if it is right, add it to token_hosts)",
                     length, realm, location->service);
}

/* Whether the realm may be asked, and which addresses may be connected to for that. */
static bool check_realm(const struct location *location, const char *realm,
                        struct address_rule *addresses, struct error *error) {
    const struct realm_rule rule = {
        .upstream = location->origin,
        .token_hosts = location->settings->token_hosts,
        .own_only = is_googles(location),
    };
    struct origin origin;
    if (!origin_parse(realm, &origin))
        return error_set(error, ERROR_DENIED,
                         "its token service \"%.200s\" is not an http or https URL", realm);
    enum realm_verdict verdict = realm_judge(&rule, &origin);
    *addresses = verdict == REALM_OWN ? location_addresses_own(location)
                                      : location_addresses_elsewhere(location, origin.host);
    if (verdict == REALM_LISTED) {
        addresses->allow_private = addresses->allow_loopback = true;
        addresses->allow_link_local |= address_classify_host(origin.host) == ADDRESS_LINK_LOCAL;
    }
    return (verdict != REALM_REFUSED && verdict != REALM_IN_CLEAR) ||
           refuse_realm(location, realm, &origin, verdict, error);
}

static bool ask_once(const struct realm_question *question, const struct credential *credential,
                     struct client_response *response, struct error *error) {
    const struct upstream_settings *settings = question->location->settings;
    int64_t left_ms = question->wish->deadline_ms - clock_ms();
    if (left_ms <= 0)
        return error_set(error, ERROR_TIMEOUT, "no time left to ask for a token");
    const struct client_request request = {
        .cancel = question->wish->cancel,
        .ca_file = settings->ca_file,
        .connect_timeout_ms = settings->connect_timeout_ms,
        .total_timeout_ms = left_ms < RESPONSE_TIMEOUT_MS ? left_ms : RESPONSE_TIMEOUT_MS,
        .addresses = &question->addresses,
    };
    const struct health_server server =
        health_token_service(question->location, question->wish->challenge->realm);
    struct breaker_pass pass;
    if (!health_enter(&server, question->wish->insists, &pass, error))
        return false;
    struct counts *counts = question->location->counts;
    metric_add(counts->token_requests, 1);
    bool ok = credential->kind == CREDENTIAL_IDENTITY_TOKEN
                  ? ask_with_post(question, request, credential, response, error)
                  : ask_with_get(question, request, credential, response, error);
    health_leave(&server, &pass, ok ? CONTACT_RESPONDED : CONTACT_ASKED, ok ? NULL : error);
    if (!ok || response->status != 200)
        metric_add(counts->token_errors, 1);
    return ok;
}

/* What a pause of the token service is for. */
static const char *name_of(const struct token_wish *wish, char name[static REQUEST_NAME_SIZE]) {
    snprintf(name, REQUEST_NAME_SIZE, "token %s", wish->scope);
    return name;
}

/* Makes an error of the token service's refusal. */
static bool refuse(const struct client_response *response, const struct credential *credential,
                   const struct location *location, struct error *error) {
    upstream_response_error(
        &(struct refusal){
            .status = response->status,
            .retry_after_s = response->retry_after_s,
            .body = response->body.bytes,
            .body_length = response->body.length,
            .anonymous = credential->kind == CREDENTIAL_ANONYMOUS,
            .elsewhere = location->led_from != NULL,
            .credentials_from = credential->from,
            .host = location->led_from ? location->led_from->credential_host
                                       : location->credential_host,
        },
        error);
    error->status = 0;                    /* the registry's would go here */
    if (error->kind == ERROR_NOT_FOUND) { /* the token service is missing, not the image */
        error->kind = ERROR_UNAVAILABLE;
        error->lasting = true;
    }
    return false;
}

/* Takes the token out of a response of any status. */
static bool take_token(const struct realm_question *question,
                       const struct client_response *response, const struct credential *credential,
                       int64_t asked_ms, struct fetched_token *out, struct error *error) {
    int64_t life_s = LIFE_S;
    char name[REQUEST_NAME_SIZE];
    bool ok = response->status == 200 ? token_read(response->body.bytes, response->body.length,
                                                   &out->value, &life_s, error)
                                      : refuse(response, credential, question->location, error);
    const char *realm = question->wish->challenge->realm;
    if (!ok && response->status != 200)
        location_refused(question->location, name_of(question->wish, name), error);
    if (!ok)
        return error_wrap(error, "token from %.*s", (int)strcspn(realm, "?#"), realm);
    pauses_end(question->location->pauses, name_of(question->wish, name));
    out->expires_ms = usable_until(asked_ms, life_s, credential);
    counts_token(question->location->counts, out->expires_ms);
    out->anonymous = credential->kind == CREDENTIAL_ANONYMOUS;
    memcpy(out->from, credential->from, sizeof out->from);
    return true;
}

/* Whether to ask *again, because there is another credential than the one that was refused. False:
 * the refusal proves nothing, as the error says. */
static bool check_credential(const struct realm_question *question,
                             const struct credential *credential, int status, bool renewed,
                             bool *again, struct error *error) {
    *again = false;
    if (status != 401 && status != 403)
        return true;
    if (credential->kind == CREDENTIAL_ANONYMOUS) {
        enum second_look look = location_look_again(question->location, question->wish->repository,
                                                    status, question->wish->deadline_ms, error);
        *again = look == LOOK_FOUND;
        return look != LOOK_FAILED;
    }
    /* The credential held may have been changed since: look at it once more. */
    *again = status == 401 && !renewed;
    return true;
}

bool token_fetch(struct location *location, const struct token_wish *wish,
                 struct fetched_token *out, struct error *error) {
    struct realm_question question = {.location = location, .wish = wish};
    *out = (struct fetched_token){0};
    char name[REQUEST_NAME_SIZE];
    if (!check_realm(location, wish->challenge->realm, &question.addresses, error))
        return false;
    if (!location_check_pause(location, name_of(wish, name), error))
        return error_wrap(error, "token");
    for (bool renew = wish->renew;; renew = true) {
        cleanup_credential struct credential credential = {0};
        cleanup_client_response struct client_response response = {0};
        if (!location_credential(location, wish->repository, renew, wish->deadline_ms, &credential,
                                 error))
            return false;
        int64_t asked_ms = clock_ms();
        bool again = false;
        if (!ask_once(&question, &credential, &response, error) ||
            !check_credential(&question, &credential, response.status, renew, &again, error))
            return error_wrap(error, "token");
        if (!again)
            return take_token(&question, &response, &credential, asked_ms, out, error);
    }
}
