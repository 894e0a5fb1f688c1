/* The keys of the CNCF registry's configuration (distribution, versions 2 and 3), and what becomes
 * of each. Private to config/. */
#ifndef CONFIG_DISTRIBUTION_KEYS_H
#define CONFIG_DISTRIBUTION_KEYS_H

#include <stddef.h>

enum distribution_kind {
    DISTRIBUTION_SECTION, /* a mapping */
    DISTRIBUTION_CHOSEN,  /* a mapping that holds what was chosen, or the name of it alone */
    DISTRIBUTION_TEXT,
    DISTRIBUTION_TEXTS,  /* a list of strings, or one */
    DISTRIBUTION_FIELDS, /* a mapping of lists of strings */
    DISTRIBUTION_BOOLEAN,
    DISTRIBUTION_TIME,    /* Go's notation, or a number of nanoseconds */
    DISTRIBUTION_IGNORED, /* whatever it holds */
    DISTRIBUTION_REFUSED, /* serving without it would be wrong */
};

struct distribution_key {
    const char *name; /* "proxy.remoteurl" */
    enum distribution_kind kind;
    const char *own; /* tarn's key that gets the value, for the messages about it; NULL: none */
    const char *why; /* IGNORED, REFUSED: the reason, as the end of a sentence */
};

enum { DISTRIBUTION_KEY_LIMIT = 160 };

extern const struct distribution_key distribution_keys[];
extern const size_t distribution_key_count;

/* The number of the key; distribution_key_count: there is none of that name. */
size_t distribution_key_find(const char *name);

#endif
