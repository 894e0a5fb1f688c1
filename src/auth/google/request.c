/* One request to a token service: its retries, and what its refusals say without any secret. */
#include "auth/google/request.h"

#include <stdio.h>
#include <string.h>
#include "auth/google/token_response.h"
#include "auth/shown.h"
#include "base/base64.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/secret.h"
#include "client/retry.h"

enum {
    RETRY_AFTER_LIMIT_S = 5, /* after a longer pause the client would have given up */
    ALL_ATTEMPTS_MS = 15000, /* no attempt starts later, because clients leave after 30 s */
    CONNECT_TIMEOUT_MS = 4000,
    TOTAL_TIMEOUT_MS = 8000,
    WORDS_LIMIT = 300, /* bytes of the service's own text in an error */
};

/* ---- what a refusal says ---- */

/* Anything that begins like a token of Google (ya29.) or a JWT (eyJ) counts as a token. */
static void black_out_tokens(char *text) {
    static const char *const starts[] = {"ya29.", "eyJ"};
    static const char token[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-~+/=%";
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        for (char *at = text; (at = strstr(at, starts[i]));) {
            size_t length = strspn(at, token);
            memset(at, '*', length);
            at += length;
        }
    }
}

static void hide_secrets(char *text, const struct google_request *request) {
    for (size_t i = 0; i < GOOGLE_REQUEST_SECRETS_LIMIT && request->secrets[i]; i++) {
        cleanup_secret_buffer struct buffer encoded = {0};
        shown_black_out(text, request->secrets[i]);
        google_form_append(&encoded, "", request->secrets[i]); /* also as the form encodes it */
        if (!encoded.failed)
            shown_black_out(text, encoded.bytes + 1);
    }
    black_out_tokens(text);
}

static const char *string_in(const json_t *object, const char *key) {
    return json_string_value(json_object_get(object, key));
}

/* Reads the service's own text: in OAuth's form (RFC 6749 §5.2), in that of Google's APIs, or
 * plain.
 */
static void read_words(const struct client_response *response, struct buffer *words) {
    cleanup_secret_json json_t *json =
        bounded_json_load(response->body.bytes, response->body.length, NULL);
    const json_t *problem = json_object_get(json, "error");
    if (json_is_string(problem)) {
        const char *description = string_in(json, "error_description");
        const char *subtype = string_in(json, "error_subtype");
        buffer_append_string(words, json_string_value(problem));
        if (subtype)
            buffer_printf(words, " (%s)", subtype);
        if (description)
            buffer_printf(words, ": %s", description);
    } else if (json_is_object(problem)) {
        const char *status = string_in(problem, "status"), *message = string_in(problem, "message");
        buffer_printf(words, "%s%s%s", status ? status : "", status && message ? ": " : "",
                      message ? message : "");
    } else if (!json && response->body.length && response->body.bytes[0] != '<' &&
               !memchr(response->body.bytes, '\0', response->body.length)) {
        buffer_append(words, response->body.bytes, response->body.length);
    }
}

static const char *hint_for(const char *words) {
    static const struct {
        const char *words, *hint;
    } hints[] = {
        {"invalid_rapt", "log in again: gcloud auth application-default login"},
        {"rapt_required", "log in again: gcloud auth application-default login"},
        {"expired or revoked", "log in again: gcloud auth application-default login"},
        {"reasonable timeframe", "check this machine's clock"},
        {"stale to sign-in", "the subject token is too old: check what renews it, and the clock"},
        {"Invalid JWT Signature", "the key was deleted or is not this account's"},
        {"account not found", "the service account was deleted"},
        {"iam.serviceAccounts.getAccessToken",
         "grant roles/iam.workloadIdentityUser to a federated identity, or "
         "roles/iam.serviceAccountTokenCreator to another account"},
        {"ACCESS_TOKEN_SCOPE_INSUFFICIENT", "the source's token lacks the scope cloud-platform"},
        {"invalid_target", "the pool or provider named by audience is missing or disabled"},
    };
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++) {
        if (strstr(words, hints[i].words))
            return hints[i].hint;
    }
    return NULL;
}

static bool refuse(const struct google_request *request, const struct client_response *response,
                   struct error *error) {
    cleanup_secret_buffer struct buffer words = {0};
    read_words(response, &words);
    const char *hint = NULL;
    if (words.failed)
        buffer_clear(&words);
    if (words.length) {
        hide_secrets(words.bytes, request);
        hint = hint_for(words.bytes);
        while (words.length && (unsigned char)words.bytes[words.length - 1] <= ' ')
            words.bytes[--words.length] = '\0';
    }
    int length = (int)(words.length > WORDS_LIMIT ? WORDS_LIMIT : words.length);
    int url_length = (int)strcspn(request->http.url, "?#");
    enum error_kind kind = response->status == 404                              ? ERROR_NOT_FOUND
                           : response->status == 429                            ? ERROR_RATE_LIMITED
                           : response->status >= 500 || response->status == 408 ? ERROR_UNAVAILABLE
                                                                                : ERROR_DENIED;
    return error_set(error, kind, "%s %.*s: status %d%s%.*s%s%s%s", request->http.method,
                     url_length, request->http.url, response->status, length ? ": " : "", length,
                     length ? words.bytes : "", hint ? " (" : "", hint ? hint : "",
                     hint ? ")" : "");
}

/* ---- attempts ---- */

/* Whether the response is one of the three OAuth errors that mean "later". */
static bool says_later(const struct client_response *response) {
    static const char *const later[] = {"internal_failure", "server_error",
                                        "temporarily_unavailable"};
    cleanup_secret_json json_t *json =
        bounded_json_load(response->body.bytes, response->body.length, NULL);
    const char *said[] = {string_in(json, "error"), string_in(json, "error_description")};
    for (size_t i = 0; i < sizeof later / sizeof *later; i++) {
        if ((said[0] && strcmp(said[0], later[i]) == 0) ||
            (said[1] && strcmp(said[1], later[i]) == 0))
            return true;
    }
    return false;
}

static bool is_worth_another(const struct client_response *response) {
    return response->status == 408 || response->status == 429 || response->status >= 500 ||
           says_later(response);
}

/* Waits before the next attempt, if there is to be one. */
static bool may_try_again(const struct google_request *request, unsigned attempts, bool passing,
                          int after_s, int64_t began_ms) {
    if (!passing || attempts >= request->attempts)
        return false;
    int64_t wait_ms =
        retry_wait_ms(attempts, after_s < RETRY_AFTER_LIMIT_S ? after_s : RETRY_AFTER_LIMIT_S,
                      clock_ms(), began_ms + ALL_ATTEMPTS_MS);
    if (wait_ms >= 0)
        clock_sleep_ms(wait_ms);
    return wait_ms >= 0;
}

bool google_request_perform(const struct google_request *request, struct client_response *response,
                            struct error *error) {
    struct client_request http = request->http;
    int64_t began_ms = clock_ms();
    if (!http.connect_timeout_ms)
        http.connect_timeout_ms = CONNECT_TIMEOUT_MS;
    if (!http.total_timeout_ms)
        http.total_timeout_ms = TOTAL_TIMEOUT_MS;
    for (unsigned attempts = 1;; attempts++) {
        struct error reason = {0};
        bool answered = client_request(request->client, &http, response, &reason);
        if (answered && response->status == 200)
            return true;
        bool passing = answered
                           ? is_worth_another(response)
                           : retry_decide(retry_classify(&reason), PHASE_REQUEST, 0) == RETRY_LATER;
        if (may_try_again(request, attempts, passing, answered ? response->retry_after_s : 0,
                          began_ms)) {
            client_response_wipe(response);
            continue;
        }
        if (answered)
            refuse(request, response, &reason);
        if (error)
            *error = reason;
        return false;
    }
}

/* ---- forms ---- */

void google_form_append(struct buffer *form, const char *key, const char *value) {
    if (form->length)
        buffer_append_string(form, "&");
    buffer_append_string(form, key);
    buffer_append_string(form, "=");
    buffer_append_percent(form, value, "");
}

bool google_client_header(const char *id, const char *secret, struct buffer *header) {
    cleanup_secret_buffer struct buffer pair = {0};
    size_t length = strlen(id) + strlen(secret);
    buffer_reserve(&pair, length + 8);
    buffer_reserve(header, 2 * length + 64);
    buffer_printf(&pair, "%s:%s", id, secret);
    cleanup_secret char *encoded = pair.failed ? NULL : base64_encode(pair.bytes, pair.length);
    return encoded && buffer_printf(header, "Authorization: Basic %s", encoded);
}

bool google_token_post(const struct token_question *question, struct google_token *out,
                       struct error *error) {
    const struct buffer *form = question->form;
    const char *const headers[] = {"Content-Type: application/x-www-form-urlencoded",
                                   "Accept: application/json", question->header, NULL};
    if (form->failed)
        return error_set(error, ERROR_MEMORY, "out of memory");
    struct google_request request = {
        .client = question->client,
        .http = {.method = "POST",
                 .url = question->url,
                 .headers = headers,
                 .body = {.bytes = form->bytes, .length = form->length}},
        .attempts = GOOGLE_REQUEST_ATTEMPTS,
    };
    for (unsigned i = 0; i < GOOGLE_REQUEST_SECRETS_LIMIT && question->secrets[i]; i++)
        request.secrets[i] = question->secrets[i];
    struct client_response response = {0};
    int64_t asked_ms = clock_ms();
    bool ok = google_request_perform(&request, &response, error);
    if (ok && !token_response_read(&response.body, asked_ms, out, error))
        ok = error_wrap(error, "token from %s", question->url);
    client_response_wipe(&response);
    return ok;
}
