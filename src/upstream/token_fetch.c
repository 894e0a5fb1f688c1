#include "upstream/token_fetch.h"

#include <stdio.h>
#include <string.h>
#include "base/base64.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/metric.h"
#include "client/request.h"
#include "oci/error_body.h"
#include "upstream/realm.h"
#include "upstream/response.h"

enum {
    LIFE_S = 60,          /* of a token that does not say (Docker's token spec) */
    LIFE_LIMIT_S = 86400, /* no token is trusted longer without asking again */
    MARGIN_LIMIT_MS =
        30000, /* a token is given up so long before its end, or a tenth of its life */
    TOKEN_LIMIT = 32 * 1024,
    REPLY_TIMEOUT_MS = 15000,
};

bool location_credential(struct location *location, bool renew, struct credential *out,
                         struct error *error) {
    *out = (struct credential){0};
    if (!location->credentials)
        return true;
    if (credential_source_get(location->credentials, location->credential_host, renew, out, error))
        return true;
    /* Not the client's fault nor upstream's verdict: our own means are broken. */
    if (error->kind != ERROR_TIMEOUT && error->kind != ERROR_MEMORY &&
        error->kind != ERROR_RATE_LIMITED)
        error->kind = ERROR_UNAVAILABLE;
    return error_wrap(error, "credentials for %s (%s)", location->credential_host,
                      credential_source_name(location->credentials));
}

/* ---- the reply ---- */

static const char *token_member(const json_t *root) {
    const char *token = json_string_value(json_object_get(root, "token"));
    if (!token || !*token)
        token = json_string_value(json_object_get(root, "access_token"));
    if (!token || !*token || strlen(token) > TOKEN_LIMIT)
        return NULL;
    for (const char *c = token; *c; c++) { /* it goes into a header */
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
        return error_set(error, ERROR_UNAVAILABLE, "a reply without a usable \"token\"");
    const json_t *expires = json_object_get(root, "expires_in");
    double life = json_is_number(expires) ? json_number_value(expires) : LIFE_S;
    if (!(life >= 1)) /* NaN, too */
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
        until = credential->expires_ms; /* no token outlives what it was made from */
    return until;
}

/* ---- the request ---- */

static void cleanup_secret(char **secret) {
    if (*secret)
        explicit_bzero(*secret, strlen(*secret));
    free(*secret);
}

#define scoped_secret __attribute__((cleanup(cleanup_secret))) char *

static void append_escaped(struct buffer *out, const char *value) {
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                "0123456789-._~:/"; /* ':' and '/' stay legible in logs */
    for (const char *c = value; *c; c++) {
        if (strchr(plain, *c))
            buffer_append(out, c, 1);
        else
            buffer_printf(out, "%%%02X", (unsigned char)*c);
    }
}

char *credential_basic_header(const struct credential *credential) {
    cleanup_buffer struct buffer pair = {0};
    buffer_printf(&pair, "%s:%s", credential->username ? credential->username : "",
                  credential->secret ? credential->secret : "");
    scoped_secret encoded = pair.failed ? NULL : base64_encode(pair.bytes, pair.length);
    char *header = NULL;
    if (encoded && asprintf(&header, "Authorization: Basic %s", encoded) < 0)
        header = NULL;
    if (pair.bytes)
        explicit_bzero(pair.bytes, pair.capacity);
    return header;
}

/* What belongs into the query, or into the body of an identity token's request. */
static void append_question(struct buffer *out, const struct challenge *challenge,
                            const char *service, const char *scope) {
    buffer_append_string(out, "service=");
    append_escaped(out, challenge->service[0] ? challenge->service : service);
    buffer_append_string(out, "&scope=");
    append_escaped(out, scope);
}

/* GET REALM?service=&scope= with Basic, or without anything. */
static bool ask_with_get(struct client *client, struct client_request request,
                         const struct challenge *challenge, const char *service, const char *scope,
                         const struct credential *credential, struct client_response *reply,
                         struct error *error) {
    cleanup_buffer struct buffer url = {0};
    scoped_secret header = NULL;
    buffer_printf(&url, "%.*s%c", (int)strcspn(challenge->realm, "#"), challenge->realm,
                  strchr(challenge->realm, '?') ? '&' : '?');
    append_question(&url, challenge, service, scope);
    if (credential->kind == CREDENTIAL_BASIC)
        header = credential_basic_header(credential);
    if (url.failed || (credential->kind == CREDENTIAL_BASIC && !header))
        return error_set(error, ERROR_MEMORY, "out of memory");
    request.method = "GET";
    request.url = url.bytes;
    request.headers = (const char *const[]){header, NULL};
    return client_request(client, &request, reply, error);
}

/* POST grant_type=refresh_token (Docker's "Token Authentication: OAuth2"). */
static bool ask_with_post(struct client *client, struct client_request request,
                          const struct challenge *challenge, const char *service, const char *scope,
                          const struct credential *credential, struct client_response *reply,
                          struct error *error) {
    cleanup_buffer struct buffer body = {0};
    buffer_append_string(&body, "grant_type=refresh_token&client_id=tarn&");
    append_question(&body, challenge, service, scope);
    buffer_append_string(&body, "&refresh_token=");
    append_escaped(&body, credential->secret);
    if (body.failed)
        return error_set(error, ERROR_MEMORY, "out of memory");
    request.method = "POST";
    request.url = challenge->realm;
    request.headers =
        (const char *const[]){"Content-Type: application/x-www-form-urlencoded", NULL};
    request.body = (struct client_body){.bytes = body.bytes, .length = body.length};
    bool ok = client_request(client, &request, reply, error);
    explicit_bzero(body.bytes, body.capacity);
    return ok;
}

/* Whether the realm may be asked, and which addresses it may be found at. */
static bool check_realm(const struct location *location, const char *realm,
                        struct address_rule *addresses, struct error *error) {
    const struct realm_rule rule = {
        .upstream = location->origin,
        .token_hosts = location->settings->token_hosts,
        .own_only = realm_host_is_google(location->credential_host) ||
                    realm_host_is_google(location->origin.host) ||
                    strcmp(credential_source_name(location->credentials), "google") == 0,
    };
    struct origin origin;
    char host[ORIGIN_HOST_SIZE];
    if (!origin_parse(realm, &origin))
        return error_set(error, ERROR_DENIED,
                         "its token service \"%.200s\" is no http or https URL", realm);
    enum realm_verdict verdict = realm_judge(&rule, &origin);
    *addresses = verdict == REALM_OWN ? location_addresses_own(location)
                                      : location_addresses_elsewhere(location, origin.host);
    if (verdict == REALM_LISTED) {
        addresses->allow_loopback = true;
        addresses->allow_link_local |= address_classify_host(origin.host) == ADDRESS_LINK_LOCAL;
    }
    if (verdict != REALM_REFUSED)
        return true;
    origin_host(&origin, host);
    return error_set(error, ERROR_DENIED,
                     rule.own_only
                         ? "its token service %.*s is not at %s itself, and a Google registry's "
                           "must be (token_hosts does not change that)"
                         : "its token service %.*s is on a host that %s has nothing to do with: "
                           "not asked (if it is right, add it to token_hosts)",
                     (int)strcspn(realm, "?#"), realm, location->service);
}

static bool ask_once(struct location *location, const struct challenge *challenge,
                     const char *scope, const struct address_rule *addresses,
                     const struct credential *credential, int64_t deadline_ms,
                     struct client_response *reply, struct error *error) {
    int64_t left = deadline_ms - clock_ms();
    if (left <= 0)
        return error_set(error, ERROR_TIMEOUT, "no time left to ask for a token");
    struct client_request request = {
        .ca_file = location->settings->ca_file,
        .connect_timeout_ms = location->settings->connect_timeout_ms,
        .total_timeout_ms = left < REPLY_TIMEOUT_MS ? left : REPLY_TIMEOUT_MS,
        .addresses = addresses,
    };
    metric_add(location->token_requests, 1);
    return credential->kind == CREDENTIAL_IDENTITY_TOKEN
               ? ask_with_post(location->client, request, challenge, location->service, scope,
                               credential, reply, error)
               : ask_with_get(location->client, request, challenge, location->service, scope,
                              credential, reply, error);
}

/* The token service's refusal as an error. */
static bool refuse(const struct client_response *reply, const struct credential *credential,
                   const char *host, bool *retry, struct error *error) {
    *retry = reply->status >= 500 || reply->status == 408;
    upstream_response_error(
        &(struct refusal){
            .status = reply->status,
            .retry_after_s = reply->retry_after_s,
            .body = reply->body.bytes,
            .body_length = reply->body.length,
            .anonymous = credential->kind == CREDENTIAL_ANONYMOUS,
            .credentials_from = credential->from,
            .host = host,
        },
        error);
    if (error->kind == ERROR_NOT_FOUND) /* the service is missing, not the image */
        error->kind = ERROR_UNAVAILABLE;
    return false;
}

bool token_fetch(struct location *location, const struct challenge *challenge, const char *scope,
                 bool renew, int64_t deadline_ms, struct fetched_token *out, bool *retry,
                 struct error *error) {
    struct address_rule addresses;
    *out = (struct fetched_token){0};
    *retry = false;
    if (!check_realm(location, challenge->realm, &addresses, error))
        return false;
    for (;; renew = true) {
        __attribute__((cleanup(credential_wipe))) struct credential credential = {0};
        cleanup_client_response struct client_response reply = {0};
        if (!location_credential(location, renew, &credential, error))
            return false;
        int64_t asked_ms = clock_ms(), life_s = LIFE_S;
        bool ok = ask_once(location, challenge, scope, &addresses, &credential, deadline_ms, &reply,
                           error);
        if (!ok) {
            *retry = error->kind == ERROR_UNAVAILABLE;
            return error_wrap(error, "token");
        }
        if (reply.status == 401 && !renew && credential.kind != CREDENTIAL_ANONYMOUS)
            continue; /* the credential held may have been changed meanwhile */
        int realm = (int)strcspn(challenge->realm, "?#");
        if (reply.status != 200) {
            refuse(&reply, &credential, location->credential_host, retry, error);
            return error_wrap(error, "token from %.*s", realm, challenge->realm);
        }
        if (!token_read(reply.body.bytes, reply.body.length, &out->value, &life_s, error))
            return error_wrap(error, "token from %.*s", realm, challenge->realm);
        out->expires_ms = usable_until(asked_ms, life_s, &credential);
        out->anonymous = credential.kind == CREDENTIAL_ANONYMOUS;
        memcpy(out->from, credential.from, sizeof out->from);
        return true;
    }
}
