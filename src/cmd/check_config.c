/* tarn check-config: checks a configuration file without regard to this machine's environment. */
#include <stdio.h>
#include "cmd/arguments.h"
#include "cmd/commands.h"
#include "config/config.h"

static int run(const struct arguments *arguments) {
    const char *file = arguments->operands[0];
    if (*file == '\0')
        return command_refuse(arguments->command, "the name of the file is empty");
    char home[] = "HOME=/"; /* without it there would be no default for `root` */
    char *const environment[] = {home, NULL};
    const struct config_flags flags = {.file = file};
    cleanup_buffer struct buffer problems = {0};
    struct config *config = config_load(&flags, environment, &problems);
    if (!config) {
        fputs(problems.bytes ? problems.bytes : "tarn check-config: out of memory\n", stderr);
        return 1;
    }
    for (size_t i = 0; config->warnings && config->warnings[i]; i++)
        fprintf(stderr, "%s: warning: %s\n", file, config->warnings[i]);
    config_free(config);
    printf("%s: ok\n", file);
    return 0;
}

const struct command check_config_command = {
    .name = "check-config",
    .arguments = "FILE",
    .least = 1,
    .most = 1,
    .summary = "check a configuration file",
    .text =
        "FILE is tarn's own, or one of the CNCF registry with version: 0.1.\n"
        "Prints \"FILE: ok\", or every mistake with its line and what would be right (exit 1).\n"
        "A warning does not change the exit status.\n"
        "The TARN_… variables of the environment are ignored.\n",
    .run = run,
};
