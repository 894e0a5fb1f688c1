#include "auth/google/request.h"

#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "base/json.h"
#include "base/secret.h"

enum {
    FIRST_PAUSE_MS = 250,
    RETRY_AFTER_LIMIT_MS = 5000, /* longer, and whoever waits has given up */
    ALL_ATTEMPTS_MS = 15000,     /* no further attempt starts after this: clients leave at 30 s */
    CONNECT_TIMEOUT_MS = 4000,
    TOTAL_TIMEOUT_MS = 8000,
    WORDS_LIMIT = 300, /* bytes of the service's own words in an error */
};

/* ---- what a refusal says ---- */

/* Overwrites in place: never longer than before. */
static void black_out(char *text, const char *secret) {
    size_t length = secret ? strlen(secret) : 0;
    if (length < 4)
        return;
    for (char *at = text; (at = strstr(at, secret)); at += length)
        memset(at, '*', length);
}

/* Whatever looks like a token of Google's (ya29.…) or a JWT (eyJ…) is taken for one. */
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

static void hide_secrets(char *text, const struct request *request) {
    for (size_t i = 0; i < REQUEST_SECRETS_LIMIT && request->secrets[i]; i++) {
        cleanup_secret_buffer struct buffer encoded = {0};
        black_out(text, request->secrets[i]);
        form_append(&encoded, "", request->secrets[i]); /* an echo of the form is one as well */
        if (!encoded.failed)
            black_out(text, encoded.bytes + 1);
    }
    black_out_tokens(text);
}

static const char *string_in(const json_t *object, const char *key) {
    return json_string_value(json_object_get(object, key));
}

/* The service's own words, in OAuth's form (RFC 6749 §5.2), in that of Google's APIs, or as text.
 */
static void read_words(const struct client_response *reply, struct buffer *words) {
    cleanup_secret_json json_t *json =
        bounded_json_load(reply->body.bytes, reply->body.length, NULL);
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
    } else if (!json && reply->body.length && reply->body.bytes[0] != '<' &&
               !memchr(reply->body.bytes, '\0', reply->body.length)) {
        buffer_append(words, reply->body.bytes, reply->body.length);
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

static bool refuse(const struct request *request, const struct client_response *reply,
                   struct error *error) {
    cleanup_secret_buffer struct buffer words = {0};
    read_words(reply, &words);
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
    int url_length = (int)strcspn(request->exchange.url, "?#");
    enum error_kind kind = reply->status == 404                           ? ERROR_NOT_FOUND
                           : reply->status == 429                         ? ERROR_RATE_LIMITED
                           : reply->status >= 500 || reply->status == 408 ? ERROR_UNAVAILABLE
                                                                          : ERROR_DENIED;
    return error_set(error, kind, "%s %.*s: status %d%s%.*s%s%s%s", request->exchange.method,
                     url_length, request->exchange.url, reply->status, length ? ": " : "", length,
                     length ? words.bytes : "", hint ? " (" : "", hint ? hint : "",
                     hint ? ")" : "");
}

/* ---- attempts ---- */

/* The three OAuth errors that mean "later". Either field may be no string. */
static bool says_later(const struct client_response *reply) {
    static const char *const later[] = {"internal_failure", "server_error",
                                        "temporarily_unavailable"};
    cleanup_secret_json json_t *json =
        bounded_json_load(reply->body.bytes, reply->body.length, NULL);
    const char *said[] = {string_in(json, "error"), string_in(json, "error_description")};
    for (size_t i = 0; i < sizeof later / sizeof *later; i++) {
        if ((said[0] && strcmp(said[0], later[i]) == 0) ||
            (said[1] && strcmp(said[1], later[i]) == 0))
            return true;
    }
    return false;
}

static bool is_worth_another(const struct client_response *reply) {
    return reply->status == 408 || reply->status == 429 || reply->status >= 500 ||
           says_later(reply);
}

/* Doubling, a tenth more or less, so that a fleet that failed together does not return together. */
static int64_t pause_ms(unsigned attempt, int retry_after_s) {
    int64_t pause = (int64_t)FIRST_PAUSE_MS << attempt, told = (int64_t)retry_after_s * 1000;
    pause += (int64_t)clock_jitter((uint32_t)pause / 5 + 1) - pause / 10;
    if (told > RETRY_AFTER_LIMIT_MS)
        told = RETRY_AFTER_LIMIT_MS;
    return told > pause ? told : pause;
}

bool request_perform(const struct request *request, struct client_response *reply,
                     struct error *error) {
    struct client_request exchange = request->exchange;
    int64_t began_ms = clock_ms();
    if (!exchange.connect_timeout_ms)
        exchange.connect_timeout_ms = CONNECT_TIMEOUT_MS;
    if (!exchange.total_timeout_ms)
        exchange.total_timeout_ms = TOTAL_TIMEOUT_MS;
    for (unsigned attempt = 0;; attempt++) {
        struct error reason = {0};
        bool answered = client_request(request->client, &exchange, reply, &reason);
        if (answered && reply->status == 200)
            return true;
        bool again = answered ? is_worth_another(reply)
                              : reason.kind == ERROR_UNAVAILABLE || reason.kind == ERROR_TIMEOUT;
        int64_t pause = pause_ms(attempt, answered ? reply->retry_after_s : 0);
        if (again && attempt + 1 < request->attempts &&
            clock_ms() + pause - began_ms < ALL_ATTEMPTS_MS) {
            client_response_free(reply);
            clock_sleep_ms(pause);
            continue;
        }
        if (answered)
            refuse(request, reply, &reason);
        if (error)
            *error = reason;
        return false;
    }
}

/* ---- forms ---- */

void form_append(struct buffer *form, const char *key, const char *value) {
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    if (form->length)
        buffer_append_string(form, "&");
    buffer_append_string(form, key);
    buffer_append_string(form, "=");
    for (const char *c = value; *c; c++) {
        if (strchr(plain, *c))
            buffer_append(form, c, 1);
        else
            buffer_printf(form, "%%%02X", (unsigned char)*c);
    }
}

bool token_post(const struct token_question *question, struct google_token *out,
                struct error *error) {
    const struct buffer *form = question->form;
    const char *const headers[] = {"Content-Type: application/x-www-form-urlencoded",
                                   "Accept: application/json", question->header, NULL};
    if (form->failed)
        return error_set(error, ERROR_MEMORY, "out of memory");
    struct request request = {
        .client = question->client,
        .exchange = {.method = "POST",
                     .url = question->url,
                     .headers = headers,
                     .body = {.bytes = form->bytes, .length = form->length}},
        .attempts = REQUEST_ATTEMPTS,
    };
    for (unsigned i = 0; i < REQUEST_SECRETS_LIMIT && question->secrets[i]; i++)
        request.secrets[i] = question->secrets[i];
    struct client_response reply = {0};
    int64_t asked_ms = clock_ms();
    bool ok = request_perform(&request, &reply, error);
    if (ok && !token_reply_read(&reply.body, asked_ms, out, error))
        ok = error_wrap(error, "token from %s", question->url);
    client_response_free(&reply);
    return ok;
}
