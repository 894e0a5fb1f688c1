/* Inside config/: a configuration while it is being read. */
#ifndef CONFIG_READER_H
#define CONFIG_READER_H

#include "config/config.h"
#include "config/problems.h"
#include "config/yaml_tree.h"

enum { OPTION_LIMIT = 64, PATH_SIZE = 160 };

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

/* ---- reader.c: mappings and values ---- */

/* Whether `node` is a mapping. Keys that are there twice or not in `known` (NULL-terminated) are
 * told, but the rest can be read all the same. */
bool config_read_map(struct config_reader *reader, const struct config_node *node, const char *path,
                     const char *const *known);

/* The value of the first `key`; NULL when absent. `map` is a mapping. */
const struct config_node *config_map_get(const struct config_node *map, const char *key);

/* Sets the option's field in the struct at `base`, or tells why not. */
bool config_read_value(struct config_reader *reader, const struct config_option *option, void *base,
                       const struct config_node *node, const char *path);
/* The same from the option's `standard`, if it has one. */
void config_read_default(struct config_reader *reader, const struct config_option *option,
                         void *base);

/* ---- upstreams.c, credentials.c, warm.c: what is no single value ---- */

/* Makes config->upstreams of the file's list (NULL: the built-in one), --upstream and
 * --default-upstream; the top-level defaults are settled by then. */
void config_read_upstreams(struct config_reader *reader, const struct config_node *node);

/* The source that `node` names; NULL when it was told why not. */
struct credential_source *config_read_credentials(struct config_reader *reader,
                                                  const struct config_node *node, const char *path);
/* What stands in when nothing is said: Google's own for Google's registries, Docker's for others,
 * and none where `url` (may be NULL) leads to another machine than the one that `host` names. */
struct credential_source *config_default_credentials(struct config_reader *reader, const char *host,
                                                     const char *url);

void config_read_warm(struct config_reader *reader, const struct config_node *node);

/* ---- checks.c: strings ---- */

/* As config_option.check: false, with a sentence in `why`. */
bool config_check_any(const char *value, char *why, size_t size); /* not empty */
bool config_check_address(const char *value, char *why, size_t size);
bool config_check_host(const char *value, char *why, size_t size);
bool config_check_host_pattern(const char *value, char *why, size_t size);
bool config_check_url(const char *value, char *why, size_t size);
bool config_check_host_and_url(const char *value, char *why, size_t size); /* HOST or HOST=URL */
bool config_check_file(const char *value, char *why, size_t size);         /* can be read */
bool config_check_glob(const char *value, char *why, size_t size);
bool config_check_image(const char *value, char *why, size_t size);
bool config_check_platform(const char *value, char *why, size_t size);
bool config_check_helper(const char *value, char *why, size_t size);

bool config_host_is_google(const char *host);   /* GAR or gcr.io, or a pattern of them */
bool config_host_is_loopback(const char *host); /* without a port */
bool config_url_host(const char *url, char *out,
                     size_t size); /* of a checked URL, without the port */
bool config_host_matches(const char *pattern, const char *host);

#endif
