/* Runs a command: reads its arguments, or prints its help. */
#include "cmd/command.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "cmd/arguments.h"
#include "cmd/help.h"

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

bool command_option(const struct command *command, size_t at, struct command_option *out) {
    if (at < command->option_count) {
        *out = command->options[at];
        return true;
    }
    at -= command->option_count;
    if (!command->takes_settings || at >= config_option_count)
        return false;
    *out = option_of(&config_options[at]);
    return true;
}

int command_run(const struct command *command, int argc, char *const *argv) {
    cleanup_arguments struct arguments arguments = {0};
    struct error error;
    if (!arguments_read(&arguments, command, argc, argv, &error))
        return command_refuse(command, "%s", error.text);
    if (arguments.wants_help)
        return help_print_command(command);
    return command->run(&arguments);
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
