/* The mistakes in a configuration. */
#include "config/problems.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The path as the file writes it. */
static void write_path(const struct config_problems *problems, const char *path,
                       char out[static KEY_PATH_SIZE]) {
    const struct config_alias *alias = problems->aliases;
    size_t length = 0;
    for (; alias && alias->own; alias++) {
        length = strlen(alias->own);
        if (strncmp(path, alias->own, length) == 0 && (!path[length] || path[length] == '['))
            break;
    }
    if (alias && alias->own)
        snprintf(out, KEY_PATH_SIZE, "%s%s", alias->written, path + length);
    else
        snprintf(out, KEY_PATH_SIZE, "%s", path);
}

/* Whether the column is told as well, because the section is often written on one line. */
static bool tells_column(struct text path) {
    return text_starts(path, "bucket.") || text_starts(path, "keep.") || text_is(path, "keep") ||
           text_starts(path, "replicas.") || text_is(path, "replicas");
}

void config_problem_add(struct config_problems *problems, struct yaml_place place, const char *path,
                        const char *format, ...) {
    if (problems->count++ >= PROBLEM_LIMIT)
        return;
    struct config_problem *problem = &problems->kept[problems->count - 1];
    problem->line = place.line;
    problem->column = place.column;
    int used;
    char written[KEY_PATH_SIZE];
    write_path(problems, path, written);
    if (place.line == 0)
        used = snprintf(problem->text, PROBLEM_SIZE, "%.200s: ", place.source);
    else if (tells_column(text_of(written)))
        used = snprintf(problem->text, PROBLEM_SIZE, "%.200s:%u:%u: %.150s: ", place.source,
                        place.line, place.column, written);
    else
        used = snprintf(problem->text, PROBLEM_SIZE, "%.200s:%u: %.150s%s", place.source,
                        place.line, written, *path ? ": " : "");
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(problem->text + used, PROBLEM_SIZE - (size_t)used, format, arguments);
    va_end(arguments);
}

bool config_yaml_read(struct text bytes, const char *source, struct config_problems *problems,
                      struct yaml_node **root) {
    struct yaml_problem problem;
    if (yaml_read(bytes, source, &problem, root))
        return true;
    config_problem_add(problems, problem.place, "", "%s", problem.text);
    return false;
}

static int by_place(const void *left, const void *right) {
    const struct config_problem *a = left, *b = right;
    if (a->line != b->line)
        return a->line < b->line ? -1 : 1;
    return (a->column > b->column) - (a->column < b->column);
}

void config_problems_write(struct config_problems *problems, struct buffer *out) {
    size_t kept = problems->count < PROBLEM_LIMIT ? problems->count : PROBLEM_LIMIT;
    qsort(problems->kept, kept, sizeof *problems->kept, by_place);
    for (size_t i = 0; i < kept; i++)
        buffer_printf(out, "%s\n", problems->kept[i].text);
    if (problems->count > kept)
        buffer_printf(out, "and %zu more\n", problems->count - kept);
}
