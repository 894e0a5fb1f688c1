/* tarn version */
#include <stdio.h>
#include "cmd/commands.h"

int cmd_version(int argc, char **argv) {
    (void)argv;
    if (argc > 1) {
        fputs("Usage: tarn version\n", stderr);
        return 2;
    }
    puts("tarn " TARN_VERSION);
    return 0;
}
