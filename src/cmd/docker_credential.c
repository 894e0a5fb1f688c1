/*
 * docker-credential-tarn: the protocol of Docker's credential helpers. The argument is an action,
 * and its data is on standard input. The result is on standard output, and so is every error
 * message, because Docker looks for it there.
 */
#include <stdio.h>
#include <string.h>
#include "auth/google/google.h"
#include "base/secret.h"
#include "cmd/arguments.h"
#include "cmd/commands.h"
#include "cmd/help.h"
#include "cmd/standard_streams.h"

#define NAME "docker-credential-tarn"

enum { INPUT_LIMIT = 64 * 1024 };

/* Docker compares these two byte for byte. */
#define NOT_FOUND "credentials not found in native keychain"
#define NO_SERVER "no credentials server URL"

static int refuse(const char *words) {
    printf("%s\n", words);
    return 1;
}

static struct text trim(struct text text) {
    while (text.length && strchr(" \t\r\n", *text.at))
        text = text_from(text, 1);
    while (text.length && strchr(" \t\r\n", text.at[text.length - 1]))
        text.length--;
    return text;
}

static int print_credential(struct text server_url, const struct google_token *token) {
    cleanup_secret_buffer struct buffer line = {0};
    buffer_reserve(&line, strlen(token->secret) + 6 * server_url.length + 128);
    buffer_append_string(&line, "{\"ServerURL\":\"");
    buffer_append_json(&line, server_url);
    buffer_append_string(&line, "\",\"Username\":\"" GOOGLE_USERNAME "\",\"Secret\":\"");
    buffer_append_json(&line, text_of(token->secret));
    buffer_append_string(&line, "\"}\n");
    return standard_output_write(&line) ? 0 : 1;
}

static int get(const struct buffer *input) {
    struct text server_url = trim((struct text){input->bytes, input->length});
    char host[256];
    if (server_url.length == 0)
        return refuse(NO_SERVER);
    /* Checked first, because no token must be fetched for another registry. */
    if (!google_host_of(server_url, host, sizeof host) || !google_host_is_registry(text_of(host)))
        return refuse(NOT_FOUND);
    cleanup_google_token struct google_token token = {0};
    cleanup_client struct client *client = client_new();
    struct google_question question = {.client = client};
    struct error error = {0};
    if (!google_token_fetch(&question, &token, &error))
        return refuse(error.text);
    return token.secret ? print_credential(server_url, &token) : refuse(NOT_FOUND);
}

/* The actions that read no standard input. False: `action` is none of them. */
static bool print_fixed(const char *action) {
    if (strcmp(action, "version") == 0 || strcmp(action, "--version") == 0 ||
        strcmp(action, "-v") == 0)
        puts(NAME " (tarn) " TARN_VERSION);
    else if (strcmp(action, "--help") == 0 || strcmp(action, "-h") == 0)
        help_print_command(&docker_credential_command);
    else if (strcmp(action, "list") == 0)
        puts("{}"); /* the program stores no credentials */
    else
        return false;
    return true;
}

static int run(const struct arguments *arguments) {
    cleanup_secret_buffer struct buffer input = {0};
    if (arguments->operand_count != 1)
        return refuse("Usage: " NAME " <store|get|erase|list|version>");
    const char *action = arguments->operands[0];
    if (print_fixed(action))
        return 0;
    bool gets = strcmp(action, "get") == 0, stores = strcmp(action, "store") == 0,
         erases = strcmp(action, "erase") == 0;
    if (!gets && !stores && !erases) {
        printf(NAME ": unknown action: %s\n", action);
        return 1;
    }
    secret_forbid_core_dumps();
    bool whole = standard_input_read(INPUT_LIMIT, &input); /* Docker waits until it is read */
    if (stores)
        return refuse(NAME " stores no credentials: it uses this machine's Google credentials "
                           "(see tarn whoami)");
    if (erases)
        return 0;
    return whole ? get(&input) : refuse("the server URL is too long");
}

const struct command docker_credential_command = {
    .name = "docker-credential",
    .arguments = "get|store|erase|list|version",
    .most = COMMAND_ANY_NUMBER,
    .summary = "give Docker the credentials that it requests",
    .text =
        "Docker runs this command as docker-credential-tarn, with a registry's host on standard\n"
        "input.\n",
    .takes_anything = true,
    .run = run,
};
