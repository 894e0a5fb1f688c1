/* Runs a command: reads its arguments, or prints its help. */
#include "cmd/run.h"

#include "cmd/arguments.h"
#include "cmd/help.h"

int run_command(const struct command *command, int argc, char *const *argv) {
    cleanup_arguments struct arguments arguments = {0};
    struct error error;
    if (!arguments_read(&arguments, command, argc, argv, &error))
        return command_refuse(command, "%s", error.text);
    if (arguments.wants_help)
        return help_print_command(command);
    return command->run(&arguments);
}
