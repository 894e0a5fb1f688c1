/* The options of a command, its own and those of the settings; and how a command refuses its usage.
 */
#include "cmd/command.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* The option by which a setting is given. */
static struct command_option option_of(const struct config_option *setting) {
    struct command_option option = {
        .type = setting->type == CONFIG_BOOLEAN ? OPTION_SWITCH
                : setting->type == CONFIG_LIST  ? OPTION_LIST
                                                : OPTION_STRING,
        .value = config_option_placeholder(setting),
        .help = setting->help,
        .suggestions = setting->choices,
        .setting = setting,
    };
    char flag[CONFIG_NAME_SIZE];
    config_option_flag(setting, flag);
    memcpy(option.name, flag + strlen("--"), strlen(flag + strlen("--")) + 1);
    return option;
}

static bool takes(const struct command *command, const struct config_option *setting) {
    const bool is_of_keep = setting->group == CONFIG_KEEP;
    if (setting->group == CONFIG_NODE)
        return command->settings == COMMAND_NODE_SETTINGS;
    return setting->group != CONFIG_COMMANDS &&
           command->settings == (is_of_keep ? COMMAND_KEEP_SETTINGS : COMMAND_SERVE_SETTINGS);
}

bool command_option(const struct command *command, size_t at, struct command_option *out) {
    if (at < command->option_count) {
        *out = command->options[at];
        return true;
    }
    at -= command->option_count;
    const struct config_document *table =
        command->settings == COMMAND_NODE_SETTINGS ? &config_node_document : &config_tarn_document;
    for (size_t i = 0; i < table->count; i++) {
        if (takes(command, &table->options[i]) && at-- == 0) {
            *out = option_of(&table->options[i]);
            return true;
        }
    }
    return false;
}

int command_refuse(const struct command *command, const char *format, ...) {
    va_list values;
    va_start(values, format);
    fprintf(stderr, "tarn %s: ", command->name);
    vfprintf(stderr, format, values);
    fprintf(stderr, " (see tarn %s --help)\n", command->name);
    va_end(values);
    return 2;
}
