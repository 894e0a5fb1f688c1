/* Roles, whose credentials the token service (STS) gives. */
#include "auth/aws/sts.h"

#include <ctype.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "auth/aws/endpoint.h"
#include "auth/aws/reply.h"
#include "auth/aws/request.h"
#include "auth/aws/sigv4.h"
#include "auth/shown.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/secret.h"

enum {
    TOKEN_LIMIT = 64 << 10, /* bytes of a web identity's token; the service takes 20,000 */
    SKEW_LIMIT_S = 240,     /* how far our clock may be off before a request is signed anew */
    ARN_LIMIT = 2048,
};

static const char form_type[] = "application/x-www-form-urlencoded";

/* ---- which service ---- */

struct service {
    char base[AWS_BASE_SIZE]; /* "https://sts.eu-central-1.amazonaws.com" */
    char region[AWS_REGION_SIZE];
    bool is_local;
};

static bool find_service(const char *region, struct service *out, struct error *error) {
    static const char *const none[] = {NULL};
    const char *replaced = aws_variable("AWS_ENDPOINT_URL_STS");
    snprintf(out->region, sizeof out->region, "%s", *region ? region : "us-east-1");
    out->is_local = false;
    if (replaced)
        return aws_endpoint_base(replaced, "AWS_ENDPOINT_URL_STS", none, out->base, &out->is_local,
                                 error);
    if (*region)
        snprintf(out->base, sizeof out->base, "https://sts.%s.amazonaws.com%s", region,
                 strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
    else
        snprintf(out->base, sizeof out->base, "https://sts.amazonaws.com");
    return true;
}

/* ---- the form ---- */

static void append(struct buffer *form, const char *name, const char *value) {
    if (!value)
        return;
    buffer_printf(form, "%s%s=", form->length ? "&" : "", name);
    buffer_append_percent(form, value, "");
}

static bool write_form(const struct aws_role *role, const char *action, const char *token,
                       struct buffer *form, struct error *error) {
    if (!text_starts(text_of(role->arn), "arn:") || strlen(role->arn) > ARN_LIMIT)
        return error_set(error, ERROR_INVALID, "\"%.100s\" is not the ARN of a role",
                         shown_value(role->arn));
    buffer_reserve(form, 2048 + 3 * (strlen(role->arn) + (token ? strlen(token) : 0)));
    append(form, "Action", action);
    append(form, "Version", "2011-06-15");
    append(form, "RoleArn", role->arn);
    append(form, "RoleSessionName", role->session_name ? role->session_name : "tarn");
    append(form, "ExternalId", role->external_id);
    append(form, "DurationSeconds", role->duration_s);
    append(form, "WebIdentityToken", token);
    return !form->failed || error_set(error, ERROR_MEMORY, "out of memory");
}

static struct aws_request request_of(const struct service *service, const struct buffer *form,
                                     const char *const *headers, const char *url) {
    return (struct aws_request){
        .http = {.method = "POST",
                 .url = url,
                 .headers = headers,
                 .body = {.bytes = form->bytes, .length = form->length},
                 .no_proxy = service->is_local},
        .attempts = AWS_REQUEST_ATTEMPTS,
    };
}

static bool read_reply(const struct aws_request_outcome *outcome, const char *url,
                       struct aws_credentials *out, struct error *error) {
    const struct buffer *body = &outcome->response.body;
    return aws_reply_xml((struct text){body->bytes, body->length}, outcome->date_s, out, error) ||
           error_wrap(error, "POST %s", url);
}

/* ---- by a web identity ---- */

static char *read_token(const char *path, struct error *error) {
    cleanup_secret char *bytes =
        file_read_small(path, TOKEN_LIMIT, FILE_REGULAR | FILE_TEXT, NULL, NULL, error);
    if (!bytes)
        return NULL;
    size_t length = strlen(bytes);
    while (length && isspace((unsigned char)bytes[length - 1]))
        length--;
    if (!length) {
        error_set(error, ERROR_INVALID, "the file is empty");
        return NULL;
    }
    char *token = text_dup((struct text){bytes, length});
    if (!token)
        error_set(error, ERROR_MEMORY, "out of memory");
    return token;
}

bool aws_sts_by_web_identity(const struct aws_question *question, const struct aws_role *role,
                             const char *token_file, struct aws_credentials *out,
                             struct error *error) {
    static const char *const headers[] = {"Content-Type: application/x-www-form-urlencoded",
                                          "Accept: text/xml, application/xml", NULL};
    cleanup_secret_buffer struct buffer form = {0};
    cleanup_aws_request_outcome struct aws_request_outcome outcome = {0};
    struct service service;
    char url[AWS_BASE_SIZE + 1];
    if (!find_service(role->region, &service, error))
        return false;
    cleanup_secret char *token = read_token(token_file, error);
    if (!token)
        return error_wrap(error, "%s", shown_value(token_file));
    if (!write_form(role, "AssumeRoleWithWebIdentity", token, &form, error))
        return false;
    snprintf(url, sizeof url, "%s/", service.base);
    struct aws_request request = request_of(&service, &form, headers, url);
    request.secrets[0] = token;
    return aws_request_perform(question, &request, &outcome, error) &&
           read_reply(&outcome, url, out, error);
}

/* ---- by other credentials ---- */

static bool hash_form(const struct buffer *form, char out[static 65]) {
    unsigned char hash[32];
    if (EVP_Digest(form->bytes, form->length, hash, NULL, EVP_sha256(), NULL) != 1)
        return false;
    for (size_t i = 0; i < sizeof hash; i++)
        snprintf(out + 2 * i, 3, "%02x", hash[i]);
    return true;
}

/* One signed request, by a clock that is `ahead_s` ahead of ours. */
static bool ask_signed(const struct aws_question *question, const struct service *service,
                       const struct buffer *form, const struct aws_credentials *by, int64_t ahead_s,
                       struct aws_request_outcome *outcome, struct error *error) {
    char hash[65], url[AWS_BASE_SIZE + 1];
    cleanup_sigv4_fields struct sigv4_fields fields = {0};
    const struct sigv4_pair type[] = {{"Content-Type", form_type}};
    if (!hash_form(form, hash))
        return error_set(error, ERROR_MEMORY, "out of memory");
    const struct sigv4_request unsigned_request = {
        .method = "POST",
        .host = strstr(service->base, "://") + 3,
        .path = "/",
        .headers = type,
        .header_count = 1,
        .payload_hash = hash,
        .region = service->region,
        .service = "sts",
        .key_id = by->key_id,
        .secret = by->secret,
        .session_token = by->session_token,
        .time_s = clock_wall_s() + ahead_s,
    };
    if (!sigv4_sign(&unsigned_request, &fields, error))
        return false;
    const char *headers[8] = {"Content-Type: application/x-www-form-urlencoded",
                              "Accept: text/xml, application/xml"};
    for (size_t i = 0; fields.lines[i]; i++)
        headers[2 + i] = fields.lines[i];
    snprintf(url, sizeof url, "%s/", service->base);
    struct aws_request request = request_of(service, form, headers, url);
    request.secrets[0] = by->secret;
    request.secrets[1] = by->session_token;
    return aws_request_perform(question, &request, outcome, error);
}

bool aws_sts_by_role(const struct aws_question *question, const struct aws_role *role,
                     const struct aws_credentials *by, struct aws_credentials *out,
                     struct error *error) {
    cleanup_buffer struct buffer form = {0};
    cleanup_aws_request_outcome struct aws_request_outcome outcome = {0};
    struct service service;
    char url[AWS_BASE_SIZE + 1];
    if (!find_service(role->region, &service, error) ||
        !write_form(role, "AssumeRole", NULL, &form, error))
        return false;
    bool ok = ask_signed(question, &service, &form, by, 0, &outcome, error);
    int64_t ahead_s = outcome.date_s ? outcome.date_s - clock_wall_s() : 0;
    bool clock_is_off = ahead_s > SKEW_LIMIT_S || ahead_s < -SKEW_LIMIT_S;
    if (!ok && outcome.response.status >= 400 && outcome.response.status < 500 && clock_is_off)
        ok = ask_signed(question, &service, &form, by, ahead_s, &outcome, error);
    snprintf(url, sizeof url, "%s/", service.base);
    return ok && read_reply(&outcome, url, out, error);
}
