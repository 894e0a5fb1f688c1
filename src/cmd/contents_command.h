/*
 * What tarn ls, du, rm, prune and verify have in common: they find the cache, give their order to
 * the tarn that runs on it, or do it on the store themselves when none runs, and take the same
 * lines of JSON from either (registry/contents.h).
 */
#ifndef CMD_CONTENTS_COMMAND_H
#define CMD_CONTENTS_COMMAND_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct contents_command {
    const char *name;          /* "ls" */
    const char *config, *root; /* as given; NULL: not */
    bool json;
};

/* Takes --config, --root or --json at argv[*at], as argument_value() does; false: another argument,
 * or *missing. */
bool contents_argument(struct contents_command *command, int argc, char *const *argv, int *at,
                       bool *missing);
/* Tells about bad usage; gives 2. */
int contents_refuse(const struct contents_command *command, const char *what, const char *which);

/* The arguments of a command that takes those and NAMES: checked and appended to `names`, an array;
 * NULL: it takes none. False: usage is wrong, which was told. */
bool contents_arguments(struct contents_command *command, int argc, char *const *argv,
                        json_t *names);

/*
 * Gives the order (contents_order(), released here) and hands each line of the answer to `on_line`,
 * the last one included. The exit status: 0, or 1 when it failed, which was told. Ctrl-C ends the
 * process with 130.
 */
int contents_run(const struct contents_command *command, json_t *order,
                 void (*on_line)(void *context, json_t *line), void *context);

/* The exit status, once all is written to standard output: 1 if that failed, which is then told. */
int contents_end(const struct contents_command *command, int status);

/* ---- lines ---- */

bool contents_is_last(const json_t *line);
uint64_t contents_number(const json_t *line, const char *name);    /* 0: not there */
const char *contents_string(const json_t *line, const char *name); /* "": not there */
/* Prints members of the object as compact JSON without a newline. */
void contents_print(json_t *line);
/* "docker.io/library/alpine:3.20" needs so much at most; "3 hours ago". */
void contents_format_age(const char *time, char *out, size_t size);
/* "1 blob", "3 blobs". */
const char *contents_plural(uint64_t count);

#endif
