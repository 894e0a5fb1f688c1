/* What `tarn --help`, `tarn help COMMAND` and `tarn COMMAND --help` print. */
#ifndef CMD_HELP_H
#define CMD_HELP_H

#include <stdio.h>

void help_overview(FILE *out); /* all commands, a line each */

/* One command, with its options. The exit status: 2 when there is no such command (which is then
 * told on standard error). */
int help_command(const char *name, FILE *out);

#endif
