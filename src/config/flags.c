/* The settings that a command line gives. */
#include "config/flags.h"

#include <stdlib.h>

bool config_flags_add(struct config_flags *flags, const struct config_option *option,
                      const char *value) {
    struct config_flag *more = realloc(flags->given, (flags->count + 1) * sizeof *more);
    if (!more)
        return false;
    flags->given = more;
    more[flags->count++] = (struct config_flag){option, value};
    return true;
}

void config_flags_finish(struct config_flags *flags) {
    free(flags->given);
    *flags = (struct config_flags){0};
}
