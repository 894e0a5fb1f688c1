/* The service of a container's credentials: of ECS, and of EKS (Pod Identity). */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include "auth/aws/endpoint.h"
#include "auth/aws/reply.h"
#include "auth/aws/request.h"
#include "auth/aws/sources.h"
#include "auth/shown.h"
#include "base/file.h"
#include "base/secret.h"

#define ECS_ADDRESS "169.254.170.2"

enum { TOKEN_LIMIT = 64 << 10, TIMEOUT_MS = 5000, URL_SIZE = 2048 };

/* Beside this machine, the addresses that may be asked by plain http. */
static const char *const hosts[] = {ECS_ADDRESS, "169.254.170.23", "fd00:ec2::23", NULL};

/* False, without an error: the source is not configured. */
static bool find_url(char url[static URL_SIZE], const char **name) {
    const char *relative = aws_variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    const char *full = aws_variable("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    *name =
        relative ? "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI" : "AWS_CONTAINER_CREDENTIALS_FULL_URI";
    if (!relative && !full)
        return false;
    int length = relative ? snprintf(url, URL_SIZE, "http://" ECS_ADDRESS "%s", relative)
                          : snprintf(url, URL_SIZE, "%s", full);
    if (length >= URL_SIZE || (relative && *relative != '/'))
        *url = '\0'; /* no URL: an error of the next step */
    return true;
}

/* Appends "Authorization: TOKEN". False: the error names file or variable. */
static bool read_token(struct buffer *header, struct error *error) {
    const char *file = aws_variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    const char *token = aws_variable("AWS_CONTAINER_AUTHORIZATION_TOKEN");
    cleanup_secret char *bytes = NULL;
    if (!file && !token)
        return true;
    if (file) {
        bytes = file_read_small(file, TOKEN_LIMIT, FILE_REGULAR | FILE_TEXT, NULL, NULL, error);
        if (!bytes)
            return error_wrap(error, "%s", shown_value(file));
        size_t length = strlen(bytes);
        while (length && isspace((unsigned char)bytes[length - 1]))
            bytes[--length] = '\0';
        token = bytes;
    }
    for (const char *c = token; *c; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            return error_set(error, ERROR_INVALID, "%s: the token has a line break in it",
                             file ? shown_value(file) : "AWS_CONTAINER_AUTHORIZATION_TOKEN");
    }
    if (!*token)
        return error_set(error, ERROR_INVALID, "%s: the token is empty",
                         file ? shown_value(file) : "AWS_CONTAINER_AUTHORIZATION_TOKEN");
    buffer_reserve(header, strlen(token) + 64);
    return buffer_printf(header, "Authorization: %s", token) ||
           error_set(error, ERROR_MEMORY, "out of memory");
}

static bool ask(const struct aws_question *question, const char *url, bool is_local,
                struct aws_credentials *out, struct error *error) {
    static const struct aws_reply_members members = {.token = "Token", .wants_success = true};
    cleanup_secret_buffer struct buffer header = {0};
    cleanup_aws_request_outcome struct aws_request_outcome outcome = {0};
    if (!read_token(&header, error))
        return false;
    const char *const headers[] = {"Accept: application/json", header.bytes, NULL};
    const struct aws_request request = {
        .http = {.method = "GET",
                 .url = url,
                 .headers = headers,
                 .no_proxy = is_local,
                 .total_timeout_ms = TIMEOUT_MS},
        .attempts = AWS_REQUEST_ATTEMPTS,
        .secrets = {header.length ? header.bytes + strlen("Authorization: ") : NULL},
    };
    if (!aws_request_perform(question, &request, &outcome, error))
        return false;
    const struct buffer *body = &outcome.response.body;
    return aws_reply_json((struct text){body->bytes, body->length}, &members, outcome.date_s, out,
                          error);
}

enum aws_finding aws_container_look(const struct aws_question *question, struct aws_answer *out,
                                    struct error *error) {
    char url[URL_SIZE], host[ORIGIN_HOST_SIZE];
    const char *name;
    struct origin origin;
    bool is_local;
    if (!find_url(url, &name))
        return AWS_ABSENT;
    snprintf(out->from, sizeof out->from, "container");
    if (!aws_endpoint_read(url, name, hosts, &origin, &is_local, error))
        return AWS_BROKEN;
    snprintf(out->from, sizeof out->from, "container %s", origin_host(&origin, host));
    return ask(question, url, is_local, &out->credentials, error) ? AWS_FOUND : AWS_BROKEN;
}
