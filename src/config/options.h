/*
 * The table of settings. One row has everything that the file, the flags, the variables, the help
 * and the documents need to know about a setting, except its default: that is a value of the room
 * that the setting is for (defaults.h).
 */
#ifndef CONFIG_OPTIONS_H
#define CONFIG_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum config_type {
    CONFIG_STRING,
    CONFIG_LIST, /* one string or a list; flags repeat, and flags and variables split at commas */
    CONFIG_SIZE,
    CONFIG_DURATION,
    CONFIG_COUNT,
    CONFIG_PERCENT, /* "50%": the number 50; the sign is required */
    CONFIG_BOOLEAN,
    CONFIG_CHOICE,
};

/* Which table of the documents the setting belongs to. */
enum config_group {
    CONFIG_SERVER,
    CONFIG_CACHE,
    CONFIG_BUCKET,    /* the object store behind the cache */
    CONFIG_REPLICAS,  /* the other tarns that share the work */
    CONFIG_LIMITS,    /* how much of what all share one neighbour may take */
    CONFIG_UPSTREAMS, /* for all upstreams */
    CONFIG_UPSTREAM,  /* of one upstream */
    CONFIG_COMMANDS,  /* of the commands that read and write images at registries */
    CONFIG_KEEP,      /* of tarn keep alone, whose flags have no `keep-` in front */
    CONFIG_NODE,      /* of tarn node, which has a file of its own */
};

struct config_option {
    const char *key; /* in the file: "log.level"; each dot is one level down */
    enum config_type type;
    enum config_group group;
    bool needs_restart;         /* a running tarn cannot take another value */
    bool is_section_too;        /* the file may have a mapping in place of the value */
    bool not_in_file;           /* only flag and variable, whose names are made of `key` too */
    size_t offset, size;        /* of the field: in struct upstream_settings for CONFIG_UPSTREAM, in
                                   struct config_loaded for the others */
    const char *placeholder;    /* "FILE": stands for the value; STRING and LIST have one */
    const char *default_words;  /* for people, if the default is computed or there is none */
    uint64_t least, most;       /* limits of a number, in ms for a duration; most 0: no upper limit.
                                   LIST: least is the fewest items */
    const char *const *choices; /* CHOICE: the field is the index; NULL-terminated */
    /* STRING and each item of LIST: false with a sentence in `why`. NULL: any but "". */
    bool (*check)(const char *value, char *why, size_t size);
    const char *help;    /* what the setting is, without a full stop */
    const char *details; /* further sentences for the documents; may be NULL */
};

extern const struct config_option config_options[];
extern const size_t config_option_count;

/* The settings of a file and of the variables beside it. */
struct config_document {
    const struct config_option *options;
    size_t count;
    const char *variable; /* what stands in front of each variable: "TARN_" */
    const char *file;     /* the variable that names the file */
};
extern const struct config_document config_tarn_document; /* config_options */
extern const struct config_document config_node_document; /* of tarn node */

/* The number of the option with this key, which there is. */
size_t config_option_index(const char *key);

/* Choices that both tables have; NULL-terminated. */
extern const char *const config_log_levels[];
extern const char *const config_log_formats[];
extern const char *const config_confine_modes[];

/* The fields of one entry of `upstreams`. They have neither flag nor variable. */
extern const struct config_option config_upstream_options[];
extern const size_t config_upstream_option_count;

#endif
