/* A configuration while it is read, and the memory that it keeps. Private to config/. */
#ifndef CONFIG_READER_H
#define CONFIG_READER_H

#include "config/config.h"
#include "config/problems.h"

enum { OPTION_LIMIT = 128 };

/* The config, and members that only loading and freeing need. */
struct config_loaded {
    struct config config; /* the first member, so that a pointer to it is one to this */
    struct upstream_settings defaults;   /* the settings for all upstreams */
    const char *default_upstream;        /* --default-upstream */
    const char *const *more_upstreams;   /* --upstream: HOST or HOST=URL */
    const char *bucket_url;              /* what config.bucket.address is read from */
    const char *bucket_credentials;      /* a word, by flag or variable */
    const struct config_document *table; /* the settings that there are */
    /* Where each option of the table was last set; source NULL: nowhere. */
    struct yaml_place set_at[OPTION_LIMIT];

    const struct config_alias *aliases; /* of the keys, for problems; NULL: none */

    struct kept *memory; /* all strings, lists and structs */
    struct shared_source {
        const char *identity; /* the settings of the source: equal settings share one source */
        struct credential_source *source;
        struct shared_source *next;
    } * sources;
};

struct config_reader {
    struct config_loaded *loaded;
    struct config_problems problems;
    bool no_memory;
    bool is_distribution; /* the file is one of the CNCF registry (distribution.h) */
    size_t warning_count, warning_places; /* of loaded->config.warnings */
};

/* Zeroed memory that lives as long as the config. NULL: memory ran out, and no_memory is set. */
void *config_keep(struct config_reader *reader, size_t size);
const char *config_keep_text(struct config_reader *reader, struct text text);

/* Adds a sentence to the config's warnings. */
void config_warn(struct config_reader *reader, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Frees the config with its memory and its sources of credentials. */
void config_loaded_free(struct config_loaded *loaded);

#endif
