/* credential_process: a program that prints credentials in JSON. */
#include <stdlib.h>
#include <string.h>
#include "auth/aws/reply.h"
#include "auth/aws/sources.h"
#include "auth/program.h"
#include "base/cleanup.h"

enum { WORDS_LIMIT = 64, TIMEOUT_MS = 30000 };

/* Splits the command in place, as a shell does it without its expansions: blanks separate words,
 * quotes keep blanks, and a backslash keeps the next character, but not in single quotes. False:
 * no word, too many words, or a quote that does not end. */
static bool split(char *command, const char *words[static WORDS_LIMIT + 1]) {
    size_t count = 0;
    char *at = command;
    for (;;) {
        while (*at == ' ' || *at == '\t')
            at++;
        if (!*at)
            break;
        if (count == WORDS_LIMIT)
            return false;
        char *out = at, quote = '\0';
        words[count++] = out;
        for (; *at && (quote || (*at != ' ' && *at != '\t')); at++) {
            if (quote ? *at == quote : *at == '\'' || *at == '"')
                quote = quote ? '\0' : *at;
            else if (*at == '\\' && at[1] && quote != '\'')
                *out++ = *++at;
            else
                *out++ = *at;
        }
        if (quote)
            return false;
        bool ends = !*at;
        *out = '\0';
        if (ends)
            break;
        at++;
    }
    words[count] = NULL;
    return count > 0 && *words[0];
}

bool aws_process_run(const char *command, struct aws_credentials *out, struct error *error) {
    static const struct aws_reply_members members = {.token = "SessionToken",
                                                     .wants_version1 = true};
    cleanup_program_result struct program_result result = {0};
    cleanup_free char *copy = strdup(command);
    const char *words[WORDS_LIMIT + 1];
    *out = (struct aws_credentials){0};
    if (!copy)
        return error_set(error, ERROR_MEMORY, "out of memory");
    if (!split(copy, words))
        return error_set(error, ERROR_INVALID,
                         "credential_process: the command is empty, has more than %d words, or a "
                         "quote in it does not end",
                         WORDS_LIMIT);
    if (!program_run(words, "", TIMEOUT_MS, &result, error))
        return error_wrap(error, "credential_process %.100s", words[0]);
    if (result.exit_status != 0)
        return error_set(error, ERROR_DENIED, "credential_process %.100s: exit %d%s%s", words[0],
                         result.exit_status, result.complaint[0] ? ": " : "", result.complaint);
    return aws_reply_json((struct text){result.out.bytes, result.out.length}, &members, 0, out,
                          error) ||
           error_wrap(error, "what credential_process %.100s printed", words[0]);
}
