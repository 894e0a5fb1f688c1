/* Reads what upstream's response means. */
#include "upstream/response.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include "client/content_range.h"
#include "client/redirect.h"
#include "client/response.h"
#include "oci/error_body.h"

struct client_wanted upstream_response_wanted(struct upstream_response *response) {
#define FIELD(name, member)                                                                        \
    { (name), response->member, sizeof response->member, false }
    const struct client_field fields[] = {
        FIELD("Content-Range", content_range),
        FIELD("ETag", etag),
        FIELD("Docker-Content-Digest", digest),
        {"Link", response->link, sizeof response->link, true},
        FIELD("Location", location),
        FIELD("RateLimit-Limit", ratelimit_limit),
        FIELD("RateLimit-Remaining", ratelimit_remaining),
        FIELD("Docker-Distribution-Api-Version", api_version),
    };
#undef FIELD
    static_assert(sizeof fields == sizeof response->fields, "one entry for each field");
    memcpy(response->fields, fields, sizeof fields);
    return (struct client_wanted){
        .fields = response->fields,
        .count = sizeof fields / sizeof *fields,
        .challenge = &response->challenge,
    };
}

int64_t upstream_response_ratelimit(const char *value) {
    struct text rest;
    uint64_t number;
    struct text limit = text_trim(text_cut(text_of(value), ';', &rest));
    return text_to_u64(limit, &number) && number <= INT64_MAX ? (int64_t)number : -1;
}

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
    return status == 416 ? ERROR_RANGE : client_response_error_kind(status);
}

/* Says at the end of a refusal which credentials upstream refused. */
static void describe_credentials(const struct refusal *refusal, char *out, size_t size) {
    *out = '\0';
    if (kind_of(refusal->status) != ERROR_DENIED)
        return;
    if (refusal->elsewhere)
        snprintf(out, size,
                 " (asked without credentials, because %.100s led there: name that host as the "
                 "upstream to use credentials)",
                 refusal->host);
    else if (refusal->anonymous)
        snprintf(out, size, " (asked without credentials: set credentials for %.120s)",
                 refusal->host);
    else if (refusal->credentials_from && *refusal->credentials_from)
        snprintf(out, size, " (credentials: %.160s)", refusal->credentials_from);
}

bool upstream_response_error(const struct refusal *refusal, struct error *error) {
    char code[sizeof error->code] = "", message[256] = "", credentials[256];
    size_t length =
        refusal->body_length < REFUSAL_BODY_LIMIT ? refusal->body_length : REFUSAL_BODY_LIMIT;
    if (length)
        error_body_read(refusal->body, length, code, sizeof code, message, sizeof message);
    describe_credentials(refusal, credentials, sizeof credentials);
    error_set(error, kind_of(refusal->status), "%d%s%s%s%s%s%s", refusal->status,
              status_name(refusal->status), *code ? ": " : "", code, *message ? ": " : "", message,
              credentials);
    memcpy(error->code, code, sizeof code);
    error->status = refusal->status;
    bool has_version = refusal->api_version && *refusal->api_version;
    error->doubtful = (error->kind == ERROR_NOT_FOUND || error->kind == ERROR_DENIED) &&
                      !has_version && !error_body_is_registrys(refusal->body, length);
    error->lasting = error->kind == ERROR_UNAVAILABLE && refusal->status != 408 &&
                     (refusal->status < 500 || refusal->status == 501);
    error->retry_after_s = refusal->retry_after_s;
    return false;
}

static bool is_ranged(const struct upstream_request *request) {
    return request->has_range || request->range_suffix;
}

static bool read_range(const struct upstream_response *from, const struct upstream_request *request,
                       struct upstream_head *out, struct error *error) {
    struct content_range range;
    if (!is_ranged(request))
        return error_set(error, ERROR_UNAVAILABLE, "206 in response to a request without a range");
    if (!content_range_parse(text_of(from->content_range), &range) ||
        !content_range_fits(&range, request->range_first, request->range_last,
                            request->range_suffix) ||
        (from->http.has_length && !request->head_only &&
         from->http.length != range.last - range.first + 1))
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

/* False: there is a next page, or there may be one, but it cannot be asked for. */
static bool read_next(const struct upstream_response *from, const char *url,
                      struct upstream_head *out) {
    bool is_cut = strlen(from->link) == sizeof from->link - 1;
    return redirect_next_page(url, text_of(from->link), out->next, sizeof out->next) &&
           (out->next[0] || !is_cut);
}

/* A success that brings nothing that was asked for. Whatever responds so for referrers is no
 * referrers API. */
static bool refuse_status(const struct upstream_response *from,
                          const struct upstream_request *request, struct error *error) {
    const bool is_no_api = request->what == UPSTREAM_REFERRERS;
    error_set(error, is_no_api ? ERROR_UNSUPPORTED : ERROR_UNAVAILABLE, "a response with status %d",
              from->http.status);
    error->lasting = is_no_api;
    return false;
}

bool upstream_response_head(const struct upstream_response *from,
                            const struct upstream_request *request, const char *url,
                            struct upstream_head *out, struct error *error) {
    *out = (struct upstream_head){.status = from->http.status};
    memcpy(out->content_type, from->http.content_type, sizeof out->content_type);
    memcpy(out->etag, from->etag, sizeof out->etag);
    out->has_digest = digest_parse(text_of(from->digest), &out->digest);
    bool paged = request->what == UPSTREAM_TAGS || request->what == UPSTREAM_REFERRERS;
    if (paged && !read_next(from, url, out))
        return error_set(error, ERROR_UNAVAILABLE,
                         "the list has a next page that cannot be asked for: Link \"%.100s\"",
                         from->link);
    if (from->http.status == 206 && request->what != UPSTREAM_REFERRERS)
        return read_range(from, request, out, error);
    if (from->http.status != 200)
        return refuse_status(from, request, error);
    out->has_length = out->has_total = from->http.has_length;
    out->length = out->total = from->http.length;
    return true;
}
