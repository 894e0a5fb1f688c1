/*
 * Runs a small program that prints a credential: bounded in time and output, without a shell, with
 * none of our descriptors. Threads: any.
 */
#ifndef AUTH_PROGRAM_H
#define AUTH_PROGRAM_H

#include <stdbool.h>
#include "base/buffer.h"
#include "base/error.h"

enum { PROGRAM_INPUT_LIMIT = 4096, PROGRAM_OUTPUT_LIMIT = 1 << 20 };

struct program_result {
    int exit_status;     /* 128 + the signal's number when a signal ended it */
    struct buffer out;   /* standard output: may hold a secret */
    char complaint[256]; /* the first line of standard error, for people */
};

/* `arguments` as for execvp, found on PATH; `input` (at most PROGRAM_INPUT_LIMIT bytes) is its
 * standard input. After `timeout_ms` the program and what it started are killed. False: it could
 * not be run, ran too long or printed too much. program_result_finish() is owed either way. */
bool program_run(const char *const *arguments, const char *input, int timeout_ms,
                 struct program_result *result, struct error *error);
void program_result_finish(struct program_result *result); /* wipes the output */

#endif
