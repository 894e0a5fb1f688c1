/* The settings that a command line gives. */
#ifndef CONFIG_FLAGS_H
#define CONFIG_FLAGS_H

#include "base/error.h"
#include "config/options.h"

/* Flags as they are gathered from a command line; zeroed is none. Values are borrowed from argv. */
struct config_flags {
    const char *file; /* --config */
    struct config_flag {
        const struct config_option *option;
        const char *value;
    } * given;
    size_t count;
};

enum config_flag_taken { CONFIG_FLAG_TAKEN, CONFIG_FLAG_OTHER, CONFIG_FLAG_BAD };

/*
 * Takes argv[*at] (and its value) if it is `--config` or one of the table's flags, and moves *at
 * behind it. OTHER: not one of them, nothing is done; the command may know it. BAD: its value is
 * missing, as the error says: a usage error. Values are checked by config_load().
 */
enum config_flag_taken config_flag_take(struct config_flags *flags, int argc, char *const *argv,
                                        int *at, struct error *error);
void config_flags_free(struct config_flags *flags);

#endif
