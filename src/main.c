/* The commands' names, nothing else. */
#include <stdio.h>
#include <string.h>
#include "base/text.h"
#include "cmd/commands.h"
#include "cmd/help.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv); /* argv[0] is the command's name */
} commands[] = {
    {"serve", cmd_serve},
    {"warm", cmd_warm},
    {"ls", cmd_ls},
    {"du", cmd_du},
    {"rm", cmd_rm},
    {"prune", cmd_prune},
    {"verify", cmd_verify},
    {"check-config", cmd_check_config},
    {"whoami", cmd_whoami},
    {"print-access-token", cmd_print_access_token},
    {"configure-docker", cmd_configure_docker},
    {"kubelet-credential-provider", cmd_kubelet_credential_provider},
    {"docker-credential", cmd_docker_credential},
    {"version", cmd_version},
    {"help", cmd_help},
    /* as people also type them */
    {"--version", cmd_version},
    {"-V", cmd_version},
    {"--help", cmd_help},
    {"-h", cmd_help},
};

int main(int argc, char **argv) {
    if (argc > 0 && text_ends(text_of(argv[0]), "docker-credential-tarn"))
        return cmd_docker_credential(argc, argv);
    if (argc < 2) {
        help_overview(stderr);
        return 2;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(argv[1], commands[i].name) != 0)
            continue;
        bool wants_help =
            argc > 2 && (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0);
        return wants_help ? help_command(argv[1], stdout) : commands[i].run(argc - 1, argv + 1);
    }
    fprintf(stderr, "tarn: there is no command %s (see tarn --help)\n", argv[1]);
    return 2;
}
