/*
 * A copy of this very program that needs nothing of the machine where it is put: the program, its
 * libraries, its loader, and the authorities that it trusts, in one folder.
 *
 * The folder is named for its content ("tarn-0123456789abcdef"), so that two contents never mix: a
 * new one is complete before anything leads to it. Private to node/.
 */
#ifndef NODE_PROGRAM_H
#define NODE_PROGRAM_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include "base/error.h"
#include "node/tree.h"

enum { PROGRAM_FILES_LIMIT = 256, PROGRAM_FOLDER_SIZE = 32 };

struct program {
    struct {
        char *path; /* owned; where it is in this process's file system */
        char name[NAME_MAX + 1];
    } files[PROGRAM_FILES_LIMIT];
    size_t count;
    char loader[NAME_MAX + 1];        /* one of the names */
    char folder[PROGRAM_FOLDER_SIZE]; /* its name */
};

/* Finds out what this process consists of, and names the folder. */
bool program_find(struct program *program, struct error *error);
void program_finish(struct program *program);
#define cleanup_program __attribute__((cleanup(program_finish)))

/* Writes the files that are missing to `parent`/FOLDER of the tree. */
bool program_write(const struct program *program, const struct tree *tree, const char *parent,
                   struct error *error);

/* Whether `name` is that of such a folder. */
bool program_is_folder(const char *name);

#endif
