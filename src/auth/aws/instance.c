/*
 * The metadata service of an instance, in its second version only (IMDSv2): a token by PUT, which
 * every other request carries. A service that hands out credentials without the token would hand
 * them to whatever can be made to send a GET.
 *
 * It is looked at last and is not configured by anything, so a service that does not answer is no
 * fault, unless AWS_EC2_METADATA_SERVICE_ENDPOINT names it. From a pod that is one hop too far away
 * the PUT is never answered, which is why it waits for a second, twice at most.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "auth/aws/endpoint.h"
#include "auth/aws/reply.h"
#include "auth/aws/request.h"
#include "auth/aws/sources.h"
#include "base/secret.h"

enum { PROBES = 2, PROBE_MS = 1000, TIMEOUT_MS = 5000, ROLE_SIZE = 65, URL_SIZE = 512 };

#define ROLES_PATH  "/latest/meta-data/iam/security-credentials/"
#define REGION_PATH "/latest/meta-data/placement/region"

static const char *const hosts[] = {"169.254.169.254", "fd00:ec2::254", NULL};

struct service {
    char base[AWS_BASE_SIZE];
    bool named, is_local;
    struct buffer token; /* "X-aws-ec2-metadata-token: …" */
};

static void service_wipe(struct service *service) {
    secret_buffer_free(&service->token);
}

#define cleanup_service __attribute__((cleanup(service_wipe)))

static struct text body_of(const struct aws_request_outcome *outcome) {
    const struct buffer *body = &outcome->response.body;
    return (struct text){body->length ? body->bytes : "", body->length};
}

/* ---- which service ---- */

static bool is_set(const char *name, const char *value) {
    const char *found = aws_variable(name);
    return found && strcasecmp(found, value) == 0;
}

static bool find_service(struct service *service, struct error *error) {
    const char *named = aws_variable("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    service->named = named;
    if (!named)
        named = is_set("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "ipv6") ? "http://[fd00:ec2::254]"
                                                                         : "http://169.254.169.254";
    return aws_endpoint_base(named, "AWS_EC2_METADATA_SERVICE_ENDPOINT", hosts, service->base,
                             &service->is_local, error);
}

/* ---- asking ---- */

/* True: the token's header is in `service`. False with *silent: nothing answered. */
static bool take_token(const struct aws_question *question, struct service *service, bool *silent,
                       struct error *error) {
    static const char *const headers[] = {"X-aws-ec2-metadata-token-ttl-seconds: 21600", NULL};
    char url[URL_SIZE];
    cleanup_aws_request_outcome struct aws_request_outcome outcome = {0};
    snprintf(url, sizeof url, "%s/latest/api/token", service->base);
    const struct aws_request request = {
        .http = {.method = "PUT",
                 .url = url,
                 .headers = headers,
                 .no_proxy = service->is_local,
                 .connect_timeout_ms = PROBE_MS,
                 .total_timeout_ms = PROBE_MS},
        .attempts = PROBES,
    };
    if (!aws_request_perform(question, &request, &outcome, error)) {
        *silent = outcome.response.status == 0;
        return *silent || error_wrap(error, "IMDSv2 is needed, and no token of it could be had");
    }
    struct text token = text_trim(body_of(&outcome));
    bool ok = token.length > 0;
    for (size_t i = 0; i < token.length; i++)
        ok = ok && token.at[i] > ' ' && token.at[i] < 0x7f;
    if (!ok)
        return error_set(error, ERROR_INVALID, "PUT %s: what came is no token", url);
    buffer_reserve(&service->token, token.length + 64);
    return buffer_printf(&service->token, "X-aws-ec2-metadata-token: %.*s", TEXT_PRINT(token)) ||
           error_set(error, ERROR_MEMORY, "out of memory");
}

static bool get(const struct aws_question *question, const struct service *service,
                const char *path, struct aws_request_outcome *outcome, struct error *error) {
    const char *const headers[] = {service->token.bytes, NULL};
    char url[URL_SIZE];
    snprintf(url, sizeof url, "%s%s", service->base, path);
    const struct aws_request request = {
        .http = {.method = "GET",
                 .url = url,
                 .headers = headers,
                 .no_proxy = service->is_local,
                 .total_timeout_ms = TIMEOUT_MS},
        .attempts = AWS_REQUEST_ATTEMPTS,
        .secrets = {service->token.bytes + strlen("X-aws-ec2-metadata-token: ")},
    };
    return aws_request_perform(question, &request, outcome, error);
}

/* The first line is the name of the instance's role (IAM: [A-Za-z0-9+=,.@_-]{1,64}). */
static bool read_role(struct text body, char role[static ROLE_SIZE]) {
    struct text rest, line = text_trim(text_cut(body, '\n', &rest));
    for (size_t i = 0; i < line.length; i++) {
        if (!isalnum((unsigned char)line.at[i]) && !strchr("+=,.@_-", line.at[i]))
            return false;
    }
    return line.length && text_copy(line, role, ROLE_SIZE);
}

static bool take_credentials(const struct aws_question *question, const struct service *service,
                             struct aws_credentials *out, struct error *error) {
    static const struct aws_reply_members members = {.token = "Token", .wants_success = true};
    cleanup_aws_request_outcome struct aws_request_outcome roles = {0}, reply = {0};
    char role[ROLE_SIZE], path[sizeof ROLES_PATH + ROLE_SIZE];
    if (!get(question, service, ROLES_PATH, &roles, error))
        return roles.response.status == 404
                   ? error_set(error, ERROR_NOT_FOUND, "the instance has no role (404)")
                   : false;
    if (!read_role(body_of(&roles), role))
        return error_set(error, ERROR_INVALID, "GET %s" ROLES_PATH ": what came is no role's name",
                         service->base);
    snprintf(path, sizeof path, ROLES_PATH "%s", role);
    return get(question, service, path, &reply, error) &&
           (aws_reply_json(body_of(&reply), &members, reply.date_s, out, error) ||
            error_wrap(error, "role %s", role));
}

/* A failure is not reported, because the bucket can be asked for its region, too. */
static void take_region(const struct aws_question *question, const struct service *service,
                        char out[static AWS_REGION_SIZE]) {
    cleanup_aws_request_outcome struct aws_request_outcome outcome = {0};
    if (*question->region || !get(question, service, REGION_PATH, &outcome, NULL))
        return;
    struct text region = text_trim(body_of(&outcome));
    if (aws_region_ok(region))
        text_copy(region, out, AWS_REGION_SIZE);
}

enum aws_finding aws_instance_look(const struct aws_question *question, struct aws_answer *out,
                                   struct error *error) {
    cleanup_service struct service service = {0};
    bool silent = false;
    if (is_set("AWS_EC2_METADATA_DISABLED", "true"))
        return AWS_ABSENT;
    snprintf(out->from, sizeof out->from, "instance");
    if (!find_service(&service, error))
        return AWS_BROKEN;
    snprintf(out->from, sizeof out->from, "instance %.300s", service.base);
    if (!take_token(question, &service, &silent, error))
        return AWS_BROKEN;
    if (silent)
        return service.named ? AWS_BROKEN : AWS_ABSENT;
    if (!take_credentials(question, &service, &out->credentials, error))
        return AWS_BROKEN;
    take_region(question, &service, out->region);
    return AWS_FOUND;
}
