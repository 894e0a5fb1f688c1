/* tarn check-config: judges a file by itself, whatever this machine's environment says. */
#include <stdio.h>
#include "cmd/commands.h"
#include "config/config.h"

int cmd_check_config(int argc, char **argv) {
    if (argc != 2 || argv[1][0] == '-' || argv[1][0] == '\0') {
        fputs("Usage: tarn check-config FILE\n", stderr);
        return 2;
    }
    char home[] = "HOME=/"; /* there is always somewhere for a cache */
    char *const environment[] = {home, NULL};
    const struct config_flags flags = {.file = argv[1]};
    struct buffer problems cleanup_buffer = {0};
    struct config *config = config_load(&flags, environment, &problems);
    if (!config) {
        fputs(problems.bytes ? problems.bytes : "tarn check-config: out of memory\n", stderr);
        return 1;
    }
    config_free(config);
    printf("%s: ok\n", argv[1]);
    return 0;
}
