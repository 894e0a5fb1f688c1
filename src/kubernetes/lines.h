/* Takes the body of a watch apart while it arrives: line by line. Private to kubernetes/. Pure;
 * hostile input. */
#ifndef KUBERNETES_LINES_H
#define KUBERNETES_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include "base/buffer.h"
#include "base/error.h"

enum { LINES_LIMIT = 8 << 20 }; /* bytes of one line */

struct lines {
    bool (*on_line)(void *context, struct text line, struct error *error);
    void *context;
    struct buffer begun;
};

void lines_init(struct lines *lines,
                bool (*on_line)(void *context, struct text line, struct error *error),
                void *context);
void lines_finish(struct lines *lines);

/* Takes the next bytes. Empty lines are left out. False: a line is too long (ERROR_INVALID), or
 * on_line() said so. */
bool lines_take(struct lines *lines, const void *bytes, size_t length, struct error *error);

/* Hands over a last line that no line break ends. */
bool lines_end(struct lines *lines, struct error *error);

#endif
