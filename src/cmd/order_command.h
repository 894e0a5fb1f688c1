/*
 * What tarn ls, du, rm, prune and verify have in common: they find the cache, give their order to
 * the tarn that runs on it, or do it on the store themselves when none runs, and take the same
 * lines of JSON from either (registry/contents.h).
 */
#ifndef CMD_ORDER_COMMAND_H
#define CMD_ORDER_COMMAND_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct order_command {
    const char *name;          /* "ls" */
    const char *config, *root; /* as given; NULL: not */
    bool json;
};

/* Takes --config, --root or --json at argv[*at], as argument_value() does; false: another argument,
 * or *missing. */
bool order_command_argument(struct order_command *command, int argc, char *const *argv, int *at,
                            bool *missing);
/* Tells about bad usage; gives 2. */
int order_command_refuse(const struct order_command *command, const char *what, const char *which);

/* The arguments of a command that takes those and NAMES: checked and appended to `names`, an array;
 * NULL: it takes none. False: usage is wrong, which was told. */
bool order_command_arguments(struct order_command *command, int argc, char *const *argv,
                             json_t *names);

/*
 * Gives the order (contents_order(), released here) and hands each line of the answer to `on_line`,
 * the last one included. The exit status: 0, or 1 when it failed, which was told. Ctrl-C ends the
 * process with 130.
 */
int order_command_run(const struct order_command *command, json_t *order,
                      void (*on_line)(void *context, json_t *line), void *context);

/* The exit status, once all is written to standard output: 1 if that failed, which is then told. */
int order_command_end(const struct order_command *command, int status);

/* ---- lines ---- */

bool order_line_is_last(const json_t *line);
uint64_t order_line_number(const json_t *line, const char *name);    /* 0: not there */
const char *order_line_string(const json_t *line, const char *name); /* "": not there */
/* Prints members of the object as compact JSON without a newline. */
void order_line_print(json_t *line);
/* "docker.io/library/alpine:3.20" needs so much at most; "3 hours ago". */
void order_line_format_age(const char *time, char *out, size_t size);
/* "1 blob", "3 blobs". */
const char *order_line_plural(uint64_t count);

#endif
