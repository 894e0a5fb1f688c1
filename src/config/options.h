/*
 * The table of settings. One row has all that the file, the flags, the variables, the help and the
 * documents need to know about a setting.
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
    CONFIG_BOOLEAN,
    CONFIG_CHOICE,
};

struct config_option {
    const char *key; /* in the file: "log.level" */
    enum config_type type;
    bool not_in_file;     /* only flag and variable; their names come from `key` all the same */
    size_t offset, size;  /* of its field in the struct it belongs to */
    const char *standard; /* the default as one would write it; NULL: none or computed */
    const char *standard_words; /* for people, where `standard` is NULL or says too little */
    uint64_t least, most;       /* bounds of a number, ms for durations; most 0: no upper bound.
                                   LIST: least is the fewest items */
    const char *const *choices; /* CHOICE; the field is the index; NULL-terminated */
    /* STRING and each item of LIST: false with a sentence in `why`. NULL: any but "". */
    bool (*check)(const char *value, char *why, size_t size);
    const char *help; /* one sentence, no full stop */
};

extern const struct config_option config_options[];
extern const size_t config_option_count;

/* The fields of one entry of `upstreams`, for documentation; they have neither flag nor variable.
 */
extern const struct config_option config_upstream_options[];
extern const size_t config_upstream_option_count;

enum { CONFIG_NAME_SIZE = 64 };
void config_option_flag(const struct config_option *option, char out[static CONFIG_NAME_SIZE]);
void config_option_variable(const struct config_option *option, char out[static CONFIG_NAME_SIZE]);
const char *config_option_placeholder(const struct config_option *option); /* "DURATION" */

#endif
