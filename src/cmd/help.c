/* tarn help: prints the description of the commands. */
#include "cmd/help.h"

#include <string.h>
#include "cmd/arguments.h"
#include "cmd/commands.h"

void help_print_overview(FILE *out) {
    fputs("tarn is a pull-through cache for container images.\n\n"
          "Usage: tarn COMMAND [ARGUMENT…]\n\n",
          out);
    for (const struct command *const *command = commands; *command; command++)
        fprintf(out, "  %-28s %s\n", (*command)->name, (*command)->summary);
    fputs("\n`tarn COMMAND --help` shows the help of one command. Manual pages: tarn(1), "
          "tarn.yaml(5).\n",
          out);
}

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
    if (option->type == OPTION_SWITCH)
        printf("[=%s]", option->value);
    else if (option->value)
        printf(" %s%s", option->value, option->type == OPTION_LIST ? "[,…]" : "");
    printf("\n        %s", option->help);
    if (option->setting)
        print_setting(option->setting);
    putchar('\n');
}

static void print_options(const struct command *command) {
    struct command_option option;
    if (command->takes_settings)
        fputs("\nEach option is also an environment variable. Nearly all options are keys of the\n"
              "configuration file as well, and the file has further settings (tarn.yaml(5)). An\n"
              "option overrides its variable, and a variable overrides the file.\n",
              stdout);
    fputs("\nOptions:\n", stdout);
    for (size_t at = 0; command_option(command, at, &option); at++)
        print_option(&option);
    fputs("  --help, -h\n        print this help\n", stdout);
}

static int end_output(void) {
    if (fflush(stdout) == 0 && !ferror(stdout))
        return 0;
    perror("tarn: writing the help");
    return 1;
}

int help_print_command(const struct command *command) {
    bool has_options = command->option_count > 0 || command->takes_settings;
    printf("Usage: tarn %s%s%s%s\n\n%c%s.\n", command->name, has_options ? " [OPTION…]" : "",
           *command->arguments ? " " : "", command->arguments, command->summary[0] - 'a' + 'A',
           command->summary + 1);
    if (command->text)
        printf("\n%s", command->text);
    print_options(command);
    return end_output();
}

static int run(const struct arguments *arguments) {
    if (arguments->operand_count == 0) {
        help_print_overview(stdout);
        return end_output();
    }
    const struct command *command = commands_find(arguments->operands[0]);
    return command ? help_print_command(command) : commands_refuse(arguments->operands[0]);
}

const struct command help_command = {
    .name = "help",
    .arguments = "[COMMAND]",
    .most = 1,
    .summary = "show all commands, or the help of one",
    .run = run,
};
