/* What `tarn --help`, `tarn help COMMAND` and `tarn COMMAND --help` print. */
#ifndef CMD_HELP_H
#define CMD_HELP_H

#include <stdio.h>
#include "cmd/command.h"

/* All commands, one line each. */
void help_print_overview(FILE *out);

/* One command with all its options, on standard output. The exit status: 1 when it could not be
 * written, and the reason is on standard error. */
int help_print_command(const struct command *command);

#endif
