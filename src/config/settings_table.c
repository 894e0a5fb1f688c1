/*
 * Writes the table of settings for script/settings, which makes the tables of the documents of it:
 * one line a setting, its fields separated by tabs. A program for the build, not a part of tarn.
 */
#include <stdio.h>
#include "config/option_text.h"

static const char *const groups[] = {
    [CONFIG_SERVER] = "server",
    [CONFIG_CACHE] = "cache",
    [CONFIG_UPSTREAMS] = "upstreams",
    [CONFIG_UPSTREAM] = "upstream",
};
static const char *const types[] = {
    [CONFIG_STRING] = "string",     [CONFIG_LIST] = "list",    [CONFIG_SIZE] = "size",
    [CONFIG_DURATION] = "duration", [CONFIG_COUNT] = "number", [CONFIG_BOOLEAN] = "boolean",
    [CONFIG_CHOICE] = "choice",
};

static void write_row(const struct config_option *option) {
    char flag[CONFIG_NAME_SIZE] = "", variable[CONFIG_NAME_SIZE] = "";
    char standard[CONFIG_VALUE_SIZE], limits[CONFIG_VALUE_SIZE];
    if (option->group != CONFIG_UPSTREAM) {
        config_option_flag(option, flag);
        config_option_variable(option, variable);
    }
    config_option_default(option, standard);
    config_option_limits(option, limits);
    printf("%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t", groups[option->group],
           option->not_in_file ? "" : option->key, flag, variable, types[option->type], limits,
           standard, option->help, option->details ? option->details : "");
    for (size_t i = 0; option->choices && option->choices[i]; i++)
        printf("%s%s", i ? ", " : "", option->choices[i]);
    putchar('\n');
}

int main(void) {
    for (size_t i = 0; i < config_option_count; i++)
        write_row(&config_options[i]);
    for (size_t i = 0; i < config_upstream_option_count; i++)
        write_row(&config_upstream_options[i]);
    return fflush(stdout) != 0 || ferror(stdout);
}
