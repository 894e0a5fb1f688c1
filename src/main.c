/* Finds the command that the first argument names, and runs it. */
#include <stdio.h>
#include <stdlib.h>
#include "base/json.h"
#include "base/text.h"
#include "cmd/commands.h"
#include "cmd/run.h"

int main(int argc, char **argv) {
    bounded_json_watch(malloc);
    if (argc > 0 && text_ends(text_of(argv[0]), "docker-credential-tarn"))
        return run_command(&docker_credential_command, argc, argv);
    if (argc < 2) {
        commands_print_overview(stderr);
        return 2;
    }
    const struct command *command = commands_find(argv[1]);
    return command ? run_command(command, argc - 1, argv + 1) : commands_refuse(argv[1]);
}
