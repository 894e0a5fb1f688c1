/* The table of all commands. */
#ifndef CMD_COMMANDS_H
#define CMD_COMMANDS_H

#include <stdio.h>
#include "cmd/command.h"

extern const struct command serve_command;
extern const struct command warm_command;
extern const struct command ls_command;
extern const struct command du_command;
extern const struct command rm_command;
extern const struct command prune_command;
extern const struct command verify_command;
extern const struct command reload_command;
extern const struct command check_config_command;
extern const struct command check_bucket_command;
extern const struct command convert_config_command;
extern const struct command images_command;
extern const struct command files_command;
extern const struct command cat_command;
extern const struct command extract_command;
extern const struct command build_command;
extern const struct command append_command;
extern const struct command copy_command;
extern const struct command tag_command;
extern const struct command delete_command;
extern const struct command digest_command;
extern const struct command manifest_command;
extern const struct command config_command;
extern const struct command tags_command;
extern const struct command referrers_command;
extern const struct command whoami_command;
extern const struct command print_access_token_command;
extern const struct command mirror_command;
extern const struct command keep_command;
extern const struct command node_command;
extern const struct command mount_command;
extern const struct command unmount_command;
extern const struct command mounts_command;
extern const struct command configure_docker_command;
extern const struct command kubelet_credential_provider_command;
extern const struct command docker_credential_command; /* the program docker-credential-tarn too */
extern const struct command version_command;
extern const struct command help_command;

/* In the order in which the help lists them; NULL-terminated. */
extern const struct command *const commands[];

/* The command of that name; `--version`, `-V`, `--help` and `-h` name one as well. NULL: none. */
const struct command *commands_find(const char *name);

/* Says on standard error that there is no such command. Returns 2. */
int commands_refuse(const char *name);

/* What `tarn --help` prints: all commands, one line each. */
void commands_print_overview(FILE *out);

#endif
