/*
 * One request to a token service of Google's, with its retries, and its refusals in words.
 *
 * 408, 429, 5xx, failures to connect, and the OAuth errors server_error, temporarily_unavailable
 * and internal_failure are tried again with growing pauses; every other refusal is final. Inside
 * google/.
 */
#ifndef AUTH_GOOGLE_REQUEST_H
#define AUTH_GOOGLE_REQUEST_H

#include <stdbool.h>
#include "auth/google/google.h"
#include "base/buffer.h"
#include "base/error.h"
#include "client/request.h"

enum { REQUEST_ATTEMPTS = 3, REQUEST_METADATA_ATTEMPTS = 5, REQUEST_SECRETS_LIMIT = 4 };

struct request {
    struct client *client;
    struct client_request exchange;
    unsigned attempts;
    /* What was sent and must not come back in an error, whatever the service says. */
    const char *secrets[REQUEST_SECRETS_LIMIT];
};

/* True: a 200 whose body is in reply. False: the error names method, URL, status and the service's
 * own words; a 404 is ERROR_NOT_FOUND. client_response_free() is owed either way. */
bool request_perform(const struct request *request, struct client_response *reply,
                     struct error *error);

/* Appends "key=value" to a form (application/x-www-form-urlencoded), with & between. */
void form_append(struct buffer *form, const char *key, const char *value);

/*
 * The token in an OAuth reply: {"access_token":…,"expires_in":…,"token_type":"Bearer"}, whose life
 * began no earlier than `asked_ms` (clock_ms()). Sets secret and expires_ms of `out`.
 */
bool token_reply_read(const struct buffer *body, int64_t asked_ms, struct google_token *out,
                      struct error *error);

/* A request to a token endpoint. */
struct token_question {
    struct client *client;
    const char *url;
    const char *header; /* one more header; may be NULL */
    const struct buffer *form;
    const char *const *secrets; /* as in struct request; NULL behind the last */
};
/* POSTs the form and reads the token of the response. */
bool token_post(const struct token_question *question, struct google_token *out,
                struct error *error);

/* Takes over `secret` as a token, if it can stand in a header: printable, not empty. */
bool token_set(struct google_token *out, const char *secret, int64_t expires_ms,
               struct error *error);

/* Seconds since 1970 of an RFC 3339 time such as "2024-05-01T12:34:56.5Z"; fractions are cut. */
bool time_parse_rfc3339(const char *text, int64_t *seconds);

#endif
