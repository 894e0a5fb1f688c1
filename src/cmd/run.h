/* Runs a command line. */
#ifndef CMD_RUN_H
#define CMD_RUN_H

#include "cmd/command.h"

/* Reads the arguments behind the command's name, argv[0], and runs the command, or prints its help
 * when one of them is --help or -h. The exit status. */
int run_command(const struct command *command, int argc, char *const *argv);

#endif
