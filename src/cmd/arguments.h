/* What the commands' arguments have in common. */
#ifndef CMD_ARGUMENTS_H
#define CMD_ARGUMENTS_H

#include <stdbool.h>

/* The value of `--name VALUE` or `--name=VALUE` at argv[*at], with *at moved behind it. NULL: it is
 * another argument, or (*missing) its value is missing. */
const char *argument_value(const char *name, int argc, char *const *argv, int *at, bool *missing);

/* Whether --help or -h is among them, before any `--`. */
bool arguments_want_help(int argc, char *const *argv);

#endif
