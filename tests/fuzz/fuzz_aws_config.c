/* AWS's shared files, and what is read because of them: tokens, what programs print, what services
 * send. The input is ~/.aws/credentials, then ~/.aws/config, and then these pieces in the order in
 * which they are read, with a NUL byte before each. Nothing leaves the process. */
#include <string.h>
#include <sys/stat.h>
#include "auth/aws/profiles.h"
#include "auth/aws/sources.h"
#include "auth/program.h"
#include "base/cancel.h"
#include "base/clock.h"
#include "base/file.h"
#include "client/request.h"
#include "fuzz.h"
#include "pieces.h"

bool __wrap_client_request(struct client *client, const struct client_request *request,
                           struct client_response *response, struct error *error);
bool __wrap_client_request(struct client *client, const struct client_request *request,
                           struct client_response *response, struct error *error) {
    (void)client;
    for (size_t i = 0; request->headers && request->headers[i]; i++)
        MUST(!strpbrk(request->headers[i], "\r\n"));
    struct text body = next_piece();
    *response = (struct client_response){.status = text_starts(body, "4") ? 400 : 200};
    return buffer_append(&response->body, body.at, body.length) ||
           error_set(error, ERROR_MEMORY, "no memory");
}

bool __wrap_program_run(const char *const *arguments, const char *input, int timeout_ms,
                        struct program_result *result, struct error *error);
bool __wrap_program_run(const char *const *arguments, const char *input, int timeout_ms,
                        struct program_result *result, struct error *error) {
    (void)input, (void)timeout_ms;
    MUST(*arguments && **arguments);
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
    MUST(rules == (FILE_REGULAR | FILE_TEXT) && !status);
    struct text piece = next_piece();
    piece.length = piece.length < limit ? piece.length : limit;
    if (length)
        *length = piece.length;
    char *copy = text_dup(piece);
    MUST(copy);
    return copy;
}

bool __wrap_cancel_sleep(const struct cancel *cancel, int64_t until_ms, struct error *error);
bool __wrap_cancel_sleep(const struct cancel *cancel, int64_t until_ms, struct error *error) {
    (void)cancel, (void)until_ms, (void)error;
    return true;
}

static void check_profiles(struct text piece, enum aws_profiles_kind kind) {
    cleanup_aws_profiles struct aws_profiles profiles = {0};
    struct error error = {0};
    char *copy = text_dup(piece);
    MUST(copy);
    if (aws_profiles_read(copy, kind, &profiles, &error)) {
        for (size_t i = 0; i < profiles.count; i++) {
            MUST(!strpbrk(profiles.entries[i].value, "\n"));
            MUST(!memchr(profiles.entries[i].profile.at, '\n', profiles.entries[i].profile.length));
        }
    } else {
        MUST(error.kind == ERROR_INVALID && !profiles.entries);
    }
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    const struct aws_settings settings = {.file = "/credentials"};
    const struct aws_question question = {.settings = &settings};
    struct aws_answer found = {0};
    struct error error = {0};
    char region[AWS_REGION_SIZE];
    const struct text all = {length ? (const char *)bytes : "", length};
    MUST(setenv("HOME", "/home/fuzz", 1) == 0);
    rest = all;
    struct text first = next_piece();
    check_profiles(first, AWS_PROFILES_CREDENTIALS);
    check_profiles(first, AWS_PROFILES_CONFIG);
    rest = all;
    enum aws_finding finding = aws_shared_look(&question, &found, &error);
    MUST(finding == AWS_FOUND ? *found.credentials.key_id && *found.credentials.secret
                              : finding == AWS_BROKEN && error.kind != ERROR_NONE);
    MUST(*found.from);
    aws_credentials_wipe(&found.credentials);
    rest = all;
    aws_shared_region(&settings, region);
    MUST(!*region || aws_region_ok(text_of(region)));
    rest = all;
    aws_shared_may_run(&settings);
    return 0;
}
