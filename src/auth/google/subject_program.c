/*
 * A subject token from a program: credential_source.executable.
 *
 * A credential file may be of unknown origin, and this kind names a command. So the command runs
 * only with GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES=1, and without a shell: it is split at white
 * space.
 */
#include <stdlib.h>
#include <string.h>
#include "auth/google/document.h"
#include "auth/google/subject_token.h"
#include "auth/program.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/secret.h"

enum {
    DEFAULT_TIMEOUT_MS = 30000,
    LEAST_TIMEOUT_MS = 5000,
    MOST_TIMEOUT_MS = 120000,
    WORDS_LIMIT = 32,
    VARIABLES = 7,
    NOT_FOUND_STATUS = 127, /* of env, when there is no such program */
};

#define VARIABLE(name) "GOOGLE_EXTERNAL_ACCOUNT_" name

/* ---- what it prints ---- */

static char *read_token(const json_t *json, struct error *error) {
    const char *type = document_string(json, "token_type", error);
    if (!type)
        return NULL;
    bool saml = text_ends(text_of(type), ":saml2");
    if (!saml && !text_ends(text_of(type), ":jwt") && !text_ends(text_of(type), ":id_token")) {
        error_set(error, ERROR_UNSUPPORTED, "token_type \"%.60s\" is not supported", type);
        return NULL;
    }
    const char *token = document_string(json, saml ? "saml_response" : "id_token", error);
    char *copy = token ? strdup(token) : NULL;
    if (token && !copy)
        error_set(error, ERROR_MEMORY, "out of memory");
    return copy;
}

char *subject_program_read(const char *text, int64_t now_s, bool needs_end, struct error *error) {
    cleanup_secret_json json_t *json = bounded_json_load(text, strlen(text), NULL);
    const json_t *version = json_object_get(json, "version");
    const json_t *success = json_object_get(json, "success");
    const json_t *end = json_object_get(json, "expiration_time");
    if (!json_is_object(json)) {
        error_set(error, ERROR_INVALID, "no JSON object");
    } else if (!json_is_integer(version) || !json_is_boolean(success)) {
        error_set(error, ERROR_INVALID, "version or success is missing");
    } else if (json_integer_value(version) != 1) {
        error_set(error, ERROR_UNSUPPORTED, "version %lld; 1 is supported",
                  (long long)json_integer_value(version));
    } else if (json_is_false(success)) {
        const char *code = json_string_value(json_object_get(json, "code"));
        const char *message = json_string_value(json_object_get(json, "message"));
        error_set(error, ERROR_DENIED, "it failed with code %.20s: %.200s", code ? code : "?",
                  message ? message : "no message");
    } else if (end ? !json_is_integer(end) : needs_end) {
        error_set(error, ERROR_INVALID, "expiration_time is missing or not a number");
    } else if (end && json_integer_value(end) <= now_s) {
        error_set(error, ERROR_NOT_FOUND, "its token has expired");
    } else {
        return read_token(json, error);
    }
    return NULL;
}

/* ---- running it ---- */

struct command_line {
    struct buffer variables[VARIABLES];
    char *words; /* the command, cut at white space */
    const char *arguments[1 + VARIABLES + WORDS_LIMIT + 1];
};

static void command_free(struct command_line *command) {
    for (size_t i = 0; i < VARIABLES; i++)
        buffer_finish(&command->variables[i]);
    free(command->words);
}

#define cleanup_command __attribute__((cleanup(command_free)))

/* Builds `env NAME=VALUE … PROGRAM ARGUMENT …`. */
static bool command_build(struct command_line *command, const struct subject_question *question,
                          const char *line, const char *output_file, struct error *error) {
    const char *const variables[VARIABLES][2] = {
        {VARIABLE("AUDIENCE"), question->audience},
        {VARIABLE("TOKEN_TYPE"), question->token_type},
        {VARIABLE("ID"), question->account ? question->account : ""},
        {VARIABLE("IMPERSONATED_EMAIL"), question->account ? question->account : ""},
        {VARIABLE("INTERACTIVE"), "0"},
        {VARIABLE("OUTPUT_FILE"), output_file ? output_file : ""},
        {VARIABLE("REVOKE"), "0"},
    };
    size_t count = 0, first;
    command->arguments[count++] = "env";
    for (size_t i = 0; i < VARIABLES; i++) {
        struct buffer *assignment = &command->variables[i];
        if (!buffer_printf(assignment, "%s=%s", variables[i][0], variables[i][1]))
            return error_set(error, ERROR_MEMORY, "out of memory");
        command->arguments[count++] = assignment->bytes;
    }
    first = count;
    command->words = strdup(line);
    if (!command->words)
        return error_set(error, ERROR_MEMORY, "out of memory");
    char *save = NULL;
    for (char *word = strtok_r(command->words, " \t\r\n", &save); word;
         word = strtok_r(NULL, " \t\r\n", &save)) {
        if (count - first == WORDS_LIMIT)
            return error_set(error, ERROR_INVALID, "command has more than %d words", WORDS_LIMIT);
        command->arguments[count++] = word;
    }
    /* env would take such a first word for an option or a variable of its own. */
    if (count == first || command->arguments[first][0] == '-' ||
        strchr(command->arguments[first], '='))
        return error_set(error, ERROR_INVALID, "command names no program");
    return true;
}

static char *run(const struct command_line *command, int timeout_ms, bool needs_end,
                 struct error *error) {
    cleanup_program_result struct program_result result = {0};
    char *token = NULL;
    const char *program = command->arguments[1 + VARIABLES];
    if (!program_run(command->arguments, "", timeout_ms, &result, error))
        error_wrap(error, "%s", program);
    else if (result.exit_status == NOT_FOUND_STATUS)
        error_set(error, ERROR_IO, "%s: no such program", program);
    else if (result.exit_status != 0)
        error_set(error, ERROR_DENIED, "%s: exit %d%s%s", program, result.exit_status,
                  result.complaint[0] ? ": " : "", result.complaint);
    else if (result.out.length == 0 || strlen(result.out.bytes) != result.out.length)
        error_set(error, ERROR_INVALID, "%s printed nothing, or a NUL byte", program);
    else if (!(token = subject_program_read(result.out.bytes, clock_wall_s(), needs_end, error)))
        error_wrap(error, "what %s printed", program);
    return token;
}

static bool read_timeout(const json_t *executable, int *timeout_ms, struct error *error) {
    const json_t *value = json_object_get(executable, "timeout_millis");
    *timeout_ms = DEFAULT_TIMEOUT_MS;
    if (!value)
        return true;
    if (!json_is_integer(value) || json_integer_value(value) < LEAST_TIMEOUT_MS ||
        json_integer_value(value) > MOST_TIMEOUT_MS)
        return error_set(error, ERROR_INVALID, "timeout_millis is not between %d and %d",
                         LEAST_TIMEOUT_MS, MOST_TIMEOUT_MS);
    *timeout_ms = (int)json_integer_value(value);
    return true;
}

static char *read_output_file(const char *path) {
    cleanup_secret char *text =
        file_read_small(path, SUBJECT_TOKEN_LIMIT, FILE_REGULAR | FILE_TEXT, NULL, NULL, NULL);
    return text ? subject_program_read(text, clock_wall_s(), true, NULL) : NULL;
}

char *subject_program_token(const struct subject_question *question, struct error *error) {
    const json_t *executable = json_object_get(question->source, "executable");
    const char *allowed = getenv(VARIABLE("ALLOW_EXECUTABLES"));
    const char *line = document_string(executable, "command", error), *output_file;
    cleanup_command struct command_line command = {0};
    int timeout_ms;
    if (!line || !document_optional(executable, "output_file", NULL, &output_file, error) ||
        !read_timeout(executable, &timeout_ms, error)) {
        error_wrap(error, "credential_source.executable");
        return NULL;
    }
    if (!allowed || strcmp(allowed, "1") != 0) {
        error_set(error, ERROR_DENIED,
                  "credential_source.executable wants to run a program: set " VARIABLE(
                      "ALLOW_EXECUTABLES") "=1 to allow it");
        return NULL;
    }
    /* An unusable output file is no error, because the program writes it again. */
    char *token = output_file ? read_output_file(output_file) : NULL;
    if (!token && command_build(&command, question, line, output_file, error))
        token = run(&command, timeout_ms, output_file != NULL, error);
    if (!token)
        error_wrap(error, "credential_source.executable");
    return token;
}
