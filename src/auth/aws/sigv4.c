/* Signatures of AWS, version 4: the canonical request, the string to sign, the key. */
#include "auth/aws/sigv4.h"

#include <ctype.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/secret.h"

enum {
    HASH_SIZE = 32,
    HEX_SIZE = 2 * HASH_SIZE + 1,
    OWN_HEADERS = 4, /* host, x-amz-date, x-amz-security-token, x-amz-content-sha256 */
    OWN_PAIRS = 6,   /* X-Amz-… of a presigned URL */
    HEADERS = SIGV4_HEADER_LIMIT + OWN_HEADERS,
    PAIRS = SIGV4_QUERY_LIMIT + OWN_PAIRS,
    DATE_SIZE = sizeof "20130524T000000Z",
    DAY_LENGTH = 8,
    /* Space for a secret, which must not be moved while it is in a buffer. */
    SECRET_SPARE = 64,
};

#define ALGORITHM "AWS4-HMAC-SHA256"

/* A pair in its canonical form. Both are places in the buffer of their list, because the buffer
 * moves while it grows. */
struct canonical_pair {
    size_t name, value;
};

struct canonical_list {
    struct buffer bytes; /* strings, each with its NUL */
    struct canonical_pair pairs[HEADERS > PAIRS ? HEADERS : PAIRS];
    size_t count;
};

static void list_finish(struct canonical_list *list) {
    secret_buffer_free(&list->bytes); /* a session token is one of the fields */
}

#define cleanup_list __attribute__((cleanup(list_finish)))

/* What one signature is made of. */
struct signing {
    const struct sigv4_request *request;
    char date[DATE_SIZE];
    struct canonical_list query, headers;
    struct buffer signed_names; /* "host;x-amz-date" */
    struct buffer scope;        /* "20130524/us-east-1/s3/aws4_request" */
    char signature[HEX_SIZE];
};

static void signing_finish(struct signing *signing) {
    list_finish(&signing->query);
    list_finish(&signing->headers);
    buffer_finish(&signing->signed_names);
    buffer_finish(&signing->scope);
}

#define cleanup_signing __attribute__((cleanup(signing_finish)))

static bool out_of_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "out of memory");
}

static const char *or_empty(const char *string) {
    return string ? string : "";
}

static bool is_s3(const struct sigv4_request *request) {
    return strcmp(request->service, "s3") == 0;
}

static bool has_token(const struct sigv4_request *request) {
    return request->session_token && *request->session_token;
}

/* ---- lists in canonical order ---- */

static const char *name_at(const struct canonical_list *list, size_t index) {
    return list->bytes.bytes + list->pairs[index].name;
}

static const char *value_at(const struct canonical_list *list, size_t index) {
    return list->bytes.bytes + list->pairs[index].value;
}

static int compare(const void *a, const void *b, void *bytes) {
    const struct canonical_pair *first = a, *second = b;
    const char *at = bytes;
    int names = strcmp(at + first->name, at + second->name);
    return names ? names : strcmp(at + first->value, at + second->value);
}

static void sort(struct canonical_list *list) {
    if (list->count > 1)
        qsort_r(list->pairs, list->count, sizeof *list->pairs, compare, list->bytes.bytes);
}

static void add_pair(struct canonical_list *list, const char *name, const char *value) {
    struct canonical_pair *pair = &list->pairs[list->count++];
    pair->name = list->bytes.length;
    buffer_append_percent(&list->bytes, name, "");
    buffer_append(&list->bytes, "", 1);
    pair->value = list->bytes.length;
    buffer_append_percent(&list->bytes, or_empty(value), "");
    buffer_append(&list->bytes, "", 1);
}

/* The name in lower case; the value without blanks at its ends, and with one blank for each run of
 * them. */
static void add_header(struct canonical_list *list, const char *name, const char *value) {
    struct canonical_pair *pair = &list->pairs[list->count++];
    pair->name = list->bytes.length;
    for (; *name; name++) {
        char lower = (char)tolower((unsigned char)*name);
        buffer_append(&list->bytes, &lower, 1);
    }
    buffer_append(&list->bytes, "", 1);
    pair->value = list->bytes.length;
    struct text rest = text_trim(text_of(or_empty(value)));
    for (size_t i = 0; i < rest.length; i++) {
        bool blank = rest.at[i] == ' ' || rest.at[i] == '\t';
        bool again = blank && (rest.at[i - 1] == ' ' || rest.at[i - 1] == '\t');
        if (!again)
            buffer_append(&list->bytes, blank ? " " : &rest.at[i], 1);
    }
    buffer_append(&list->bytes, "", 1);
}

static bool read_query(const struct sigv4_request *request, struct canonical_list *list,
                       struct error *error) {
    if (request->query_count > SIGV4_QUERY_LIMIT)
        return error_set(error, ERROR_INVALID, "a query has more than %d pairs", SIGV4_QUERY_LIMIT);
    for (size_t i = 0; i < request->query_count; i++)
        add_pair(list, request->query[i].name, request->query[i].value);
    return true;
}

static bool read_headers(const struct sigv4_request *request, struct canonical_list *list,
                         struct error *error) {
    if (request->header_count > SIGV4_HEADER_LIMIT)
        return error_set(error, ERROR_INVALID, "a head has more than %d fields",
                         SIGV4_HEADER_LIMIT);
    for (size_t i = 0; i < request->header_count; i++) {
        const struct sigv4_pair *pair = &request->headers[i];
        if (!*pair->name || strpbrk(pair->name, "\r\n: ") || strpbrk(or_empty(pair->value), "\r\n"))
            return error_set(error, ERROR_INVALID, "the field \"%.60s\" has a line break in it",
                             pair->name);
        add_header(list, pair->name, pair->value);
    }
    add_header(list, "host", request->host);
    return true;
}

static bool finish_headers(struct signing *signing, struct error *error) {
    struct canonical_list *list = &signing->headers;
    if (list->bytes.failed)
        return out_of_memory(error);
    sort(list);
    for (size_t i = 0; i < list->count; i++) {
        if (i && strcmp(name_at(list, i - 1), name_at(list, i)) == 0)
            return error_set(error, ERROR_INVALID, "the field \"%.60s\" is there twice",
                             name_at(list, i));
        buffer_printf(&signing->signed_names, "%s%s", i ? ";" : "", name_at(list, i));
    }
    return !signing->signed_names.failed || out_of_memory(error);
}

/* ---- path and query ---- */

static void append_path(const struct sigv4_request *request, struct buffer *out) {
    buffer_append_percent(out, *request->path ? request->path : "/", "/");
}

static void append_query(const struct canonical_list *query, struct buffer *out) {
    for (size_t i = 0; i < query->count; i++)
        buffer_printf(out, "%s%s=%s", i ? "&" : "", name_at(query, i), value_at(query, i));
}

static bool append_target(const struct sigv4_request *request, const struct canonical_list *query,
                          struct buffer *target, struct error *error) {
    append_path(request, target);
    if (query->count)
        buffer_append_string(target, "?");
    append_query(query, target);
    return !target->failed || out_of_memory(error);
}

bool sigv4_target(const struct sigv4_request *request, struct buffer *target, struct error *error) {
    cleanup_list struct canonical_list query = {0};
    if (!read_query(request, &query, error))
        return false;
    if (query.bytes.failed)
        return out_of_memory(error);
    sort(&query);
    return append_target(request, &query, target, error);
}

/* ---- the signature ---- */

static void write_hex(const unsigned char *bytes, char out[static HEX_SIZE]) {
    for (size_t i = 0; i < HASH_SIZE; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

static bool hash_hex(const struct buffer *bytes, char out[static HEX_SIZE]) {
    unsigned char hash[HASH_SIZE];
    if (EVP_Digest(bytes->bytes, bytes->length, hash, NULL, EVP_sha256(), NULL) != 1)
        return false;
    write_hex(hash, out);
    return true;
}

/* `out` may be `key`. */
static bool hmac(const unsigned char *key, size_t key_length, const char *text, size_t length,
                 unsigned char out[static HASH_SIZE]) {
    unsigned char made[HASH_SIZE];
    bool ok =
        HMAC(EVP_sha256(), key, (int)key_length, (const unsigned char *)text, length, made, NULL);
    memcpy(out, made, sizeof made);
    explicit_bzero(made, sizeof made);
    return ok;
}

static bool make_key(const struct signing *signing, unsigned char key[static HASH_SIZE]) {
    const struct sigv4_request *request = signing->request;
    cleanup_secret_buffer struct buffer first = {0};
    buffer_reserve(&first, strlen(request->secret) + SECRET_SPARE);
    buffer_printf(&first, "AWS4%s", request->secret);
    return !first.failed &&
           hmac((const unsigned char *)first.bytes, first.length, signing->date, DAY_LENGTH, key) &&
           hmac(key, HASH_SIZE, request->region, strlen(request->region), key) &&
           hmac(key, HASH_SIZE, request->service, strlen(request->service), key) &&
           hmac(key, HASH_SIZE, "aws4_request", strlen("aws4_request"), key);
}

static void append_canonical_request(const struct signing *signing, struct buffer *out) {
    const struct sigv4_request *request = signing->request;
    buffer_printf(out, "%s\n", request->method);
    if (is_s3(request)) {
        append_path(request, out);
    } else {
        cleanup_buffer struct buffer once = {0};
        append_path(request, &once);
        if (once.failed)
            out->failed = true;
        else
            buffer_append_percent(out, once.bytes, "/");
    }
    buffer_append_string(out, "\n");
    append_query(&signing->query, out);
    buffer_append_string(out, "\n");
    for (size_t i = 0; i < signing->headers.count; i++)
        buffer_printf(out, "%s:%s\n", name_at(&signing->headers, i),
                      value_at(&signing->headers, i));
    buffer_printf(out, "\n%s\n%s", signing->signed_names.bytes, request->payload_hash);
}

/* Query and headers are complete and sorted. */
static bool make_signature(struct signing *signing, struct error *error) {
    cleanup_secret_buffer struct buffer canonical = {0};
    cleanup_buffer struct buffer text = {0};
    unsigned char key[HASH_SIZE], made[HASH_SIZE];
    char hash[HEX_SIZE];
    buffer_reserve(&canonical, signing->query.bytes.length + signing->headers.bytes.length + 4096 +
                                   3 * strlen(signing->request->path));
    append_canonical_request(signing, &canonical);
    if (canonical.failed || !hash_hex(&canonical, hash))
        return out_of_memory(error);
    buffer_printf(&text, ALGORITHM "\n%s\n%s\n%s", signing->date, signing->scope.bytes, hash);
    bool ok = !text.failed && make_key(signing, key) &&
              hmac(key, HASH_SIZE, text.bytes, text.length, made);
    explicit_bzero(key, sizeof key);
    if (!ok)
        return out_of_memory(error);
    write_hex(made, signing->signature);
    return true;
}

/* Sets date and scope, and reads what both kinds of signature have. */
static bool begin(struct signing *signing, struct error *error) {
    const struct sigv4_request *request = signing->request;
    time_t seconds = (time_t)request->time_s;
    struct tm parts;
    if (request->time_s < 0 || !gmtime_r(&seconds, &parts) ||
        strftime(signing->date, sizeof signing->date, "%Y%m%dT%H%M%SZ", &parts) !=
            sizeof signing->date - 1)
        return error_set(error, ERROR_INVALID, "no time to sign with");
    buffer_printf(&signing->scope, "%.8s/%s/%s/aws4_request", signing->date, request->region,
                  request->service);
    size_t token = has_token(request) ? strlen(request->session_token) : 0;
    buffer_reserve(&signing->query.bytes, 1024 + 3 * token); /* so that the token is not moved */
    buffer_reserve(&signing->headers.bytes, 4096 + token);
    if (signing->scope.failed)
        return out_of_memory(error);
    return read_query(request, &signing->query, error) &&
           read_headers(request, &signing->headers, error);
}

/* ---- as header fields ---- */

void sigv4_fields_wipe(struct sigv4_fields *fields) {
    buffer_finish(&fields->payload);
    secret_buffer_free(&fields->token);
    buffer_finish(&fields->authorization);
    *fields = (struct sigv4_fields){0};
}

static bool write_fields(const struct signing *signing, struct sigv4_fields *fields,
                         struct error *error) {
    const struct sigv4_request *request = signing->request;
    size_t count = 0;
    snprintf(fields->date, sizeof fields->date, "x-amz-date: %s", signing->date);
    fields->lines[count++] = fields->date;
    if (is_s3(request)) {
        buffer_printf(&fields->payload, "x-amz-content-sha256: %s", request->payload_hash);
        fields->lines[count++] = fields->payload.bytes;
    }
    if (has_token(request)) {
        buffer_reserve(&fields->token, strlen(request->session_token) + SECRET_SPARE);
        buffer_printf(&fields->token, "x-amz-security-token: %s", request->session_token);
        fields->lines[count++] = fields->token.bytes;
    }
    buffer_printf(&fields->authorization,
                  "Authorization: " ALGORITHM " Credential=%s/%s, SignedHeaders=%s, Signature=%s",
                  request->key_id, signing->scope.bytes, signing->signed_names.bytes,
                  signing->signature);
    fields->lines[count] = fields->authorization.bytes;
    return (!fields->payload.failed && !fields->token.failed && !fields->authorization.failed) ||
           out_of_memory(error);
}

bool sigv4_sign(const struct sigv4_request *request, struct sigv4_fields *fields,
                struct error *error) {
    cleanup_signing struct signing signing = {.request = request};
    sigv4_fields_wipe(fields);
    if (!begin(&signing, error))
        return false;
    add_header(&signing.headers, "x-amz-date", signing.date);
    if (is_s3(request))
        add_header(&signing.headers, "x-amz-content-sha256", request->payload_hash);
    if (has_token(request))
        add_header(&signing.headers, "x-amz-security-token", request->session_token);
    if (signing.query.bytes.failed)
        return out_of_memory(error);
    sort(&signing.query);
    return finish_headers(&signing, error) && make_signature(&signing, error) &&
           write_fields(&signing, fields, error);
}

/* ---- as a presigned URL ---- */

bool sigv4_presign(const struct sigv4_request *request, unsigned expires_s, struct buffer *target,
                   struct error *error) {
    cleanup_signing struct signing signing = {.request = request};
    cleanup_buffer struct buffer credential = {0};
    char expires[16];
    if (expires_s < 1 || expires_s > SIGV4_EXPIRES_LIMIT_S)
        return error_set(error, ERROR_INVALID, "a presigned URL is good for 1 s to %d s",
                         SIGV4_EXPIRES_LIMIT_S);
    if (!begin(&signing, error) || !finish_headers(&signing, error))
        return false;
    snprintf(expires, sizeof expires, "%u", expires_s);
    buffer_printf(&credential, "%s/%s", request->key_id, signing.scope.bytes);
    if (credential.failed)
        return out_of_memory(error);
    add_pair(&signing.query, "X-Amz-Algorithm", ALGORITHM);
    add_pair(&signing.query, "X-Amz-Credential", credential.bytes);
    add_pair(&signing.query, "X-Amz-Date", signing.date);
    add_pair(&signing.query, "X-Amz-Expires", expires);
    add_pair(&signing.query, "X-Amz-SignedHeaders", signing.signed_names.bytes);
    if (has_token(request))
        add_pair(&signing.query, "X-Amz-Security-Token", request->session_token);
    if (signing.query.bytes.failed)
        return out_of_memory(error);
    sort(&signing.query);
    if (!make_signature(&signing, error) || !append_target(request, &signing.query, target, error))
        return false;
    return buffer_printf(target, "&X-Amz-Signature=%s", signing.signature) || out_of_memory(error);
}
