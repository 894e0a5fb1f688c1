/* What AWS's services of credentials and programs send: JSON, the XML of the token service,
 * refusals, tokens and names of roles. Each reader gets the same bytes. */
#include <string.h>
#include "auth/aws/reply.h"
#include "auth/aws/sources.h"
#include "base/cancel.h"
#include "base/clock.h"
#include "client/request.h"
#include "fuzz.h"

static struct text answer;
static int status;

bool __wrap_client_request(struct client *client, const struct client_request *request,
                           struct client_response *response, struct error *error);
bool __wrap_client_request(struct client *client, const struct client_request *request,
                           struct client_response *response, struct error *error) {
    (void)client;
    for (size_t i = 0; request->headers && request->headers[i]; i++)
        MUST(!strpbrk(request->headers[i], "\r\n"));
    MUST(strncmp(request->url, "http://169.254.169.254/latest/", 30) == 0);
    MUST(!strpbrk(request->url, " \r\n?#"));
    *response = (struct client_response){.status = status};
    return buffer_append(&response->body, answer.at, answer.length) ||
           error_set(error, ERROR_MEMORY, "no memory");
}

bool __wrap_cancel_sleep(const struct cancel *cancel, int64_t until_ms, struct error *error);
bool __wrap_cancel_sleep(const struct cancel *cancel, int64_t until_ms, struct error *error) {
    (void)cancel, (void)until_ms, (void)error;
    return true;
}

static void check_field(const char *value) {
    for (const char *c = value; *c; c++)
        MUST(*c > ' ' && *c < 0x7f);
}

static void check(bool ok, struct aws_credentials *credentials, const struct error *error) {
    if (ok) {
        MUST(*credentials->key_id && *credentials->secret);
        check_field(credentials->key_id);
        check_field(credentials->secret);
        check_field(credentials->session_token ? credentials->session_token : "");
        MUST(credentials->expires_ms > clock_ms() - 1000);
    } else {
        MUST(error->kind != ERROR_NONE && !credentials->secret);
    }
    aws_credentials_wipe(credentials);
}

static void check_replies(void) {
    static const struct aws_reply_members members[] = {
        {.token = "Token", .wants_success = true},
        {.token = "SessionToken", .wants_version1 = true},
    };
    struct aws_credentials credentials;
    struct error error;
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        error = (struct error){0};
        check(aws_reply_json(answer, &members[i], (int64_t)i * 1000, &credentials, &error),
              &credentials, &error);
    }
    error = (struct error){0};
    check(aws_reply_xml(answer, 0, &credentials, &error), &credentials, &error);
    struct aws_reply_refusal refusal;
    aws_reply_refusal(answer, &refusal);
    for (const char *c = refusal.message; *c; c++)
        MUST(*c >= ' ' && *c < 0x7f);
    for (const char *c = refusal.code; *c; c++)
        MUST(*c >= ' ' && *c < 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    static const int statuses[] = {200, 400, 404, 503};
    const struct aws_settings settings = {0};
    const struct aws_question question = {.settings = &settings};
    answer = (struct text){length ? (const char *)bytes : "", length};
    check_replies();
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        struct aws_answer found = {0};
        struct error error = {0};
        status = statuses[i];
        bool ok = aws_instance_look(&question, &found, &error) == AWS_FOUND;
        check(ok, &found.credentials, &error);
        MUST(!*found.region || aws_region_ok(text_of(found.region)));
    }
    return 0;
}
