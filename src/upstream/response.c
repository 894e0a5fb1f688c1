#include "upstream/response.h"

#include <stdio.h>
#include <string.h>
#include "client/content_range.h"
#include "client/redirect.h"
#include "oci/error_body.h"

static const char *status_name(int status) {
    switch (status) {
    case 400:
        return " Bad Request";
    case 401:
        return " Unauthorized";
    case 403:
        return " Forbidden";
    case 404:
        return " Not Found";
    case 405:
        return " Method Not Allowed";
    case 408:
        return " Request Timeout";
    case 416:
        return " Range Not Satisfiable";
    case 429:
        return " Too Many Requests";
    case 500:
        return " Internal Server Error";
    case 502:
        return " Bad Gateway";
    case 503:
        return " Service Unavailable";
    case 504:
        return " Gateway Timeout";
    default:
        return "";
    }
}

static enum error_kind kind_of(int status) {
    switch (status) {
    case 401:
    case 403:
        return ERROR_DENIED;
    case 404:
        return ERROR_NOT_FOUND;
    case 416:
        return ERROR_RANGE;
    case 429:
        return ERROR_RATE_LIMITED;
    default:
        return ERROR_UNAVAILABLE;
    }
}

/* Behind a refusal: whose credentials upstream did not like. */
static void describe_credentials(const struct refusal *refusal, char *out, size_t size) {
    *out = '\0';
    if (kind_of(refusal->status) != ERROR_DENIED)
        return;
    if (refusal->anonymous)
        snprintf(out, size, " (asked without credentials: set credentials for %.120s)",
                 refusal->host);
    else if (refusal->credentials_from && *refusal->credentials_from)
        snprintf(out, size, " (credentials: %.160s)", refusal->credentials_from);
}

bool answer_error(const struct refusal *refusal, struct error *error) {
    char code[sizeof error->code] = "", message[256] = "", credentials[256];
    size_t length =
        refusal->body_length < ANSWER_BODY_LIMIT ? refusal->body_length : ANSWER_BODY_LIMIT;
    if (length)
        error_body_read(refusal->body, length, code, sizeof code, message, sizeof message);
    describe_credentials(refusal, credentials, sizeof credentials);
    error_set(error, kind_of(refusal->status), "%d%s%s%s%s%s%s", refusal->status,
              status_name(refusal->status), *code ? ": " : "", code, *message ? ": " : "", message,
              credentials);
    memcpy(error->code, code, sizeof code);
    error->retry_after_s = refusal->retry_after_s;
    if (error->kind == ERROR_RATE_LIMITED && error->retry_after_s < 1)
        error->retry_after_s = RETRY_AFTER_UNSAID_S;
    return false;
}

static bool is_ranged(const struct upstream_request *request) {
    return request->has_range || request->range_suffix;
}

static bool read_range(const struct transfer_head *from, const struct upstream_request *request,
                       struct upstream_head *out, struct error *error) {
    struct content_range range;
    if (!is_ranged(request))
        return error_set(error, ERROR_UNAVAILABLE, "206 in answer to a request without a range");
    if (!content_range_parse(text_of(from->content_range), &range) ||
        !content_range_answers(&range, request->range_first, request->range_last,
                               request->range_suffix) ||
        (from->has_length && !request->head_only && from->length != range.last - range.first + 1))
        return error_set(error, ERROR_UNAVAILABLE,
                         "it lied about the range: 206 with Content-Range \"%.100s\"",
                         from->content_range);
    out->has_range = true;
    out->range_first = range.first;
    out->range_last = range.last;
    out->has_length = true;
    out->length = range.last - range.first + 1;
    out->has_total = range.has_total;
    out->total = range.total;
    return true;
}

bool answer_head(const struct transfer_head *from, const struct upstream_request *request,
                 const char *url, struct upstream_head *out, struct error *error) {
    *out = (struct upstream_head){.status = from->status};
    memcpy(out->content_type, from->content_type, sizeof out->content_type);
    memcpy(out->etag, from->etag, sizeof out->etag);
    out->has_digest = digest_parse(text_of(from->digest), &out->digest);
    if (request->what == UPSTREAM_TAGS || request->what == UPSTREAM_REFERRERS)
        redirect_next_page(url, text_of(from->link), out->next, sizeof out->next);
    if (from->status == 206)
        return read_range(from, request, out, error);
    if (from->status != 200)
        return error_set(error, ERROR_UNAVAILABLE, "an answer with status %d", from->status);
    out->has_length = out->has_total = from->has_length;
    out->length = out->total = from->length;
    return true;
}
