/* The body of a watch, line by line. */
#include "kubernetes/lines.h"

#include <string.h>

void lines_init(struct lines *lines,
                bool (*on_line)(void *context, struct text line, struct error *error),
                void *context) {
    *lines = (struct lines){.on_line = on_line, .context = context};
    lines->begun.limit = LINES_LIMIT;
}

void lines_finish(struct lines *lines) {
    buffer_finish(&lines->begun);
}

static bool keep(struct lines *lines, struct text part, struct error *error) {
    if (part.length == 0 || buffer_append(&lines->begun, part.at, part.length))
        return true;
    if (lines->begun.length + part.length <= LINES_LIMIT)
        return error_set(error, ERROR_MEMORY, "out of memory");
    return error_set(error, ERROR_INVALID, "a line is longer than %d MiB", LINES_LIMIT >> 20);
}

static bool hand_over(struct lines *lines, struct text line, struct error *error) {
    if (line.length && line.at[line.length - 1] == '\r')
        line.length--;
    return line.length == 0 || lines->on_line(lines->context, line, error);
}

bool lines_end(struct lines *lines, struct error *error) {
    struct text line = {lines->begun.bytes, lines->begun.length};
    bool ok = hand_over(lines, line, error);
    /* One long line does not keep its memory while the watch is silent. */
    buffer_finish(&lines->begun);
    return ok;
}

bool lines_take(struct lines *lines, const void *bytes, size_t length, struct error *error) {
    struct text rest = {bytes, length};
    while (rest.length) {
        const char *end = memchr(rest.at, '\n', rest.length);
        if (!end)
            return keep(lines, rest, error);
        struct text line = {rest.at, (size_t)(end - rest.at)};
        rest = text_from(rest, line.length + 1);
        bool ok = line.length > LINES_LIMIT  ? keep(lines, line, error)
                  : lines->begun.length == 0 ? hand_over(lines, line, error)
                                             : keep(lines, line, error) && lines_end(lines, error);
        if (!ok)
            return false;
    }
    return true;
}
