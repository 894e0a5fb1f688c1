/* The memory of a configuration. */
#include "config/reader.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct kept {
    struct kept *next;
    max_align_t bytes[];
};

void *config_keep(struct config_reader *reader, size_t size) {
    struct kept *kept = calloc(1, sizeof *kept + size);
    if (!kept) {
        reader->no_memory = true;
        return NULL;
    }
    kept->next = reader->loaded->memory;
    reader->loaded->memory = kept;
    return kept->bytes;
}

const char *config_keep_text(struct config_reader *reader, struct text text) {
    char *copy = config_keep(reader, text.length + 1);
    if (copy && text.length)
        memcpy(copy, text.at, text.length);
    return copy;
}

void config_warn(struct config_reader *reader, const char *format, ...) {
    char sentence[500];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    struct config *config = &reader->loaded->config;
    if (reader->warning_count + 1 >= reader->warning_places) { /* the list ends with NULL */
        size_t places = 2 * reader->warning_places + 8;
        const char **larger = config_keep(reader, places * sizeof *larger);
        if (!larger)
            return;
        for (size_t i = 0; i < reader->warning_count; i++)
            larger[i] = config->warnings[i];
        config->warnings = larger;
        reader->warning_places = places;
    }
    config->warnings[reader->warning_count] = config_keep_text(reader, text_of(sentence));
    reader->warning_count += config->warnings[reader->warning_count] != NULL;
}

void config_loaded_free(struct config_loaded *loaded) {
    for (struct shared_source *shared = loaded->sources; shared; shared = shared->next)
        credential_source_free(shared->source);
    for (struct kept *kept = loaded->memory, *next; kept; kept = next) {
        next = kept->next;
        free(kept);
    }
    free(loaded);
}
