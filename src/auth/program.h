/*
 * Runs a small program that prints a credential.
 *
 * Its time and its output are bounded. It runs without a shell and inherits none of tarn's open
 * descriptors. Any thread may call this.
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
    char complaint[256]; /* the first line of its standard error, for people */
};

/* Runs arguments[0], which is searched on PATH, with `arguments` as for execvp() and with `input`
 * (at most PROGRAM_INPUT_LIMIT bytes) as its standard input. After `timeout_ms` the program and
 * what it started are killed. False: it could not be started, ran too long, or printed too much.
 * The caller calls program_result_finish() either way. */
bool program_run(const char *const *arguments, const char *input, int timeout_ms,
                 struct program_result *result, struct error *error);
/* The same with more variables in the program's environment: "NAME=VALUE", NULL-terminated, each in
 * the place of tarn's own of that name. */
bool program_run_in(const char *const *arguments, const char *const *variables, const char *input,
                    int timeout_ms, struct program_result *result, struct error *error);
void program_result_finish(struct program_result *result); /* wipes the output */

#define cleanup_program_result __attribute__((cleanup(program_result_finish)))

#endif
