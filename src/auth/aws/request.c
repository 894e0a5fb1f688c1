/* One request to a service of credentials: its retries, and what its refusals say. */
#include "auth/aws/request.h"

#include <curl/curl.h>
#include <stdio.h>
#include <string.h>
#include "auth/aws/reply.h"
#include "auth/shown.h"
#include "base/clock.h"
#include "base/secret.h"
#include "client/retry.h"

enum {
    RETRY_AFTER_LIMIT_S = 5,
    ALL_ATTEMPTS_MS = 15000, /* no attempt starts later */
    CONNECT_TIMEOUT_MS = 4000,
    TOTAL_TIMEOUT_MS = 8000,
    BODY_LIMIT = 256 << 10,
};

void aws_request_outcome_wipe(struct aws_request_outcome *outcome) {
    client_response_wipe(&outcome->response);
    *outcome = (struct aws_request_outcome){0};
}

static struct text body_of(const struct client_response *response) {
    return (struct text){response->body.bytes, response->body.length};
}

static bool is_worth_another(const struct client_response *response) {
    static const char *const later[] = {"Throttling", "ThrottlingException", "RequestLimitExceeded",
                                        "TooManyRequestsException", "IDPCommunicationError"};
    if (response->status == 200)
        return false;
    if (response->status == 408 || response->status == 429 || response->status >= 500)
        return true;
    struct aws_reply_refusal refusal;
    aws_reply_refusal(body_of(response), &refusal);
    for (size_t i = 0; i < sizeof later / sizeof *later; i++) {
        if (strcmp(refusal.code, later[i]) == 0)
            return true;
    }
    return false;
}

static bool refuse(const struct aws_request *request, const struct client_response *response,
                   struct error *error) {
    struct aws_reply_refusal refusal;
    aws_reply_refusal(body_of(response), &refusal);
    for (size_t i = 0; i < AWS_REQUEST_SECRETS_LIMIT && request->secrets[i]; i++) {
        shown_black_out(refusal.code, request->secrets[i]);
        shown_black_out(refusal.message, request->secrets[i]);
    }
    int url_length = (int)strcspn(request->http.url, "?#");
    bool says_why = *refusal.code || *refusal.message;
    return error_set(error, client_response_error_kind(response->status), "%s %.*s: %d%s%s%s%s",
                     request->http.method, url_length, request->http.url, response->status,
                     says_why ? " " : "", refusal.code,
                     *refusal.code && *refusal.message ? ": " : "", refusal.message);
}

/* Waits before the next attempt, if there is to be one. */
static bool may_try_again(const struct aws_question *question, unsigned attempts, int after_s,
                          int64_t began_ms) {
    int64_t now_ms = clock_ms();
    int64_t wait_ms =
        retry_wait_ms(attempts, after_s < RETRY_AFTER_LIMIT_S ? after_s : RETRY_AFTER_LIMIT_S,
                      now_ms, began_ms + ALL_ATTEMPTS_MS);
    return wait_ms >= 0 && cancel_sleep(question->cancel, now_ms + wait_ms, NULL);
}

bool aws_request_perform(const struct aws_question *question, const struct aws_request *request,
                         struct aws_request_outcome *outcome, struct error *error) {
    struct client_request http = request->http;
    struct client_response *response = &outcome->response;
    char date[40];
    const struct client_field fields[] = {{"Date", date, sizeof date}};
    int64_t began_ms = clock_ms();
    http.wanted = (struct client_wanted){.fields = fields, .count = 1};
    http.cancel = question->cancel;
    http.body_limit = BODY_LIMIT;
    http.connect_timeout_ms =
        http.connect_timeout_ms ? http.connect_timeout_ms : CONNECT_TIMEOUT_MS;
    http.total_timeout_ms = http.total_timeout_ms ? http.total_timeout_ms : TOTAL_TIMEOUT_MS;
    for (unsigned attempts = 1;; attempts++) {
        struct error reason = {0};
        *date = '\0';
        aws_request_outcome_wipe(outcome);
        bool answered = client_request(question->client, &http, response, &reason);
        int64_t seconds = answered && *date ? (int64_t)curl_getdate(date, NULL) : 0;
        outcome->date_s = seconds > 0 ? seconds : 0;
        if (answered && response->status == 200)
            return true;
        bool passing = answered
                           ? is_worth_another(response)
                           : retry_decide(retry_classify(&reason), PHASE_REQUEST, 0) == RETRY_LATER;
        if (passing && attempts < request->attempts &&
            may_try_again(question, attempts, answered ? response->retry_after_s : 0, began_ms))
            continue;
        if (answered)
            refuse(request, response, &reason);
        if (error)
            *error = reason;
        return false;
    }
}
