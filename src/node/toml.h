/*
 * Reads TOML (toml.io, 1.0) and hands out each key with its value.
 *
 * It is for configuration of other programs, of which a few values matter. So it is no judge of the
 * document: it takes a key that is there twice, and numbers and dates that are none. Pure; any
 * thread. Private to node/.
 */
#ifndef NODE_TOML_H
#define NODE_TOML_H

#include <stdbool.h>
#include <stddef.h>
#include "base/error.h"
#include "base/text.h"

enum {
    TOML_DEPTH_LIMIT = 16,   /* parts of a key, with those of its table */
    TOML_NAME_SIZE = 256,    /* bytes of a part, with the NUL */
    TOML_NESTING_LIMIT = 32, /* arrays and inline tables in each other */
};

/* One value. An array gives one entry for each of its values, all with the array's key. */
struct toml_entry {
    const struct text *path; /* the parts of the key; the names of the table come first */
    size_t depth;
    bool is_string;
    struct text value; /* of a string the characters; else as it stands in the document */
};

/* Whether the entry's key has exactly these parts. */
bool toml_is_at(const struct toml_entry *entry, const char *const *names, size_t count);

/* Calls `visit` for each entry in the order of the document; what an entry points to is valid
 * during the call. False: ERROR_INVALID, a clause with the line, or ERROR_MEMORY; the entries
 * before that line were handed out. */
bool toml_read(struct text document, void (*visit)(void *context, const struct toml_entry *entry),
               void *context, struct error *error);

#endif
