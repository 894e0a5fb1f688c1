#include "config/flags.h"

#include <stdlib.h>
#include <string.h>

static bool remember(struct config_flags *flags, const struct config_option *option,
                     const char *value) {
    struct config_flag *more = realloc(flags->given, (flags->count + 1) * sizeof *more);
    if (!more)
        return false;
    flags->given = more;
    more[flags->count++] = (struct config_flag){option, value};
    return true;
}

/* Whether `argument` is `name` or begins with `name=`; *value is what follows, or NULL. */
static bool is_flag(const char *argument, const char *name, const char **value) {
    size_t length = strlen(name);
    if (strncmp(argument, name, length) != 0 || (argument[length] && argument[length] != '='))
        return false;
    *value = argument[length] ? argument + length + 1 : NULL;
    return true;
}

enum config_flag_taken config_flag_take(struct config_flags *flags, int argc, char *const *argv,
                                        int *at, struct error *error) {
    const char *argument = argv[*at], *value = NULL;
    const struct config_option *option = NULL;
    char name[CONFIG_NAME_SIZE] = "--config";
    bool is_config = is_flag(argument, name, &value);
    for (size_t i = 0; i < config_option_count && !is_config && !option; i++) {
        config_option_flag(&config_options[i], name);
        if (is_flag(argument, name, &value))
            option = &config_options[i];
    }
    if (!is_config && !option)
        return CONFIG_FLAG_OTHER;

    int next = *at + 1;
    if (!value && option && option->type == CONFIG_BOOLEAN)
        value = "true"; /* a bare flag says yes; no is --name=false */
    else if (!value && next < argc)
        value = argv[next++];
    if (!value) {
        error_set(error, ERROR_INVALID, "%s wants a value", name);
        return CONFIG_FLAG_BAD;
    }
    if (is_config)
        flags->file = value;
    else if (!remember(flags, option, value)) {
        error_set(error, ERROR_MEMORY, "%s: out of memory", name);
        return CONFIG_FLAG_BAD;
    }
    *at = next;
    return CONFIG_FLAG_TAKEN;
}

void config_flags_free(struct config_flags *flags) {
    free(flags->given);
    *flags = (struct config_flags){0};
}
