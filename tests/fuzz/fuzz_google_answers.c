/* Responses of Google's services and output of programs; each parser reads the same bytes: OAuth
 * responses and refusals, the metadata server, IAM, gcloud, a federation's programs and files,
 * times, hosts. */
#include <string.h>
#include "auth/google/gcloud.h"
#include "auth/google/impersonation.h"
#include "auth/google/metadata.h"
#include "auth/google/subject_token.h"
#include "auth/program.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/secret.h"
#include "client/request.h"
#include "fuzz.h"

static struct text answer;
static int status;

bool __wrap_client_request(struct client *client, const struct client_request *request,
                           struct client_response *response, struct error *error);
bool __wrap_client_request(struct client *client, const struct client_request *request,
                           struct client_response *response, struct error *error) {
    (void)client;
    for (size_t i = 0; i < request->wanted.count; i++)
        text_copy(text_of("Google"), request->wanted.fields[i].value,
                  request->wanted.fields[i].size);
    *response = (struct client_response){.status = status};
    return buffer_append(&response->body, answer.at, answer.length) ||
           error_set(error, ERROR_MEMORY, "no memory");
}

bool __wrap_program_run(const char *const *arguments, const char *input, int timeout_ms,
                        struct program_result *result, struct error *error);
bool __wrap_program_run(const char *const *arguments, const char *input, int timeout_ms,
                        struct program_result *result, struct error *error) {
    (void)arguments, (void)input, (void)timeout_ms;
    *result = (struct program_result){0};
    return buffer_append(&result->out, answer.at, answer.length) ||
           error_set(error, ERROR_MEMORY, "no memory");
}

void __wrap_clock_sleep_ms(int64_t ms);
void __wrap_clock_sleep_ms(int64_t ms) {
    (void)ms;
}

static void check_token(bool ok, struct google_token *token, const struct error *error) {
    if (ok) {
        MUST(token->secret && *token->secret);
        for (const char *c = token->secret; *c; c++)
            MUST(*c > ' ' && *c < 0x7f);
        MUST(token->expires_ms - clock_ms() <= 43200 * 1000);
    } else {
        MUST(error->kind != ERROR_NONE);
    }
    google_token_wipe(token);
}

static void check_services(void) {
    struct google_token token = {0};
    struct error error = {0};
    check_token(metadata_token(NULL, "metadata.test", GOOGLE_SCOPE, true, &token, &error), &token,
                &error);
    check_token(gcloud_token(&token, &error), &token, &error);

    const struct impersonation impersonation = {
        .url = "https://iamcredentials.googleapis.com/v1/a@b:generateAccessToken",
        .scope = GOOGLE_SCOPE,
    };
    token.secret = strdup("our-own-secret");
    MUST(token.secret);
    bool ok = impersonation_token(&impersonation, &token, &error);
    MUST(ok || !strstr(error.text, "our-own-secret")); /* even if a response repeats it */
    check_token(ok, &token, &error);
}

static void check_texts(const char *text) {
    struct error error = {0};
    char host[256];
    int64_t seconds;
    cleanup_secret char *program = subject_program_read(text, 1700000000, true, &error);
    MUST(!program || *program);
    cleanup_json json_t *source = json_pack("{s:{s:s,s:s}}", "format", "type", "json",
                                            "subject_token_field_name", "access_token");
    cleanup_secret char *json = subject_token_extract(text, source, &error);
    cleanup_secret char *plain = subject_token_extract(text, NULL, &error);
    MUST((!json || *json) && (!plain || *plain));
    clock_parse_rfc3339(text, &seconds);
    if (google_host_of(text_of(text), host, sizeof host))
        MUST(*host && strlen(host) < sizeof host);
    google_host_is_registry(text_of(text));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    static const int statuses[] = {200, 400, 404, 503};
    answer = (struct text){(const char *)bytes, length};
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        status = statuses[i];
        check_services();
    }
    cleanup_free char *text = text_dup(answer);
    MUST(text);
    check_texts(text);
    return 0;
}
