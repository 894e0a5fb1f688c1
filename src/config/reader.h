/* Inside config/: a configuration while it is being read. */
#ifndef CONFIG_READER_H
#define CONFIG_READER_H

#include "config/config.h"
#include "config/problems.h"

enum { OPTION_LIMIT = 64 };

/* The config with what only loading and freeing need. */
struct config_loaded {
    struct config config;              /* first: a pointer to it is a pointer to this */
    struct upstream_settings defaults; /* the top-level twins of an upstream's settings */
    const char *default_upstream;      /* --default-upstream */
    const char *const *more_upstreams; /* --upstream: HOST or HOST=URL */

    struct kept *memory; /* all strings, lists and structs */
    struct shared_source {
        const char *meaning; /* equal meanings share one source, with its cache of tokens */
        struct credential_source *source;
        struct shared_source *next;
    } * sources;
};

struct config_reader {
    struct config_loaded *loaded;
    struct config_problems problems;
    struct config_place
        said[OPTION_LIMIT]; /* where an option was last said; source NULL: nowhere */
    bool no_memory;
};

/* Zeroed memory that lives as long as the config; NULL (and no_memory) when there is none. */
void *config_keep(struct config_reader *reader, size_t size);
const char *config_keep_text(struct config_reader *reader, struct text text);

/* Frees the config and all that was kept for it. */
void config_loaded_free(struct config_loaded *loaded);

#endif
