/* tarn check-config: checks a configuration file without regard to this machine's environment. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "cmd/arguments.h"
#include "cmd/commands.h"
#include "config/config.h"

/* What of the environment a check needs: without HOME there would be no default for `root`, and the
 * REGISTRY_ variables are a part of a configuration of the CNCF registry, whose helper is searched
 * on PATH. NULL: out of memory. */
static char **chosen_environment(char *home) {
    size_t count = 0, chosen = 0;
    while (environ[count])
        count++;
    char **environment = calloc(count + 2, sizeof *environment);
    if (!environment)
        return NULL;
    environment[chosen++] = home;
    for (size_t i = 0; i < count; i++) {
        struct text entry = text_of(environ[i]);
        if (text_starts(entry, "REGISTRY_") || text_starts(entry, "PATH="))
            environment[chosen++] = environ[i];
    }
    return environment;
}

static int run(const struct arguments *arguments) {
    const char *file = arguments->operands[0];
    if (*file == '\0')
        return command_refuse(arguments->command, "the name of the file is empty");
    char home[] = "HOME=/";
    cleanup_free char **environment = chosen_environment(home);
    const struct config_flags flags = {.file = file};
    cleanup_buffer struct buffer problems = {0};
    struct config *config = environment ? config_load(&flags, environment, &problems) : NULL;
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
        "The TARN_… variables of the environment are ignored. The REGISTRY_… variables count for "
        "a\n"
        "file of the CNCF registry.\n",
    .run = run,
};
