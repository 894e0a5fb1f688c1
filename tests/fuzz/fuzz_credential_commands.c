/* Input that the kubelet and Docker write to the commands that give them credentials: the first
 * byte chooses the command. For every input, a command prints one JSON object or an error message,
 * and it prints a token for Google's registries only. */
#include <stdio.h>
#include <string.h>
#include "auth/google/google.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/secret.h"
#include "cmd/arguments.h"
#include "cmd/commands.h"
#include "cmd/standard_streams.h"
#include "fuzz.h"

static struct text input;
static bool fetched;

bool __wrap_standard_input_read(size_t limit, struct buffer *out);
bool __wrap_standard_input_read(size_t limit, struct buffer *out) {
    return input.length <= limit && buffer_append(out, input.at, input.length);
}

bool __wrap_standard_output_write(const struct buffer *bytes);
bool __wrap_standard_output_write(const struct buffer *bytes) {
    MUST(!bytes->failed && bytes->length);
    cleanup_secret_json json_t *json = bounded_json_load(bytes->bytes, bytes->length, NULL);
    MUST(json_is_object(json));
    MUST(fetched || !strstr(bytes->bytes, "the-token"));
    return true;
}

bool __wrap_google_token_fetch(const struct google_question *question, struct google_token *out,
                               struct error *error);
bool __wrap_google_token_fetch(const struct google_question *question, struct google_token *out,
                               struct error *error) {
    (void)error;
    MUST(!question->subject_token || *question->subject_token);
    fetched = true;
    *out = (struct google_token){.expires_ms = clock_ms() + 3600000, .secret = strdup("the-token")};
    MUST(out->secret);
    return true;
}

void __wrap_secret_forbid_core_dumps(void);
void __wrap_secret_forbid_core_dumps(void) {
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    static const char *get = "get";
    const struct arguments kubelet = {.command = &kubelet_credential_provider_command};
    const struct arguments docker = {
        .command = &docker_credential_command, .operands = &get, .operand_count = 1};
    static FILE *nowhere;
    FILE *out = stdout, *complaints = stderr;
    if (!nowhere)
        nowhere = fopen("/dev/null", "w");
    MUST(nowhere);
    if (length == 0)
        return 0;
    input = (struct text){(const char *)bytes + 1, length - 1};
    fetched = false;
    stdout = stderr = nowhere;
    const struct arguments *arguments = *bytes % 2 ? &kubelet : &docker;
    arguments->command->run(arguments);
    stdout = out;
    stderr = complaints;
    return 0;
}
