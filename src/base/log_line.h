/* One line of the log in its text. Private to base/. Pure but for the time of day; any thread. */
#ifndef BASE_LOG_LINE_H
#define BASE_LOG_LINE_H

#include <stddef.h>
#include "base/log.h"

struct log_line {
    enum log_format format;
    enum log_level level;
    const char *message;
    const struct log_field *fields;
    unsigned count; /* of fields */
};

/* At least as many bytes as log_line_write() writes. */
size_t log_line_limit(const struct log_line *line);

/* Writes the line, with the time and the newline, and without a NUL. Returns its length. */
size_t log_line_write(const struct log_line *line, char *out);

#endif
