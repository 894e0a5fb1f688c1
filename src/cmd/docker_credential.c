/*
 * docker-credential-tarn: Docker's credential helper protocol. One action, data on standard input,
 * the answer, and every complaint, on standard output, where Docker looks for them.
 */
#include <stdio.h>
#include <string.h>
#include "auth/google/google.h"
#include "auth/google/secret.h"
#include "cmd/commands.h"
#include "cmd/standard_streams.h"

#define NAME "docker-credential-tarn"

enum { INPUT_LIMIT = 64 * 1024 };

/* These two are compared by Docker byte for byte. */
#define NOT_FOUND "credentials not found in native keychain"
#define NO_SERVER "no credentials server URL"

static int complain(const char *words) {
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
        return complain(NO_SERVER);
    /* Before anything is asked: another registry's name must not cost a token. */
    if (!google_host_of(server_url, host, sizeof host) || !google_host_is_registry(text_of(host)))
        return complain(NOT_FOUND);
    struct google_token token __attribute__((cleanup(google_token_wipe))) = {0};
    struct google_question question = {0};
    struct error error = {0};
    if (!google_token_fetch(&question, &token, &error))
        return complain(error.text);
    return token.secret ? print_credential(server_url, &token) : complain(NOT_FOUND);
}

int cmd_docker_credential(int argc, char **argv) {
    static const char usage[] = "Usage: " NAME " <store|get|erase|list|version>";
    const char *action = argc == 2 ? argv[1] : "";
    cleanup_secret_buffer struct buffer input = {0};
    if (argc != 2)
        return complain(usage);
    if (strcmp(action, "version") == 0 || strcmp(action, "--version") == 0 ||
        strcmp(action, "-v") == 0) {
        puts(NAME " (tarn) " TARN_VERSION);
        return 0;
    }
    if (strcmp(action, "--help") == 0 || strcmp(action, "-h") == 0) {
        puts(usage);
        return 0;
    }
    if (strcmp(action, "list") == 0) {
        puts("{}"); /* what it gives, it does not keep */
        return 0;
    }
    bool gets = strcmp(action, "get") == 0, stores = strcmp(action, "store") == 0,
         erases = strcmp(action, "erase") == 0;
    if (!gets && !stores && !erases) {
        printf(NAME ": unknown action: %s\n", action);
        return 1;
    }
    google_forbid_core_dumps();
    bool whole = standard_input_read(INPUT_LIMIT, &input); /* Docker waits until it is read */
    if (stores)
        return complain(NAME " keeps no credentials: it uses Google's from this machine (see tarn "
                             "whoami)");
    if (erases)
        return 0;
    return whole ? get(&input) : complain("the server URL is too long");
}
