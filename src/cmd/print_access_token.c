/* tarn print-access-token: prints a Google access token. */
#include <stdio.h>
#include <string.h>
#include "auth/google/google.h"
#include "base/cleanup.h"
#include "base/secret.h"
#include "cmd/arguments.h"
#include "cmd/commands.h"
#include "cmd/standard_streams.h"

enum { SCOPES_LIMIT = 32 };

/* Makes a list of pointers into `value`, whose commas are overwritten with NULs. */
static bool split_scopes(char *value, const char *scopes[SCOPES_LIMIT + 1]) {
    size_t count = 0;
    for (char *scope; (scope = strsep(&value, ","));) {
        if (!*scope || strpbrk(scope, " \t\r\n") || count == SCOPES_LIMIT)
            return false;
        scopes[count++] = scope;
    }
    return true;
}

static int print_token(const struct google_question *question) {
    cleanup_google_token struct google_token token = {0};
    cleanup_secret_buffer struct buffer line = {0};
    struct error error = {0};
    if (!google_token_fetch(question, &token, &error)) {
        fprintf(stderr, "tarn: %s\n", error.text);
        return 1;
    }
    if (!token.secret) {
        fputs("tarn: there are no Google credentials on this machine\n"
              "Set GOOGLE_APPLICATION_CREDENTIALS to a credential file, or run\n"
              "gcloud auth application-default login (tarn whoami shows where tarn looked)\n",
              stderr);
        return 1;
    }
    buffer_reserve(&line, strlen(token.secret) + 1);
    buffer_printf(&line, "%s\n", token.secret);
    return standard_output_write(&line) ? 0 : 1;
}

static int run(const struct arguments *arguments) {
    const char *scopes[SCOPES_LIMIT + 1] = {NULL};
    const char *account = arguments_string(arguments, "impersonate-service-account");
    const char *list = arguments_string(arguments, "scopes");
    cleanup_free char *copy = list ? strdup(list) : NULL;
    struct google_question question = {.settings.impersonate = account};
    if (account && !*account)
        return command_refuse(arguments->command, "--impersonate-service-account is empty");
    if (list && !(copy && split_scopes(copy, scopes)))
        return command_refuse(arguments->command,
                              "--scopes needs 1 to %d scopes with commas between them",
                              SCOPES_LIMIT);
    if (list)
        question.settings.scopes = scopes;
    secret_forbid_core_dumps();
    cleanup_client struct client *client = client_new();
    question.client = client;
    return print_token(&question);
}

static const struct command_option options[] = {
    {"impersonate-service-account", OPTION_STRING, "ACCOUNT",
     "print a token of this service account; the credentials must be allowed to impersonate it"},
    {"scopes", OPTION_STRING, "SCOPE[,…]",
     "the scopes of the token; default: https://www.googleapis.com/auth/cloud-platform"},
};

const struct command print_access_token_command = {
    .name = "print-access-token",
    .arguments = "",
    .summary = "print a Google access token",
    COMMAND_OPTIONS(options),
    .run = run,
};
