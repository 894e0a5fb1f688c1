/* The help of one command, as `tarn help COMMAND` and `tarn COMMAND --help` print it. */
#ifndef CMD_HELP_H
#define CMD_HELP_H

#include "cmd/command.h"

/* One command with all its options, on standard output. Returns what help_end() does. */
int help_print_command(const struct command *command);

/* The end of any help on standard output. The exit status: 1 when it could not be written, and the
 * reason is on standard error. */
int help_end(void);

#endif
