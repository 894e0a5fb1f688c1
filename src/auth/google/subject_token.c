/* A federation's subject token: from a file or a URL, as text or as a member of a JSON object. */
#include "auth/google/subject_token.h"

#include <string.h>
#include "auth/google/document.h"
#include "auth/google/endpoint.h"
#include "auth/google/request.h"
#include "auth/shown.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/secret.h"

enum { HEADERS_LIMIT = 16 };

#define WHITE " \t\r\n"

static char *copy_token(struct text text, struct error *error) {
    if (text.length == 0 || memchr(text.at, '\0', text.length)) {
        error_set(error, ERROR_INVALID, "the subject token is empty");
        return NULL;
    }
    char *copy = text_dup(text);
    if (!copy)
        error_set(error, ERROR_MEMORY, "out of memory");
    return copy;
}

char *subject_token_extract(const char *text, const json_t *source, struct error *error) {
    const json_t *format = json_object_get(source, "format");
    const char *type;
    if (!document_optional(format, "type", "text", &type, error))
        return NULL;
    if (strcmp(type, "text") == 0) {
        struct text token = text_of(text);
        while (token.length && strchr(WHITE, *token.at))
            token = text_from(token, 1);
        while (token.length && strchr(WHITE, token.at[token.length - 1]))
            token.length--;
        return copy_token(token, error);
    }
    if (strcmp(type, "json") != 0) {
        error_set(error, ERROR_INVALID, "credential_source.format.type is neither text nor json");
        return NULL;
    }
    const char *field = document_string(format, "subject_token_field_name", error);
    if (!field)
        return NULL;
    cleanup_secret_json json_t *json = bounded_json_load(text, strlen(text), NULL);
    const char *token = json_string_value(json_object_get(json, field));
    if (!token) {
        error_set(error, ERROR_INVALID,
                  "the subject token is not a JSON object with a string %.60s", field);
        return NULL;
    }
    return copy_token(text_of(token), error);
}

static char *from_file(const json_t *source, struct error *error) {
    const char *path = document_string(source, "file", error);
    if (!path)
        return NULL;
    cleanup_secret char *text =
        file_read_small(path, SUBJECT_TOKEN_LIMIT, FILE_REGULAR | FILE_TEXT, NULL, NULL, error);
    char *token = text ? subject_token_extract(text, source, error) : NULL;
    if (!token)
        error_wrap(error, "subject token file %s", shown_value(path));
    return token;
}

/* ---- from a URL ---- */

struct header_lines {
    char *lines[HEADERS_LIMIT + 1]; /* owned; NULL-terminated; may hold a secret */
};

static void free_lines(struct header_lines *headers) {
    for (size_t i = 0; i < HEADERS_LIMIT && headers->lines[i]; i++)
        secret_free(&headers->lines[i]);
}

#define cleanup_lines __attribute__((cleanup(free_lines)))

/* RFC 9110 §5: a name is a token, and a value has no control characters. */
static bool is_header(const char *name, const char *value) {
    static const char token[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                                "!#$%&'*+-.^_`|~";
    for (const char *c = value; *c; c++) {
        if (((unsigned char)*c < ' ' && *c != '\t') || *c == 0x7f)
            return false;
    }
    return *name && strspn(name, token) == strlen(name);
}

static bool read_headers(const json_t *source, struct header_lines *out, struct error *error) {
    json_t *headers = json_object_get(source, "headers");
    const char *name;
    json_t *value;
    size_t count = 0;
    if (headers && !json_is_object(headers) && !json_is_null(headers))
        return error_set(error, ERROR_INVALID, "credential_source.headers is not an object");
    json_object_foreach (headers, name, value) {
        const char *text = json_string_value(value);
        if (!text || !is_header(name, text) || count == HEADERS_LIMIT)
            return error_set(error, ERROR_INVALID, "credential_source.headers cannot be sent");
        struct buffer line = {0};
        if (!buffer_printf(&line, "%s: %s", name, text))
            return error_set(error, ERROR_MEMORY, "out of memory");
        out->lines[count++] = line.bytes;
    }
    return true;
}

static char *from_url(struct client *client, const json_t *source, struct error *error) {
    const char *url = document_string(source, "url", error);
    cleanup_lines struct header_lines headers = {0};
    if (!url ||
        !endpoint_check(url, ENDPOINT_SUBJECT, GOOGLE_UNIVERSE, "credential_source.url", error) ||
        !read_headers(source, &headers, error))
        return NULL;
    struct google_request request = {
        .client = client,
        .http = {.method = "GET",
                 .url = url,
                 .headers = (const char *const *)headers.lines,
                 .no_proxy = endpoint_is_local(url),
                 .body_limit = SUBJECT_TOKEN_LIMIT},
        .attempts = GOOGLE_REQUEST_ATTEMPTS,
    };
    /* A header's value is usually a secret, so that none may stand in an error. */
    for (size_t i = 0; i < GOOGLE_REQUEST_SECRETS_LIMIT && headers.lines[i]; i++)
        request.secrets[i] = strchr(headers.lines[i], ':') + 2;
    struct client_response response = {0};
    char *token = NULL;
    if (google_request_perform(&request, &response, error)) {
        if (response.body.length == 0 || strlen(response.body.bytes) != response.body.length)
            error_set(error, ERROR_INVALID, "%.*s: the response is empty or holds a NUL byte",
                      (int)strcspn(url, "?#"), url);
        else if (!(token = subject_token_extract(response.body.bytes, source, error)))
            error_wrap(error, "%.*s", (int)strcspn(url, "?#"), url);
    }
    client_response_wipe(&response);
    if (!token)
        error_wrap(error, "subject token");
    return token;
}

char *subject_token_get(const struct subject_question *question, struct error *error) {
    const json_t *source = question->source;
    const char *environment = json_string_value(json_object_get(source, "environment_id"));
    bool file = json_object_get(source, "file"), url = json_object_get(source, "url"),
         executable = json_object_get(source, "executable");
    if (!json_is_object(source)) {
        error_set(error, ERROR_INVALID, "credential_source is missing or not an object");
    } else if (environment || strstr(question->token_type, "aws4_request")) {
        error_set(error, ERROR_UNSUPPORTED,
                  "federation from AWS (environment_id %.20s) is not supported: use a "
                  "credential_source of file, url or executable with an OIDC or SAML token, or a "
                  "service account's key",
                  environment ? environment : "missing");
    } else if (json_object_get(source, "certificate")) {
        error_set(error, ERROR_UNSUPPORTED,
                  "federation by X.509 certificate is not supported: use a credential_source of "
                  "file, url or executable");
    } else if (file + url + executable != 1) {
        error_set(
            error, ERROR_INVALID,
            "credential_source holds %d of file, url and executable; it must hold exactly one",
            file + url + executable);
    } else {
        return file  ? from_file(source, error)
               : url ? from_url(question->client, source, error)
                     : subject_program_token(question, error);
    }
    return NULL;
}
