/* The settings that a command line gives. */
#ifndef CONFIG_FLAGS_H
#define CONFIG_FLAGS_H

#include <stdbool.h>
#include <stddef.h>
#include "config/options.h"

/* The flags of a command line, in their order. Zeroed: none. The values point into argv. */
struct config_flags {
    const char *file; /* --config */
    struct config_flag {
        const struct config_option *option;
        const char *value;
    } * given;
    size_t count;
};

/* Adds a flag; config_load() checks its value. False: out of memory. */
bool config_flags_add(struct config_flags *flags, const struct config_option *option,
                      const char *value);
void config_flags_finish(struct config_flags *flags);

#endif
