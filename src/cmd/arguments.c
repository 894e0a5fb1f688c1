#include "cmd/arguments.h"

#include <string.h>

const char *argument_value(const char *name, int argc, char *const *argv, int *at, bool *missing) {
    size_t length = strlen(name);
    const char *argument = argv[*at];
    if (strncmp(argument, name, length) != 0)
        return NULL;
    if (argument[length] == '=') {
        ++*at;
        return argument + length + 1;
    }
    if (argument[length] != '\0')
        return NULL;
    *missing = *at + 1 >= argc;
    if (*missing)
        return NULL;
    *at += 2;
    return argv[*at - 1];
}

bool arguments_want_help(int argc, char *const *argv) {
    for (int at = 1; at < argc && strcmp(argv[at], "--") != 0; at++) {
        if (strcmp(argv[at], "--help") == 0 || strcmp(argv[at], "-h") == 0)
            return true;
    }
    return false;
}
