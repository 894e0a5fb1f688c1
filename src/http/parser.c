/*
 * Parses the request head (RFC 9112 §2-§6) strictly, in one walk over the bytes.
 *
 * A head that another program, for example a proxy in front, could read in a different way is
 * refused. Wrong bytes are refused as soon as they are seen, because the end of a malformed head
 * may never arrive.
 */
#include "http/http.h"

enum {
    METHOD_LIMIT = 32,
    LENGTH_DIGITS = 18, /* of Content-Length, so that no sum with it overflows */
};

/* The kinds of text that a byte may be part of. A byte may have several kinds. */
enum { TOKEN = 1, TARGET = 2, VALUE = 4, HOST = 8 };

/*
 * TOKEN: RFC 9110 §5.6.2. TARGET: what a URI may hold (RFC 3986 §2), without '#', which never goes
 * on the wire. VALUE: tab, space, visible, and bytes above 0x7f (RFC 9110 §5.5). HOST: uri-host and
 * port (RFC 3986 §3.2).
 */
static const unsigned char kinds[256] = {
    0,  0,  0,  0,  0,  0,  0,  0,  0,  4,  0,  0,  0,  0,  0,  0,  /* 00 */
    0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  /* 10 */
    4,  15, 4,  5,  15, 15, 15, 15, 14, 14, 15, 15, 6,  15, 15, 6,  /* 20 */
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 14, 14, 4,  14, 4,  6,  /* 30 */
    6,  15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, /* 40 */
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 14, 4,  14, 5,  15, /* 50 */
    5,  15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, /* 60 */
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 4,  5,  4,  15, 0,  /* 70 */
    4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  /* 80 */
    4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  /* 90 */
    4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  /* a0 */
    4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  /* b0 */
    4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  /* c0 */
    4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  /* d0 */
    4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  /* e0 */
    4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  /* f0 */
};

struct parsing {
    const char *at, *end;
    int status;
    const char *why;
};

static bool is(char byte, unsigned kind) {
    return (kinds[(unsigned char)byte] & kind) != 0;
}

static enum http_parse refuse(struct parsing *parsing, int status, const char *why) {
    parsing->status = status;
    parsing->why = why;
    return HTTP_PARSE_BAD;
}

/* Reads the longest run of bytes of a kind. */
static struct text read_run(struct parsing *parsing, unsigned kind) {
    struct text run = {parsing->at, 0};
    while (parsing->at < parsing->end && is(*parsing->at, kind))
        parsing->at++;
    run.length = (size_t)(parsing->at - run.at);
    return run;
}

static enum http_parse read_end_of_line(struct parsing *parsing, const char *why) {
    if (parsing->at == parsing->end)
        return HTTP_PARSE_MORE;
    if (*parsing->at == '\n')
        return refuse(parsing, 400, "a line of the request ends in LF without CR");
    if (*parsing->at != '\r')
        return refuse(parsing, 400, why);
    if (parsing->end - parsing->at < 2)
        return HTTP_PARSE_MORE;
    if (parsing->at[1] != '\n')
        return refuse(parsing, 400, "the request has a CR without LF");
    parsing->at += 2;
    return HTTP_PARSE_DONE;
}

static enum http_method method_of(struct text name) {
    static const struct {
        const char *name;
        enum http_method method;
    } methods[] = {
        {"GET", HTTP_GET},         {"HEAD", HTTP_HEAD},   {"POST", HTTP_POST},
        {"PUT", HTTP_PUT},         {"PATCH", HTTP_PATCH}, {"DELETE", HTTP_DELETE},
        {"OPTIONS", HTTP_OPTIONS},
    };
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (text_is(name, methods[i].name))
            return methods[i].method;
    return HTTP_OTHER;
}

static enum http_parse parse_method(struct parsing *parsing, struct http_request *out) {
    out->method_name = read_run(parsing, TOKEN);
    if (out->method_name.length > METHOD_LIMIT)
        return refuse(parsing, 501, "the request method is unknown");
    if (parsing->at == parsing->end)
        return HTTP_PARSE_MORE;
    if (out->method_name.length == 0 || *parsing->at != ' ')
        return refuse(parsing, 400, "the request method is malformed");
    parsing->at++;
    out->method = method_of(out->method_name);
    return HTTP_PARSE_DONE;
}

static bool is_hex(char byte) {
    return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f') ||
           (byte >= 'A' && byte <= 'F');
}

static bool escapes_are_whole(struct text target) {
    for (size_t i = 0; i < target.length; i++)
        if (target.at[i] == '%' &&
            (target.length - i < 3 || !is_hex(target.at[i + 1]) || !is_hex(target.at[i + 2])))
            return false;
    return true;
}

/* Splits the target into path and query; "http://host/path", which is the form of a request to a
 * proxy (RFC 9112 §3.2.2), becomes "/path". False: the target has neither form. */
static bool split_target(struct text target, struct http_request *out) {
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        size_t length = strlen(schemes[i]);
        struct text start = {target.at, length};
        if (target.length <= length || !text_is_nocase(start, schemes[i]))
            continue;
        struct text rest = text_from(target, length);
        size_t host = 0;
        while (host < rest.length && is(rest.at[host], HOST))
            host++;
        if (host == 0 || (host < rest.length && rest.at[host] != '/' && rest.at[host] != '?'))
            return false;
        rest = text_from(rest, host);
        out->path = text_cut(rest, '?', &out->query);
        /* An empty path means "/" (RFC 9110 §4.2.3); the text points at the one in the scheme. */
        if (out->path.length == 0)
            out->path = (struct text){target.at + length - 1, 1};
        return true;
    }
    out->path = text_cut(target, '?', &out->query);
    return target.length > 0 && target.at[0] == '/';
}

static enum http_parse parse_target(struct parsing *parsing, struct http_request *out) {
    struct text target = read_run(parsing, TARGET);
    if (target.length > HTTP_TARGET_LIMIT)
        return refuse(parsing, 414, "the request target is too long");
    if (parsing->at == parsing->end)
        return HTTP_PARSE_MORE;
    if (*parsing->at == '\r' || *parsing->at == '\n')
        return refuse(parsing, 400, "the request line has no HTTP version");
    if (target.length == 0 || *parsing->at != ' ' || !escapes_are_whole(target))
        return refuse(parsing, 400, "the request target is malformed");
    parsing->at++;
    if (split_target(target, out))
        return HTTP_PARSE_DONE;
    /* The refusal waits until the version is read, so that HTTP/2's preface ("PRI * HTTP/2.0") is
     * refused for its version. */
    out->path = (struct text){NULL, 0};
    out->query = target;
    return HTTP_PARSE_DONE;
}

static enum http_parse parse_version(struct parsing *parsing, struct http_request *out) {
    static const char form[] = "HTTP/d.d";
    struct text version = {parsing->at, sizeof form - 1};
    for (size_t i = 0; i < version.length; i++, parsing->at++) {
        if (parsing->at == parsing->end)
            return HTTP_PARSE_MORE;
        bool right =
            form[i] == 'd' ? *parsing->at >= '0' && *parsing->at <= '9' : *parsing->at == form[i];
        if (!right)
            return refuse(parsing, 400, "the HTTP version is malformed");
    }
    enum http_parse end = read_end_of_line(parsing, "the HTTP version is malformed");
    if (end != HTTP_PARSE_DONE)
        return end;
    if (version.at[5] != '1' || version.at[7] > '1')
        return refuse(parsing, 505, "only HTTP/1.0 and HTTP/1.1 are supported");
    out->minor = (unsigned)(version.at[7] - '0');
    return HTTP_PARSE_DONE;
}

static enum http_parse parse_request_line(struct parsing *parsing, struct http_request *out) {
    enum http_parse step = parse_method(parsing, out);
    if (step == HTTP_PARSE_DONE)
        step = parse_target(parsing, out);
    if (step == HTTP_PARSE_DONE)
        step = parse_version(parsing, out);
    if (step != HTTP_PARSE_DONE || out->path.at)
        return step;
    if (text_is(out->query, "*") || text_is(out->method_name, "CONNECT"))
        return refuse(parsing, 501, "this form of the request target is not supported");
    return refuse(parsing, 400, "the request target is malformed");
}

static enum http_parse parse_field(struct parsing *parsing, struct http_request *out) {
    if (*parsing->at == ' ' || *parsing->at == '\t')
        return refuse(parsing, 400, "a field is folded over lines");
    struct text name = read_run(parsing, TOKEN);
    if (parsing->at == parsing->end)
        return HTTP_PARSE_MORE;
    if (name.length == 0 || *parsing->at != ':')
        return refuse(parsing, 400, "a field name is malformed");
    parsing->at++;
    struct text value = read_run(parsing, VALUE);
    enum http_parse end = read_end_of_line(parsing, "a field value is malformed");
    if (end != HTTP_PARSE_DONE)
        return end;
    if (out->field_count == HTTP_FIELD_LIMIT)
        return refuse(parsing, 431, "the request has too many fields");
    out->fields[out->field_count++] = (struct http_field){name, text_trim(value)};
    return HTTP_PARSE_DONE;
}

static enum http_parse parse_fields(struct parsing *parsing, struct http_request *out) {
    for (;;) {
        if (parsing->at == parsing->end)
            return HTTP_PARSE_MORE;
        if (*parsing->at == '\r' || *parsing->at == '\n')
            return read_end_of_line(parsing, "");
        enum http_parse step = parse_field(parsing, out);
        if (step != HTTP_PARSE_DONE)
            return step;
    }
}

static bool is_host(struct text value) {
    for (size_t i = 0; i < value.length; i++)
        if (!is(value.at[i], HOST))
            return false;
    return true;
}

enum coding { CODING_CHUNKED, CODING_UNKNOWN, CODING_BAD };

static bool is_token(struct text text) {
    for (size_t i = 0; i < text.length; i++)
        if (!is(text.at[i], TOKEN))
            return false;
    return text.length > 0;
}

/* Whether the name of a coding has "chunked" in it, in any case. */
static bool hides_chunked(struct text name) {
    static const char chunked[] = "chunked";
    for (size_t i = 0; i + strlen(chunked) <= name.length; i++)
        if (text_is_nocase((struct text){name.at + i, strlen(chunked)}, chunked))
            return true;
    return false;
}

/* What a Transfer-Encoding is. Anything that another program could take for chunked, or for
 * something else than we do, is bad. */
static enum coding coding_of(struct text value) {
    unsigned chunked = 0;
    if (text_is(value, "chunked"))
        return CODING_CHUNKED;
    for (struct text rest = value; rest.at;) {
        struct text name = text_trim(text_cut(rest, ',', &rest));
        bool is_chunked = text_is(name, "chunked");
        chunked += is_chunked;
        if (!is_token(name) || chunked > 1 || (hides_chunked(name) && !is_chunked))
            return CODING_BAD;
    }
    return CODING_UNKNOWN;
}

static bool lists_token(struct text value, const char *token) {
    for (struct text rest = value; rest.at;) {
        struct text part = text_cut(rest, ',', &rest);
        if (text_is_nocase(text_trim(part), token))
            return true;
    }
    return false;
}

/* Checks the fields that concern the connection and the body, each one and together (RFC 9112 §6,
 * §9.3). */
static enum http_parse check_fields(struct parsing *parsing, struct http_request *out) {
    unsigned hosts = 0, lengths = 0, codings = 0;
    enum coding coding = CODING_CHUNKED;
    bool close = false, keep = false;
    for (size_t i = 0; i < out->field_count; i++) {
        struct text name = out->fields[i].name, value = out->fields[i].value;
        if (text_is_nocase(name, "host")) {
            hosts++;
            if (!is_host(value))
                return refuse(parsing, 400, "the Host field is malformed");
        } else if (text_is_nocase(name, "connection")) {
            close = close || lists_token(value, "close");
            keep = keep || lists_token(value, "keep-alive");
        } else if (text_is_nocase(name, "content-length")) {
            lengths++;
            if (value.length > LENGTH_DIGITS || !text_to_u64(value, &out->content_length))
                return refuse(parsing, 400, "the Content-Length field is malformed");
        } else if (text_is_nocase(name, "transfer-encoding")) {
            codings++;
            coding = coding_of(value);
            if (coding == CODING_BAD)
                return refuse(parsing, 400, "the Transfer-Encoding is not chunked");
        }
    }
    if (hosts > 1)
        return refuse(parsing, 400, "the request has several Host fields");
    if (hosts == 0 && out->minor > 0)
        return refuse(parsing, 400, "the request has no Host field");
    if (lengths > 1)
        return refuse(parsing, 400, "the request has several Content-Length fields");
    if (codings > 1 || (codings && lengths) || (codings && out->minor == 0))
        return refuse(parsing, 400, "the length of the request body is ambiguous");
    if (coding == CODING_UNKNOWN) /* RFC 9112 §6.1 */
        return refuse(parsing, 501, "the Transfer-Encoding is unknown; only chunked is supported");
    out->has_body = codings || out->content_length > 0;
    out->keep_alive = !close && (out->minor > 0 || keep);
    return HTTP_PARSE_DONE;
}

static enum http_parse parse(struct parsing *parsing, struct http_request *out) {
    /* One empty line in front is skipped, because some clients send one behind a body
     * (RFC 9112 §2.2). */
    if (parsing->at < parsing->end && *parsing->at == '\r') {
        enum http_parse end = read_end_of_line(parsing, "");
        if (end != HTTP_PARSE_DONE)
            return end;
    }
    enum http_parse step = parse_request_line(parsing, out);
    if (step == HTTP_PARSE_DONE)
        step = parse_fields(parsing, out);
    if (step == HTTP_PARSE_DONE)
        step = check_fields(parsing, out);
    return step;
}

enum http_parse http_parse_head(const char *bytes, size_t length, struct http_request *out,
                                size_t *used, int *status, const char **why) {
    size_t window = length < HTTP_HEAD_LIMIT ? length : HTTP_HEAD_LIMIT;
    struct parsing parsing = {.at = bytes, .end = bytes + window};
    out->has_body = false;
    out->content_length = 0;
    out->field_count = 0;
    enum http_parse outcome = parse(&parsing, out);
    if (outcome == HTTP_PARSE_MORE && window == HTTP_HEAD_LIMIT)
        outcome = refuse(&parsing, 431, "the request head is too large");
    if (outcome == HTTP_PARSE_DONE)
        *used = (size_t)(parsing.at - bytes);
    if (outcome == HTTP_PARSE_BAD) {
        *status = parsing.status;
        *why = parsing.why;
    }
    return outcome;
}

struct text http_field(const struct http_request *request, const char *name) {
    for (size_t i = 0; i < request->field_count; i++)
        if (text_is_nocase(request->fields[i].name, name))
            return request->fields[i].value;
    return (struct text){NULL, 0};
}

struct text http_field_alone(const struct http_request *request, const char *name) {
    struct text value = {NULL, 0};
    for (size_t i = 0; i < request->field_count; i++) {
        if (!text_is_nocase(request->fields[i].name, name))
            continue;
        if (value.at)
            return (struct text){NULL, 0};
        value = request->fields[i].value;
    }
    return value;
}

bool http_query(const struct http_request *request, const char *name, char *out, size_t size,
                bool *found) {
    struct text value = {NULL, 0};
    unsigned times = 0;
    for (struct text rest = request->query; rest.at && times < 2;) {
        struct text part = text_cut(rest, '&', &rest);
        struct text behind;
        struct text key = text_cut(part, '=', &behind);
        char decoded[64];
        /* A name too long for `decoded` is not the one that is asked for. */
        if (!text_percent_decode(key, decoded, sizeof decoded) || strcmp(decoded, name) != 0)
            continue;
        times++;
        value = behind.at ? behind : (struct text){"", 0};
    }
    *found = times > 0;
    if (size)
        out[0] = '\0';
    return times == 1 && text_percent_decode(value, out, size);
}
