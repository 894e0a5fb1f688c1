/* tarn version: prints which version of tarn this is. */
#include <stdio.h>
#include "cmd/arguments.h"
#include "cmd/commands.h"

static int run(const struct arguments *arguments) {
    (void)arguments;
    puts("tarn " TARN_VERSION);
    return 0;
}

const struct command version_command = {
    .name = "version",
    .arguments = "",
    .summary = "print the version",
    .run = run,
};
