/* An upstream's response: status line, fields, a blank line, a body. For every response, the head
 * that the cache gets fits the request, and a redirect leads to http(s). */
#include <string.h>
#include "base/cleanup.h"
#include "client/redirect.h"
#include "fuzz.h"
#include "upstream/response.h"

static const char base[] = "https://registry.example/v2/a/blobs/b?c=d";

/* As client/transfer.c reads the lines that libcurl gives it. */
static void read_head(struct text *rest, struct upstream_response *head) {
    const struct client_wanted wanted = upstream_response_wanted(head);
    struct text status, value;
    uint64_t number;
    text_cut(text_cut(*rest, '\n', rest), ' ', &status);
    if (text_to_u64(text_cut(status, ' ', &value), &number) && number < 1000)
        head->http.status = (int)number;
    while (rest->at) {
        struct text line = text_cut(*rest, '\n', rest);
        if (text_ends(line, "\r"))
            line.length--;
        if (line.length == 0)
            return;
        struct text name = text_cut(line, ':', &value);
        if (!value.at)
            continue;
        value = text_trim(value);
        client_response_read_field(&head->http, &wanted, name, value);
        if (text_is_nocase(name, "content-length"))
            head->http.has_length =
                text_to_u64(value, &head->http.length) && head->http.length <= INT64_MAX;
    }
}

static void check_fields(const struct upstream_response *head) {
    MUST(strnlen(head->http.content_type, sizeof head->http.content_type) <
         sizeof head->http.content_type);
    MUST(strnlen(head->content_range, sizeof head->content_range) < sizeof head->content_range);
    MUST(strnlen(head->etag, sizeof head->etag) < sizeof head->etag);
    MUST(strnlen(head->digest, sizeof head->digest) < sizeof head->digest);
    MUST(strnlen(head->link, sizeof head->link) < sizeof head->link);
    MUST(strnlen(head->location, sizeof head->location) < sizeof head->location);
    MUST(upstream_response_ratelimit(head->ratelimit_limit) >= -1);
    MUST(upstream_response_ratelimit(head->ratelimit_remaining) >= -1);
}

static void check_answer(const struct upstream_response *head,
                         const struct upstream_request *request) {
    struct upstream_head out;
    struct error error = {0};
    if (!upstream_response_head(head, request, base, &out, &error)) {
        MUST(error.kind == ERROR_UNAVAILABLE);
        return;
    }
    MUST(out.status == 200 || out.status == 206);
    MUST((out.status == 206) == out.has_range);
    MUST(!out.next[0] || out.next[0] == '/');
    if (!out.has_range)
        return;
    MUST(out.range_first <= out.range_last && (!out.has_total || out.range_last < out.total));
    MUST(out.length == out.range_last - out.range_first + 1);
    if (request->has_range && !request->range_suffix)
        MUST(out.range_first == request->range_first && out.range_last <= request->range_last);
}

static void check_location(const char *location) {
    const struct origin here = {.https = true, .host = "registry.example", .port = 443};
    struct origin origin;
    cleanup_free char *url = redirect_resolve(base, location, NULL);
    if (!url)
        return;
    MUST(origin_parse(url, &origin) && !strpbrk(url, "\r\n #"));
    MUST(!redirect_keeps_authorization(&here, url) || origin_equal(&here, &origin));
}

static void check_refusal(const struct upstream_response *head, struct text body) {
    struct error error = {0};
    const struct refusal refusal = {.status = head->http.status,
                                    .body = body.at,
                                    .body_length = body.length,
                                    .anonymous = true,
                                    .host = "registry.example"};
    MUST(!upstream_response_error(&refusal, &error) && error.kind != ERROR_NONE);
    for (const char *c = error.text; *c; c++)
        MUST((unsigned char)*c >= ' ' && *c != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    static struct upstream_response head; /* large */
    static const struct upstream_request requests[] = {
        {.what = UPSTREAM_BLOB},
        {.what = UPSTREAM_BLOB, .head_only = true},
        {.what = UPSTREAM_BLOB, .has_range = true, .range_first = 10, .range_last = 19},
        {.what = UPSTREAM_BLOB, .has_range = true, .range_last = UINT64_MAX},
        {.what = UPSTREAM_BLOB, .range_suffix = 5},
        {.what = UPSTREAM_TAGS},
        {.what = UPSTREAM_MANIFEST},
    };
    struct text rest = {(const char *)bytes, length};
    head = (struct upstream_response){0};
    read_head(&rest, &head);
    check_fields(&head);
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++)
        check_answer(&head, &requests[i]);
    check_location(head.location);
    check_refusal(&head, rest);
    return 0;
}
