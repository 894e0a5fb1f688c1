/* The mistakes found while a configuration is read: gathered, sorted by place, told at once. */
#ifndef CONFIG_PROBLEMS_H
#define CONFIG_PROBLEMS_H

#include <stdbool.h>
#include <stddef.h>
#include "base/buffer.h"

enum { PROBLEM_LIMIT = 10, PROBLEM_SIZE = 700, KEY_PATH_SIZE = 160 };

/* Where something was said. Line 0: not in a file, `source` is a flag or a variable. */
struct config_place {
    const char *source;
    unsigned line, column; /* from 1, in characters */
};

struct config_problems {
    size_t count; /* all of them; the first PROBLEM_LIMIT are kept */
    struct config_problem {
        unsigned line, column;
        char text[PROBLEM_SIZE];
    } kept[PROBLEM_LIMIT];
};

/* `path` is the key's ("upstreams[0].tag_ttl") or ""; it is left out where `place` is no file, for
 * the flag or variable says as much. */
void config_problem_add(struct config_problems *problems, struct config_place place,
                        const char *path, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* One line each, in the order of their places. */
void config_problems_write(struct config_problems *problems, struct buffer *out);

#endif
