/* The mistakes in a configuration: collected while it is read, then written in the order of their
 * places. Private to config/. */
#ifndef CONFIG_PROBLEMS_H
#define CONFIG_PROBLEMS_H

#include <stdbool.h>
#include <stddef.h>
#include "base/buffer.h"
#include "base/yaml_tree.h"

enum { PROBLEM_LIMIT = 10, PROBLEM_SIZE = 700, KEY_PATH_SIZE = 160 };

/* A key that the file writes in another way than tarn's own files: problems name it as written. */
struct config_alias {
    const char *own, *written;
};

struct config_problems {
    const struct config_alias *aliases; /* ends with a zeroed one; NULL: none */
    size_t count;                       /* of all problems; the first PROBLEM_LIMIT are kept */
    struct config_problem {
        unsigned line, column;
        char text[PROBLEM_SIZE];
    } kept[PROBLEM_LIMIT];
};

/* `path` is the key ("upstreams[0].tag_ttl") or "". The message leaves it out if the value is not
 * from a file, because the flag or variable has the same name. */
void config_problem_add(struct config_problems *problems, struct yaml_place place, const char *path,
                        const char *format, ...) __attribute__((format(printf, 4, 5)));

/* yaml_read() that adds what is wrong with the document. */
bool config_yaml_read(struct text bytes, const char *source, struct config_problems *problems,
                      struct yaml_node **root);

/* One line for each problem, in the order of their places. */
void config_problems_write(struct config_problems *problems, struct buffer *out);

#endif
