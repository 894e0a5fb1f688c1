/* Credential files of every kind, and the bytes that tarn reads because of them: subject tokens
 * from files, programs and URLs, responses of token services. The input is the credential file and
 * then these pieces in the order in which they are read, with a NUL byte before each. Nothing
 * leaves the process: each file, program and request gives the next piece. */
#include <string.h>
#include <sys/stat.h>
#include "auth/google/credential_file.h"
#include "auth/google/document.h"
#include "auth/program.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/secret.h"
#include "client/request.h"
#include "fuzz.h"
#include "pieces.h"

bool __wrap_client_request(struct client *client, const struct client_request *request,
                           struct client_response *response, struct error *error);
bool __wrap_client_request(struct client *client, const struct client_request *request,
                           struct client_response *response, struct error *error) {
    (void)client;
    for (size_t i = 0; i < request->wanted.count; i++)
        text_copy(text_of("Google"), request->wanted.fields[i].value,
                  request->wanted.fields[i].size);
    MUST(strncmp(request->url, "https://", 8) == 0 || strncmp(request->url, "http://", 7) == 0);
    for (size_t i = 0; request->headers && request->headers[i]; i++)
        MUST(!strpbrk(request->headers[i], "\r\n"));
    struct text body = next_piece();
    *response = (struct client_response){.status = 200};
    if (text_starts(body, "4")) /* a refusal */
        response->status = 400;
    return buffer_append(&response->body, body.at, body.length) ||
           error_set(error, ERROR_MEMORY, "no memory");
}

bool __wrap_program_run(const char *const *arguments, const char *input, int timeout_ms,
                        struct program_result *result, struct error *error);
bool __wrap_program_run(const char *const *arguments, const char *input, int timeout_ms,
                        struct program_result *result, struct error *error) {
    (void)arguments, (void)input, (void)timeout_ms;
    *result = (struct program_result){0};
    struct text piece = next_piece();
    return buffer_append(&result->out, piece.at, piece.length) ||
           error_set(error, ERROR_MEMORY, "no memory");
}

char *__wrap_file_read_small(const char *path, size_t limit, unsigned rules, size_t *length,
                             struct stat *status, struct error *error);
char *__wrap_file_read_small(const char *path, size_t limit, unsigned rules, size_t *length,
                             struct stat *status, struct error *error) {
    (void)path, (void)error;
    MUST(rules == (FILE_REGULAR | FILE_TEXT) && !length);
    if (status)
        *status = (struct stat){0};
    struct text piece = next_piece();
    piece.length = piece.length < limit ? piece.length : limit;
    return text_dup(piece);
}

void __wrap_clock_sleep_ms(int64_t ms);
void __wrap_clock_sleep_ms(int64_t ms) {
    (void)ms;
}

static void check_token(const struct google_token *token) {
    int64_t left_ms = token->expires_ms - clock_ms();
    MUST(token->secret && *token->secret);
    for (const char *c = token->secret; *c; c++)
        MUST(*c > ' ' && *c < 0x7f);
    MUST(left_ms <= 43200 * 1000);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    setenv("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1", 1); /* the programs never run */
    unsetenv("GOOGLE_CLOUD_QUOTA_PROJECT");
    rest = (struct text){(const char *)bytes, length};
    struct text document = next_piece();
    cleanup_secret_json json_t *json = bounded_json_load(document.at, document.length, NULL);
    struct google_token token = {0};
    struct error error = {0};
    struct ask ask = {.scope = GOOGLE_SCOPE};
    if (credential_file_token(json, &ask, &token, &error))
        check_token(&token);
    else
        MUST(error.kind != ERROR_NONE);
    google_token_wipe(&token);
    return 0;
}
