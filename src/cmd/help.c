/* Prints the help of one command. */
#include "cmd/help.h"

#include <stdio.h>

static void print_setting(const struct config_option *setting) {
    char variable[CONFIG_NAME_SIZE], standard[CONFIG_VALUE_SIZE];
    config_option_variable(setting, variable);
    config_option_default(setting, standard);
    for (size_t i = 0; setting->choices && setting->choices[i]; i++)
        printf("%s%s", i ? ", " : ": ", setting->choices[i]);
    printf("\n        %s; default: %s", variable, standard);
}

static void print_option(const struct command_option *option) {
    printf("  --%s", option->name);
    if (option->letter)
        printf(", -%c", option->letter);
    if (option->type == OPTION_SWITCH)
        printf("[=%s]", option->value);
    else if (option->value)
        printf(" %s%s", option->value, option->type == OPTION_LIST ? "[,…]" : "");
    printf("\n        %s", option->help);
    if (option->setting)
        print_setting(option->setting);
    else if (option->variable)
        printf("\n        %s", option->variable);
    putchar('\n');
}

static void print_options(const struct command *command) {
    struct command_option option;
    if (command->settings == COMMAND_KEEP_SETTINGS)
        fputs("\nThe options with a variable are keys of the configuration file as well, in the "
              "section\n"
              "keep, and the file has further settings (tarn.yaml(5)). An option overrides its\n"
              "variable, and a variable overrides the file.\n",
              stdout);
    if (command->settings == COMMAND_NODE_SETTINGS)
        fputs("\nEach option is also an environment variable and a key of the configuration file,\n"
              "which also lists upstreams as tarn.yaml(5) does. An option overrides its variable,\n"
              "and a variable overrides the file.\n",
              stdout);
    if (command->settings == COMMAND_SERVE_SETTINGS)
        fputs("\nEach option is also an environment variable. Nearly all options are keys of the\n"
              "configuration file as well, and the file has further settings (tarn.yaml(5)). An\n"
              "option overrides its variable, and a variable overrides the file.\n",
              stdout);
    fputs("\nOptions:\n", stdout);
    for (size_t at = 0; command_option(command, at, &option); at++)
        print_option(&option);
    fputs("  --help, -h\n        print this help\n", stdout);
}

int help_end(void) {
    if (fflush(stdout) == 0 && !ferror(stdout))
        return 0;
    perror("tarn: writing the help");
    return 1;
}

int help_print_command(const struct command *command) {
    bool has_options = command->option_count > 0 || command->settings != COMMAND_NO_SETTINGS;
    printf("Usage: tarn %s%s%s%s\n\n%c%s.\n", command->name, has_options ? " [OPTION…]" : "",
           *command->arguments ? " " : "", command->arguments, command->summary[0] - 'a' + 'A',
           command->summary + 1);
    if (command->text)
        printf("\n%s", command->text);
    print_options(command);
    return help_end();
}
