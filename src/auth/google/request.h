/*
 * One request to a token service of Google, with its retries and a sentence for each refusal.
 * Private to auth/google/.
 *
 * The request is repeated, with growing pauses, after 408, 429, 5xx, a failure to connect, and the
 * OAuth errors server_error, temporarily_unavailable and internal_failure. Every other refusal is
 * final.
 */
#ifndef AUTH_GOOGLE_REQUEST_H
#define AUTH_GOOGLE_REQUEST_H

#include <stdbool.h>
#include "auth/google/google.h"
#include "base/buffer.h"
#include "base/error.h"
#include "client/request.h"

enum {
    GOOGLE_REQUEST_ATTEMPTS = 3,
    GOOGLE_METADATA_ATTEMPTS = 5,
    GOOGLE_REQUEST_SECRETS_LIMIT = 4
};

struct google_request {
    struct client *client;
    struct client_request http;
    unsigned attempts;
    /* What was sent and must not stand in an error, whatever text the service sends back. */
    const char *secrets[GOOGLE_REQUEST_SECRETS_LIMIT];
};

/* True: status 200, with the body in `response`. False: the error names method, URL, status and the
 * service's own text; 404 is ERROR_NOT_FOUND. The caller calls client_response_wipe() either way.
 */
bool google_request_perform(const struct google_request *request, struct client_response *response,
                            struct error *error);

/* Appends "key=value" to a form (application/x-www-form-urlencoded), after a & if it is not the
 * first. */
void google_form_append(struct buffer *form, const char *key, const char *value);

/* HTTP Basic of a client's id and secret (RFC 6749 §2.3.1), as a whole line. False: out of memory.
 */
bool google_client_header(const char *id, const char *secret, struct buffer *header);

/* A request to a token endpoint. */
struct token_question {
    struct client *client;
    const char *url;
    const char *header; /* one more header; may be NULL */
    const struct buffer *form;
    const char *const *secrets; /* as in struct google_request; NULL-terminated */
};

/* POSTs the form and reads the token of the response. */
bool google_token_post(const struct token_question *question, struct google_token *out,
                       struct error *error);

#endif
