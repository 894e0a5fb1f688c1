/* tarn print-access-token */
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include "auth/google/google.h"
#include "auth/google/secret.h"
#include "cmd/commands.h"
#include "cmd/help.h"
#include "cmd/standard_streams.h"

enum { SCOPES_LIMIT = 32 };

/* "a,b" as a list of pointers into `value`, which is cut up. */
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
    struct google_token token __attribute__((cleanup(google_token_wipe))) = {0};
    cleanup_secret_buffer struct buffer line = {0};
    struct error error = {0};
    if (!google_token_fetch(question, &token, &error)) {
        fprintf(stderr, "tarn: %s\n", error.text);
        return 1;
    }
    if (!token.secret) {
        fputs("tarn: there are no Google credentials on this machine\n"
              "Set GOOGLE_APPLICATION_CREDENTIALS to a credential file, or run\n"
              "gcloud auth application-default login (tarn whoami shows what was looked at)\n",
              stderr);
        return 1;
    }
    buffer_reserve(&line, strlen(token.secret) + 1);
    buffer_printf(&line, "%s\n", token.secret);
    return standard_output_write(&line) ? 0 : 1;
}

int cmd_print_access_token(int argc, char **argv) {
    static const struct option options[] = {
        {"impersonate-service-account", required_argument, NULL, 'i'},
        {"scopes", required_argument, NULL, 's'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    const char *scopes[SCOPES_LIMIT + 1] = {NULL};
    struct google_question question = {0};
    bool usable = true;
    for (int option; (option = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (option == 'h')
            return help_command(argv[0], stdout);
        if (option == 'i') {
            question.settings.impersonate = optarg;
            usable = usable && *optarg;
        } else if (option == 's') {
            memset(scopes, 0, sizeof scopes);
            question.settings.scopes = scopes;
            usable = usable && split_scopes(optarg, scopes);
        } else {
            usable = false;
        }
    }
    if (!usable || optind != argc) {
        help_command(argv[0], stderr);
        return 2;
    }
    google_forbid_core_dumps();
    return print_token(&question);
}
