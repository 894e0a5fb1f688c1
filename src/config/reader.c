/* The memory of a configuration. */
#include "config/reader.h"

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

void config_loaded_free(struct config_loaded *loaded) {
    for (struct shared_source *shared = loaded->sources; shared; shared = shared->next)
        credential_source_free(shared->source);
    for (struct kept *kept = loaded->memory, *next; kept; kept = next) {
        next = kept->next;
        free(kept);
    }
    free(loaded);
}
