/* Reads /proc/self/mountinfo. */
#include "node/agent/mountinfo.h"

#include <stdlib.h>
#include <string.h>
#include "base/file.h"

enum { FILE_LIMIT = 64 << 20 };

/* Spaces and the like are written as three octal digits behind a backslash. */
static void unescape(char *text) {
    char *to = text;
    for (const char *from = text; *from; from++) {
        if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] >= '0' &&
            from[2] <= '7' && from[3] >= '0' && from[3] <= '7') {
            *to++ = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
            from += 3;
        } else {
            *to++ = *from;
        }
    }
    *to = '\0';
}

/* The next word of a line, in place; NULL: there is none. */
static char *next_word(char **rest) {
    char *word = *rest;
    if (!word)
        return NULL;
    char *end = strchr(word, ' ');
    if (end)
        *end++ = '\0';
    *rest = end;
    unescape(word);
    return word;
}

/* ID PARENT MAJOR:MINOR ROOT FOLDER OPTIONS TAG… - TYPE SOURCE OPTIONS */
static bool read_line(char *line, struct mountinfo_entry *out) {
    char *rest = line, *word = NULL;
    next_word(&rest);
    next_word(&rest);
    out->device = next_word(&rest);
    next_word(&rest);
    out->folder = next_word(&rest);
    do
        word = next_word(&rest);
    while (word && strcmp(word, "-") != 0);
    out->type = next_word(&rest);
    out->source = next_word(&rest);
    out->options = next_word(&rest);
    return out->options != NULL;
}

bool mountinfo_read(struct mountinfo *table, struct error *error) {
    size_t length = 0, lines = 0;
    *table = (struct mountinfo){0};
    table->bytes =
        file_read_small("/proc/self/mountinfo", FILE_LIMIT, FILE_ANY, &length, NULL, error);
    if (!table->bytes)
        return error_wrap(error, "/proc/self/mountinfo");
    for (size_t i = 0; i < length; i++)
        lines += table->bytes[i] == '\n';
    table->mounts = calloc(lines + 1, sizeof *table->mounts);
    if (!table->mounts) {
        mountinfo_finish(table);
        return error_set(error, ERROR_MEMORY, "out of memory");
    }
    for (char *line = table->bytes, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = '\0';
        table->count += read_line(line, &table->mounts[table->count]);
    }
    return true;
}

void mountinfo_finish(struct mountinfo *table) {
    free(table->bytes);
    free(table->mounts);
    *table = (struct mountinfo){0};
}

const struct mountinfo_entry *mountinfo_find(const struct mountinfo *table, const char *folder) {
    for (size_t i = table->count; i-- > 0;)
        if (strcmp(table->mounts[i].folder, folder) == 0)
            return &table->mounts[i];
    return NULL;
}
