/* The table of all commands, and tarn help, which prints it. */
#include "cmd/commands.h"

#include <stdio.h>
#include <string.h>
#include "cmd/arguments.h"
#include "cmd/help.h"

const struct command *const commands[] = {
    &serve_command,
    &warm_command,
    &ls_command,
    &du_command,
    &rm_command,
    &prune_command,
    &verify_command,
    &reload_command,
    &check_config_command,
    &check_bucket_command,
    &convert_config_command,
    &images_command,
    &files_command,
    &cat_command,
    &extract_command,
    &build_command,
    &copy_command,
    &append_command,
    &tag_command,
    &delete_command,
    &digest_command,
    &manifest_command,
    &config_command,
    &tags_command,
    &referrers_command,
    &whoami_command,
    &print_access_token_command,
    &mirror_command,
    &keep_command,
    &node_command,
    &mount_command,
    &unmount_command,
    &mounts_command,
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

void commands_print_overview(FILE *out) {
    fputs("tarn is a pull-through cache for container images.\n\n"
          "Usage: tarn COMMAND [ARGUMENT…]\n\n",
          out);
    for (const struct command *const *command = commands; *command; command++)
        fprintf(out, "  %-28s %s\n", (*command)->name, (*command)->summary);
    fputs("\n`tarn COMMAND --help` shows the help of one command. Manual pages: tarn(1), "
          "tarn.yaml(5).\n",
          out);
}

static int run(const struct arguments *arguments) {
    if (arguments->operand_count == 0) {
        commands_print_overview(stdout);
        return help_end();
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
