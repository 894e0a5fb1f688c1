/* The table of all commands. */
#include "cmd/commands.h"

#include <stdio.h>
#include <string.h>

const struct command *const commands[] = {
    &serve_command,
    &warm_command,
    &ls_command,
    &du_command,
    &rm_command,
    &prune_command,
    &verify_command,
    &check_config_command,
    &whoami_command,
    &print_access_token_command,
    &configure_docker_command,
    &kubelet_credential_provider_command,
    &docker_credential_command,
    &version_command,
    &help_command,
    NULL,
};

const struct command *commands_find(const char *name) {
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0)
        return &version_command;
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        return &help_command;
    for (const struct command *const *command = commands; *command; command++) {
        if (strcmp(name, (*command)->name) == 0)
            return *command;
    }
    return NULL;
}

int commands_refuse(const char *name) {
    fprintf(stderr, "tarn: there is no command %s (see tarn --help)\n", name);
    return 2;
}
