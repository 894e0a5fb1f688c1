/*
 * The arguments of a command line, read as the command's description says (command.h):
 *
 *   --name VALUE  --name=VALUE   an option with a value
 *   --name                       an option without one
 *   -n                           the same, where the option has a letter
 *   --help  -h                   asks for help, at any place
 *   --                           all arguments behind it are operands
 *
 * Options and operands may be mixed. An option that is not given takes the value of its variable in
 * the environment, if that is not empty. The values are borrowed from argv and the environment.
 */
#ifndef CMD_ARGUMENTS_H
#define CMD_ARGUMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "cmd/command.h"
#include "config/flags.h"

/* An option on the command line. */
struct arguments_given {
    struct command_option option;
    const char *value; /* NULL: a FLAG */
    int64_t number;    /* the value of a SIZE in bytes, of a DURATION in milliseconds, of a COUNT */
};

struct arguments {
    const struct command *command;
    bool wants_help; /* then nothing else was read */
    const char **operands;
    size_t operand_count;
    struct arguments_given *given;
    size_t given_count;
};

/* Reads argv[1] to argv[argc - 1]. False: bad usage, as the error says. */
bool arguments_read(struct arguments *arguments, const struct command *command, int argc,
                    char *const *argv, struct error *error);
void arguments_finish(struct arguments *arguments);

#define cleanup_arguments __attribute__((cleanup(arguments_finish)))

/* What was given for one of the command's options, by its name without the dashes. */
bool arguments_flag(const struct arguments *arguments, const char *name);
const char *arguments_string(const struct arguments *arguments, const char *name); /* or NULL */
int64_t arguments_number(const struct arguments *arguments, const char *name, int64_t otherwise);

/* Adds the settings that were given to the flags of the configuration. False: out of memory. */
bool arguments_settings(const struct arguments *arguments, struct config_flags *flags);

/* The next value of a LIST, beginning with *at 0; NULL: there is none left. */
const char *arguments_next(const struct arguments *arguments, const char *name, size_t *at);

#endif
